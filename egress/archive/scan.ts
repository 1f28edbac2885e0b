/**
 * Reads one segment from its header on and checks every record: checksum, dense sequence, hash chain, and
 * that node and epoch are the header's. Memory is bounded by the largest frame. It never passes over bytes
 * silently: it stops at the first bad one, says where and why, and goes on only when told to.
 *
 * A segment may be read while a node writes it: the end may then be in the middle of a record, of which any part may
 * still be missing. Zeros up to the end of the file are room that the writer has made ahead: the segment ends before
 * them.
 */
import { type FileHandle, open } from 'node:fs/promises';
import {
  type ArchiveRecord,
  chainAfter,
  claimedFrameBytes,
  decodeFrame,
  decodeRecord,
  FRAME_HEADER_BYTES,
  MAX_FRAME_BYTES,
  readU64,
} from './record.ts';
import { decodeSegmentHeader, HeaderProblem, SEGMENT_HEADER_BYTES, type SegmentHeader } from './segment.ts';

const CHUNK_BYTES = 256 * 1024;
const ZEROS = Buffer.alloc(64 * 1024);

/** A record and where it stands. Its value is valid until the next call of the scan. */
export interface ScannedRecord {
  readonly record: ArchiveRecord;
  /** Position in its group commit (record.ts, Frame). */
  readonly index: number;
  /** Offset of its frame in the file, bytes. */
  readonly offset: number;
}

/** Why a scan stopped before the end of the file. */
export interface ScanProblem {
  /** `incomplete`: the file ends inside a record. `damaged`: the bytes are not what was written. */
  readonly kind: 'incomplete' | 'damaged';
  readonly offset: number;
  readonly message: string;
}

/** A frame found after a bad one. */
export interface Resumed {
  readonly offset: number;
  readonly sequence: number;
  readonly index: number;
  /** The bad one itself, which is whole by now: it was being written when it was read. */
  readonly late: boolean;
}

/**
 * After a problem: whether a whole frame behind the bad one proves that the record `sequence` had been durable, so
 * that it is damage and not a torn end (recover.ts). Reads on to the end of the segment.
 * @throws the error of the file system.
 */
export async function wasDurable(scan: SegmentScan, sequence: number): Promise<boolean> {
  let before = sequence;
  while (scan.problem !== null) {
    const resumed = await scan.resume();
    if (resumed === null) return false;
    for (let item = await scan.next(); item !== null; item = await scan.next()) {
      if (!resumed.late && item.record.sequence - item.index > before) return true;
    }
    if (resumed.late) before = scan.nextSequence;
  }
  return false;
}

/** A reading position in one segment file. */
export class SegmentScan {
  readonly header: SegmentHeader;
  readonly #file: FileHandle;
  /** Allocated by the first read: many scans look at the header only. */
  #buffer = Buffer.alloc(0);
  /** File offset of #buffer[0]; bytes held are #buffer[0, #held). */
  #base = SEGMENT_HEADER_BYTES;
  #held = 0;
  #offset = SEGMENT_HEADER_BYTES;
  #nextSequence: number;
  /** Null after a resumption: the record before is not known, so the chain starts anew with the next one. */
  #chain: string | null;
  #problem: ScanProblem | null = null;
  /** Bytes of the file that may be read: behind them a writer may still take back what it wrote. */
  readableBytes = Number.POSITIVE_INFINITY;
  #resumeFrom = SEGMENT_HEADER_BYTES;
  /** Whether the problem is a frame that may have been read while it was written. */
  #mayBeLate = false;
  /** Size of the file when nothing but zeros was found up to its end. */
  #roomTo = 0;

  private constructor(file: FileHandle, header: SegmentHeader) {
    this.#file = file;
    this.header = header;
    this.#nextSequence = header.firstSequence;
    this.#chain = header.chainBefore;
  }

  /**
   * Opens a segment and reads its header.
   * @returns the scan, or what is wrong with the header.
   * @throws the error of the file system.
   */
  static async open(path: string): Promise<SegmentScan | HeaderProblem> {
    const file = await open(path, 'r');
    try {
      const bytes = Buffer.alloc(SEGMENT_HEADER_BYTES);
      const { bytesRead } = await file.read(bytes, 0, SEGMENT_HEADER_BYTES, 0);
      const header = decodeSegmentHeader(bytes.subarray(0, bytesRead));
      if (!(header instanceof HeaderProblem)) return new SegmentScan(file, header);
      await file.close();
      return header;
    } catch (error) {
      await file.close();
      throw error;
    }
  }

  /** File offset of the next record: everything before it has been delivered or passed over. */
  get offset(): number {
    return this.#offset;
  }

  /** Sequence that the next record must have. */
  get nextSequence(): number {
    return this.#nextSequence;
  }

  /** Chain value of the last record; null right after a resumption. */
  get chain(): string | null {
    return this.#chain;
  }

  /** Why the last {@link next} returned null: null at a clean end of the file. */
  get problem(): ScanProblem | null {
    return this.#problem;
  }

  /**
   * @returns the next record, or null at the end of the file or at a problem. After `incomplete` or a clean end
   *   it may be called again and looks whether the file has grown.
   * @throws the error of the file system.
   */
  async next(): Promise<ScannedRecord | null> {
    const offset = this.#offset;
    // What was read behind a problem may have been written anew since.
    if (this.#problem !== null) this.#forget(offset);
    this.#problem = null;
    const isOld = this.#held > offset - this.#base;
    let frame = await this.#frameAt(offset);
    if (typeof frame === 'string' && isOld) {
      this.#forget(offset);
      frame = await this.#frameAt(offset);
    }
    if (frame === null) return null;
    if (typeof frame === 'string') {
      if (await this.#isRoom(offset)) return null;
      const message =
        frame === 'incomplete' ? 'the file ends inside a record' : 'the record does not match its checksum';
      this.#stop(frame, offset, message, offset + 1);
      this.#mayBeLate = true;
      return null;
    }
    const record = decodeRecord(frame);
    if (typeof record === 'string') return this.#stop('damaged', offset, record, offset + frame.bytes);
    if (record.nodeId !== this.header.nodeId || record.epoch !== this.header.epoch) {
      const stranger = `the record is of node ${record.nodeId}, epoch ${record.epoch}, not of this segment's`;
      return this.#stop('damaged', offset, stranger, offset + frame.bytes);
    }
    const mismatch = this.#mismatch(record);
    // The record itself is whole, so a resumption delivers it.
    if (mismatch !== null) return this.#stop('damaged', offset, mismatch, offset);
    this.#offset = offset + frame.bytes;
    this.#nextSequence = record.sequence + 1;
    this.#chain = record.chain;
    return { record, index: frame.index, offset };
  }

  /**
   * After a problem: looks for the next whole frame and goes on from there. A value is JSON text and holds no
   * zero bytes, every frame header does, so an order's content is never taken for a frame. A writer goes from front to
   * back, so a bad frame that is still bad after a later one was read is none that was being written.
   * @returns where it goes on, or null when nothing follows up to the end of the file.
   * @throws the error of the file system.
   */
  async resume(): Promise<Resumed | null> {
    if (this.#mayBeLate) this.#forget(this.#resumeFrom);
    for (let offset = this.#resumeFrom; ; offset += 1) {
      const at = offset - this.#base;
      if (this.#held - at < FRAME_HEADER_BYTES) {
        if ((await this.#hold(offset, FRAME_HEADER_BYTES)) < FRAME_HEADER_BYTES) return null;
      }
      // Cheap tests first, the checksum decides.
      const claimed = claimedFrameBytes(this.#buffer, offset - this.#base);
      if (claimed <= FRAME_HEADER_BYTES || claimed > MAX_FRAME_BYTES) continue;
      const claimedSequence = readU64(this.#buffer, offset - this.#base + 8);
      if (claimedSequence < this.#nextSequence || claimedSequence > this.#nextSequence + 0xffff_ffff)
        continue;
      const frame = await this.#frameAt(offset);
      if (frame === null || typeof frame === 'string') continue;
      const { sequence, index } = frame;
      const late = this.#mayBeLate ? await this.#readAnew() : null;
      this.#problem = null;
      if (late !== null) return late;
      this.#offset = offset;
      this.#nextSequence = sequence;
      this.#chain = null;
      return { offset, sequence, index, late: false };
    }
  }

  /** @returns the size of the file now, bytes. */
  async size(): Promise<number> {
    return (await this.#file.stat()).size;
  }

  async close(): Promise<void> {
    await this.#file.close();
  }

  #stop(kind: ScanProblem['kind'], offset: number, message: string, resumeFrom: number): null {
    this.#resumeFrom = resumeFrom;
    this.#mayBeLate = false;
    this.#problem = { kind, offset, message };
    return null;
  }

  /** @returns the frame at which the scan stands, when it is whole by now. */
  async #readAnew(): Promise<Resumed | null> {
    const offset = this.#offset;
    this.#forget(offset);
    const frame = await this.#frameAt(offset);
    if (frame === null || typeof frame === 'string') return null;
    return { offset, sequence: frame.sequence, index: frame.index, late: true };
  }

  /** What is held from a file offset on is read again when it is needed. */
  #forget(offset: number): void {
    this.#held = Math.max(0, Math.min(this.#held, offset - this.#base));
  }

  #mismatch(record: ArchiveRecord): string | null {
    if (record.sequence !== this.#nextSequence) {
      return `sequence ${record.sequence} where ${this.#nextSequence} must follow`;
    }
    if (this.#chain !== null && record.chain !== chainAfter(this.#chain, record.sequence, record.value)) {
      return `the hash chain breaks at sequence ${record.sequence}`;
    }
    return null;
  }

  /** The frame at a file offset; null when the file ends exactly there. */
  async #frameAt(offset: number) {
    let available = await this.#hold(offset, FRAME_HEADER_BYTES);
    if (available === 0) return null;
    if (available >= FRAME_HEADER_BYTES) {
      const claimed = claimedFrameBytes(this.#buffer, offset - this.#base);
      if (claimed <= MAX_FRAME_BYTES && claimed > available) available = await this.#hold(offset, claimed);
    }
    const at = offset - this.#base;
    return decodeFrame(this.#buffer, at, at + available);
  }

  /** Whether nothing but zeros follows. They are not kept: records come in their place. */
  async #isRoom(offset: number): Promise<boolean> {
    const start = offset - this.#base;
    const header = this.#buffer.subarray(start, Math.min(this.#held, start + FRAME_HEADER_BYTES));
    if (!header.equals(ZEROS.subarray(0, header.length))) return false;
    // Behind its records a writer changes nothing but the length.
    const size = await this.size();
    if (offset >= this.#roomTo || size !== this.#roomTo) {
      const piece = Buffer.allocUnsafe(ZEROS.length);
      for (let at = offset; at < size; ) {
        const { bytesRead } = await this.#file.read(piece, 0, piece.length, at);
        if (bytesRead === 0) break;
        if (!piece.subarray(0, bytesRead).equals(ZEROS.subarray(0, bytesRead))) return false;
        at += bytesRead;
      }
      this.#roomTo = size;
    }
    this.#forget(offset);
    return true;
  }

  /**
   * Sees to it that the buffer holds the bytes from a file offset on.
   * @returns how many bytes it holds from there: at least `wanted`, fewer only at the end of the file.
   */
  async #hold(offset: number, wanted: number): Promise<number> {
    let start = offset - this.#base;
    if (start < 0) {
      // A search for whole frames had gone on behind it: nothing that is held is of use.
      start = 0;
      this.#base = offset;
      this.#held = 0;
    }
    if (this.#held - start >= wanted) return this.#held - start;
    // A new buffer where the old one is too small: values handed out before are views of the old one.
    const size = Math.max(CHUNK_BYTES, wanted);
    const buffer = size > this.#buffer.length ? Buffer.allocUnsafeSlow(size) : this.#buffer;
    const kept = Math.max(0, this.#held - start);
    if (kept > 0) this.#buffer.copy(buffer, 0, start, this.#held);
    this.#buffer = buffer;
    this.#base = offset;
    this.#held = kept;
    start = 0;
    const most = Math.min(buffer.length, this.readableBytes - offset);
    while (this.#held < most) {
      const { bytesRead } = await this.#file.read(buffer, this.#held, most - this.#held, offset + this.#held);
      if (bytesRead === 0) break;
      this.#held += bytesRead;
      if (this.#held >= wanted) break;
    }
    return this.#held;
  }
}
