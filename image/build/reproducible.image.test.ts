/** R1, R2, R3: a second build under other circumstances gives the same bytes. */
import { spawnSync } from 'node:child_process';
import {
  chmodSync,
  cpSync,
  globSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { networkInterfaces, tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { expect, inject, onTestFinished, test } from 'vitest';
import { differingOutputs, OUTPUTS } from './build.ts';
import { defaultStore, digestOf } from './store.ts';
import { compareManifests, type Entry } from './tree.ts';

const SOURCES = join(import.meta.dirname, '../..');

/** The project's sources elsewhere, in another order on disk, and so the packages in its locks. */
function copySources(target: string): void {
  const files = globSync('**/*.{ts,json,c,h}', {
    cwd: SOURCES,
    exclude: (path) => path === 'node_modules',
  });
  for (const path of files.toSorted().toReversed()) {
    mkdirSync(dirname(join(target, path)), { recursive: true });
    cpSync(join(SOURCES, path), join(target, path));
  }
  for (const path of globSync('image/lock/*.json', { cwd: target })) {
    const lock = JSON.parse(readFileSync(join(target, path), 'utf8')) as { packages: unknown[] };
    writeFileSync(join(target, path), JSON.stringify({ ...lock, packages: lock.packages.toReversed() }));
  }
}

test('the same bytes elsewhere: folder, file system, umask, zone, locale, clock, user, home, host, order, one CPU', async () => {
  // In a namespace of loopback alone, so neither build can have fetched anything (R3).
  const interfaces = Object.keys(networkInterfaces());
  expect(interfaces.filter((name) => name !== 'lo')).toEqual([]);
  console.log(`built with the network interfaces: ${interfaces.join(', ')}`);
  const folder = mkdtempSync(join(tmpdir(), 'image-second-'));
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }));
  const sources = join(folder, 'a/deeper/place for sources');
  copySources(sources);
  const store = join(folder, 'store');
  mkdirSync(store);
  for (const name of ['sha256', 'tools'])
    symlinkSync(join(defaultStore().directory, name), join(store, name));
  const built = join(folder, 'built');
  mkdirSync(built);
  chmodSync(folder, 0o777);
  // It works on another file system, where an earlier build has left something behind.
  const script = `umask 077; hostname elsewhere; umask; hostname; id -u; mkdir "$4/ram"; mount -t tmpfs ram "$4/ram"
mkdir "$4/ram/out"; echo left over > "$4/ram/out/disk.raw"
taskset -c 0 env -i PATH="$PATH" HOME=/nowhere TZ=Asia/Kathmandu LANG=tr_TR.UTF-8 LC_ALL=tr_TR.UTF-8 ORDERFLOW_IMAGE_STORE="$1" IMAGE_FAKETIME="@2031-05-06 07:08:09" "$2" "$3" build --out "$4/ram/out" && cp -R "$4/ram/out" "$4/out"`;
  // Inside its own user namespace the builder has another id than outside.
  const { status, stdout, stderr } = spawnSync(
    'unshare',
    [
      '--user',
      '--uts',
      '--mount',
      '--map-user=4242',
      '--map-group=4242',
      '--keep-caps',
      'sh',
      '-c',
      script,
      'sh',
      store,
      process.execPath,
      join(sources, 'image/main.ts'),
      built,
    ],
    { encoding: 'utf8' },
  );
  expect(status, stderr).toBe(0);
  console.log(`again with umask, host and user ${stdout.trim().replaceAll('\n', ', ')} in ${sources}`);
  const image = inject('image');
  const output = join(built, 'out');
  const read = (at: string): Entry[] => JSON.parse(readFileSync(join(at, 'files.json'), 'utf8')) as Entry[];
  expect(compareManifests(read(image), read(output))).toEqual([]);
  expect(await differingOutputs(image, output)).toEqual([]);
  for (const name of OUTPUTS) {
    const { size, sha256 } = await digestOf(join(image, name));
    console.log(`${sha256} ${size} ${name}`);
  }
});
