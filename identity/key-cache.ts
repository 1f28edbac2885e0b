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

export interface KnownKey {
  /** In lower case. */
  readonly address: Address;
  /** 65 bytes, uncompressed (a compressed key costs a square root at each use). */
  readonly publicKey: Uint8Array;
}

/** Part of the cache for addresses seen once. */
const WAITING_SHARE = 1 / 4;

export class KeyCache {
  readonly #mainSize: number;
  readonly #waitingSize: number;
  /** Both maps are kept in order of use, oldest first. */
  readonly #main = new Map<string, KnownKey>();
  readonly #waiting = new Map<string, KnownKey>();

  /** @param size most entries held, at least 2 */
  constructor(size: number) {
    if (!Number.isSafeInteger(size) || size < 2) throw new RangeError('the key cache holds at least 2 keys');
    this.#waitingSize = Math.max(1, Math.floor(size * WAITING_SHARE));
    this.#mainSize = size - this.#waitingSize;
  }

  /** Number of keys held. */
  get size(): number {
    return this.#main.size + this.#waiting.size;
  }

  /**
   * Looks a key up. Nothing is counted yet: whoever only claims an address moves nothing.
   *
   * @param address in lower case
   */
  get(address: string): KnownKey | undefined {
    return this.#main.get(address) ?? this.#waiting.get(address);
  }

  /** Counts a key as used: a signature by it has just been verified. */
  touch(known: KnownKey): void {
    const { address } = known;
    if (!this.#main.delete(address)) {
      this.#waiting.delete(address);
      if (this.#main.size >= this.#mainSize) dropOldest(this.#main);
    }
    this.#main.set(address, known);
  }

  /** Takes in a key that has just been recovered from a valid signature. */
  add(known: KnownKey): void {
    if (this.#main.has(known.address)) return;
    this.#waiting.delete(known.address);
    if (this.#waiting.size >= this.#waitingSize) dropOldest(this.#waiting);
    this.#waiting.set(known.address, known);
  }
}

function dropOldest(map: Map<string, KnownKey>): void {
  const oldest = map.keys().next();
  if (oldest.done !== true) map.delete(oldest.value);
}
