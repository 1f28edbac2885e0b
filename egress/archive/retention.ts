/**
 * The complete segments of a folder and their bytes, and which of them may go: those whose newest record is
 * older than the retention. A full disk is no reason to delete earlier.
 *
 * Ages come from the wall clock once, when the folder is opened, and from the monotonic clock after that, so a
 * clock that jumps while the node runs deletes nothing early. A clock that is wrong at the start is believed; a
 * record dated in the future counts as new.
 */
import { unlink } from 'node:fs/promises';
import { join } from 'node:path';

/** Two clocks, so that tests can move them. */
export interface Clock {
  /** Unix time, milliseconds. */
  now(): number;
  /** Milliseconds since some moment, never set back. */
  monotonic(): number;
}

export const systemClock: Clock = { now: () => Date.now(), monotonic: () => performance.now() };

interface Kept {
  readonly name: string;
  readonly bytes: number;
  /** Monotonic ms at which its first record came, and from which on it may go. */
  readonly openedAt: number;
  readonly expiresAt: number;
}

export class Retention {
  readonly #dir: string;
  readonly #retentionMs: number;
  readonly #clock: Clock;
  readonly #kept: Kept[] = [];
  #bytes = 0;

  constructor(dir: string, retentionMs: number, clock: Clock) {
    this.#dir = dir;
    this.#retentionMs = retentionMs;
    this.#clock = clock;
  }

  /** Bytes of all complete segments. */
  get bytes(): number {
    return this.#bytes;
  }

  /** Monotonic ms at which the oldest complete segment was begun, null when there is none. */
  get oldestOpenedAt(): number | null {
    return this.#kept[0]?.openedAt ?? null;
  }

  /** @returns a unix time in µs on the monotonic clock, in ms; the future counts as now. */
  monotonicOf(unixUs: number): number {
    return this.#clock.monotonic() - Math.max(0, this.#clock.now() - unixUs / 1000);
  }

  /**
   * Takes a complete segment in; oldest first.
   * @param openedAt monotonic ms of its first record.
   * @param newestAt monotonic ms, not before its newest record.
   */
  keep(name: string, bytes: number, openedAt: number, newestAt: number): void {
    this.#kept.push({ name, bytes, openedAt, expiresAt: newestAt + this.#retentionMs });
    this.#bytes += bytes;
  }

  /**
   * Deletes what has expired, oldest first and without leaving holes.
   * @returns the names of the deleted segments.
   * @throws the error of the file system.
   */
  async expire(): Promise<string[]> {
    const deleted: string[] = [];
    for (let oldest = this.#kept[0]; oldest !== undefined; oldest = this.#kept[0]) {
      if (oldest.expiresAt > this.#clock.monotonic()) break;
      await unlink(join(this.#dir, oldest.name)).catch((error: NodeJS.ErrnoException) => {
        if (error.code !== 'ENOENT') throw error;
      });
      this.#kept.shift();
      this.#bytes -= oldest.bytes;
      deleted.push(oldest.name);
    }
    return deleted;
  }
}
