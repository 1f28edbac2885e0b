/** What an image that was changed does: it does not start, or it does not measure what it should (B4, B5, B6). */
import { closeSync, cpSync, mkdtempSync, openSync, readFileSync, readSync, rmSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, inject, onTestFinished, test } from 'vitest';
import { runTool } from '../build/sandbox.ts';
import { type Measurement, measure } from '../measure/measurements.ts';
import { sectionsOf } from '../measure/pe.ts';
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

test('B5: a command line or a credential from the host stops the boot', async () => {
  const smbios = `type=11,value=io.systemd.stub.kernel-cmdline-extra=systemd.debug_shell`;
  const commandLine = await runToEnd(copyOfDisk(), { extra: ['-smbios', smbios] });
  expect(commandLine).toContain("initrd: stopped: the command line is not the image's");
  expect(commandLine).not.toMatch(SERVICES);

  const disk = copyOfDisk();
  const { start } = partition(disk, 0);
  const script = [
    'echo secret > /work/x.cred',
    `export MTOOLS_SKIP_CHECK=1; mmd -i /work/disk.raw@@${start} ::/EFI/BOOT/BOOTX64.EFI.extra.d`,
    `mcopy -i /work/disk.raw@@${start} /work/x.cred ::/EFI/BOOT/BOOTX64.EFI.extra.d/x.cred`,
  ].join(' && ');
  await runTool(['sh', '-c', script], { tools: inject('tools'), mounts: { '/work': join(disk, '..') } });
  const credential = await runToEnd(disk);
  expect(credential).toContain('initrd: stopped: the boot stub added /.extra/');
  expect(credential).not.toMatch(SERVICES);
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
