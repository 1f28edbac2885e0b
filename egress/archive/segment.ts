/**
 * Segment files: their names, their 128-byte header, their creation, and the list of a folder's segments.
 * The byte layout is documented in FORMAT.md. Records inside a segment are scan.ts's.
 */
import { constants } from 'node:fs';
import { type FileHandle, open, readdir, rename, stat, unlink } from 'node:fs/promises';
import { join } from 'node:path';
import { crc32 } from 'node:zlib';
import { errorCode } from './failure.ts';
import { isNodeId, readU64, writeU64 } from './record.ts';

export const SEGMENT_HEADER_BYTES = 128;
/** Version of the file layout: segment header and frames. */
const SEGMENT_VERSION = 1;

const MAGIC = Buffer.from('OFSPOOL\n', 'latin1');
const NAME = /^(\d{20})-(\d{20})\.segment$/;
const NODE_ID_OFFSET = 52;
const PARTITION_OFFSET = 120;
const CRC_OFFSET = 124;

/** What a segment says about itself and the records before it. */
export interface SegmentHeader {
  readonly nodeId: string;
  readonly epoch: number;
  readonly firstSequence: number;
  /** Chain value of the record before the first one. */
  readonly chainBefore: string;
  /**
   * Unix µs: not before any record of the epoch's earlier segments, nor before this one's first. It dates them
   * for retention and for searches by time.
   */
  readonly openedAtUs: number;
  /** Partition of the Kafka topic that every record of the epoch goes to, from 0. */
  readonly partition: number;
}

/** A segment file of a folder, as its name and size tell. */
export interface SegmentFile {
  readonly path: string;
  readonly name: string;
  readonly epoch: number;
  readonly firstSequence: number;
  readonly bytes: number;
}

/** @returns the file name; names sort by epoch, then by sequence. */
export function segmentName(epoch: number, firstSequence: number): string {
  return `${String(epoch).padStart(20, '0')}-${String(firstSequence).padStart(20, '0')}.segment`;
}

/** @returns the 128 bytes of a header. */
export function encodeSegmentHeader(header: SegmentHeader): Buffer {
  const bytes = Buffer.alloc(SEGMENT_HEADER_BYTES);
  MAGIC.copy(bytes, 0);
  bytes.writeUInt32BE(SEGMENT_VERSION, 8);
  writeU64(bytes, header.epoch, 12);
  writeU64(bytes, header.firstSequence, 20);
  bytes.write(header.chainBefore, 28, 'hex');
  writeU64(bytes, header.openedAtUs, 44);
  bytes.write(header.nodeId, NODE_ID_OFFSET, 'latin1');
  bytes.writeUInt32BE(header.partition, PARTITION_OFFSET);
  bytes.writeUInt32BE(crc32(bytes.subarray(0, CRC_OFFSET)), CRC_OFFSET);
  return bytes;
}

/** Why bytes are no header; `foreign` when they are whole but of a version that this code does not know. */
export class HeaderProblem {
  readonly message: string;
  readonly foreign: boolean;

  constructor(message: string, foreign = false) {
    this.message = message;
    this.foreign = foreign;
  }
}

/** @param bytes the beginning of a segment file. */
export function decodeSegmentHeader(bytes: Buffer): SegmentHeader | HeaderProblem {
  if (bytes.length < SEGMENT_HEADER_BYTES) return new HeaderProblem('the segment header is cut off');
  if (crc32(bytes.subarray(0, CRC_OFFSET)) !== bytes.readUInt32BE(CRC_OFFSET)) {
    return new HeaderProblem('the segment header is damaged');
  }
  if (!bytes.subarray(0, MAGIC.length).equals(MAGIC)) return new HeaderProblem('not a segment file');
  const version = bytes.readUInt32BE(8);
  if (version !== SEGMENT_VERSION) {
    return new HeaderProblem(`segment version ${version} is unknown to this reader`, true);
  }
  const idEnd = bytes.indexOf(0, NODE_ID_OFFSET);
  const nodeId = bytes.toString(
    'latin1',
    NODE_ID_OFFSET,
    Math.min(idEnd < 0 ? PARTITION_OFFSET : idEnd, PARTITION_OFFSET),
  );
  const header = {
    nodeId,
    epoch: readU64(bytes, 12),
    firstSequence: readU64(bytes, 20),
    chainBefore: bytes.toString('hex', 28, 44),
    openedAtUs: readU64(bytes, 44),
    partition: bytes.readUInt32BE(PARTITION_OFFSET),
  };
  const sound =
    isNodeId(nodeId) &&
    header.firstSequence >= 1 &&
    [header.epoch, header.firstSequence, header.openedAtUs].every(Number.isSafeInteger);
  return sound ? header : new HeaderProblem('the segment header holds impossible values');
}

/** What a segment's name tells. */
export type SegmentName = Omit<SegmentFile, 'bytes'>;

/**
 * The names of a folder's segments, oldest first. Other files are left out.
 * @throws the error of the file system when the folder cannot be read.
 */
export async function listNames(dir: string): Promise<SegmentName[]> {
  const names: SegmentName[] = [];
  for (const name of (await readdir(dir)).sort()) {
    const match = NAME.exec(name);
    if (match === null) continue;
    names.push({ path: join(dir, name), name, epoch: Number(match[1]), firstSequence: Number(match[2]) });
  }
  return names;
}

/** Like {@link listNames}, with their sizes now. */
export async function listSegments(dir: string): Promise<SegmentFile[]> {
  const segments: SegmentFile[] = [];
  for (const name of await listNames(dir)) {
    const bytes = await sizeOrNull(name.path);
    // Null: deleted by retention since the folder was read.
    if (bytes !== null) segments.push({ ...name, bytes });
  }
  return segments;
}

/** Where a segment is made before it gets its name; a killed node may leave it behind. */
export const UNFINISHED_SEGMENT = 'segment.new';

/**
 * Makes a new segment durable: the file with its header, and its name in the folder. It gets its name last, so a
 * reader never sees one without its header.
 * @returns the open file, to be written at {@link SEGMENT_HEADER_BYTES} on.
 * @throws EEXIST when the segment is there already, the error of the file system otherwise; nothing is left behind
 *   then, as far as that can be had.
 */
export async function createSegment(dir: string, header: SegmentHeader): Promise<FileHandle> {
  const path = join(dir, segmentName(header.epoch, header.firstSequence));
  const unfinished = join(dir, UNFINISHED_SEGMENT);
  // A rename would replace it without a word; the folder's lock keeps others out between here and there.
  if ((await sizeOrNull(path)) !== null) throw Object.assign(new Error(`${path} exists`), { code: 'EEXIST' });
  const file = await open(unfinished, constants.O_RDWR | constants.O_CREAT | constants.O_EXCL, 0o600);
  let named = unfinished;
  try {
    const { bytesWritten } = await file.write(encodeSegmentHeader(header), 0, SEGMENT_HEADER_BYTES, 0);
    if (bytesWritten < SEGMENT_HEADER_BYTES)
      throw Object.assign(new Error('short write'), { code: 'ENOSPC' });
    await file.sync();
    await rename(unfinished, path);
    named = path;
    await syncDirectory(dir);
    return file;
  } catch (error) {
    await file.close().catch(() => {});
    await unlink(named).catch(() => {});
    throw error;
  }
}

/** Makes the names in a folder durable. */
export async function syncDirectory(dir: string): Promise<void> {
  const handle = await open(dir, 'r');
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

async function sizeOrNull(path: string): Promise<number | null> {
  try {
    return (await stat(path)).size;
  } catch (error) {
    if (errorCode(error) === 'ENOENT') return null;
    throw error;
  }
}
