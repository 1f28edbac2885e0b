/**
 * Repeatable pseudo-random bytes and numbers for generated orders: the key stream of AES-256-CTR, keyed by
 * the seed's SHA-256, so that the same seed gives the same orders on every machine. Not for secrets that
 * protect anything.
 */
import { type Cipheriv, createCipheriv, hash } from 'node:crypto';

const BLOCK_BYTES = 4096;
const ZEROS = Buffer.alloc(BLOCK_BYTES);

/** A stream of seeded randomness; each call moves it forward. */
export class SeededSource {
  readonly #cipher: Cipheriv;
  #block: Buffer = Buffer.alloc(0);
  #offset = 0;

  /** @param seed any text; equal texts give equal streams. */
  constructor(seed: string) {
    this.#cipher = createCipheriv('aes-256-ctr', hash('sha256', seed, 'buffer'), Buffer.alloc(16));
  }

  /** @returns a fresh buffer of `length` random bytes. */
  bytes(length: number): Buffer {
    return this.#cipher.update(length <= BLOCK_BYTES ? ZEROS.subarray(0, length) : Buffer.alloc(length));
  }

  /** @returns an integer in [0, 2^32). */
  uint32(): number {
    if (this.#offset + 4 > this.#block.length) {
      this.#block = this.bytes(BLOCK_BYTES);
      this.#offset = 0;
    }
    const value = this.#block.readUInt32LE(this.#offset);
    this.#offset += 4;
    return value;
  }

  /** @returns a number in [0, 1). */
  unit(): number {
    return this.uint32() / 0x1_0000_0000;
  }

  /** @returns an integer in [0, limit); `limit` at most 2^32. */
  below(limit: number): number {
    return Math.floor(this.unit() * limit);
  }

  /** @returns true with the given probability (0 to 1). */
  chance(probability: number): boolean {
    return this.unit() < probability;
  }

  /** @returns a version 4 UUID in lower case with dashes (RFC 9562). */
  uuid(): string {
    const bytes = this.bytes(16);
    bytes[6] = ((bytes[6] ?? 0) & 0x0f) | 0x40;
    bytes[8] = ((bytes[8] ?? 0) & 0x3f) | 0x80;
    const hex = bytes.toString('hex');
    return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-${hex.slice(12, 16)}-${hex.slice(16, 20)}-${hex.slice(20)}`;
  }
}
