/**
 * Brings what the locks name into the store: the only step that reaches a network, and only the package registries,
 * through their own clients. What is there already is not asked for again.
 */
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type DebianLock, type LockedDeb, type NpmLock, privateApt, withTarballs } from './lock.ts';
import type { Progress } from './progress.ts';
import { runHost, ToolError } from './sandbox.ts';
import type { Store } from './store.ts';

/** A lock names packages that the archive no longer offers. */
export class StaleLock extends Error {
  readonly packages: readonly string[];

  constructor(file: string, packages: readonly string[], reason: string) {
    super(
      `${file} is stale: the archive no longer offers ${packages.join(', ')}.\n` +
        `Refresh it with \`npm run image -- lock\`, review the change and commit it.\n${reason}`,
    );
    this.name = 'StaleLock';
    this.packages = packages;
  }
}

/**
 * Fetches the missing packages of a Debian lock.
 * @throws StaleLock naming what cannot be had any more; Error for one that is not what the lock says
 */
export async function fetchDebian(
  store: Store,
  file: string,
  lock: DebianLock,
  progress: Progress,
): Promise<void> {
  const missing = lock.packages.filter((deb) => !store.has(deb));
  if (missing.length === 0) return;
  progress(`fetching ${missing.length} of ${lock.packages.length} packages of ${file}`);
  const configuration = await privateApt(store, lock.suites);
  const folder = mkdtempSync(join(tmpdir(), 'image-debs-'));
  try {
    const names = missing.map(({ name, version }) => `${name}=${version}`);
    let reason = '';
    try {
      await runHost(['apt-get', '-qq', 'download', ...names], {
        cwd: folder,
        env: { APT_CONFIG: configuration, LC_ALL: 'C' },
      });
    } catch (error) {
      if (!(error instanceof ToolError)) throw error;
      reason = error.output;
    }
    const files = new Map(readdirSync(folder).map((name) => [decodeURIComponent(name), join(folder, name)]));
    const absent: LockedDeb[] = [];
    for (const deb of missing) {
      const path = files.get(`${deb.name}_${deb.version}_${deb.architecture}.deb`);
      if (path === undefined) absent.push(deb);
      else await store.take(`${deb.name} ${deb.version}`, path, deb);
    }
    if (absent.length > 0) {
      // apt downloads nothing at all when it does not know one of the versions.
      const unknown = absent.filter(({ name }) => reason.includes(`'${name}'`));
      const shown = (unknown.length > 0 ? unknown : absent).map(({ name, version }) => `${name} ${version}`);
      throw new StaleLock(file, shown, reason);
    }
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/**
 * Fetches the missing packages of the npm lock.
 * @throws Error naming one that is not what the lock says
 */
export async function fetchNpm(store: Store, lock: NpmLock, progress: Progress): Promise<void> {
  const missing = lock.packages.filter((tarball) => !store.has(tarball));
  if (missing.length === 0) return;
  progress(`fetching ${missing.length} of ${lock.packages.length} packages of npm`);
  await withTarballs(missing, async (files) => {
    for (const [index, tarball] of missing.entries())
      await store.take(`${tarball.name} ${tarball.version}`, files[index] ?? '', tarball);
  });
}
