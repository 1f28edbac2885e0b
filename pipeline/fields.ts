/**
 * Objects with listed keys: reading them, decoding each field to its canonical text, writing them again in
 * canonical order. Each object of protocol section 4 is one table of this shape; the rules that only one side
 * has are tables too (side-rules.ts).
 *
 * - A key that differs from a listed one only in case is that key, as for Go's decoders; both spellings in one
 *   object are refused, so that no two nodes can see two orders in one request.
 * - A key repeated exactly: the last one counts, as everywhere.
 * - `null` is an absent key.
 * - Keys that are not listed are kept behind the listed ones, in the order received.
 *
 * Limits: {@link MAX_KEYS} keys per object, {@link MAX_FREE_TEXT} characters of free text per request.
 */
import { encodeString, INVALID, type JsonText, MAX_DEPTH, TOO_DEEP } from './json.ts';

/** A bundle lists 16 keys; the rest is room for newer ones. */
export const MAX_KEYS = 128;

/**
 * Bound of all free text of one request together, in characters as sent: unlisted keys with their values, raw
 * messages, texts that are kept. It is written anew piece by piece, which costs tens of times more than hex data
 * of that length.
 */
export const MAX_FREE_TEXT = 262_144;

/** A character can become six when it is escaped, so what one node took is within what the next one takes. */
export const MAX_FREE_TEXT_OF_PEERS = 6 * MAX_FREE_TEXT;

/** Why a field was refused, and which: the path grows outwards while the refusal is handed up. */
export class FieldError {
  readonly reason: string;
  /** null: the reason is about the whole order and stands alone. */
  readonly path: string | null;

  constructor(reason: string, path: string | null = '') {
    this.reason = reason;
    this.path = path;
  }

  /** @returns the same refusal, seen from the object or list around it. */
  under(segment: string): FieldError {
    if (this.path === null) return this;
    const joint = this.path === '' || this.path.startsWith('[') ? '' : '.';
    return new FieldError(this.reason, `${segment}${joint}${this.path}`);
  }

  get message(): string {
    return this.path === null || this.path === '' ? this.reason : `${this.path}: ${this.reason}`;
  }
}

/** A refusal of the order as a whole, in the words of the protocol. */
export function orderError(message: string): FieldError {
  return new FieldError(message, null);
}

/**
 * Turns the value at an offset into its canonical JSON text; an empty text leaves the key out.
 * It never sees `null`, which is an absent key.
 */
export type FieldDecoder = (json: JsonText, at: number) => string | FieldError;

export interface FieldRow<Key extends string> {
  readonly key: Key;
  /** null: the object's own module decodes this one. */
  readonly decode: FieldDecoder | null;
  /** What is written for an absent key; empty leaves it out. */
  readonly absent?: string;
}

/** The canonical text of each listed field; empty where it is left out. */
export type Fields<Key extends string> = Record<Key, string>;

export interface ObjectShape<Key extends string> {
  readonly rows: readonly (FieldRow<Key> & { readonly prefix: `"${Key}":` })[];
  readonly absent: Fields<Key>;
  readonly noOffsets: readonly number[];
  readonly exact: ReadonlyMap<string, number>;
  readonly folded: ReadonlyMap<string, number>;
}

/** @param rows - in canonical order; at most 31. */
export function objectShape<const Key extends string>(rows: readonly FieldRow<Key>[]): ObjectShape<Key> {
  return {
    rows: rows.map((row) => ({ ...row, prefix: `"${row.key}":` as const })),
    // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- the keys are those of the rows
    absent: Object.fromEntries(rows.map((row) => [row.key, row.absent ?? ''])) as Fields<Key>,
    noOffsets: rows.map(() => 0),
    exact: new Map(rows.map((row, i) => [row.key, i])),
    folded: new Map(rows.map((row, i) => [fold(row.key), i])),
  };
}

/** @returns which row of the shape has the key. */
export function rowOf<Key extends string>(shape: ObjectShape<Key>, key: Key): number {
  return shape.rows.findIndex((row) => row.key === key);
}

/** Case folding as wide as any JSON decoder's: strings.EqualFold of Go also takes the Kelvin sign for k and ſ for s. */
function fold(key: string): string {
  return key.replace(/ſ/g, 's').replace(/İ/g, 'i').toLowerCase();
}

/** Where the values of one object begin. */
export interface Members {
  /** Per row; 0 where the key is absent or null. */
  readonly offsets: number[];
  /** Keys that are not listed with the offsets of their values, in the order received. */
  readonly unlisted: Map<string, number> | null;
  /** Offset behind the object. */
  readonly end: number;
}

/** @returns where the value of a row begins, 0 when it is absent or null. */
export function offsetOf(members: Members, row: number): number {
  return members.offsets[row] ?? 0;
}

const NOT_JSON = new FieldError('not valid JSON');
const DEEP_JSON = new FieldError(`nested more than ${MAX_DEPTH} levels deep`);
const TOO_MANY_KEYS = new FieldError(`more than ${MAX_KEYS} keys in one object`);
/** What a field is refused with when {@link countFreeText} says no. */
export const FREE_TEXT_TOO_LONG = new FieldError('too much free text in one request');

/**
 * Reads an object's keys. The text need not have been checked: what is no JSON is refused here.
 *
 * @param at - of the opening brace.
 * @param depth - how many objects and lists stand around the object.
 */
export function readMembers<Key extends string>(
  json: JsonText,
  at: number,
  shape: ObjectShape<Key>,
  depth: number,
): Members | FieldError {
  const { text } = json;
  if (!json.isObject(at)) return new FieldError('not an object');
  const offsets = shape.noOffsets.slice();
  let unlisted: Map<string, number> | null = null;
  let seen = 0;
  let variants = 0;
  let keys = 0;
  let i = json.skipSpace(at + 1);
  if (text[i] === '}') return { offsets, unlisted, end: i + 1 };
  for (;;) {
    const valueAt = json.skipKey(i);
    if (valueAt < 0) return NOT_JSON;
    const end = json.skipValue(valueAt, depth + 1);
    if (end === INVALID) return NOT_JSON;
    if (end === TOO_DEEP) return DEEP_JSON;
    keys++;
    if (keys > MAX_KEYS) return TOO_MANY_KEYS;

    const key = json.string(i);
    let row = shape.exact.get(key);
    let variant = 0;
    if (row === undefined) {
      row = shape.folded.get(fold(key));
      if (row !== undefined) variant = 1 << row;
    }
    if (row === undefined) {
      if (!countFreeText(json, end - i)) return FREE_TEXT_TOO_LONG;
      unlisted ??= new Map();
      unlisted.set(key, valueAt);
    } else {
      if ((variant & seen) !== 0 || (variants & (1 << row)) !== 0) {
        return new FieldError('key appears in two spellings', shape.rows[row]?.key);
      }
      seen |= 1 << row;
      variants |= variant;
      offsets[row] = json.isNull(valueAt) ? 0 : valueAt;
    }

    i = json.skipSpace(end);
    if (text[i] === '}') return { offsets, unlisted, end: i + 1 };
    if (text[i] !== ',') return NOT_JSON;
    i = json.skipSpace(i + 1);
  }
}

/** @returns whether the request may have `length` more characters of free text. */
export function countFreeText(json: JsonText, length: number): boolean {
  json.freeText += length;
  return json.freeText <= json.maxFreeText;
}

/** Decodes every field that has a decoder of its own; the others hold what an absent key holds. */
export function decodeFields<Key extends string>(
  json: JsonText,
  members: Members,
  shape: ObjectShape<Key>,
): Fields<Key> | FieldError {
  const fields: Fields<Key> = { ...shape.absent };
  const { offsets } = members;
  for (let i = 0; i < offsets.length; i++) {
    const at = offsets[i] ?? 0;
    const row = shape.rows[i];
    if (at === 0 || row === undefined || row.decode === null) continue;
    const { key, decode } = row;
    const text = decode(json, at);
    if (typeof text !== 'string') return text.under(key);
    fields[key] = text;
  }
  return fields;
}

/** Writes an object: the listed fields in their order, then the keys that are not listed. */
export function encodeObject<Key extends string>(
  json: JsonText,
  shape: ObjectShape<Key>,
  fields: Fields<Key>,
  unlisted: Members['unlisted'],
): string {
  let text = '{';
  let joint = '';
  for (const { key, prefix } of shape.rows) {
    const value = fields[key];
    if (value === '') continue;
    text += joint + prefix + value;
    joint = ',';
  }
  if (unlisted !== null) {
    for (const [key, at] of unlisted) {
      text += `${joint}${encodeString(key)}:${json.compactEncoded(at)}`;
      joint = ',';
    }
  }
  return `${text}}`;
}

/** The decoder of an object that has no rules beyond its table. */
export function objectDecoder<Key extends string>(shape: ObjectShape<Key>): FieldDecoder {
  return (json, at) => {
    const members = readMembers(json, at, shape, 0);
    if (members instanceof FieldError) return members;
    const fields = decodeFields(json, members, shape);
    if (fields instanceof FieldError) return fields;
    return encodeObject(json, shape, fields, members.unlisted);
  };
}

/** One rule that only one side has: what is refused, or what is filled in. Tables of these: side-rules.ts. */
export interface RefusalRow<Draft, Context> {
  readonly refuse: string;
  readonly when: (draft: Draft, context: Context) => boolean;
}

export interface FillRow<Draft, Context> {
  readonly field: string;
  readonly when: (draft: Draft, context: Context) => boolean;
  readonly fill: (draft: Draft, context: Context) => void;
}

export interface RuleTable<Draft, Context> {
  readonly refusals: readonly RefusalRow<Draft, Context>[];
  readonly fills: readonly FillRow<Draft, Context>[];
}

/** @returns the refusal of the first row that applies, else null. */
export function firstRefusal<Draft, Context>(
  table: RuleTable<Draft, Context>,
  draft: Draft,
  context: Context,
): FieldError | null {
  for (const row of table.refusals) if (row.when(draft, context)) return orderError(row.refuse);
  return null;
}

/** Fills in what the side adds to an order, row by row. */
export function fillIn<Draft, Context>(
  table: RuleTable<Draft, Context>,
  draft: Draft,
  context: Context,
): void {
  for (const row of table.fills) if (row.when(draft, context)) row.fill(draft, context);
}
