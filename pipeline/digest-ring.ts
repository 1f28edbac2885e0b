/**
 * 32-byte digests in the order in which they came, each with a time, a byte of state and room for an object, and an
 * index to find one: a ring and a hash table (open addressing) in arrays. A hundred thousand entries without an object
 * are five objects to the garbage collector.
 *
 * An entry is known by its place, a number that only grows, so that it stays valid when the ring does. Memory: 57 bytes for
 * each entry that the ring has room for, which is doubled when it is full and does not shrink.
 */

import { randomFillSync } from 'node:crypto';

const WORDS = 8;
const FIRST_CAPACITY = 4096;
/** No place. */
export const NOWHERE = -1;

export class DigestRing<V extends object> {
  #capacity = FIRST_CAPACITY;
  #digests = new Int32Array(FIRST_CAPACITY * WORDS);
  #times = new Float64Array(FIRST_CAPACITY);
  #states = new Uint8Array(FIRST_CAPACITY);
  #values: (V | null)[] = nothing(FIRST_CAPACITY);
  /** By the digest: 0, or a place's slot plus 1; at most half in use. */
  #index = new Int32Array(FIRST_CAPACITY * 2);
  /** 32 bits less those of the index's length. */
  #indexShift = shiftOf(FIRST_CAPACITY * 2);
  /** Place of the oldest entry, and of the next to come. */
  #oldest = 0;
  #next = 0;
  #size = 0;
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
    const slot = this.#slotAt(this.#probe(this.#wanted, 0));
    return slot < 0 ? NOWHERE : this.#placeOf(slot);
  }

  time(place: number): number {
    return this.#times[this.#slotOf(place)] ?? 0;
  }

  state(place: number): number {
    return this.#states[this.#slotOf(place)] ?? 0;
  }

  /** @param state - 0 to 255 */
  setState(place: number, state: number): void {
    this.#states[this.#slotOf(place)] = state;
  }

  /** The object of an entry, null at first. */
  value(place: number): V | null {
    return this.#values[this.#slotOf(place)] ?? null;
  }

  setValue(place: number, value: V | null): void {
    this.#values[this.#slotOf(place)] = value;
  }

  /** Adds an entry; the one before with the same digest is not found any longer. @returns its place. */
  push(hex: string, time: number, state: number): number {
    if (this.length === this.#capacity) this.#grow();
    const place = this.#next;
    const slot = this.#slotOf(place);
    readDigest(hex, this.#wanted);
    this.#digests.set(this.#wanted, slot * WORDS);
    this.#times[slot] = time;
    this.#states[slot] = state;
    this.#next += 1;
    this.#enter(slot);
    return place;
  }

  /** Takes the oldest entry out; only while there is one. */
  shift(): void {
    const slot = this.#slotOf(this.#oldest);
    this.#oldest += 1;
    this.#values[slot] = null;
    const at = this.#probe(this.#digests, slot * WORDS);
    if (this.#slotAt(at) !== slot) return;
    this.#size -= 1;
    this.#close(at);
  }

  #slotOf(place: number): number {
    return place % this.#capacity;
  }

  #placeOf(slot: number): number {
    const first = this.#slotOf(this.#oldest);
    return this.#oldest + (slot >= first ? slot - first : slot + this.#capacity - first);
  }

  /** @returns the slot that an entry of the index names, -1 where it is free. */
  #slotAt(at: number): number {
    return (this.#index[at] ?? 0) - 1;
  }

  #enter(slot: number): void {
    const at = this.#probe(this.#digests, slot * WORDS);
    if (this.#index[at] === 0) this.#size += 1;
    this.#index[at] = slot + 1;
  }

  /** Where in the index a digest begins to be looked for: sums of products with secret numbers, of which the high bits count. */
  #home(words: Int32Array, from: number): number {
    const secret = this.#secret;
    let sum = 0;
    for (let word = 0; word < WORDS; word++) {
      sum =
        (sum +
          Math.imul((words[from + word] ?? 0) ^ (secret[word] ?? 0), (secret[WORDS - 1 - word] ?? 0) | 1)) |
        0;
    }
    return sum >>> this.#indexShift;
  }

  /** @returns where in the index the digest at `from` of `words` stands, or would. */
  #probe(words: Int32Array, from: number): number {
    const index = this.#index;
    const digests = this.#digests;
    let at = this.#home(words, from);
    for (;;) {
      const slot = (index[at] ?? 0) - 1;
      if (slot < 0 || isSame(digests, slot * WORDS, words, from)) return at;
      at = (at + 1) & (index.length - 1);
    }
  }

  /** Frees a place of the index; those behind it that were displaced move up. */
  #close(free: number): void {
    const index = this.#index;
    const mask = index.length - 1;
    let hole = free;
    let at = free;
    for (;;) {
      at = (at + 1) & mask;
      const slot = (index[at] ?? 0) - 1;
      if (slot < 0) break;
      const home = this.#home(this.#digests, slot * WORDS);
      // It may stand in the hole when that is not before its home.
      if (((at - home) & mask) >= ((at - hole) & mask)) {
        index[hole] = slot + 1;
        hole = at;
      }
    }
    index[hole] = 0;
  }

  #grow(): void {
    const before = {
      digests: this.#digests,
      times: this.#times,
      states: this.#states,
      values: this.#values,
    };
    const first = this.#slotOf(this.#oldest);
    const capacity = this.#capacity;
    this.#capacity = capacity * 2;
    this.#digests = new Int32Array(this.#capacity * WORDS);
    this.#times = new Float64Array(this.#capacity);
    this.#states = new Uint8Array(this.#capacity);
    this.#values = nothing(this.#capacity);
    this.#index = new Int32Array(this.#capacity * 2);
    this.#indexShift = shiftOf(this.#capacity * 2);
    this.#size = 0;
    for (let i = 0; i < capacity; i++) {
      const from = (first + i) % capacity;
      const to = this.#slotOf(this.#oldest + i);
      this.#digests.set(before.digests.subarray(from * WORDS, (from + 1) * WORDS), to * WORDS);
      this.#times[to] = before.times[from] ?? 0;
      this.#states[to] = before.states[from] ?? 0;
      this.#values[to] = before.values[from] ?? null;
      this.#enter(to);
    }
  }
}

/** @param length a power of two */
function shiftOf(length: number): number {
  return Math.clz32(length) + 1;
}

function nothing(length: number): null[] {
  return Array.from({ length }, () => null);
}

function isSame(a: Int32Array, atA: number, b: Int32Array, atB: number): boolean {
  for (let word = 0; word < WORDS; word++) if (a[atA + word] !== b[atB + word]) return false;
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
