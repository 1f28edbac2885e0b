/** An image of somebody else's making that boots: it measures what it is, and gets nothing (B5). */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, inject, onTestFinished, test } from 'vitest';
import type { Measurement } from '../measure/measurements.ts';
import { copyOfDisk, editBoot } from '../testing/disk.ts';
import { HANG_S, World } from '../testing/world.ts';

test('B5: a changed byte in the kernel image, booted: the hub hands out nothing', async () => {
  const disk = copyOfDisk();
  await editBoot(disk, [
    'mcopy -i "$image" ::/EFI/BOOT/BOOTX64.EFI /work/uki.efi',
    'sed -i s/^IMAGE_VERSION=2/IMAGE_VERSION=3/ /work/uki.efi',
    'mcopy -o -i "$image" /work/uki.efi ::/EFI/BOOT/BOOTX64.EFI',
  ]);
  const key = 'ab'.repeat(32);
  const configuration = { instance_name: 'vm', disk_encryption: { key } };
  const world = new World({ tools: inject('tools'), image: inject('image'), configuration });
  onTestFinished(() => world.close());
  await world.open();
  await world.boot({ disk });
  await world.machine.waitFor(/configuration: the hub answers 403/u, HANG_S);
  const read = await world.machine.report<Record<string, Record<string, string>>>('registers');
  const all = JSON.parse(readFileSync(join(inject('image'), 'measurements.json'), 'utf8')) as Measurement[];
  const { measurements } = all.find(({ measurement_id: id }) => id.endsWith('-tpm-sha256'))!;
  const changed = Object.entries(measurements).filter(
    ([index, { expected }]) => read.sha256![index] !== expected,
  );
  console.log(`PCR ${changed.map(([index]) => index).join(', ')} differ; the hub answers 403`);
  expect(changed.map(([index]) => index)).toEqual(['4', '9', '11']);
  expect(await world.machine.report('exists', '/run/node/persistent-setup/disk-key')).toBe(false);
  expect(await world.machine.report<string>('unit', 'orderflow-proxy.service')).toContain(
    'ActiveState=inactive',
  );
  expect(world.machine.console).not.toContain(key);
});
