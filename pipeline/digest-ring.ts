/**
 * 32-byte digests in the order in which they came, each with a time, a byte of state and room for an object, and an
 * index to find one, in arrays: a hundred thousand entries without an object are a few hundred objects to the garbage
 * collector.
 *
 * It grows without a pause, however many there are: entries stand in chunks that are never copied, and the index (linear
 * hashing, chains through the entries) gets one more bucket for one more digest. A table that is doubled instead stops
 * everybody for 10 ms at 65,536 entries, and longer each time.
 *
 * An entry is known by its place, a number that only grows. Memory: 57 bytes for each entry; chunks whose entries have all
 * left are given back but one, the index's four bytes for each stay. At most 2^30 entries.
 */

import { randomFillSync } from 'node:crypto';

const WORDS = 8;
const CHUNK_BITS = 10;
const CHUNK = 1 << CHUNK_BITS;
const SLOTS = CHUNK - 1;
/** Of a place the index keeps so many low bits, plus 1. */
const REFERENCE = 2 ** 30 - 1;
/** No place. */
export const NOWHERE = -1;

/** Entries of {@link CHUNK} neighbouring places. */
class Chunk<V> {
  readonly digests = new Int32Array(CHUNK * WORDS);
  readonly times = new Float64Array(CHUNK);
  readonly states = new Uint8Array(CHUNK);
  readonly values: (V | null)[] = Array.from({ length: CHUNK }, () => null);
  /** Reference of the next entry of the same bucket; 0 at the end. */
  readonly chain = new Int32Array(CHUNK);
}

export class DigestRing<V extends object> {
  readonly #chunks: Chunk<V>[] = [];
  /** The last one whose entries had all left, for those to come. */
  #spare: Chunk<V> | null = null;
  /** Place of the first chunk's first entry. */
  #base = 0;
  /** Place of the oldest entry, and of the next to come. */
  #oldest = 0;
  #next = 0;
  #size = 0;

  /** References of each bucket's first entry, 0 where there is none: bucket b is at b % CHUNK of array b / CHUNK. */
  readonly #heads = [new Int32Array(CHUNK)];
  #buckets = CHUNK;
  /** The power of two that the buckets have reached: so many have been, or are to be, split into two. */
  #half = CHUNK;

  readonly #wanted = new Int32Array(WORDS);
  /** Of this ring alone: who can choose digests, at the cost of some hashes, must not choose where they stand. */
  readonly #secret: Int32Array;

  /** @param secret - eight words; random unless a test wants to know what meets what */
  constructor(secret: Int32Array = randomFillSync(new Int32Array(WORDS))) {
    this.#secret = secret;
  }

  /** Different digests. */
  get size(): number {
    return this.#size;
  }

  /** Entries, those too whose digest has come again. */
  get length(): number {
    return this.#next - this.#oldest;
  }

  /** Place of the oldest entry; only while there is one. */
  get oldest(): number {
    return this.#oldest;
  }

  /** @param hex - 64 digits. @returns the place of the entry that came last with it, or {@link NOWHERE}. */
  find(hex: string): number {
    readDigest(hex, this.#wanted);
    const found = this.#seek(this.#bucketOf(this.#wanted, 0));
    return found === 0 ? NOWHERE : this.#placeOf(found);
  }

  time(place: number): number {
    return this.#chunkOf(place).times[place & SLOTS] ?? 0;
  }

  state(place: number): number {
    return this.#chunkOf(place).states[place & SLOTS] ?? 0;
  }

  /** @param state - 0 to 255 */
  setState(place: number, state: number): void {
    this.#chunkOf(place).states[place & SLOTS] = state;
  }

  /** The object of an entry, null at first. */
  value(place: number): V | null {
    return this.#chunkOf(place).values[place & SLOTS] ?? null;
  }

  setValue(place: number, value: V | null): void {
    this.#chunkOf(place).values[place & SLOTS] = value;
  }

  /** Adds an entry; the one before with the same digest is not found any longer. @returns its place. */
  push(hex: string, time: number, state: number): number {
    const place = this.#next;
    if (place - this.#base === this.#chunks.length * CHUNK) {
      this.#chunks.push(this.#spare ?? new Chunk());
      this.#spare = null;
    }
    this.#next += 1;
    const { digests, times, states, chain } = this.#chunkOf(place);
    const slot = place & SLOTS;
    readDigest(hex, this.#wanted);
    digests.set(this.#wanted, slot * WORDS);
    times[slot] = time;
    states[slot] = state;
    const bucket = this.#bucketOf(this.#wanted, 0);
    const before = this.#seek(bucket);
    if (before === 0) {
      chain[slot] = this.#head(bucket);
      this.#setHead(bucket, referenceOf(place));
      this.#size += 1;
      if (this.#size > this.#buckets) this.#split();
    } else {
      chain[slot] = this.#after(before);
      this.#replace(bucket, before, referenceOf(place));
    }
    return place;
  }

  /** Takes the oldest entry out; only while there is one. */
  shift(): void {
    const place = this.#oldest;
    const chunk = this.#chunkOf(place);
    const slot = place & SLOTS;
    chunk.values[slot] = null;
    const bucket = this.#bucketOf(chunk.digests, slot * WORDS);
    if (this.#replace(bucket, referenceOf(place), chunk.chain[slot] ?? 0)) this.#size -= 1;
    this.#oldest += 1;
    if (this.#oldest - this.#base === CHUNK) {
      this.#chunks.shift();
      this.#spare = chunk;
      this.#base += CHUNK;
    }
  }

  #chunkOf(place: number): Chunk<V> {
    const chunk = this.#chunks[(place - this.#base) >>> CHUNK_BITS];
    if (chunk === undefined) throw new RangeError('no entry has this place');
    return chunk;
  }

  #placeOf(reference: number): number {
    return this.#oldest + ((reference - 1 - this.#oldest) & REFERENCE);
  }

  #head(bucket: number): number {
    return this.#heads[bucket >>> CHUNK_BITS]?.[bucket & SLOTS] ?? 0;
  }

  #setHead(bucket: number, reference: number): void {
    const heads = this.#heads[bucket >>> CHUNK_BITS];
    if (heads !== undefined) heads[bucket & SLOTS] = reference;
  }

  /** @returns what follows an entry in its bucket. */
  #after(reference: number): number {
    const place = this.#placeOf(reference);
    return this.#chunkOf(place).chain[place & SLOTS] ?? 0;
  }

  /** @returns the entry of a bucket that has the digest #wanted; 0 when none has. */
  #seek(bucket: number): number {
    for (let reference = this.#head(bucket); reference !== 0; ) {
      const place = this.#placeOf(reference);
      const { digests, chain } = this.#chunkOf(place);
      const slot = place & SLOTS;
      if (isSame(digests, slot * WORDS, this.#wanted)) return reference;
      reference = chain[slot] ?? 0;
    }
    return 0;
  }

  /** Lets what points to an entry of a bucket point to another instead. @returns whether the bucket had it. */
  #replace(bucket: number, reference: number, by: number): boolean {
    let at = this.#head(bucket);
    if (at === reference) {
      this.#setHead(bucket, by);
      return at !== 0;
    }
    while (at !== 0) {
      const place = this.#placeOf(at);
      const { chain } = this.#chunkOf(place);
      const slot = place & SLOTS;
      at = chain[slot] ?? 0;
      if (at === reference) {
        chain[slot] = by;
        return true;
      }
    }
    return false;
  }

  /** One more bucket: it gets its part of the one that had its digests until now. */
  #split(): void {
    const half = this.#half;
    const from = this.#buckets - half;
    const to = this.#buckets;
    if ((to & SLOTS) === 0) this.#heads.push(new Int32Array(CHUNK));
    let staying = 0;
    let leaving = 0;
    for (let reference = this.#head(from); reference !== 0; ) {
      const place = this.#placeOf(reference);
      const { digests, chain } = this.#chunkOf(place);
      const slot = place & SLOTS;
      const after = chain[slot] ?? 0;
      if ((this.#hash(digests, slot * WORDS) & half) === 0) {
        chain[slot] = staying;
        staying = reference;
      } else {
        chain[slot] = leaving;
        leaving = reference;
      }
      reference = after;
    }
    this.#setHead(from, staying);
    this.#setHead(to, leaving);
    this.#buckets += 1;
    if (this.#buckets === half * 2) this.#half = half * 2;
  }

  /** @returns the bucket of the digest at `from` of `words`. */
  #bucketOf(words: Int32Array, from: number): number {
    const hash = this.#hash(words, from);
    const bucket = hash & (this.#half * 2 - 1);
    return bucket < this.#buckets ? bucket : bucket - this.#half;
  }

  /** Sums of products with secret numbers, whose low bits alone would not depend on the secret: so the high ones are mixed in. */
  #hash(words: Int32Array, from: number): number {
    const secret = this.#secret;
    let sum = 0;
    for (let word = 0; word < WORDS; word++) {
      sum =
        (sum +
          Math.imul((words[from + word] ?? 0) ^ (secret[word] ?? 0), (secret[WORDS - 1 - word] ?? 0) | 1)) |
        0;
    }
    // MurmurHash3's last step: each bit of the sum counts for each bit of the hash.
    sum = Math.imul(sum ^ (sum >>> 16), 0x85ebca6b);
    sum = Math.imul(sum ^ (sum >>> 13), 0xc2b2ae35);
    return sum ^ (sum >>> 16);
  }
}

function referenceOf(place: number): number {
  return (place & REFERENCE) + 1;
}

function isSame(a: Int32Array, atA: number, b: Int32Array): boolean {
  for (let word = 0; word < WORDS; word++) if (a[atA + word] !== b[word]) return false;
  return true;
}

/** Reads the beginning of a digest. @param hex lower case; @param into is filled, eight digits to a word */
export function readDigest(hex: string, into: Int32Array): void {
  for (let word = 0, at = 0; word < into.length; word++) {
    let value = 0;
    for (const end = at + 8; at < end; at++) {
      const code = hex.charCodeAt(at);
      // '0' to '9' are 48 to 57, 'a' to 'f' 97 to 102.
      value = (value << 4) | (code < 58 ? code - 48 : code - 87);
    }
    into[word] = value;
  }
}
