/**
 * Decoders of the field types that are no hex: integers, booleans, UUIDs, texts and lists. Each follows what
 * v1's Go types accept and writes what they write.
 *
 * Limits: lists hold at most {@link MAX_LIST} elements (v1 has no bound; a bundle has at most 100 transactions).
 */
import { countFreeText, type FieldDecoder, FieldError, FREE_TEXT_TOO_LONG } from './fields.ts';
import { hash } from './hex.ts';
import { encodeString } from './json.ts';

/** Bound of every list but the lists of transactions, which have their own. */
export const MAX_LIST = 1000;

const MAX_UINT64 = '18446744073709551615';
const MAX_INT64 = '9223372036854775807';
const MIN_INT64_DIGITS = '9223372036854775808';

/** A Go uint64: digits only (`1.0`, `1e3` and `-0` are refused as Go does), at most 2^64 - 1. */
export const uint64: FieldDecoder = (json, at) => {
  const text = json.raw(at);
  if (!/^[0-9]+$/.test(text)) return new FieldError('not an unsigned integer');
  return fits(text, MAX_UINT64) ? text : new FieldError('above 64 bits');
};

/** A Go int: 64 bits with sign. */
export const int64: FieldDecoder = (json, at) => {
  const text = json.raw(at);
  if (!/^-?[0-9]+$/.test(text)) return new FieldError('not an integer');
  if (text === '-0') return '0';
  const fitting = text.startsWith('-') ? fits(text.slice(1), MIN_INT64_DIGITS) : fits(text, MAX_INT64);
  return fitting ? text : new FieldError('beyond 64 bits');
};

/** Compares decimal digits without leading zeros (JSON has none). */
function fits(digits: string, max: string): boolean {
  return digits.length < max.length || (digits.length === max.length && digits <= max);
}

export const boolean: FieldDecoder = (json, at) => {
  const text = json.raw(at);
  return text === 'true' || text === 'false' ? text : new FieldError('not a boolean');
};

/** A boolean that Go leaves out when it is false. */
export const trueOnly: FieldDecoder = (json, at) => {
  const text = boolean(json, at);
  return text === 'false' ? '' : text;
};

/** Text kept as it is. */
export const text: FieldDecoder = (json, at) => {
  if (!json.isString(at)) return new FieldError('not a string');
  return countFreeText(json, json.skipString(at) - at) ? encodeString(json.string(at)) : FREE_TEXT_TOO_LONG;
};

/** Text that Go leaves out when it is empty. */
export const nonEmptyText: FieldDecoder = (json, at) => {
  const encoded = text(json, at);
  return encoded === '""' ? '' : encoded;
};

/** Anything, passed on unread: v1's raw message. */
export const rawMessage: FieldDecoder = (json, at) =>
  countFreeText(json, json.skipValue(at, 0) - at) ? json.compactRaw(at) : FREE_TEXT_TOO_LONG;

const DASHED = '[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}';
const CANONICAL_UUID = new RegExp(`^"${DASHED}"$`);
const WRAPPED_UUID = new RegExp(`^"(?:urn:uuid:(${DASHED})|\\{(${DASHED})\\})"$`);
const BARE_UUID = /^"([0-9a-f]{8})([0-9a-f]{4})([0-9a-f]{4})([0-9a-f]{4})([0-9a-f]{12})"$/;

/** A UUID in any form google/uuid reads: with dashes, without any, in braces, as urn:uuid:. */
export const uuid: FieldDecoder = (json, at) => {
  if (!json.isString(at)) return new FieldError('not a string');
  const quoted = json.lowerQuoted(at);
  if (CANONICAL_UUID.test(quoted)) return quoted;
  const dashed = quoted.replace(WRAPPED_UUID, '"$1$2"').replace(BARE_UUID, '"$1-$2-$3-$4-$5"');
  return CANONICAL_UUID.test(dashed) ? dashed : new FieldError('invalid UUID');
};

/** A list whose elements a decoder turns into texts; left out when empty. */
export function listOf(decode: FieldDecoder, sort = false): FieldDecoder {
  return (json, at) => {
    if (!json.isList(at)) return new FieldError('not a list');
    const offsets = json.elements(at, MAX_LIST);
    if (offsets === null) return new FieldError(`more than ${MAX_LIST} elements`);
    if (offsets.length === 0) return '';
    const texts: string[] = [];
    for (const [i, offset] of offsets.entries()) {
      const element = decode(json, offset);
      if (typeof element !== 'string') return element.under(`[${i}]`);
      texts.push(element);
    }
    if (sort) texts.sort();
    return `[${texts.join(',')}]`;
  };
}

/** Hashes in ascending order, so that their order makes no two orders of one. */
export const sortedHashes = listOf(hash, true);

/** Texts kept as they are, in their order. */
export const texts = listOf(text);
