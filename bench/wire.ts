/**
 * The least HTTP/1.1 that a bench needs: takes a byte stream apart into messages (requests or responses), with
 * content-length or chunked bodies, pipelined and split anywhere. It trusts both ends and checks little, so that
 * the generator and the sinks cost a few microseconds per order beside the node under test.
 */

const HEAD_END = Buffer.from('\r\n\r\n');
const LENGTH = /\r\ncontent-length: *(\d+)/i;
const CHUNKED = /\r\ntransfer-encoding: *chunked/i;
const EMPTY = Buffer.alloc(0);

/**
 * @param head status or request line and headers, without the empty line
 * @param body valid only during the call: it is a view of the socket's buffer
 */
export type OnMessage = (head: string, body: Buffer) => void;

/** Feeds on a socket's chunks and calls back once per whole message. */
export class MessageReader {
  readonly #onMessage: OnMessage;
  #pending: Buffer = EMPTY;
  /** How many bytes are needed before it is worth looking again. */
  #needed = 0;

  constructor(onMessage: OnMessage) {
    this.#onMessage = onMessage;
  }

  push(chunk: Buffer): void {
    let buffer = this.#pending.length === 0 ? chunk : Buffer.concat([this.#pending, chunk]);
    while (buffer.length > 0 && buffer.length >= this.#needed) {
      const end = this.#readOne(buffer);
      if (end === 0) break;
      buffer = buffer.subarray(end);
      this.#needed = 0;
    }
    this.#pending = buffer;
  }

  /** @returns where the first message ends, or 0 when it is not whole yet. */
  #readOne(buffer: Buffer): number {
    const headEnd = buffer.indexOf(HEAD_END);
    if (headEnd < 0) return 0;
    const head = buffer.toString('latin1', 0, headEnd);
    const start = headEnd + HEAD_END.length;
    if (CHUNKED.test(head)) return this.#readChunked(buffer, head, start);
    const end = start + Number(LENGTH.exec(head)?.[1] ?? 0);
    if (buffer.length < end) {
      this.#needed = end;
      return 0;
    }
    this.#onMessage(head, buffer.subarray(start, end));
    return end;
  }

  #readChunked(buffer: Buffer, head: string, start: number): number {
    const parts: Buffer[] = [];
    let at = start;
    for (;;) {
      const lineEnd = buffer.indexOf('\r\n', at);
      if (lineEnd < 0) return 0;
      const size = Number.parseInt(buffer.toString('latin1', at, lineEnd), 16);
      const next = lineEnd + 2 + size + 2;
      if (buffer.length < next) return 0;
      if (size === 0) {
        this.#onMessage(head, Buffer.concat(parts));
        return next;
      }
      parts.push(buffer.subarray(lineEnd + 2, lineEnd + 2 + size));
      at = next;
    }
  }
}
