/**
 * Bytes gathered piece by piece, and counted while they are held: how bodies are read and decompressed within a
 * bound that all of them share. Large pieces are kept as they are and put together once, at the end, so a body
 * that never ends is never copied; small ones are gathered in a buffer, so that a million of one byte cost a million
 * bytes.
 */

const EMPTY = Buffer.alloc(0);
const LARGE_PIECE_BYTES = 4096;
const LARGEST_TAIL_BYTES = 65_536;

/** Counts the bytes of buffers that are held (positive) and given up (negative). */
export type Count = (bytes: number) => void;

export class Gathered {
  readonly #count: Count;
  #pieces: Buffer[] = [];
  /** Bytes counted. */
  #held = 0;
  /** Where small pieces go, behind all others; its first `#tailLength` bytes are used. */
  #tail: Buffer | null = null;
  #tailLength = 0;
  #length = 0;

  constructor(count: Count) {
    this.#count = count;
  }

  get length(): number {
    return this.#length;
  }

  /** @param piece may be written to afterwards. */
  addCopy(piece: Buffer): void {
    this.#length += piece.length;
    this.#addSmall(piece);
  }

  /** @param piece is kept: nobody may write to it from here on. */
  add(piece: Buffer): void {
    const first = this.#length === 0;
    this.#length += piece.length;
    // A small piece of a big read (frames of many HTTP/2 streams share one) must not keep all of it alive.
    const alone = piece.buffer.byteLength <= 2 * piece.length;
    if (alone && (first || piece.length >= LARGE_PIECE_BYTES)) {
      this.#endTail();
      this.#pieces.push(piece);
      this.#hold(piece.length);
    } else {
      this.#addSmall(piece);
    }
  }

  /** @returns the bytes, which still count. */
  join(): Buffer {
    this.#endTail();
    const [first = EMPTY, second] = this.#pieces;
    if (second === undefined) return first;
    const whole = Buffer.concat(this.#pieces, this.#length);
    this.#pieces = [whole];
    this.#hold(whole.length - this.#held);
    return whole;
  }

  /** Drops them, for the count too. */
  clear(): void {
    this.#hold(-this.#held);
    this.#pieces = [];
    this.#tail = null;
    this.#length = 0;
  }

  #addSmall(piece: Buffer): void {
    let rest = piece;
    while (rest.length > 0) {
      if (this.#tail === null || this.#tailLength === this.#tail.length) this.#newTail(rest.length);
      const copied = rest.copy(this.#tail ?? EMPTY, this.#tailLength);
      this.#tailLength += copied;
      rest = rest.subarray(copied);
    }
  }

  /** Half as large as all before, within limits. */
  #newTail(atLeast: number): void {
    this.#endTail();
    const size = Math.min(Math.max(this.#length >>> 1, atLeast), LARGEST_TAIL_BYTES);
    this.#tail = Buffer.allocUnsafe(size);
    this.#tailLength = 0;
    this.#hold(size);
  }

  #endTail(): void {
    if (this.#tail === null) return;
    this.#pieces.push(this.#tail.subarray(0, this.#tailLength));
    this.#tail = null;
  }

  #hold(bytes: number): void {
    this.#held += bytes;
    this.#count(bytes);
  }
}
