/**
 * PE files as the firmware measures them: the Authenticode hash (Microsoft, "Windows Authenticode Portable Executable
 * Signature Format", 2008) and the sections of a kernel image.
 */
import { createHash } from 'node:crypto';

export type Bank = 'sha256' | 'sha384';

export interface Section {
  readonly name: string;
  readonly virtualSize: number;
  readonly offset: number;
  readonly size: number;
}

const PE32_PLUS = 0x20b;
const CERTIFICATE_TABLE = 4;

function headers(file: Buffer) {
  const pe = file.readUInt32LE(0x3c);
  if (file.toString('latin1', pe, pe + 4) !== 'PE\0\0') throw new Error('no PE file');
  const sections = file.readUInt16LE(pe + 6);
  const optional = pe + 24;
  const directories = optional + (file.readUInt16LE(optional) === PE32_PLUS ? 112 : 96);
  const table = optional + file.readUInt16LE(pe + 20);
  return { optional, directories, sections, table, headerSize: file.readUInt32LE(optional + 60) };
}

/** Sections in the order of the file's table. @throws Error when it is no PE file */
export function sectionsOf(file: Buffer): Section[] {
  const { sections, table } = headers(file);
  return Array.from({ length: sections }, (_, index) => {
    const at = table + index * 40;
    return {
      name: file.toString('latin1', at, at + 8).replace(/\0+$/u, ''),
      virtualSize: file.readUInt32LE(at + 8),
      size: file.readUInt32LE(at + 16),
      offset: file.readUInt32LE(at + 20),
    };
  });
}

/** What a section holds in memory: its VirtualSize bytes, zeros after those of the file. */
export function contentOf(file: Buffer, { offset, size, virtualSize }: Section): Buffer {
  const content = Buffer.alloc(virtualSize);
  file.copy(content, 0, offset, offset + Math.min(size, virtualSize));
  return content;
}

/** The Authenticode hash: all but the checksum, the entry of the certificate table and the certificates. */
export function authenticodeHash(file: Buffer, bank: Bank): Buffer {
  const { optional, directories, headerSize } = headers(file);
  const checksum = optional + 64;
  const certificates = directories + CERTIFICATE_TABLE * 8;
  const hash = createHash(bank);
  hash.update(file.subarray(0, checksum));
  hash.update(file.subarray(checksum + 4, certificates));
  hash.update(file.subarray(certificates + 8, headerSize));
  let hashed = headerSize;
  for (const { offset, size } of sectionsOf(file).sort((a, b) => a.offset - b.offset)) {
    if (size === 0) continue;
    hash.update(file.subarray(offset, offset + size));
    hashed += size;
  }
  const signed = file.readUInt32LE(certificates + 4);
  if (file.length > hashed) hash.update(file.subarray(hashed, file.length - signed));
  return hash.digest();
}
