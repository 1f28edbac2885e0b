/**
 * A table of fixed size in shared memory: buckets of sixteen slots, each with 128 bits of a key and four words of what is
 * kept with it. In a full bucket the oldest makes room. It allocates nothing and is never rehashed, so what one
 * operation costs is bounded.
 *
 * A bucket is locked while a thread works on it, some 100 ns. Who has waited a second for a lock takes it: its owner has
 * ended in the middle. A slot is written so that what such a thread leaves is an empty slot or a whole one.
 *
 * Limits: "the oldest" is the oldest of a bucket. While at most half of the slots are in use, one bucket in 250 has to
 * give one up early.
 */

const WAYS = 16;
const SLOT_WORDS = 10;
const BUCKET_WORDS = WAYS * SLOT_WORDS;
const KEY_WORDS = 4;
/** Words of a slot behind its key: unix microseconds, and what the owner of the table keeps. */
const TIME_HIGH = 4;
const TIME_LOW = 5;
/** First of four words that are the caller's. */
export const VALUE = 6;
const TWO_32 = 2 ** 32;
/** A lock is asked for so often before its thread sleeps. */
const SPINS = 200;
const SLEEP_MS = 1;
const PATIENCE_MS = 1_000;

/** What the threads share. */
export interface TableMemory {
  readonly words: SharedArrayBuffer;
  readonly locks: SharedArrayBuffer;
}

/** @param slots most entries; rounded up to a power of two */
export function tableMemory(slots: number): TableMemory {
  const buckets = 2 ** Math.max(0, Math.ceil(Math.log2(slots / WAYS)));
  return {
    words: new SharedArrayBuffer(buckets * BUCKET_WORDS * 4),
    locks: new SharedArrayBuffer(buckets * 4),
  };
}

/** The first 128 bits of a digest (readDigest), as the words that a table compares. */
export type TableKey = Int32Array;

export class SharedTable {
  /** Of all slots; valid between `lock` and `unlock` of the bucket. */
  readonly words: Int32Array;
  readonly #locks: Int32Array;
  readonly #mask: number;
  readonly #owner: number;

  /** @param owner this thread's number, from 1 to 255, which no other thread of now has */
  constructor(memory: TableMemory, owner: number) {
    this.words = new Int32Array(memory.words);
    this.#locks = new Int32Array(memory.locks);
    this.#mask = this.#locks.length - 1;
    this.#owner = owner;
  }

  /** Locks the bucket of a key. @returns the bucket, for `unlock` */
  lock(key: TableKey): number {
    const bucket = (key[0] ?? 0) & this.#mask;
    this.#lock(bucket);
    return bucket;
  }

  unlock(bucket: number): void {
    // Who sleeps for it looks again by himself: waking takes a lock of all threads, and hardly ever is anybody there.
    Atomics.store(this.#locks, bucket, 0);
  }

  /** @returns the first word of the slot that holds the key, -1 when there is none; the bucket is locked. */
  find(bucket: number, key: TableKey): number {
    const { words } = this;
    const end = (bucket + 1) * BUCKET_WORDS;
    for (let at = bucket * BUCKET_WORDS; at < end; at += SLOT_WORDS) {
      if (
        words[at] === key[0] &&
        words[at + 1] === key[1] &&
        words[at + 2] === key[2] &&
        words[at + 3] === key[3] &&
        words[at + TIME_HIGH] !== 0
      )
        return at;
    }
    return -1;
  }

  /**
   * Puts a key into the bucket in place of an empty or the oldest slot; the bucket is locked and does not hold the key.
   * The caller's words are to be written before `date`.
   * @returns its first word
   */
  take(bucket: number, key: TableKey): number {
    const { words } = this;
    const end = (bucket + 1) * BUCKET_WORDS;
    let oldest = bucket * BUCKET_WORDS;
    let oldestUs = Number.POSITIVE_INFINITY;
    for (let at = oldest; at < end; at += SLOT_WORDS) {
      const us = this.time(at);
      if (us < oldestUs) {
        oldest = at;
        oldestUs = us;
      }
    }
    words[oldest + TIME_HIGH] = 0;
    for (let word = 0; word < KEY_WORDS; word++) words[oldest + word] = key[word] ?? 0;
    return oldest;
  }

  /** Unix microseconds of a slot; below 2^32 when it is empty. */
  time(at: number): number {
    return (this.words[at + TIME_HIGH] ?? 0) * TWO_32 + ((this.words[at + TIME_LOW] ?? 0) >>> 0);
  }

  /** Sets a slot's time, from which on it counts. */
  date(at: number, us: number): void {
    this.words[at + TIME_LOW] = us | 0;
    this.words[at + TIME_HIGH] = Math.floor(us / TWO_32);
  }

  /** Calls `visit` with every slot in use, its bucket locked. */
  each(visit: (at: number) => void): void {
    for (let bucket = 0; bucket < this.#locks.length; bucket++) {
      this.#lock(bucket);
      const end = (bucket + 1) * BUCKET_WORDS;
      for (let at = bucket * BUCKET_WORDS; at < end; at += SLOT_WORDS) {
        if (this.words[at + TIME_HIGH] !== 0) visit(at);
      }
      this.unlock(bucket);
    }
  }

  #lock(bucket: number): void {
    for (let asked = 1; ; asked++) {
      const owner = Atomics.compareExchange(this.#locks, bucket, 0, this.#owner);
      if (owner === 0) return;
      if (asked < SPINS) continue;
      const given = asked - SPINS > PATIENCE_MS / SLEEP_MS;
      if (given && Atomics.compareExchange(this.#locks, bucket, owner, this.#owner) === owner) return;
      Atomics.wait(this.#locks, bucket, owner, SLEEP_MS);
    }
  }
}
