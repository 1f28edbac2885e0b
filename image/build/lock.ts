/**
 * Locks: which packages an image or the tools tree are made of, each with version, size and sha256, as files under
 * review. Debian's packages are resolved by apt with a private configuration (nothing of this machine's apt is
 * read), npm's come from package-lock.json. Only `makeDebianLock` and `makeNpmLock` reach a network.
 */
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { runHost } from './sandbox.ts';
import { type Digest, digestOf, type Store } from './store.ts';

export interface LockedDeb extends Digest {
  readonly name: string;
  readonly version: string;
  readonly architecture: string;
  /** Where it was offered: debian or debian-security. */
  readonly archive: string;
}

export interface DebianLock {
  readonly suites: readonly string[];
  /** Seconds since 1970 of the refresh: every file of the image is as old, and the clock is never before it. */
  readonly epoch: number;
  /** Asked for by name. */
  readonly requested: readonly string[];
  /** Dependencies that are left out on purpose. */
  readonly without: readonly string[];
  /** In order of name. */
  readonly packages: readonly LockedDeb[];
}

export interface LockedTarball extends Digest {
  /** Folder below the project, `node_modules/…`. */
  readonly path: string;
  readonly name: string;
  readonly version: string;
}

export interface NpmLock {
  /** In order of path. */
  readonly packages: readonly LockedTarball[];
}

/** What a Debian lock is made from. */
export interface DebianRequest {
  readonly suites: readonly string[];
  readonly packages: readonly string[];
  readonly without: readonly string[];
}

const ARCHIVES: Readonly<Record<string, string>> = {
  trixie: 'http://deb.debian.org/debian',
  'trixie-updates': 'http://deb.debian.org/debian',
  'trixie-security': 'http://deb.debian.org/debian-security',
};
const KEYRING = '/usr/share/keyrings/debian-archive-keyring.gpg';

/** An apt of its own: empty status file, own lists and cache. @returns what APT_CONFIG must name */
export async function privateApt(store: Store, suites: readonly string[]): Promise<string> {
  const home = store.folder('apt', suites.join('+'));
  for (const folder of ['state/lists/partial', 'cache/archives/partial', 'etc/preferences.d']) {
    mkdirSync(join(home, folder), { recursive: true });
  }
  const sources = suites.map((suite) => `deb [signed-by=${KEYRING}] ${ARCHIVES[suite]} ${suite} main\n`);
  writeFileSync(join(home, 'etc/sources.list'), sources.join(''));
  writeFileSync(join(home, 'status'), '');
  const configuration = join(home, 'apt.conf');
  writeFileSync(
    configuration,
    [
      `Dir "${home}/";`,
      'Dir::State "state";',
      `Dir::State::status "${home}/status";`,
      'Dir::Cache "cache";',
      'Dir::Etc "etc";',
      'Dir::Etc::sourcelist "sources.list";',
      'Dir::Etc::sourceparts "/dev/null";',
      'Dir::Etc::parts "/dev/null";',
      'Dir::Etc::main "/dev/null";',
      'APT::Architecture "amd64";',
      'APT::Architectures { "amd64"; };',
      'APT::Install-Recommends "false";',
      'APT::Sandbox::User "root";',
      'Acquire::Languages "none";',
      // Without it `--print-uris` gives MD5.
      'Acquire::ForceHash "SHA256";',
      'Acquire::Retries "3";',
      '',
    ].join('\n'),
  );
  await runHost(['apt-get', '-qq', 'update'], { env: { APT_CONFIG: configuration, LC_ALL: 'C' } });
  return configuration;
}

/**
 * Resolves the request against an empty machine.
 * @param epoch seconds since 1970 that the lock is to carry
 * @throws ToolError when apt cannot satisfy it
 */
export async function makeDebianLock(
  store: Store,
  request: DebianRequest,
  epoch: number,
): Promise<DebianLock> {
  const configuration = await privateApt(store, request.suites);
  // A package that is left out is not even resolved: its own dependencies must not come along.
  const without = new Set(request.without);
  const printed = await runHost(['apt-get', '-qq', 'install', '--print-uris', ...request.packages], {
    env: { APT_CONFIG: configuration, LC_ALL: 'C' },
  });
  const packages = printed
    .split('\n')
    .filter((line) => line !== '')
    .map(parseUri)
    .filter(({ name }) => !without.has(name))
    .sort((a, b) => (a.name < b.name ? -1 : 1));
  const { suites, packages: requested } = request;
  return { suites, epoch, requested: [...requested], without: [...request.without], packages };
}

/** A line of `--print-uris`: `'URL' FILE SIZE SHA256:HASH`. */
export function parseUri(line: string): LockedDeb {
  const match = /^'(\S+)' (\S+)_(\S+)_(\S+)\.deb (\d+) SHA256:([0-9a-f]{64})$/u.exec(line);
  const [, url = '', name = '', version = '', architecture = '', size = '', sha256 = ''] = match ?? [];
  if (match === null) throw new Error(`apt printed a line that names no package with a sha256: ${line}`);
  const archive = url.includes('/debian-security/') ? 'debian-security' : 'debian';
  return { name, version: decodeURIComponent(version), architecture, archive, size: Number(size), sha256 };
}

interface PackageLock {
  readonly packages: Readonly<
    Record<
      string,
      {
        readonly version?: string;
        readonly integrity?: string;
        readonly dev?: boolean;
        readonly devOptional?: boolean;
        readonly cpu?: readonly string[];
        readonly os?: readonly string[];
      }
    >
  >;
}

/** Production packages of package-lock.json for linux on x64. */
export function productionPackages(
  packageLock: string,
): { path: string; name: string; version: string; integrity: string }[] {
  const { packages } = JSON.parse(packageLock) as PackageLock;
  return Object.entries(packages)
    .filter(([path, entry]) => path !== '' && entry.dev !== true && entry.devOptional !== true)
    .filter(([, { cpu, os }]) => (cpu?.includes('x64') ?? true) && (os?.includes('linux') ?? true))
    .map(([path, { version = '', integrity = '' }]) => ({
      path,
      name: path.slice(path.lastIndexOf('node_modules/') + 'node_modules/'.length),
      version,
      integrity,
    }))
    .sort((a, b) => (a.path < b.path ? -1 : 1));
}

/**
 * Fetches the production packages and writes down size and sha256 beside the integrity that npm's lock holds.
 * @throws Error naming the package whose tarball does not have that integrity
 */
export async function makeNpmLock(store: Store, packageLock: string): Promise<NpmLock> {
  const wanted = productionPackages(packageLock);
  return withTarballs(wanted, async (files) => {
    const packages: LockedTarball[] = [];
    for (const [index, { path, name, version, integrity }] of wanted.entries()) {
      const file = files[index] ?? '';
      const sha512 = createHash('sha512').update(readFileSync(file)).digest('base64');
      if (integrity !== `sha512-${sha512}`)
        throw new Error(`${name} ${version}: not what package-lock.json names`);
      const found = await digestOf(file);
      await store.take(`${name} ${version}`, file, found);
      packages.push({ path, name, version, ...found });
    }
    return { packages };
  });
}

/** Hands on the tarballs of packages of the npm registry, in the same order, all brought by one client. */
export async function withTarballs<T>(
  packages: readonly { readonly name: string; readonly version: string }[],
  use: (files: readonly string[]) => Promise<T>,
): Promise<T> {
  const folder = mkdtempSync(join(tmpdir(), 'image-npm-'));
  try {
    const names = packages.map(({ name, version }) => `${name}@${version}`);
    const printed = await runHost(['npm', 'pack', '--silent', '--ignore-scripts', ...names], { cwd: folder });
    const files = printed.trim().split('\n').slice(-packages.length);
    return await use(files.map((file) => join(folder, file)));
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** @throws Error naming the file and the command that makes it */
export function readLock(file: string): unknown {
  if (!existsSync(file)) throw new Error(`${file} is missing: run \`npm run image -- lock\``);
  return JSON.parse(readFileSync(file, 'utf8')) as unknown;
}

/** One package a line, so that a review sees what changed. */
export function writeLock(file: string, lock: DebianLock | NpmLock): void {
  const { packages, ...head } = lock;
  const headText = JSON.stringify(head, null, 2).slice(0, -1).trimEnd();
  const lines = packages.map((entry) => `    ${JSON.stringify(entry)}`);
  const comma = Object.keys(head).length > 0 ? ',' : '';
  writeFileSync(file, `${headText}${comma}\n  "packages": [\n${lines.join(',\n')}\n  ]\n}\n`);
}
