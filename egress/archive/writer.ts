/**
 * Appends commits to the active segment and makes them durable, begins the next segment when one is full, and
 * takes back what could not be made durable. One call at a time.
 *
 * The active segment is written with zeros ahead of its records: to make bytes durable that the file has already, the
 * disk writes them and nothing else, where a file that grows has its new size and place in the journal each time.
 */
import type { FileHandle } from 'node:fs/promises';
import { asError, errorCode } from './failure.ts';
import { MAX_ZEROS, type SpoolFiles } from './files.ts';
import type { ActiveSegment } from './recover.ts';
import { createSegment, SEGMENT_HEADER_BYTES, type SegmentHeader, segmentName } from './segment.ts';

/** A commit that failed before anything rested on it: space ran out. Taking it back makes the spool whole again. */
export class DiskFullError extends Error {
  override readonly name = 'DiskFullError';
}

/** What the writer appends to. */
export interface OpenSegment {
  readonly handle: FileHandle;
  readonly name: string;
  readonly openedAtUs: number;
  /** Offset after the last durable record, bytes. */
  end: number;
}

/** When fewer zeros than this are left before the records, more are written. */
const LOW_ZEROS = MAX_ZEROS / 2;

export class SegmentWriter {
  readonly #dir: string;
  readonly #segmentBytes: number;
  readonly #files: SpoolFiles;
  #segment: OpenSegment;
  /** Up to here the active segment has bytes. */
  #zeroedTo: number;
  /** Zeros that are being written from #zeroedTo on: no record may be written there meanwhile. */
  #zeroing: Promise<void> | null = null;
  /** False once there was no room for zeros, or for records: the rest of this segment grows without. */
  #mayZero = true;

  /** @param segmentBytes so long a segment is meant to become. */
  constructor(dir: string, segmentBytes: number, segment: OpenSegment, files: SpoolFiles) {
    this.#dir = dir;
    this.#segmentBytes = segmentBytes;
    this.#files = files;
    this.#segment = segment;
    this.#zeroedTo = segment.end;
  }

  get segment(): OpenSegment {
    return this.#segment;
  }

  /**
   * Writes the first `length` bytes of `buffer` behind the durable end and syncs them.
   * @throws DiskFullError when there was no room to write, nothing was synced then; any other error is final.
   */
  async commit(buffer: Buffer, length: number): Promise<void> {
    const { handle, end } = this.#segment;
    if (end + length > this.#zeroedTo) await this.#zeroing;
    let written = 0;
    while (written < length) {
      written += await this.#write(handle.fd, buffer, written, length - written, end + written);
    }
    await this.#files.sync(handle.fd);
    this.#segment.end = end + length;
    this.#zeroedTo = Math.max(this.#zeroedTo, end + length);
    this.#zeroAhead();
  }

  /**
   * Cuts the active segment back to its durable end, and makes that durable.
   * @throws the error of the system call.
   */
  async takeBack(): Promise<void> {
    await this.#stopZeroing();
    await this.#files.truncate(this.#segment.handle.fd, this.#segment.end);
    await this.#files.sync(this.#segment.handle.fd);
  }

  /**
   * After a final error: cuts what was never acknowledged off, if that can still be had, so that a restart does
   * not find it. The sync is not tried again: after a failed one, a later success proves nothing.
   */
  async abandon(): Promise<void> {
    await this.#stopZeroing();
    await this.#files.truncate(this.#segment.handle.fd, this.#segment.end).catch(() => {});
  }

  /**
   * Makes a new segment the active one; the old one is durable and complete.
   * @throws DiskFullError when there is no room for it: the old one stays active; any other error is final.
   */
  async roll(header: SegmentHeader): Promise<void> {
    let next: OpenSegment;
    try {
      next = await newSegment(this.#dir, header);
    } catch (error) {
      throw isFull(error) ? new DiskFullError(asError(error).message) : error;
    }
    await this.#stopZeroing();
    const before = this.#segment;
    this.#segment = next;
    this.#zeroedTo = next.end;
    this.#mayZero = true;
    await this.#leave(before);
  }

  async close(): Promise<void> {
    await this.#stopZeroing();
    await this.#leave(this.#segment);
  }

  /** What is in it is durable, so an error here says nothing about any record; zeros at its end are no harm. */
  async #leave({ handle, end }: OpenSegment): Promise<void> {
    await this.#files.truncate(handle.fd, end).catch(() => {});
    await handle.close().catch(() => {});
  }

  #zeroAhead(): void {
    const { handle, end } = this.#segment;
    const length = Math.min(MAX_ZEROS, this.#segmentBytes - this.#zeroedTo);
    if (this.#zeroing !== null || !this.#mayZero || length <= 0) return;
    if (this.#zeroedTo - end >= LOW_ZEROS) return;
    this.#zeroing = this.#files
      .zero(handle.fd, this.#zeroedTo, length)
      .then(
        (written) => {
          this.#zeroedTo += written;
        },
        () => {
          this.#mayZero = false;
        },
      )
      .finally(() => {
        this.#zeroing = null;
      });
  }

  /** Before the segment is cut back or left. */
  async #stopZeroing(): Promise<void> {
    this.#mayZero = false;
    await this.#zeroing;
    this.#zeroedTo = this.#segment.end;
  }

  async #write(
    fd: number,
    buffer: Buffer,
    offset: number,
    length: number,
    position: number,
  ): Promise<number> {
    try {
      return await this.#files.write(fd, buffer, offset, length, position);
    } catch (error) {
      throw isFull(error) ? new DiskFullError(asError(error).message) : error;
    }
  }
}

/** Creates a segment to append to. @throws the error of the file system. */
export async function newSegment(dir: string, header: SegmentHeader): Promise<OpenSegment> {
  const handle = await createSegment(dir, header);
  const name = segmentName(header.epoch, header.firstSequence);
  return { handle, name, openedAtUs: header.openedAtUs, end: SEGMENT_HEADER_BYTES };
}

/** @returns what the writer appends to when a recovered segment is carried on. */
export function carryOn(active: ActiveSegment): OpenSegment {
  return { handle: active.handle, name: active.file.name, openedAtUs: active.openedAtUs, end: active.end };
}

/** Whether an error says that there is no room: the device, or the user's share of it. */
function isFull(error: unknown): boolean {
  const code = errorCode(error);
  return code === 'ENOSPC' || code === 'EDQUOT';
}
