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

/** The project's sources elsewhere, in another order on disk. */
function copySources(target: string): void {
  const files = globSync(
    ['*.ts', 'package*.json', '{metrics,pipeline,ingress,egress,identity,devnet,image}/**/*.{ts,json}'],
    {
      cwd: SOURCES,
    },
  );
  for (const path of files.toSorted().toReversed()) {
    mkdirSync(dirname(join(target, path)), { recursive: true });
    cpSync(join(SOURCES, path), join(target, path));
  }
}

test('the same bytes in another folder, umask, zone, locale, clock, user, home, host name and on one CPU', async () => {
  // In a namespace of loopback alone, so neither build can have fetched anything (R3).
  expect(Object.keys(networkInterfaces()).filter((name) => name !== 'lo')).toEqual([]);
  const folder = mkdtempSync(join(tmpdir(), 'image-second-'));
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }));
  const sources = join(folder, 'a/deeper/place for sources');
  copySources(sources);
  const store = join(folder, 'store');
  mkdirSync(store);
  for (const name of ['sha256', 'tools'])
    symlinkSync(join(defaultStore().directory, name), join(store, name));
  const output = join(folder, 'out');
  mkdirSync(output);
  // What an earlier build left behind must not matter.
  writeFileSync(join(output, 'disk.raw'), 'left over');
  chmodSync(folder, 0o777);
  const script = `umask 077; hostname elsewhere; exec taskset -c 0 env -i PATH="$PATH" HOME=/nowhere TZ=Asia/Kathmandu LANG=tr_TR.UTF-8 LC_ALL=tr_TR.UTF-8 ORDERFLOW_IMAGE_STORE="$1" IMAGE_FAKETIME="@2031-05-06 07:08:09" "$2" "$3" build --out "$4"`;
  // Inside its own user namespace the builder has another id than outside.
  const { status, stderr } = spawnSync(
    'unshare',
    [
      '--user',
      '--uts',
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
      output,
    ],
    { encoding: 'utf8' },
  );
  expect(status, stderr).toBe(0);
  const image = inject('image');
  const read = (at: string): Entry[] => JSON.parse(readFileSync(join(at, 'files.json'), 'utf8')) as Entry[];
  expect(compareManifests(read(image), read(output))).toEqual([]);
  expect(await differingOutputs(image, output)).toEqual([]);
  for (const name of OUTPUTS) {
    const { size, sha256 } = await digestOf(join(image, name));
    console.log(`${sha256} ${size} ${name}`);
  }
});
