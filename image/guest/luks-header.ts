/**
 * Decides by reading alone what the data disk is. Only a LUKS2 header exactly as this image writes it is opened:
 * cryptsetup would also open one with a null cipher that the host made (CVE-2025-59054).
 */
import { createHash } from 'node:crypto';

/** What lies before the data, in bytes; read whole, checked, and kept in RAM while the disk is open. */
export const HEADER_BYTES = 16 * 1024 * 1024;
export const CIPHER = 'aes-xts-plain64';
export const KEY_BYTES = 64;
/** The key is 32 random bytes: more iterations would add nothing. */
export const ITERATIONS = 1000;

/** Stands in the first block while a format runs: such a disk holds nothing and is formatted anew. */
export const FORMATTING = Buffer.concat([Buffer.from('orderflow: being formatted\n')], 4096);

export type DiskState =
  | { readonly kind: 'empty' }
  | { readonly kind: 'luks'; readonly uuid: string }
  | { readonly kind: 'refused'; readonly check: string };

const BINARY_BYTES = 4096;
const MAGIC = Buffer.from('LUKS\xba\xbe', 'latin1');

/**
 * @param header the first `HEADER_BYTES` of the disk
 * @returns refused: with the first check that fails
 */
export function diskState(header: Buffer): DiskState {
  if (header.length !== HEADER_BYTES) return refused('the disk is smaller than its header');
  if (header.every((byte) => byte === 0)) return { kind: 'empty' };
  if (header.subarray(0, FORMATTING.length).equals(FORMATTING)) return { kind: 'empty' };
  if (!header.subarray(0, 6).equals(MAGIC)) return refused('no LUKS header');
  if (header.readUInt16BE(6) !== 2) return refused('not LUKS version 2');
  const size = Number(header.readBigUInt64BE(8));
  if (size !== 16_384) return refused('size of the header');
  // LUKS2 on-disk format, 2.2: the checksum is taken over the header with its own field zero.
  const algorithm = textAt(header, 72, 32);
  if (algorithm !== 'sha256') return refused('checksum algorithm');
  const copy = Buffer.from(header.subarray(0, size));
  copy.fill(0, 448, 512);
  if (!createHash('sha256').update(copy).digest().equals(header.subarray(448, 480)))
    return refused('checksum');
  const uuid = textAt(header, 168, 40);
  if (!/^[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}$/u.test(uuid)) return refused('uuid');
  const area = textAt(header, BINARY_BYTES, size - BINARY_BYTES);
  const check = checkMetadata(area);
  return check === null ? { kind: 'luks', uuid } : refused(check);
}

function refused(check: string): DiskState {
  return { kind: 'refused', check };
}

function textAt(header: Buffer, offset: number, length: number): string {
  const field = header.subarray(offset, offset + length);
  const end = field.indexOf(0);
  return field.subarray(0, end === -1 ? length : end).toString('utf8');
}

/** Exact values; `any` stands for base64 that differs from disk to disk. */
const ANY_BASE64 = /^[A-Za-z0-9+/]{40,90}={0,2}$/u;
const ANY_COUNT = /^\d{4,9}$/u;
type Shape = string | number | RegExp | { readonly [key: string]: Shape } | readonly Shape[];

const METADATA: Shape = {
  keyslots: {
    '0': {
      type: 'luks2',
      key_size: KEY_BYTES,
      af: { type: 'luks1', stripes: 4000, hash: 'sha256' },
      area: { type: 'raw', offset: '32768', size: '258048', encryption: CIPHER, key_size: KEY_BYTES },
      kdf: { type: 'pbkdf2', hash: 'sha256', iterations: ITERATIONS, salt: ANY_BASE64 },
    },
  },
  tokens: {},
  segments: {
    '0': {
      type: 'crypt',
      offset: String(HEADER_BYTES),
      size: 'dynamic',
      iv_tweak: '0',
      encryption: CIPHER,
      sector_size: 4096,
    },
  },
  digests: {
    '0': {
      type: 'pbkdf2',
      keyslots: ['0'],
      segments: ['0'],
      hash: 'sha256',
      iterations: ANY_COUNT,
      salt: ANY_BASE64,
      digest: ANY_BASE64,
    },
  },
  config: { json_size: '12288', keyslots_size: '16744448' },
};

/** @returns the path of the first value that is not as this image writes it, or null */
function checkMetadata(json: string): string | null {
  let document: unknown;
  try {
    document = JSON.parse(json);
  } catch {
    return 'metadata is no JSON';
  }
  return differs(document, METADATA, 'metadata');
}

function differs(value: unknown, shape: Shape, path: string): string | null {
  if (shape instanceof RegExp) return shape.test(String(value)) ? null : path;
  if (typeof shape !== 'object') return value === shape ? null : path;
  if (typeof value !== 'object' || value === null || Array.isArray(value) !== Array.isArray(shape))
    return path;
  const entries = new Map(Object.entries(value));
  for (const [key, inner] of Object.entries(shape)) {
    if (!entries.has(key)) return `${path}.${key} is missing`;
    const found = differs(entries.get(key), inner, `${path}.${key}`);
    if (found !== null) return found;
    entries.delete(key);
  }
  const [extra] = entries.keys();
  return extra === undefined ? null : `${path}.${extra} is not ours`;
}
