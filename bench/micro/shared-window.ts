/**
 * A dedupe window that several threads could share: buckets of 64-bit fingerprints in shared memory, the oldest of a
 * bucket makes room. What it costs on one thread is the question here; it keeps no order's state.
 */

const WAYS = 8;
/** Words of one entry: two of the fingerprint, one for its age. */
const WORDS = 3;

export class SharedWindow {
  readonly #words: Int32Array;
  readonly #mask: number;

  /** @param keys a power of two */
  constructor(keys: number) {
    const buckets = keys / WAYS;
    this.#words = new Int32Array(new SharedArrayBuffer(keys * WORDS * 4));
    this.#mask = buckets - 1;
  }

  /** Takes a 32-byte digest in. @returns whether it was there already */
  seen(digest: Buffer, now: number): boolean {
    const low = digest.readInt32LE(0);
    const high = digest.readInt32LE(4);
    const bucket = (digest.readUInt32LE(8) & this.#mask) * WAYS * WORDS;
    let oldest = bucket;
    let oldestAge = Number.POSITIVE_INFINITY;
    for (let at = bucket; at < bucket + WAYS * WORDS; at += WORDS) {
      if (Atomics.load(this.#words, at) === low && Atomics.load(this.#words, at + 1) === high) return true;
      const age = Atomics.load(this.#words, at + 2);
      if (age < oldestAge) {
        oldest = at;
        oldestAge = age;
      }
    }
    Atomics.store(this.#words, oldest, low);
    Atomics.store(this.#words, oldest + 1, high);
    Atomics.store(this.#words, oldest + 2, now);
    return false;
  }
}
