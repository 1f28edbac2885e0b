/**
 * The complete segments of a folder and their bytes, and which of them may go: those whose newest record is
 * older than the retention. A full disk is no reason to delete earlier. Where brokers are to have them, the retention
 * begins when they have: brokers acknowledge before their own disks are sure, so what they lose can be sent again.
 *
 * Ages come from the wall clock once, when the folder is opened, and from the monotonic clock after that, so a
 * clock that jumps while the node runs deletes nothing early. A clock that is wrong at the start is believed; a
 * record dated in the future counts as new.
 */
import { unlink, utimes } from 'node:fs/promises';
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
  expiresAt: number;
}

export class Retention {
  readonly #dir: string;
  readonly #retentionMs: number;
  readonly #clock: Clock;
  readonly #kept: Kept[] = [];
  #bytes = 0;
  /** Segments before this name are shipped; null: there is nobody to ship to. */
  #shippedBefore: string | null;
  /** Of #kept, how many are shipped. */
  #shipped = 0;

  /** @param ships whether brokers are to have each segment before it may go. */
  constructor(dir: string, retentionMs: number, clock: Clock, ships = false) {
    this.#dir = dir;
    this.#retentionMs = retentionMs;
    this.#clock = clock;
    this.#shippedBefore = ships ? '' : null;
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
   * The brokers have every segment before this one: their retention begins now. For a restart, a segment's time of
   * change on disk says when that was.
   */
  async shippedUpTo(name: string): Promise<void> {
    if (this.#shippedBefore === null || name <= this.#shippedBefore) return;
    const known = this.#shippedBefore !== '';
    this.#shippedBefore = name;
    const touched: Promise<void>[] = [];
    for (let next = this.#kept[this.#shipped]; next !== undefined && next.name < name; ) {
      // At the start, what was shipped earlier is dated by keep().
      if (known) {
        next.expiresAt = Math.max(next.expiresAt, this.#clock.monotonic() + this.#retentionMs);
        const now = new Date();
        // Without it the segment goes earlier after a restart, still a retention after its newest record.
        touched.push(utimes(join(this.#dir, next.name), now, now).catch(() => {}));
      }
      this.#shipped += 1;
      next = this.#kept[this.#shipped];
    }
    await Promise.all(touched);
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
      if (this.#shippedBefore !== null && oldest.name >= this.#shippedBefore) break;
      await unlink(join(this.#dir, oldest.name)).catch((error: NodeJS.ErrnoException) => {
        if (error.code !== 'ENOENT') throw error;
      });
      this.#kept.shift();
      this.#shipped = Math.max(0, this.#shipped - 1);
      this.#bytes -= oldest.bytes;
      deleted.push(oldest.name);
    }
    return deleted;
  }
}
