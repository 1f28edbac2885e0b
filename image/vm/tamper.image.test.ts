/** What an image that was changed does: it does not start, or it does not measure what it should (B4, B5, B6). */
import { closeSync, cpSync, mkdtempSync, openSync, readFileSync, readSync, rmSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, inject, onTestFinished, test } from 'vitest';
import { runTool } from '../build/sandbox.ts';
import { type Measurement, measure } from '../measure/measurements.ts';
import { sectionsOf } from '../measure/pe.ts';
import { World } from '../testing/world.ts';
import { type MachineOptions, startMachine } from './machine.ts';

/** Guards against a hang alone. */
const END_S = 900;
const SERVICES = /systemd\[1\]|systemd-journald|chronyd/u;

function copyOfDisk(): string {
  const folder = mkdtempSync(join(tmpdir(), 'image-tamper-'));
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }));
  cpSync(join(inject('image'), 'disk.raw'), join(folder, 'disk.raw'));
  return join(folder, 'disk.raw');
}

function flip(disk: string, at: number): void {
  const file = openSync(disk, 'r+');
  const byte = Buffer.alloc(1);
  readSync(file, byte, 0, 1, at);
  writeSync(file, Buffer.of(byte[0]! ^ 1), 0, 1, at);
  closeSync(file);
}

/** Start and size in bytes of the n-th partition. */
function partition(disk: string, index: number): { start: number; size: number } {
  const file = openSync(disk, 'r');
  const entry = Buffer.alloc(128);
  readSync(file, entry, 0, 128, 1024 + index * 128);
  closeSync(file);
  const first = Number(entry.readBigUInt64LE(32));
  return { start: first * 512, size: (Number(entry.readBigUInt64LE(40)) - first + 1) * 512 };
}

/** Runs commands on the boot partition, which is `$image` to mtools. */
async function editBoot(disk: string, commands: readonly string[]): Promise<void> {
  const script = [
    `export MTOOLS_SKIP_CHECK=1 image=/work/disk.raw@@${partition(disk, 0).start}`,
    ...commands,
  ].join(' && ');
  await runTool(['sh', '-c', script], { tools: inject('tools'), mounts: { '/work': join(disk, '..') } });
}

/** @returns a disk where the boot stub finds a file beside the kernel image */
async function withFile(make: string, name: string): Promise<string> {
  const disk = copyOfDisk();
  const folder = '::/EFI/BOOT/BOOTX64.EFI.extra.d';
  await editBoot(disk, [
    make,
    `mmd -i "$image" ${folder}`,
    `mcopy -i "$image" /work/${name} ${folder}/${name}`,
  ]);
  return disk;
}

/** Runs it to its end. @returns its console */
async function runToEnd(disk: string, options: Partial<MachineOptions> = {}): Promise<string> {
  const machine = await startMachine({ tools: inject('tools'), disk, ...options });
  onTestFinished(() => machine.kill());
  await machine.waitForEnd(END_S);
  return machine.console;
}

test('B4: a flipped byte in the root, its superblock or the hash tree: panic before any service', async () => {
  const attacks = {
    'the first block of the root': (disk: string) => flip(disk, partition(disk, 1).start + 1024),
    'the hash tree': (disk: string) => flip(disk, partition(disk, 2).start + 4096 + 5),
    'the superblock of the hash tree': (disk: string) => flip(disk, partition(disk, 2).start),
  };
  for (const [what, attack] of Object.entries(attacks)) {
    const disk = copyOfDisk();
    attack(disk);
    const console_ = await runToEnd(disk);
    expect(console_, what).toMatch(/Kernel panic/u);
    expect(console_, what).not.toMatch(SERVICES);
    console.log(`${what}: ${/(?:initrd: stopped|verity)[^\n]*|Kernel panic[^\n]*/u.exec(console_)?.[0]}`);
  }
});

test('B5: a command line, a credential or an addon from the host stops the boot', async () => {
  const smbios = `type=11,value=io.systemd.stub.kernel-cmdline-extra=systemd.debug_shell`;
  const commandLine = await runToEnd(copyOfDisk(), { extra: ['-smbios', smbios] });
  expect(commandLine).toContain("initrd: stopped: the command line is not the image's");
  expect(commandLine).not.toMatch(SERVICES);

  const credential = await runToEnd(await withFile('printf secret > /work/x.cred', 'x.cred'));
  expect(credential).toContain('initrd: stopped: the boot stub added /.extra/');
  expect(credential).not.toMatch(SERVICES);

  const stub = '/usr/lib/systemd/boot/efi/addonx64.efi.stub';
  const make = `ukify build --cmdline=systemd.debug_shell --stub=${stub} --output=/work/x.addon.efi > /dev/null`;
  const addon = await runToEnd(await withFile(make, 'x.addon.efi'));
  expect(addon).toContain("initrd: stopped: the command line is not the image's");
  expect(addon).not.toMatch(SERVICES);
});

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
  await world.machine.waitFor(/configuration: the hub answers 403/u, END_S);
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

test('B5: a changed byte in the kernel image changes what the image must measure', () => {
  const image = inject('image');
  const folder = mkdtempSync(join(tmpdir(), 'image-uki-'));
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }));
  for (const name of ['uki.efi', 'disk.raw']) cpSync(join(image, name), join(folder, name));
  const firmware = join(inject('tools'), 'usr/share/OVMF/OVMF_CODE_4M.fd');
  const before = JSON.parse(readFileSync(join(image, 'measurements.json'), 'utf8')) as Measurement[];
  const uki = readFileSync(join(folder, 'uki.efi'));
  const changes = {
    '.linux': ['4', '11'],
    '.cmdline': ['4', '9', '11'],
    '.initrd': ['4', '9', '11'],
    '.osrel': ['4', '9', '11'],
    '.uname': ['4', '11'],
  };
  for (const [name, registers] of Object.entries(changes)) {
    const section = sectionsOf(uki).find((one) => one.name === name)!;
    flip(join(folder, 'uki.efi'), section.offset + 8);
    const after = measure({ folder, firmware, name: 'orderflow-devnet' });
    flip(join(folder, 'uki.efi'), section.offset + 8);
    for (const bank of ['sha256', 'sha384']) {
      const of = (all: readonly Measurement[]) =>
        all.find(({ measurement_id: id }) => id.endsWith(`-tpm-${bank}`))!.measurements;
      const changed = Object.keys(of(before)).filter(
        (index) => of(before)[index]!.expected !== of(after)[index]!.expected,
      );
      expect(
        changed.sort((a, b) => Number(a) - Number(b)),
        `${name} ${bank}`,
      ).toEqual(registers);
    }
    console.log(`${name}: PCR ${registers.join(', ')}`);
  }
});
