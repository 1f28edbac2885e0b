/** What a machine refuses: data disks that are not its own, and a clock that was put back. */
import { randomBytes } from 'node:crypto';
import { closeSync, openSync, readSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { expect, inject, onTestFinished, test } from 'vitest';
import { diskState, HEADER_BYTES } from '../guest/luks-header.ts';
import { forged, headerOf } from '../testing/luks.ts';
import { eventually, HANG_S, World } from '../testing/world.ts';
import { makeDataDisk } from './boot.ts';

async function newWorld(): Promise<World> {
  const configuration = {
    instance_name: 'vm',
    disk_encryption: { key: randomBytes(32).toString('hex') },
    operator_cidrs: ['10.0.2.0/24'],
  };
  const world = new World({ tools: inject('tools'), image: inject('image'), configuration });
  onTestFinished(() => world.close());
  await world.open();
  return world;
}

function writeStart(disk: string, bytes: Buffer): void {
  const file = openSync(disk, 'r+');
  writeSync(file, bytes, 0, bytes.length, 0);
  closeSync(file);
}

function readStart(disk: string): Buffer {
  const file = openSync(disk, 'r');
  const bytes = Buffer.alloc(HEADER_BYTES);
  readSync(file, bytes, 0, bytes.length, 0);
  closeSync(file);
  return bytes;
}

/** A disk of the host beside the data disk: larger, empty, and none of the machine's business. */
function otherDisk(folder: string): { file: string; extra: string[] } {
  const file = join(folder, 'other.raw');
  makeDataDisk(file);
  const drive = 'if=none,id=other,format=raw,file=/store/other.raw';
  return { file, extra: ['-drive', drive, '-device', 'virtio-blk-pci,drive=other,serial=other'] };
}

test('garbage and a null cipher are refused and left alone until the operator wipes them; a cut-off format starts anew', async () => {
  const world = await newWorld();
  const garbage = Buffer.alloc(HEADER_BYTES, 'somebody else lives here ');
  writeStart(world.dataDisk, garbage);
  const other = otherDisk(world.folder);
  // No file system can be made: the first block behind the header cannot be written.
  await world.boot({ failsAt: HEADER_BYTES, extra: other.extra });
  await world.machine.waitFor(/data disk: refused: no LUKS header/u, HANG_S);
  for (const unit of ['var-lib-persistent.mount', 'orderflow-proxy.service', 'haproxy.service'])
    expect(await world.machine.report<string>('unit', unit), unit).toContain('ActiveState=inactive');
  expect(readStart(world.dataDisk).equals(garbage)).toBe(true);
  // The operator sees which check failed.
  await world.logged('boot disk failed refused: no LUKS header');

  // The step is tried again and again, each time with what is on the disk then.
  const ours = await headerOf(inject('tools'), {});
  const nullCipher = forged(ours, (text) =>
    text.replaceAll(/"encryption":\s*"aes-xts-plain64"/gu, '"encryption":"cipher_null-ecb"'),
  );
  writeStart(world.dataDisk, nullCipher);
  await world.machine.waitFor(/data disk: refused: metadata\.keyslots\.0\.area\.encryption/u, HANG_S);
  expect(readStart(world.dataDisk).equals(nullCipher)).toBe(true);

  // The API of before the configuration takes nothing yet.
  await eventually(async () =>
    expect((await world.operator('/api/v1/file-upload/disk_wipe', 'persistent\n')).status).toBe(200),
  );
  expect((await world.operator('/api/v1/actions/disk_wipe')).status).toBe(200);
  await world.logged('disk persistent was wiped');

  // The power fails between the new header and the file system.
  await world.machine.waitFor(/data disk: Command failed: \/usr\/sbin\/mke2fs/u, HANG_S);
  await world.machine.kill();
  expect(diskState(readStart(world.dataDisk))).toEqual({ kind: 'empty' });
  expect(readStart(other.file).every((byte) => byte === 0)).toBe(true);
  await world.boot();
  await world.machine.waitFor(/data disk: formatted/u, HANG_S);
  expect(diskState(readStart(world.dataDisk)).kind).toBe('luks');
});

test('a clock that goes back by years opens nothing: the boot waits', async () => {
  const world = await newWorld();
  await world.boot({ clock: '2031-01-01T00:00:00' });
  const [, days] = await world.machine.waitFor(
    /time: refused: the clock went back by ([\d.]+) days/u,
    HANG_S,
  );
  console.log(`refused: back by ${days} days`);
  const gate = await world.machine.report<string>('unit', 'time-gate.service');
  expect(gate).not.toContain('ActiveState=active');
  expect(await world.machine.report<string>('unit', 'render-config.service')).not.toContain(
    'ActiveState=active',
  );
  expect(world.machine.console).not.toContain('configuration: ');
});
