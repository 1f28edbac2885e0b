/**
 * Hex text in JSON strings: quantities, fixed-size data and byte strings, by the rules of go-ethereum's
 * hexutil, on which every client of this protocol was tested: the prefix may be 0x or 0X, an empty string is
 * zero or no bytes, a quantity has no leading zeros and at most 64 bits. The canonical form is lower case.
 */
import { type FieldDecoder, FieldError } from './fields.ts';
import type { JsonText } from './json.ts';
import type { Address } from './order.ts';

const NOT_A_STRING = new FieldError('not a string');
const NO_PREFIX = new FieldError('hex string without 0x prefix');
const INVALID_HEX = new FieldError('invalid hex string');
const ODD_LENGTH = new FieldError('hex string of odd length');
const EMPTY_NUMBER = new FieldError('hex number without digits');
const LEADING_ZERO = new FieldError('hex number with leading zero digits');
const TOO_BIG = new FieldError('hex number above 64 bits');

const CANONICAL_QUANTITY = /^"0x(?:0|[1-9a-f][0-9a-f]{0,15})"$/;
const LOWER_HEX = /^[0-9a-f]*$/;

/** A u64 as `"0x…"` with minimal digits. */
export const quantity: FieldDecoder = (json, at) => {
  if (!json.isString(at)) return NOT_A_STRING;
  const quoted = json.lowerQuoted(at);
  if (CANONICAL_QUANTITY.test(quoted)) return quoted;
  if (quoted === '""') return '"0x0"';
  if (!quoted.startsWith('"0x')) return NO_PREFIX;
  const digits = quoted.slice(3, -1);
  if (digits === '') return EMPTY_NUMBER;
  if (!LOWER_HEX.test(digits)) return INVALID_HEX;
  return digits.startsWith('0') ? LEADING_ZERO : TOO_BIG;
};

/** The block of a bundle: a {@link quantity}, or `"0x"` for the next block, which is `null` in canonical form. */
export const blockNumber: FieldDecoder = (json, at) => {
  const text = quantity(json, at);
  return text === EMPTY_NUMBER ? 'null' : text;
};

/** Data of a fixed size as `"0x…"`. */
function fixedData(bytes: number): FieldDecoder {
  const canonical = new RegExp(`^"0x[0-9a-f]{${bytes * 2}}"$`);
  const wrongLength = new FieldError(`hex string is not ${bytes} bytes long`);
  return (json, at) => {
    if (!json.isString(at)) return NOT_A_STRING;
    const quoted = json.lowerQuoted(at);
    if (canonical.test(quoted)) return quoted;
    if (quoted !== '""' && !quoted.startsWith('"0x')) return NO_PREFIX;
    return LOWER_HEX.test(quoted.slice(3, -1)) ? wrongLength : INVALID_HEX;
  };
}

/** An account as `"0x…"`, 20 bytes. */
export const address = fixedData(20);

/** @param quoted - canonical text of an address, or empty. */
export function addressOf(quoted: string): Address | null {
  return quoted === '' ? null : `0x${quoted.slice(3, -1)}`;
}

/** A 32-byte hash as `"0x…"`. */
export const hash = fixedData(32);

/** Bytes with their canonical text. */
export interface HexBytes {
  /** `"0x…"`. */
  readonly quoted: string;
  readonly bytes: Buffer;
}

/** Decodes a byte string of any length. */
export function hexBytes(json: JsonText, at: number): HexBytes | FieldError {
  const raw = json.raws?.take(at) ?? null;
  // The digits are put in their place when the whole form is written.
  if (raw !== null) return { quoted: '"0x"', bytes: raw };
  if (!json.isString(at)) return NOT_A_STRING;
  const quoted = json.lowerQuoted(at);
  if (quoted === '""') return { quoted: '"0x"', bytes: Buffer.alloc(0) };
  if (!quoted.startsWith('"0x')) return NO_PREFIX;
  const digits = quoted.slice(3, -1);
  const bytes = Buffer.from(digits, 'hex');
  // Buffer stops at the first pair that is no hex, but takes U+0430 for 0: it looks at the low byte only.
  if (bytes.length * 2 !== digits.length)
    return digits.length % 2 === 1 && LOWER_HEX.test(digits) ? ODD_LENGTH : INVALID_HEX;
  if (!json.plain && !LOWER_HEX.test(digits)) return INVALID_HEX;
  return { quoted, bytes };
}
