/** Unpacks Debian packages into a tree: files only, no maintainer script runs. */
import { existsSync, mkdirSync, renameSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { DebianLock } from './lock.ts';
import type { Progress } from './progress.ts';
import { MOUNT_POINTS, runTool, type SandboxOptions } from './sandbox.ts';
import type { Store } from './store.ts';

/** `$1` the target, `$2` the folder of blobs, `$3` a list of hashes. The links of the merged /usr stay links. */
const UNPACK = `
set -eu
mkdir -p "$1"
while read -r hash; do
  dpkg-deb --fsys-tarfile "$2/$hash" > "$3.tar"
  tar -xf "$3.tar" -C "$1" --keep-directory-symlink --no-same-owner -p
done < "$3"
rm -f "$3.tar"
`;

/**
 * Unpacks every package of the lock, base-files first because it holds the links of the merged /usr.
 * @param target made; must not be there
 * @throws Error naming a package that is missing or changed in the store
 */
export async function unpackDebs(
  store: Store,
  lock: DebianLock,
  target: string,
  options: { readonly tools?: string; readonly order?: 'reverse' },
): Promise<void> {
  const names = lock.packages.map(({ name }) => name);
  // Two versions of one package would leave files of both.
  const twice = names.find((name, index) => names.indexOf(name) !== index);
  if (twice !== undefined) throw new Error(`the lock names ${twice} twice`);
  const sorted = lock.packages.toSorted((a, b) => {
    if (a.name === 'base-files' || b.name === 'base-files') return a.name === 'base-files' ? -1 : 1;
    return a.name < b.name ? -1 : 1;
  });
  for (const deb of sorted) await store.open(`${deb.name} ${deb.version}`, deb);
  const list = `${target}.list`;
  writeFileSync(list, sorted.map(({ sha256 }) => `${sha256}\n`).join(''));
  try {
    const blobs = join(store.directory, 'sha256');
    if (options.tools === undefined) {
      await runTool(['sh', '-c', UNPACK, 'sh', target, blobs, list], {});
    } else {
      const parent = join(target, '..');
      const name = target.slice(parent.length + 1);
      const sandbox: SandboxOptions = { tools: options.tools, mounts: { '/work': parent, '/store': blobs } };
      await runTool(['sh', '-c', UNPACK, 'sh', `/work/${name}`, '/store', `/work/${name}.list`], sandbox);
    }
  } finally {
    rmSync(list, { force: true });
  }
}

/**
 * The tools tree, unpacked once per lock.
 * @returns its root
 */
export async function toolsTree(
  store: Store,
  lock: DebianLock,
  name: string,
  progress: Progress,
): Promise<string> {
  const target = join(store.folder('tools'), name);
  if (existsSync(target)) return target;
  progress(`unpacking ${lock.packages.length} packages of the tools tree`);
  const fresh = `${target}.${process.pid}`;
  rmSync(fresh, { recursive: true, force: true });
  await unpackDebs(store, lock, fresh, {});
  for (const folder of [...MOUNT_POINTS, '/dev', '/proc', '/tmp']) {
    mkdirSync(join(fresh, folder), { recursive: true });
  }
  // Links that maintainer scripts would make.
  const awk = join(fresh, 'usr/bin/awk');
  if (!existsSync(awk)) symlinkSync('mawk', awk);
  writeFileSync(join(fresh, 'etc/passwd'), 'root:x:0:0::/:/bin/sh\n');
  writeFileSync(join(fresh, 'etc/group'), 'root:x:0:\n');
  renameSync(fresh, target);
  return target;
}
