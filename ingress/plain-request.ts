/**
 * A request that plain-connection.ts has read, from its head until its answer has left; without its body, which must not
 * be held for as long as a client leaves its answer unread. And what takes such requests.
 */
import { STATUS_CODES } from 'node:http';
import type { Rejection } from '../pipeline/errors.ts';
import type { BodyFailure, BodyReader } from './body-reader.ts';
import { type Connection, Exchange } from './connection.ts';
import type { RpcRequest } from './rpc-request.ts';

/** Where the requests go. */
export interface PlainEndpoint {
  readonly bodies: Pick<BodyReader, 'begin' | 'whole' | 'take' | 'complete' | 'finish'>;
  /**
   * Asked with each head: why the request is refused whatever its body says.
   *
   * @param bytes of the body
   * @returns null when the body is to be read
   */
  readonly refusal: (connection: Connection, bytes: number) => Rejection | null;
  /** Answers a request that `refusal` had a reason for, once its body has been skipped. */
  refuse(request: RpcRequest, reason: Rejection): void;
  /** Takes a request with its body, or with the reason for which it has none. */
  arrived(request: RpcRequest, body: Buffer | BodyFailure): void;
}

/** What its answer leaves through. */
interface AnswerWay {
  readonly connection: Connection;
  /** @param last the connection is not to be used any longer */
  answered(request: PlainRequest, last: boolean): void;
  destroy(): void;
}

export class PlainRequest extends Exchange implements RpcRequest {
  readonly signature: string | undefined;
  readonly contentType: string | undefined;
  readonly #way: AnswerWay;

  /** The one that came after it on its connection. */
  next: PlainRequest | null = null;
  /** Of its answer, without its end; empty until there is one. */
  head = '';
  text = '';
  /** The text has no characters beyond ASCII. */
  ascii = true;
  /** Its answer is the last of its connection. */
  last = false;

  constructor(way: AnswerWay, signature: string | undefined, contentType: string | undefined) {
    super(way.connection, false);
    this.#way = way;
    this.signature = signature;
    this.contentType = contentType;
  }

  get answered(): boolean {
    return this.head !== '';
  }

  get unsentBytes(): number {
    return this.head.length + this.text.length;
  }

  send(status: number, contentType: string, text: string, close: boolean): void {
    // The client may have gone while its order was worked on; the order stands all the same.
    if (this.connection.closed || this.answered) return;
    const bytes = Buffer.byteLength(text);
    const retryAfter = status === 429 || status === 503 ? 'Retry-After: 1\r\n' : '';
    this.head = `HTTP/1.1 ${status} ${STATUS_CODES[status]}\r\nContent-Type: ${contentType}\r\nContent-Length: ${bytes}\r\n${retryAfter}`;
    this.text = text;
    this.ascii = bytes === text.length;
    this.#way.answered(this, close);
  }

  abandon(): void {
    this.#way.destroy();
  }
}
