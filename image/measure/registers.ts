/**
 * The registers that a boot of an image leaves behind, computed from its files alone: what firmware, boot stub and
 * kernel extend, in their order (TCG PC Client Platform Firmware Profile; systemd-stub(7); Linux EFI stub).
 */
import { createHash } from 'node:crypto';
import { authenticodeHash, type Bank, contentOf, sectionsOf } from './pe.ts';

export const BANKS: readonly Bank[] = ['sha256', 'sha384'];

/** One extension of one register. */
export interface Measured {
  readonly register: number;
  readonly digest: Buffer;
  /** For whoever compares it with an event log. */
  readonly what: string;
}

/** Order in which the stub measures the sections that are there (systemd 257, unified-sections). */
const SECTION_ORDER = [
  'linux',
  'osrel',
  'cmdline',
  'initrd',
  'ucode',
  'splash',
  'dtb',
  'uname',
  'sbat',
  'pcrpkey',
  'profile',
];

const digest = (bank: Bank, data: Uint8Array | string): Buffer => createHash(bank).update(data).digest();

/**
 * Every extension of PCR 4, 5, 9 and 11 in order; 12 and 13 get none.
 * @param uki the kernel image
 * @param table the disk's first 34 sectors
 */
export function extensionsOf(uki: Buffer, table: Buffer, bank: Bank): Measured[] {
  const sections = new Map(
    sectionsOf(uki).map((section) => [section.name.slice(1), contentOf(uki, section)]),
  );
  const section = (name: string): Buffer => {
    const content = sections.get(name);
    if (content === undefined) throw new Error(`the kernel image has no section .${name}`);
    return content;
  };
  const separator = digest(bank, Buffer.alloc(4));
  const linux = section('linux');
  const of = (register: number, what: string, value: Buffer): Measured => ({ register, what, digest: value });
  return [
    of(4, 'EV_EFI_ACTION', digest(bank, 'Calling EFI Application from Boot Option')),
    of(4, 'EV_SEPARATOR', separator),
    of(4, 'kernel image', authenticodeHash(uki, bank)),
    of(4, 'kernel', authenticodeHash(linux, bank)),
    of(5, 'EV_SEPARATOR', separator),
    of(5, 'partition table', digest(bank, partitionEvent(table))),
    of(5, 'EV_EFI_ACTION', digest(bank, 'Exit Boot Services Invocation')),
    of(5, 'EV_EFI_ACTION', digest(bank, 'Exit Boot Services Returned with Success')),
    ...SECTION_ORDER.filter((name) => sections.has(name)).flatMap((name) => [
      of(11, `.${name}`, digest(bank, `.${name}\0`)),
      of(11, `content of .${name}`, digest(bank, section(name))),
    ]),
    of(9, 'command line', digest(bank, utf16(section('cmdline')))),
    of(9, 'initrd', digest(bank, Buffer.concat([padded(section('initrd')), addedByStub(section('osrel'))]))),
  ];
}

/** Value of each of the registers after these extensions, as hex. */
export function registersOf(extensions: readonly Measured[], bank: Bank): Record<number, string> {
  const zero = (): Buffer => Buffer.alloc(digest(bank, '').length);
  const values = new Map<number, Buffer>([4, 5, 9, 11, 12, 13].map((index) => [index, zero()]));
  for (const { register, digest: value } of extensions) {
    const before = values.get(register) ?? zero();
    values.set(register, digest(bank, Buffer.concat([before, value])));
  }
  return Object.fromEntries([...values].map(([index, value]) => [index, value.toString('hex')]));
}

/** EV_EFI_GPT_EVENT: header, number of used entries, those entries. */
function partitionEvent(disk: Buffer): Buffer {
  const header = disk.subarray(512, 512 + 92);
  const count = header.readUInt32LE(80);
  const size = header.readUInt32LE(84);
  const entries = Array.from({ length: count }, (_, index) =>
    disk.subarray(1024 + index * size, 1024 + (index + 1) * size),
  ).filter((entry) => entry.length === size && entry.subarray(0, 16).some((byte) => byte !== 0));
  const used = Buffer.alloc(8);
  used.writeBigUInt64LE(BigInt(entries.length));
  return Buffer.concat([header, used, ...entries]);
}

function utf16(text: Buffer): Buffer {
  return Buffer.from(`${text.toString('utf8').replace(/\0+$/u, '')}\0`, 'utf16le');
}

function padded(bytes: Buffer): Buffer {
  return Buffer.concat([bytes, Buffer.alloc(-bytes.length & 3)]);
}

/** The archive that the stub itself puts behind the initrd: `.extra` with a copy of os-release. */
function addedByStub(osRelease: Buffer): Buffer {
  return Buffer.concat([
    newcEntry('.extra', 0o040_555, Buffer.alloc(0), 1),
    newcEntry('.extra/os-release', 0o100_444, osRelease, 2),
    newcEntry('TRAILER!!!', 0, Buffer.alloc(0), 0),
  ]);
}

function newcEntry(name: string, mode: number, content: Buffer, inode: number): Buffer {
  const fields = [inode, mode, 0, 0, 1, 0, content.length, 0, 0, 0, 0, name.length + 1, 0];
  const hex = fields.map((value) => value.toString(16).padStart(8, '0')).join('');
  // The stub has the trailer as a fixed text, where the length of the name is an upper-case B.
  const head = Buffer.from(`070701${inode === 0 ? hex.toUpperCase() : hex}${name}\0`);
  return Buffer.concat([padded(head), padded(content)]);
}
