/**
 * A reader over RLP bytes in place (Ethereum yellow paper, appendix B), strict: one value has exactly
 * one encoding. It makes no tree and copies nothing; whoever reads keeps the spans it needs.
 *
 * Limits: it never looks beyond the span it was given and does not recurse, so depth costs nothing.
 */

/** Why bytes are no RLP; fixed texts, so that a refusal costs no formatting. */
const TOO_FEW = 'RLP: too few elements';
const TOO_LONG = 'RLP: value size exceeds the input';
const NON_CANONICAL = 'RLP: non-canonical size';

/**
 * Reads the items of one span one after the other.
 *
 * @example
 * const reader = new RlpReader(bytes, 0, bytes.length);
 * const refused = reader.next(); // null, or why the bytes are no RLP
 * if (refused === null && reader.isList) reader.enter();
 */
export class RlpReader {
  readonly bytes: Uint8Array;
  /** Where the next item's header begins. */
  at: number;
  /** First byte that no longer belongs to the span being read. */
  limit: number;
  /** Of the item read last: its content is bytes[start, end). */
  start = 0;
  end = 0;
  isList = false;

  constructor(bytes: Uint8Array, at: number, limit: number) {
    this.bytes = bytes;
    this.at = at;
    this.limit = limit;
  }

  /**
   * Reads the next item's header into `start`, `end` and `isList` and moves behind its content.
   *
   * @returns null, or the reason why there is no such item.
   */
  next(): string | null {
    const { bytes, at, limit } = this;
    if (at >= limit) return TOO_FEW;
    const head = bytes[at] ?? 0;
    if (head < 0x80) {
      this.isList = false;
      this.start = at;
      this.end = at + 1;
      this.at = at + 1;
      return null;
    }
    this.isList = head >= 0xc0;
    const size = head - (this.isList ? 0xc0 : 0x80);
    let start = at + 1;
    let length = size;
    if (size > 55) {
      const sizeBytes = size - 55;
      if (start + sizeBytes > limit) return TOO_LONG;
      if (bytes[start] === 0) return NON_CANONICAL;
      length = 0;
      for (let i = 0; i < sizeBytes; i++) length = length * 256 + (bytes[start + i] ?? 0);
      if (length < 56) return NON_CANONICAL;
      start += sizeBytes;
    } else if (size === 1 && !this.isList && start < limit && (bytes[start] ?? 0) < 0x80) {
      return NON_CANONICAL;
    }
    if (length > limit - start) return TOO_LONG;
    this.start = start;
    this.end = start + length;
    this.at = start + length;
    return null;
  }

  /** Goes on inside the list read last; what follows the list is out of reach until `limit` and `at` are set back. */
  enter(): void {
    this.at = this.start;
    this.limit = this.end;
  }

  get done(): boolean {
    return this.at === this.limit;
  }
}

/**
 * The header of a list whose content has the given length.
 *
 * @param length - bytes of content.
 */
export function listHeader(length: number): Buffer {
  if (length < 56) return Buffer.from([0xc0 + length]);
  const size: number[] = [];
  for (let rest = length; rest > 0; rest = Math.floor(rest / 256)) size.unshift(rest % 256);
  return Buffer.from([0xf7 + size.length, ...size]);
}

/** The RLP string of an integer that is not negative: big-endian without leading zeros. */
export function encodeInteger(value: bigint): Buffer {
  if (value === 0n) return Buffer.from([0x80]);
  const digits = value.toString(16);
  const bytes = Buffer.from(digits.length % 2 === 0 ? digits : `0${digits}`, 'hex');
  if (bytes.length === 1 && (bytes[0] ?? 0) < 0x80) return bytes;
  if (bytes.length < 56) return Buffer.concat([Buffer.from([0x80 + bytes.length]), bytes]);
  throw new RangeError('integer of more than 55 bytes');
}
