/**
 * Public keys of signers seen before, by address: a bounded cache for the signature check (which verifies
 * against a known key instead of recovering it, 10-30 µs less per order).
 *
 * Anyone can make keys and have each recovered once, so a plain LRU could be flushed by a stream of them. Here a
 * new address first goes to a waiting segment, and only one that comes back moves to the main segment: keys used
 * once push out nothing but each other. Someone who uses each key twice can still push out the least recently
 * used of the main segment; that costs him two signatures and us two checks for each entry, and the signer
 * pushed out costs one recovery more on his next order, nothing else.
 */

import type { Address } from '../pipeline/order.ts';
import { Listed, OrderedList } from '../pipeline/ordered-list.ts';

/** A public key whose owner has signed something. */
export class KnownKey extends Listed {
  /** In lower case. */
  readonly address: Address;
  /** 65 bytes, uncompressed (a compressed key costs a square root at each use). */
  readonly publicKey: Uint8Array;

  constructor(address: Address, publicKey: Uint8Array) {
    super();
    this.address = address;
    this.publicKey = publicKey;
  }
}

/** Part of the cache for addresses seen once. */
const WAITING_SHARE = 1 / 4;

export class KeyCache {
  readonly #mainSize: number;
  readonly #waitingSize: number;
  readonly #byAddress = new Map<string, KnownKey>();
  /** Both segments are kept in order of use, oldest first. */
  readonly #main = new OrderedList<KnownKey>();
  readonly #waiting = new OrderedList<KnownKey>();

  /** @param size most entries held, at least 2 */
  constructor(size: number) {
    if (!Number.isSafeInteger(size) || size < 2) throw new RangeError('the key cache holds at least 2 keys');
    this.#waitingSize = Math.max(1, Math.floor(size * WAITING_SHARE));
    this.#mainSize = size - this.#waitingSize;
  }

  /** Number of keys held. */
  get size(): number {
    return this.#byAddress.size;
  }

  /**
   * Looks a key up. Nothing is counted yet: whoever only claims an address moves nothing.
   *
   * @param address in lower case
   */
  get(address: string): KnownKey | undefined {
    return this.#byAddress.get(address);
  }

  /** Counts a key that the cache holds as used: a signature by it has just been verified. */
  touch(known: KnownKey): void {
    if (this.#waiting.delete(known) && this.#main.size >= this.#mainSize) this.#dropOldest(this.#main);
    this.#main.add(known);
  }

  /** Takes in a key that has just been recovered from a valid signature. */
  add(known: KnownKey): void {
    const before = this.#byAddress.get(known.address);
    if (before !== undefined) {
      if (this.#main.has(before)) return;
      this.#waiting.delete(before);
    }
    if (this.#waiting.size >= this.#waitingSize) this.#dropOldest(this.#waiting);
    this.#waiting.add(known);
    this.#byAddress.set(known.address, known);
  }

  #dropOldest(segment: OrderedList<KnownKey>): void {
    const { first } = segment;
    if (first === undefined) return;
    segment.delete(first);
    this.#byAddress.delete(first.address);
  }
}
