/**
 * One record of the archive: its text headers and value, the frame around it on disk, and the hash
 * chain that ties it to the record before. The byte layout is documented in FORMAT.md.
 *
 * The headers are text and the value is untouched, so a Kafka record (key, headers, value) is the same
 * bytes again. Encoding and decoding only: no files, no order of records (segment.ts, scan.ts).
 *
 * Checksum: CRC-32 (IEEE) of node:zlib, 0.9 µs per 4 KB here; CRC-32C in JavaScript (slicing by 8) is 2.5 µs.
 * Both find every burst up to 32 bits, and the hash chain covers the value besides.
 */
import { createHash, hash } from 'node:crypto';
import { crc32 } from 'node:zlib';
import type { Address, Hex } from '../../pipeline/order.ts';

/** Version of the headers and the value (`v`). */
export const SCHEMA_VERSION = 1;
/** u32 crc, u32 length, u64 sequence, u32 index. */
export const FRAME_HEADER_BYTES = 20;
/** Largest frame that is written or read: above the largest request body (30 MiB) with room to spare. */
export const MAX_FRAME_BYTES = 64 * 1024 * 1024;
/** Chain value before the first record of an epoch: 16 zero bytes as hex. */
export const CHAIN_START = '0'.repeat(32);

/** Headers longer than this are not ours. */
export const MAX_HEADERS_BYTES = 2048;

/** What a caller hands over to be archived. */
export interface OrderRecord {
  /** JSON-RPC method of the order, a header. */
  readonly method: string;
  /** The canonical request, byte for byte. */
  readonly value: Buffer;
  /** Unix time in microseconds. */
  readonly receivedAtUs: number;
  readonly signer: Address;
  /** Bundle hash or transaction hash; null where the method has none. */
  readonly hash: Hex | null;
}

/** A record as it is read back. An order has `method`, a control record has `control`, never both. */
export interface ArchiveRecord {
  readonly nodeId: string;
  /** Unix time in microseconds at which the epoch was opened; names the epoch. */
  readonly epoch: number;
  /** 1, 2, 3 … without holes per node and epoch, control records included. */
  readonly sequence: number;
  /** 32 hex digits: see {@link chainAfter}. */
  readonly chain: string;
  readonly receivedAtUs: number;
  readonly method: string | null;
  readonly control: string | null;
  readonly signer: Address | null;
  readonly hash: Hex | null;
  /** A view into the buffer that was decoded; copy it to keep it. */
  readonly value: Buffer;
}

/** A whole frame with a right checksum, found at some offset of a buffer. */
export interface Frame {
  readonly sequence: number;
  /** Position in its group commit: everything up to `sequence - index - 1` was durable when this was written. */
  readonly index: number;
  readonly payload: Buffer;
  /** Bytes of the whole frame. */
  readonly bytes: number;
}

/** Why bytes are no frame: the buffer ends too early, or they are not what was written. */
export type FrameProblem = 'incomplete' | 'damaged';

const NODE_ID = /^[A-Za-z0-9._:-]{1,64}$/;

/** @returns whether a text can be a node id: 1 to 64 letters, digits, dots, underscores, colons, dashes. */
export function isNodeId(text: string): boolean {
  return NODE_ID.test(text);
}

const ORDER_HEADERS = /^[A-Za-z]\w{0,63}\n0x[0-9a-f]{40}\n(?:0x[0-9a-f]{64})?$/;

/**
 * Tells whether an order can be written so that it can be read back: an acknowledged record that no reader
 * accepts would be lost. Costs about 0.1 µs.
 */
export function isEncodable(record: OrderRecord): boolean {
  return (
    ORDER_HEADERS.test(`${record.method}\n${record.signer}\n${record.hash ?? ''}`) &&
    Number.isSafeInteger(record.receivedAtUs) &&
    record.receivedAtUs >= 0 &&
    record.value.length <= MAX_FRAME_BYTES - FRAME_HEADER_BYTES - MAX_HEADERS_BYTES
  );
}

let scratch = Buffer.allocUnsafeSlow(64 * 1024);

/**
 * The next link of the hash chain: the first 32 hex digits of sha256(previous ‖ ' ' ‖ sequence ‖ ' ' ‖ value),
 * previous as 32 hex digits and sequence in decimal, so that a shell can check it from the headers.
 */
export function chainAfter(previous: string, sequence: number, value: Buffer): string {
  const lead = `${previous} ${sequence} `;
  const length = lead.length + value.length;
  if (length > scratch.length) {
    if (length > 1024 * 1024) {
      return createHash('sha256').update(lead, 'latin1').update(value).digest('hex').slice(0, 32);
    }
    scratch = Buffer.allocUnsafeSlow(1024 * 1024 + 64);
  }
  // One call over one buffer: at 4 KB half the cost of createHash with two updates, copy included.
  scratch.write(lead, 0, 'latin1');
  value.copy(scratch, lead.length);
  return hash('sha256', scratch.subarray(0, length), 'hex').slice(0, 32);
}

/** The headers that are the same for every record of an epoch, in front of all others. */
export function headerPrefix(nodeId: string, epoch: number): string {
  return `v=${SCHEMA_VERSION}\nn=${nodeId}\ne=${epoch}\n`;
}

/** The header text of an order, from `v=` to the empty line. ASCII only. */
export function orderHeaders(prefix: string, sequence: number, chain: string, record: OrderRecord): string {
  const head = `${prefix}s=${sequence}\nh=${chain}\nt=${record.receivedAtUs}\nmethod=${record.method}\nsigner=${record.signer}\n`;
  return record.hash === null ? `${head}\n` : `${head}hash=${record.hash}\n\n`;
}

/** The header text of a control record (`kind`: lower-case letters). */
export function controlHeaders(
  prefix: string,
  sequence: number,
  chain: string,
  receivedAtUs: number,
  kind: string,
): string {
  return `${prefix}s=${sequence}\nh=${chain}\nt=${receivedAtUs}\ncontrol=${kind}\n\n`;
}

/** @returns bytes that the frame of these headers and this value takes. */
export function frameBytes(headers: string, value: Buffer): number {
  return FRAME_HEADER_BYTES + headers.length + value.length;
}

/**
 * Writes a frame at `offset`; the target must have {@link frameBytes} of room there.
 * @returns the offset after the frame.
 */
export function encodeFrame(
  target: Buffer,
  offset: number,
  sequence: number,
  index: number,
  headers: string,
  value: Buffer,
): number {
  const payload = offset + FRAME_HEADER_BYTES;
  const end = payload + headers.length + value.length;
  target.writeUInt32BE(end - offset - 8, offset + 4);
  writeU64(target, sequence, offset + 8);
  target.writeUInt32BE(index, offset + 16);
  target.write(headers, payload, 'latin1');
  value.copy(target, payload + headers.length);
  target.writeUInt32BE(crc32(target.subarray(offset + 4, end)), offset);
  return end;
}

/**
 * Reads the frame at `offset` of `buffer`, which ends at `end`.
 * @returns the frame; `incomplete` when the bytes so far may be the beginning of one; `damaged` when they are not.
 */
export function decodeFrame(buffer: Buffer, offset: number, end: number): Frame | FrameProblem {
  if (end - offset < FRAME_HEADER_BYTES) return 'incomplete';
  const bytes = buffer.readUInt32BE(offset + 4) + 8;
  if (bytes < FRAME_HEADER_BYTES || bytes > MAX_FRAME_BYTES) return 'damaged';
  if (end - offset < bytes) return 'incomplete';
  const frameEnd = offset + bytes;
  if (crc32(buffer.subarray(offset + 4, frameEnd)) !== buffer.readUInt32BE(offset)) return 'damaged';
  const sequence = readU64(buffer, offset + 8);
  const index = buffer.readUInt32BE(offset + 16);
  if (!Number.isSafeInteger(sequence) || index >= sequence) return 'damaged';
  return { sequence, index, payload: buffer.subarray(offset + FRAME_HEADER_BYTES, frameEnd), bytes };
}

/** @returns bytes that the frame at `offset` claims to take; at least its first 8 bytes must be in the buffer. */
export function claimedFrameBytes(buffer: Buffer, offset: number): number {
  return buffer.readUInt32BE(offset + 4) + 8;
}

/** Header lines in their fixed order; lines of names unknown to this version may follow (FORMAT.md). */
const HEADERS = new RegExp(
  [
    '^v=1\\nn=([A-Za-z0-9._:-]{1,64})\\ne=(\\d{1,16})\\ns=(\\d{1,16})\\nh=([0-9a-f]{32})\\nt=(\\d{1,16})',
    '(?:\\nmethod=([A-Za-z]\\w{0,63})|\\ncontrol=([a-z]{1,32}))',
    '(?:\\nsigner=0x([0-9a-f]{40}))?(?:\\nhash=0x([0-9a-f]{64}))?',
    '(?:\\n[a-z]{1,32}=[\\x20-\\x7e]*)*$',
  ].join(''),
);

/**
 * Takes the payload of a frame apart.
 * @returns the record (its value is a view into the payload), or a sentence that says what is wrong.
 */
export function decodeRecord(frame: Frame): ArchiveRecord | string {
  const { payload } = frame;
  const blank = payload.subarray(0, MAX_HEADERS_BYTES).indexOf('\n\n', 0, 'latin1');
  if (blank < 0) return 'the headers have no end';
  const record = parseRecord(payload.toString('latin1', 0, blank), payload.subarray(blank + 2));
  if (typeof record !== 'string' && record.sequence !== frame.sequence) {
    return `header s says ${record.sequence}, the frame says ${frame.sequence}`;
  }
  return record;
}

/**
 * Reads headers as they stand in FORMAT.md: lines `name=value` without the last line feed and the empty line.
 * @param value becomes the record's value, not copied.
 * @returns the record, or a sentence that says what is wrong.
 */
export function parseRecord(text: string, value: Buffer): ArchiveRecord | string {
  const match = HEADERS.exec(text);
  if (match === null) {
    const version = /^v=(\d+)\n/.exec(text)?.[1];
    if (version === undefined || version === String(SCHEMA_VERSION)) return 'the headers are malformed';
    return `schema version ${version} is unknown to this reader`;
  }
  const [, nodeId, epochText, sequenceText, chain, receivedText, method, control, signer, orderHash] = match;
  const epoch = Number(epochText);
  const sequence = Number(sequenceText);
  const receivedAtUs = Number(receivedText);
  if (nodeId === undefined || chain === undefined) return 'the headers are malformed';
  if (!Number.isSafeInteger(epoch) || !Number.isSafeInteger(receivedAtUs)) return 'a number is out of range';
  if (!Number.isSafeInteger(sequence)) return 'a number is out of range';
  return {
    nodeId,
    epoch,
    sequence,
    chain,
    receivedAtUs,
    method: method ?? null,
    control: control ?? null,
    signer: signer === undefined ? null : `0x${signer}`,
    hash: orderHash === undefined ? null : `0x${orderHash}`,
    value,
  };
}

/** Writes an integer below 2^53 as a big-endian u64. */
export function writeU64(target: Buffer, value: number, offset: number): void {
  target.writeUInt32BE(Math.floor(value / 0x1_0000_0000), offset);
  target.writeUInt32BE(value % 0x1_0000_0000, offset + 4);
}

/** Reads a big-endian u64; exact below 2^53, no safe integer above. */
export function readU64(source: Buffer, offset: number): number {
  return source.readUInt32BE(offset) * 0x1_0000_0000 + source.readUInt32BE(offset + 4);
}
