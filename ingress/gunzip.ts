/**
 * Decompression of request bodies within bounds: what inflates to little is done at once, so that an honest body
 * never waits behind a bomb; the rest in turn, two at a time, in the thread pool (which the archive's disk writes
 * share), into a buffer that is counted. A body that says at its end that it is too big is believed unread.
 */
import { createGunzip, type Gunzip, gunzipSync } from 'node:zlib';
import type { Gathered } from './gathered.ts';

export type GunzipFailure = 'too_big' | 'bad_gzip';

/** Compressed and decompressed size up to which it is done at once: 0.15 ms for all zeros; p99 of orders is 40 KB. */
const QUICK_INPUT = 16 * 1024;
const QUICK_OUTPUT = 64 * 1024;
const MOST_AT_ONCE = 2;
/** Piece by piece; each costs the event loop some 10 µs. */
const PIECE_BYTES = 256 * 1024;

/** @returns the body, why it is none, or null when that takes longer to find out. */
export function gunzipQuickly(compressed: Buffer, maxBytes: number): Buffer | GunzipFailure | null {
  if (compressed[0] !== 0x1f || compressed[1] !== 0x8b) return 'bad_gzip';
  if (sizeAtEnd(compressed) > maxBytes) return 'too_big';
  if (compressed.length > QUICK_INPUT) return null;
  try {
    const body = gunzipSync(compressed, { maxOutputLength: QUICK_OUTPUT, chunkSize: QUICK_OUTPUT });
    return body.length > maxBytes ? 'too_big' : body;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'ERR_BUFFER_TOO_LARGE' ? null : 'bad_gzip';
  }
}

/**
 * The size that the last member of a gzip file gives for itself (RFC 1952, ISIZE): its true size modulo 2^32, and not
 * more than that of the whole, or else the file is damaged.
 */
function sizeAtEnd(compressed: Buffer): number {
  return compressed.length < 18 ? 0 : compressed.readUInt32LE(compressed.length - 4);
}

/** One decompression that waits or runs. */
export class GunzipJob {
  readonly input: Buffer;
  readonly output: Gathered;
  readonly maxBytes: number;
  /** Called once unless cancelled: null when `output` has all of it. */
  readonly done: (failure: GunzipFailure | null) => void;
  gunzip: Gunzip | null = null;
  ended = false;

  constructor(
    input: Buffer,
    output: Gathered,
    maxBytes: number,
    done: (failure: GunzipFailure | null) => void,
  ) {
    this.input = input;
    this.output = output;
    this.maxBytes = maxBytes;
    this.done = done;
  }
}

/** The decompressions that take longer, in order of arrival. */
export class GunzipQueue {
  readonly #waiting = new Set<GunzipJob>();
  #running = 0;

  add(job: GunzipJob): void {
    this.#waiting.add(job);
    this.#startNext();
  }

  /** Its `done` is not called any more. */
  cancel(job: GunzipJob): void {
    if (job.ended) return;
    job.ended = true;
    this.#waiting.delete(job);
    if (job.gunzip !== null) this.#stop(job.gunzip);
  }

  #startNext(): void {
    while (this.#running < MOST_AT_ONCE) {
      const [job] = this.#waiting;
      if (job === undefined) return;
      this.#waiting.delete(job);
      this.#start(job);
    }
  }

  #start(job: GunzipJob): void {
    this.#running += 1;
    const { input, output, maxBytes } = job;
    const gunzip = createGunzip({ chunkSize: PIECE_BYTES });
    job.gunzip = gunzip;
    const end = (failure: GunzipFailure | null) => {
      if (job.ended) return;
      job.ended = true;
      this.#stop(gunzip);
      job.done(failure);
    };
    gunzip.on('data', (piece: Buffer) => {
      if (job.ended) return;
      if (output.length + piece.length > maxBytes) end('too_big');
      else output.add(piece);
    });
    gunzip.on('end', () => end(null));
    gunzip.on('error', () => end('bad_gzip'));
    gunzip.end(input);
  }

  #stop(gunzip: Gunzip): void {
    gunzip.destroy();
    this.#running -= 1;
    this.#startNext();
  }
}
