/**
 * JSON as this node reads it: a strict scanner over the text (RFC 8259, the grammar of JSON.parse) that
 * builds nothing. A value is known by the offset at which it begins, so numbers keep every digit, keys their
 * order, and what is passed on is cut out of the text instead of being made again.
 *
 * Why not JSON.parse: it loses digits above 2^53 and the order of keys like "1", and to get both back costs a
 * second parse with a reviver. Measured on the development machine: finding the way through a request of 3 KB
 * takes 2.3 µs from bytes to the place of the param (1.0 of it the search for control characters), JSON.parse 1.7
 * and the object is still to be walked; 30 MB of empty lists take 0.3 s, JSON.parse 3 s. The tests hold the two to
 * the same verdict on the same text.
 *
 * Limits: values nest at most {@link MAX_DEPTH} deep, so a body of brackets ends early; the scanner allocates
 * nothing in proportion to a body that is refused.
 */
import { isAscii } from 'node:buffer';

/** A bundle in a bundle in a request needs 9 levels; the rest is for keys this node does not know. */
export const MAX_DEPTH = 64;

/** What {@link JsonText.skipValue} returns where no value ends. */
export const INVALID = -1;
export const TOO_DEEP = -2;

const QUOTE = 0x22;
const PLUS = 0x2b;
const COMMA = 0x2c;
const MINUS = 0x2d;
const DOT = 0x2e;
const ZERO = 0x30;
const NINE = 0x39;
const COLON = 0x3a;
const OPEN_LIST = 0x5b;
const BACKSLASH = 0x5c;
const CLOSE_LIST = 0x5d;
const LETTER_E = 0x65;
const LETTER_N = 0x6e;
const OPEN_OBJECT = 0x7b;
const CLOSE_OBJECT = 0x7d;

/** @param content - of a checked string, between its quotes. */
function resolveEscapes(content: string): string {
  const text: string = JSON.parse(`"${content}"`);
  return text;
}

function isHexDigit(code: number): boolean {
  const lower = code | 0x20;
  return (code >= ZERO && code <= NINE) || (lower >= 0x61 && lower <= 0x66);
}

/** What keeps a text from being plain. Listing it is twice as fast as excluding the rest. */
// biome-ignore lint/suspicious/noControlCharactersInRegex: these are what JSON forbids inside strings
const ESCAPE_OR_CONTROL = /[\\\u0000-\u001f]/; // oxlint-disable-line no-control-regex

/** Byte strings that travel beside the text, each in the place of an empty `"0x"` (stream/record.ts). */
export interface RawStrings {
  /** @param at - of the string's opening quote. @returns its bytes; null when its digits stand in the text. */
  take(at: number): Buffer | null;
}

/** One JSON text and how to find one's way in it. Offsets are in UTF-16 units of `text`. */
export class JsonText {
  readonly text: string;
  /** Nothing but printable ASCII and no escapes: then each string ends at the next quote and is what it looks like. */
  readonly plain: boolean;
  /** Characters of free text in it so far; counted and bounded in fields.ts. */
  freeText = 0;
  maxFreeText = Number.POSITIVE_INFINITY;
  raws: RawStrings | null = null;
  private readonly ascii: boolean;
  private lowered: string | null = null;

  /** @param body - UTF-8; bytes that are none become U+FFFD. */
  constructor(body: Buffer) {
    this.ascii = isAscii(body);
    this.text = this.ascii ? body.toString('latin1') : body.toString('utf8');
    this.plain = this.ascii && !ESCAPE_OR_CONTROL.test(this.text);
  }

  /** @returns the first offset from `at` on that is no white space. */
  skipSpace(at: number): number {
    const { text } = this;
    for (let i = at; ; i++) {
      const code = text.charCodeAt(i);
      if (code !== 0x20 && code !== 0x0a && code !== 0x0d && code !== 0x09) return i;
    }
  }

  /**
   * Checks the value that begins at `at`.
   *
   * @param depth - how many objects and lists stand around it.
   * @returns the offset behind the value, {@link INVALID} or {@link TOO_DEEP}.
   */
  skipValue(at: number, depth: number): number {
    const { text } = this;
    const code = text.charCodeAt(at);
    if (code === QUOTE) return this.skipString(at);
    if (code === OPEN_OBJECT) return this.skipObject(at, depth);
    if (code === OPEN_LIST) return this.skipList(at, depth);
    if (code === MINUS || (code >= ZERO && code <= NINE)) return this.skipNumber(at);
    if (text.startsWith('true', at) || text.startsWith('null', at)) return at + 4;
    return text.startsWith('false', at) ? at + 5 : INVALID;
  }

  private skipObject(at: number, depth: number): number {
    if (depth >= MAX_DEPTH) return TOO_DEEP;
    const { text } = this;
    let i = this.skipSpace(at + 1);
    if (text.charCodeAt(i) === CLOSE_OBJECT) return i + 1;
    for (;;) {
      i = this.skipKey(i);
      if (i < 0) return i;
      i = this.skipValue(i, depth + 1);
      if (i < 0) return i;
      i = this.skipSpace(i);
      const code = text.charCodeAt(i);
      if (code === CLOSE_OBJECT) return i + 1;
      if (code !== COMMA) return INVALID;
      i = this.skipSpace(i + 1);
    }
  }

  private skipList(at: number, depth: number): number {
    if (depth >= MAX_DEPTH) return TOO_DEEP;
    const { text } = this;
    let i = this.skipSpace(at + 1);
    if (text.charCodeAt(i) === CLOSE_LIST) return i + 1;
    for (;;) {
      i = this.skipValue(i, depth + 1);
      if (i < 0) return i;
      i = this.skipSpace(i);
      const code = text.charCodeAt(i);
      if (code === CLOSE_LIST) return i + 1;
      if (code !== COMMA) return INVALID;
      i = this.skipSpace(i + 1);
    }
  }

  /** @returns where the value of the key that begins at `at` begins, or {@link INVALID}. */
  skipKey(at: number): number {
    const { text } = this;
    if (text.charCodeAt(at) !== QUOTE) return INVALID;
    const end = this.skipString(at);
    if (end < 0) return INVALID;
    const colon = this.skipSpace(end);
    return text.charCodeAt(colon) === COLON ? this.skipSpace(colon + 1) : INVALID;
  }

  /** @param at - of the opening quote. @returns the offset behind the closing one, or {@link INVALID}. */
  skipString(at: number): number {
    const { text } = this;
    if (this.plain) {
      const quote = text.indexOf('"', at + 1);
      return quote < 0 ? INVALID : quote + 1;
    }
    for (let i = at + 1; i < text.length; i++) {
      const code = text.charCodeAt(i);
      if (code === QUOTE) return i + 1;
      if (code < 0x20) return INVALID;
      if (code === BACKSLASH) {
        i++;
        const letter = text[i];
        if (letter === 'u') {
          const digits = i + 1;
          while (i < digits + 3) if (!isHexDigit(text.charCodeAt(++i))) return INVALID;
        } else if (letter === undefined || !'"\\/bfnrt'.includes(letter)) return INVALID;
      }
    }
    return INVALID;
  }

  private skipNumber(at: number): number {
    const { text } = this;
    let i = text.charCodeAt(at) === MINUS ? at + 1 : at;
    const whole = i;
    i = this.skipDigits(i);
    if (i === whole || (i > whole + 1 && text.charCodeAt(whole) === ZERO)) return INVALID;
    if (text.charCodeAt(i) === DOT) {
      const fraction = i + 1;
      i = this.skipDigits(fraction);
      if (i === fraction) return INVALID;
    }
    if ((text.charCodeAt(i) | 0x20) === LETTER_E) {
      const sign = text.charCodeAt(i + 1);
      const exponent = sign === PLUS || sign === MINUS ? i + 2 : i + 1;
      i = this.skipDigits(exponent);
      if (i === exponent) return INVALID;
    }
    return i;
  }

  private skipDigits(at: number): number {
    const { text } = this;
    let i = at;
    for (let code = text.charCodeAt(i); code >= ZERO && code <= NINE; code = text.charCodeAt(i)) i++;
    return i;
  }

  // From here on `at` is the beginning of a value that has been checked.

  /** @returns whether the value is `null`. */
  isNull(at: number): boolean {
    return this.text.charCodeAt(at) === LETTER_N;
  }

  isString(at: number): boolean {
    return this.text.charCodeAt(at) === QUOTE;
  }

  isObject(at: number): boolean {
    return this.text.charCodeAt(at) === OPEN_OBJECT;
  }

  isList(at: number): boolean {
    return this.text.charCodeAt(at) === OPEN_LIST;
  }

  /** @returns the value's text as it was sent. */
  raw(at: number): string {
    return this.text.slice(at, this.skipValue(at, 0));
  }

  /** @returns what the string says, escapes resolved. */
  string(at: number): string {
    const content = this.text.slice(at + 1, this.skipString(at) - 1);
    return this.plain || !content.includes('\\') ? content : resolveEscapes(content);
  }

  /** @returns what the string says in lower case, between quotes. */
  lowerQuoted(at: number): string {
    if (!this.plain) {
      if (!this.ascii || this.text.slice(at, this.skipString(at)).includes('\\'))
        return `"${this.string(at).toLowerCase()}"`;
    }
    // ASCII keeps its offsets in lower case, and the whole text at once is faster than its strings one by one.
    this.lowered ??= this.text.toLowerCase();
    return this.lowered.slice(at, this.skipString(at));
  }

  /**
   * Where a list's elements begin.
   *
   * @param max - how many there may be.
   * @returns their offsets, null when there are more.
   */
  elements(at: number, max: number): number[] | null {
    const { text } = this;
    const found: number[] = [];
    let i = this.skipSpace(at + 1);
    if (text.charCodeAt(i) === CLOSE_LIST) return found;
    for (;;) {
      if (found.length === max) return null;
      found.push(i);
      i = this.skipSpace(this.skipValue(i, 0));
      if (text.charCodeAt(i) === CLOSE_LIST) return found;
      i = this.skipSpace(i + 1);
    }
  }

  /**
   * A value without white space, as v1 writes what it passes on unread (a raw message of goccy/go-json):
   * inside strings only `<`, `>` and `&` change, everything else stays as it was sent.
   */
  compactRaw(at: number): string {
    return this.compact(at, (start, end) => escapeBy(HTML_ESCAPES, this.text.slice(start, end)));
  }

  /** A value without white space, its strings written anew by {@link encodeString}, its numbers as they were sent. */
  compactEncoded(at: number): string {
    return this.compact(at, (start) => encodeString(this.string(start)));
  }

  private compact(at: number, writeString: (start: number, end: number) => string): string {
    const { text } = this;
    const end = this.skipValue(at, 0);
    if (this.plain) {
      const value = text.slice(at, end);
      if (!/[ <>&]/.test(value)) return value;
    }
    const pieces: string[] = [];
    for (let i = at; i < end; ) {
      const quote = text.indexOf('"', i);
      const outside = quote < 0 || quote >= end ? end : quote;
      pieces.push(text.slice(i, outside).replace(/[ \t\r\n]+/g, ''));
      i = outside;
      if (i < end) {
        i = this.skipString(outside);
        pieces.push(writeString(outside, i));
      }
    }
    return pieces.join('');
  }
}

/** How `<`, `>` and `&` are written, by character code. */
const HTML_ESCAPES: ReadonlyMap<number, string> = new Map(
  ['<', '>', '&'].map((character) => [character.charCodeAt(0), unicodeEscape(character.charCodeAt(0))]),
);

/** How every character is written that does not stand for itself, by its code. */
const ESCAPES: ReadonlyMap<number, string> = new Map([
  ...Array.from({ length: 0x20 }, (_, code): [number, string] => [code, unicodeEscape(code)]),
  [0x09, '\\t'],
  [0x0a, '\\n'],
  [0x0d, '\\r'],
  [QUOTE, '\\"'],
  [BACKSLASH, '\\\\'],
  [0x2028, '\\u2028'],
  [0x2029, '\\u2029'],
  ...HTML_ESCAPES,
]);

function unicodeEscape(code: number): string {
  return `\\u${code.toString(16).padStart(4, '0')}`;
}

/** The keys of {@link ESCAPES}, by what they are not. */
const NEEDS_ESCAPE = /[^ !#-%'-;=?-[\]-\u2027\u202a-\uffff]/;

/**
 * A JSON string as v1's encoder writes it (goccy/go-json with its defaults): beyond what JSON demands, `<`, `>`,
 * `&`, U+2028 and U+2029 are escaped, and \b and \f are written \u0008 and \u000c.
 */
export function encodeString(content: string): string {
  return NEEDS_ESCAPE.test(content) ? `"${escapeBy(ESCAPES, content)}"` : `"${content}"`;
}

function escapeBy(escapes: ReadonlyMap<number, string>, content: string): string {
  const pieces: string[] = [];
  let run = 0;
  for (let i = 0; i < content.length; i++) {
    const escaped = escapes.get(content.charCodeAt(i));
    if (escaped === undefined) continue;
    pieces.push(content.slice(run, i), escaped);
    run = i + 1;
  }
  pieces.push(content.slice(run));
  return pieces.join('');
}
