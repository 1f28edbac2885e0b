/**
 * The least HTTP/1.1 that a bench needs: takes a byte stream apart into messages (requests or responses), with
 * content-length or chunked bodies, pipelined and split anywhere. It trusts both ends and checks little, so that
 * the generator and the sinks cost a few microseconds per order beside the node under test.
 */

const HEAD_END = Buffer.from('\r\n\r\n');
const LENGTH = /\r\ncontent-length: *(\d+)/i;
const CHUNKED = /\r\ntransfer-encoding: *chunked/i;
const LENGTH_NAME = '\r\ncontent-length: ';
const EMPTY = Buffer.alloc(0);
/** As much of a head as says what the message is: `HTTP/1.1 200`, `POST / HTTP/`. */
const START_BYTES = 12;
const ZERO = 0x30;
const NINE = 0x39;

/**
 * @param start the first twelve characters
 * @param body valid only during the call: it is a view of the socket's buffer
 */
export type OnMessage = (start: string, body: Buffer) => void;

/** Feeds on a socket's chunks and calls back once per whole message. */
export class MessageReader {
  readonly #onMessage: OnMessage;
  /** What has come of a message that is not whole. */
  #pending: Buffer = EMPTY;
  #pendingBytes = 0;
  /** Length of that message; 0 while it is not known. */
  #needed = 0;

  constructor(onMessage: OnMessage) {
    this.#onMessage = onMessage;
  }

  push(chunk: Buffer): void {
    if (this.#pendingBytes === 0) {
      this.#read(chunk, 0);
    } else if (this.#needed > 0) {
      const taken = chunk.copy(this.#pending, this.#pendingBytes, 0, this.#needed - this.#pendingBytes);
      this.#pendingBytes += taken;
      if (this.#pendingBytes < this.#needed) return;
      this.#pendingBytes = 0;
      this.#read(this.#pending.subarray(0, this.#needed), 0);
      this.#read(chunk, taken);
    } else {
      const whole = Buffer.concat([this.#pending.subarray(0, this.#pendingBytes), chunk]);
      this.#pendingBytes = 0;
      this.#read(whole, 0);
    }
  }

  #read(buffer: Buffer, from: number): void {
    let at = from;
    while (at < buffer.length) {
      this.#needed = 0;
      const end = this.#readOne(buffer, at);
      if (end === 0) {
        this.#keep(buffer, at);
        return;
      }
      at = end;
    }
  }

  /** Copies; where the length is known into room for the whole message, so that it is copied once. */
  #keep(buffer: Buffer, at: number): void {
    const room = Math.max(this.#needed, buffer.length - at);
    if (this.#pending.length < room) this.#pending = Buffer.allocUnsafeSlow(room);
    this.#pendingBytes = buffer.copy(this.#pending, 0, at);
  }

  /** @returns where the message that begins at `at` ends, or 0 when it is not whole yet. */
  #readOne(buffer: Buffer, at: number): number {
    const headEnd = buffer.indexOf(HEAD_END, at);
    if (headEnd < 0) return 0;
    const bodyAt = headEnd + HEAD_END.length;
    let length = lengthAtEnd(buffer, at, headEnd);
    if (length < 0) {
      const head = buffer.toString('latin1', at, headEnd);
      if (CHUNKED.test(head)) return this.#readChunked(buffer, at, bodyAt);
      length = Number(LENGTH.exec(head)?.[1] ?? 0);
    }
    const end = bodyAt + length;
    if (buffer.length < end) {
      this.#needed = end - at;
      return 0;
    }
    this.#onMessage(buffer.toString('latin1', at, at + START_BYTES), buffer.subarray(bodyAt, end));
    return end;
  }

  #readChunked(buffer: Buffer, start: number, bodyAt: number): number {
    const parts: Buffer[] = [];
    let at = bodyAt;
    for (;;) {
      const lineEnd = buffer.indexOf('\r\n', at);
      if (lineEnd < 0) return 0;
      const size = Number.parseInt(buffer.toString('latin1', at, lineEnd), 16);
      const next = lineEnd + 2 + size + 2;
      if (buffer.length < next) return 0;
      if (size === 0) {
        this.#onMessage(buffer.toString('latin1', start, start + START_BYTES), Buffer.concat(parts));
        return next;
      }
      parts.push(buffer.subarray(lineEnd + 2, lineEnd + 2 + size));
      at = next;
    }
  }
}

/** The content length where that is the last line of the head, as nodes of this network write it; -1 where it is not. */
function lengthAtEnd(buffer: Buffer, at: number, headEnd: number): number {
  let digits = headEnd;
  while (digits > at && isDigit(buffer[digits - 1])) digits--;
  const nameAt = digits - LENGTH_NAME.length;
  if (digits === headEnd || nameAt < at) return -1;
  if (buffer.toString('latin1', nameAt, digits).toLowerCase() !== LENGTH_NAME) return -1;
  let length = 0;
  for (let i = digits; i < headEnd; i++) length = length * 10 + (buffer[i] ?? 0) - ZERO;
  return length;
}

function isDigit(byte: number | undefined): boolean {
  return byte !== undefined && byte >= ZERO && byte <= NINE;
}
