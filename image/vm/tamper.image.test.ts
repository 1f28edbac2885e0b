/** What an image that was changed does before any service starts: it stops (B4, B5, B6). */
import { cpSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, inject, onTestFinished, test } from 'vitest';
import { type Measurement, measure } from '../measure/measurements.ts';
import { sectionsOf } from '../measure/pe.ts';
import { copyOfDisk, editBoot, flip, partition } from '../testing/disk.ts';
import { type MachineOptions, startMachine } from './machine.ts';

/** Guards against a hang alone. */
const END_S = 900;
const SERVICES = /systemd\[1\]|systemd-journald|chronyd/u;

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

/** Runs it to its end, which must come before any service. @returns why the initrd stopped */
async function stopOf(disk: string, extra: readonly string[] = []): Promise<string | undefined> {
  const console_ = await runToEnd(disk, { extra });
  expect(console_).not.toMatch(SERVICES);
  const reason = /initrd: stopped: [^\n\r]*/u.exec(console_)?.[0];
  console.log(reason);
  return reason;
}

test('B5: a command line, a credential or an addon from the host stops the boot', async () => {
  const smbios = `type=11,value=io.systemd.stub.kernel-cmdline-extra=systemd.debug_shell`;
  expect(await stopOf(copyOfDisk(), ['-smbios', smbios])).toContain("the command line is not the image's");

  const credential = await withFile('printf secret > /work/x.cred', 'x.cred');
  expect(await stopOf(credential)).toContain('the boot stub added /.extra/');

  const stub = '/usr/lib/systemd/boot/efi/addonx64.efi.stub';
  const make = `ukify build --cmdline=systemd.debug_shell --stub=${stub} --output=/work/x.addon.efi > /dev/null`;
  expect(await stopOf(await withFile(make, 'x.addon.efi'))).toContain("the command line is not the image's");
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
