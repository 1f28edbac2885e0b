/**
 * Reads the head of an HTTP/1.1 POST request as nearly all clients send it. What is in any way unusual is not judged
 * here but left to Node's parser: a head is taken only if every byte of it is one that is allowed where it stands, and
 * if nothing in it but one Content-Length says where the request ends. Such a head has one meaning, which Node's
 * parser, and any proxy in front, must read from it too: nothing can be smuggled past one of them (RFC 9112 section
 * 11.2). plain-head.test.ts holds the two against each other.
 */

/** More of the head is to come. */
export const INCOMPLETE = 0;
/** It is not for this parser. */
const ODD = -1;

const TAB = 9;
const LF = 10;
const CR = 13;
const SPACE = 32;
const COLON = 58;
const ZERO = 48;
const NINE = 57;
/** What turns an upper-case letter into its lower-case one, and leaves those of lower case and `-` as they are. */
const LOWER = 0x20;
/** Of a Content-Length. */
const MOST_DIGITS = 10;

const START = Buffer.from('POST /');
const VERSION = Buffer.from(' HTTP/1.1\r\n');
const KEEP_ALIVE = Buffer.from('keep-alive');

/** What a byte may stand for; sums. */
const NAME = 1;
const VALUE = 2;
const TARGET = 4;
const HOST = 8;
const KINDS = kindsOfBytes();

/** Fields that frame the message, or ask for something else than an answer: an odd head. */
const UNWANTED = ['transfer-encoding', 'expect', 'upgrade', 'proxy-connection', 'te', 'trailer'];
const HOST_NAME = 'host';
const CONNECTION = 'connection';
const CONTENT_LENGTH = 'content-length';
const CONTENT_TYPE = 'content-type';
const CONTENT_ENCODING = 'content-encoding';
const SIGNATURE = 'x-flashbots-signature';
const SIGNATURE_V2 = 'x-buildernet-signature';
/** By length, which tells nearly all fields from those that matter without a comparison. */
const KNOWN: readonly (readonly (readonly [name: string, bytes: Buffer])[])[] = byLength([
  ...UNWANTED,
  HOST_NAME,
  CONNECTION,
  CONTENT_LENGTH,
  CONTENT_TYPE,
  CONTENT_ENCODING,
  SIGNATURE,
  SIGNATURE_V2,
]);

/** The fields of the head read last; one for all connections, for a head is used at once. */
export class PlainHead {
  /** Of the body. */
  length = -1;
  contentType: string | undefined = undefined;
  encoding: string | undefined = undefined;
  /** v2's header wins when both are there (protocol section 3). */
  signature: string | undefined = undefined;
  #signatureV2: string | undefined = undefined;
  #host = false;
  #connection = false;

  /** @returns the index behind the head that begins at `start`; `INCOMPLETE`, or less when it is not for this parser */
  read(bytes: Buffer, start: number, end: number): number {
    let at = afterRequestLine(bytes, start, end);
    if (at <= 0) return at;
    this.#clear();
    for (;;) {
      if (at + 1 >= end) return INCOMPLETE;
      if (bytes[at] === CR) {
        if (bytes[at + 1] !== LF || !this.#host || this.length === -1) return ODD;
        this.signature = this.#signatureV2 ?? this.signature;
        return at + 2;
      }
      at = this.#readField(bytes, at, end);
      if (at <= 0) return at;
    }
  }

  #clear(): void {
    this.length = -1;
    this.contentType = undefined;
    this.encoding = undefined;
    this.signature = undefined;
    this.#signatureV2 = undefined;
    this.#host = false;
    this.#connection = false;
  }

  /** @returns as `read` does, for a line */
  #readField(bytes: Buffer, start: number, end: number): number {
    let colon = start;
    while (colon < end && ((KINDS[bytes[colon] as number] as number) & NAME) !== 0) colon += 1;
    if (colon === end) return INCOMPLETE;
    if (bytes[colon] !== COLON || colon === start) return ODD;
    let last = colon + 1;
    while (last < end && ((KINDS[bytes[last] as number] as number) & VALUE) !== 0) last += 1;
    if (last + 1 >= end) return last === end || bytes[last] === CR ? INCOMPLETE : ODD;
    if (bytes[last] !== CR || bytes[last + 1] !== LF) return ODD;
    const name = knownName(bytes, start, colon);
    if (name !== null && !this.#keep(name, bytes, colon + 1, last)) return ODD;
    return last + 2;
  }

  /** @returns whether the field is one that may be there, once. */
  #keep(name: string, bytes: Buffer, from: number, to: number): boolean {
    let start = from;
    let end = to;
    while (start < end && isBlank(bytes[start])) start += 1;
    while (end > start && isBlank(bytes[end - 1])) end -= 1;
    switch (name) {
      case HOST_NAME: {
        const first = !this.#host;
        this.#host = true;
        return first && areAll(HOST, bytes, start, end);
      }
      case CONNECTION: {
        const first = !this.#connection;
        this.#connection = true;
        return first && isLowerCased(KEEP_ALIVE, bytes, start, end);
      }
      case CONTENT_LENGTH: {
        // No blanks behind it, though they are allowed.
        const first = this.length === -1 && end === to;
        this.length = first ? numberIn(bytes, start, end) : -1;
        return this.length !== -1;
      }
      case CONTENT_TYPE: {
        const first = this.contentType === undefined;
        this.contentType = bytes.toString('latin1', start, end);
        return first;
      }
      case CONTENT_ENCODING: {
        const first = this.encoding === undefined;
        this.encoding = bytes.toString('latin1', start, end);
        return first;
      }
      case SIGNATURE: {
        const first = this.signature === undefined;
        this.signature = bytes.toString('latin1', start, end);
        return first;
      }
      case SIGNATURE_V2: {
        const first = this.#signatureV2 === undefined;
        this.#signatureV2 = bytes.toString('latin1', start, end);
        return first;
      }
      default:
        return false;
    }
  }
}

/** `POST`, a path of plain characters, HTTP/1.1. */
function afterRequestLine(bytes: Buffer, start: number, end: number): number {
  let at = start;
  for (const byte of START) {
    if (at === end) return INCOMPLETE;
    if (bytes[at] !== byte) return ODD;
    at += 1;
  }
  while (at < end && ((KINDS[bytes[at] as number] as number) & TARGET) !== 0) at += 1;
  for (const byte of VERSION) {
    if (at === end) return INCOMPLETE;
    if (bytes[at] !== byte) return ODD;
    at += 1;
  }
  return at;
}

/** @returns the name of a field that matters, null for all others. */
function knownName(bytes: Buffer, start: number, end: number): string | null {
  const candidates = KNOWN[end - start];
  if (candidates === undefined) return null;
  for (const [name, lower] of candidates) if (isLowerCased(lower, bytes, start, end)) return name;
  return null;
}

/** @param lower letters and `-`, which no other byte becomes that can stand in a name or in a value */
function isLowerCased(lower: Buffer, bytes: Buffer, start: number, end: number): boolean {
  if (end - start !== lower.length) return false;
  for (let i = 0; i < lower.length; i += 1) {
    if (((bytes[start + i] as number) | LOWER) !== lower[i]) return false;
  }
  return true;
}

/** @returns the number, or -1 when there is anything but digits, or a zero before others. */
function numberIn(bytes: Buffer, start: number, end: number): number {
  const digits = end - start;
  if (digits === 0 || digits > MOST_DIGITS || (digits > 1 && bytes[start] === ZERO)) return -1;
  let number = 0;
  for (let at = start; at < end; at += 1) {
    const byte = bytes[at] as number;
    if (byte < ZERO || byte > NINE) return -1;
    number = number * 10 + byte - ZERO;
  }
  return number;
}

/** @returns whether there is one at least, and all are of the kind. */
function areAll(kind: number, bytes: Buffer, start: number, end: number): boolean {
  for (let at = start; at < end; at += 1) {
    if (((KINDS[bytes[at] as number] as number) & kind) === 0) return false;
  }
  return end > start;
}

function isBlank(byte: number | undefined): boolean {
  return byte === SPACE || byte === TAB;
}

/** Names: RFC 9110 section 5.6.2. Values: what is visible in ASCII, and blanks. */
function kindsOfBytes(): Uint8Array {
  const patterns: readonly (readonly [kind: number, pattern: RegExp])[] = [
    [NAME, /[!#$%&'*+\-.^_`|~0-9A-Za-z]/],
    [VALUE, /[\t -~]/],
    [TARGET, /[-A-Za-z0-9._~/?&=%+,:;@!$*]/],
    [HOST, /[A-Za-z0-9.:_-]/],
  ];
  return Uint8Array.from({ length: 256 }, (_, byte) =>
    patterns.reduce((sum, [kind, pattern]) => sum + (pattern.test(String.fromCharCode(byte)) ? kind : 0), 0),
  );
}

function byLength(names: readonly string[]): (readonly [string, Buffer])[][] {
  const longest = Math.max(...names.map(({ length }) => length));
  return Array.from({ length: longest + 1 }, (_, length) =>
    names.filter((name) => name.length === length).map((name) => [name, Buffer.from(name)] as const),
  );
}
