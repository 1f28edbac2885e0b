/**
 * A kept-alive connection of the load generator: HTTP/1.1 over a plain or TLS socket with our own few lines of
 * parsing (wire.ts), or HTTP/2 through Node's client. Opened again when the server closes it; what was under way on
 * it is settled as lost.
 */
import { type ClientHttp2Session, connect as connectHttp2, constants } from 'node:http2';
import { connect, type Socket } from 'node:net';
import { connect as connectTls } from 'node:tls';
import { Fifo } from '../egress/fifo.ts';
import { MessageReader } from './wire.ts';

export interface LoadTarget {
  readonly host: string;
  readonly port: number;
  /** PEM certificate to trust; HTTPS when set. */
  readonly certificate?: string;
  /** Needs a certificate. Default http/1.1. */
  readonly protocol?: 'http/1.1' | 'h2';
}

/** One order as it is sent: the whole HTTP/1.1 message, and what HTTP/2 needs of it. */
export interface PreparedOrder {
  readonly message: Buffer;
  /** A view into the message. */
  readonly body: Buffer;
  readonly signature: string;
}

/** @param refusal null for success, else why not */
export type OnSettled = (connection: LoadConnection, index: number, refusal: string | null) => void;

export interface LoadConnection {
  /** Resolves when the first connection stands; rejects when it cannot be made. */
  readonly ready: Promise<void>;
  /** `index` comes back with the answer; the caller keeps to its own limit of orders under way. */
  send(index: number, order: PreparedOrder, onSettled: OnSettled): void;
  close(): void;
}

/** What a refusal of an order that was under way on a connection that ended says. */
const CONNECTION_LOST = 'connection lost';

const RESULT = Buffer.from('"result"');
const ID = /"id":[^,}]*,/;
const REOPEN_DELAY_MS = 50;
const REFUSAL_BYTES = 200;

/** Opens one; it connects at once. */
export function openConnection(target: LoadTarget): LoadConnection {
  return target.protocol === 'h2' ? new Http2Connection(target) : new Http1Connection(target);
}

/** One prepared message for a signed JSON-RPC body. */
export function prepareOrder(host: string, body: Buffer, signature: string): PreparedOrder {
  const head = `POST / HTTP/1.1\r\nhost: ${host}\r\ncontent-type: application/json\r\nx-flashbots-signature: ${signature}\r\ncontent-length: ${body.length}\r\n\r\n`;
  const message = Buffer.concat([Buffer.from(head, 'latin1'), body]);
  return { message, body: message.subarray(message.length - body.length), signature };
}

/** Without the request's id, so that refusals for the same reason have the same text. */
function refusalOf(status: string, body: Buffer): string | null {
  if (status === '200' && body.includes(RESULT)) return null;
  return `${status} ${body.toString('utf8', 0, REFUSAL_BYTES).replace(ID, '')}`;
}

class Http1Connection implements LoadConnection {
  readonly #target: LoadTarget;
  readonly #opened = Promise.withResolvers<void>();
  /** Orders whose answers are due, in the order they were sent (pipelining). */
  readonly #underWay = new Fifo<{ readonly index: number; readonly onSettled: OnSettled }>();
  #socket: Socket;
  #closed = false;

  constructor(target: LoadTarget) {
    this.#target = target;
    this.#socket = this.#open();
  }

  get ready(): Promise<void> {
    return this.#opened.promise;
  }

  send(index: number, { message }: PreparedOrder, onSettled: OnSettled): void {
    this.#underWay.push({ index, onSettled });
    this.#socket.write(message);
  }

  close(): void {
    this.#closed = true;
    this.#socket.destroy();
  }

  #open(): Socket {
    const { host, port, certificate } = this.#target;
    const socket =
      certificate === undefined
        ? connect({ host, port, noDelay: true }, () => this.#stands())
        : connectTls({ host, port, ca: certificate }, () => this.#stands()).setNoDelay(true);
    const reader = new MessageReader((start, body) => this.#settle(refusalOf(start.slice(9), body)));
    socket.on('data', (chunk: Buffer) => reader.push(chunk));
    socket.on('error', (error) => this.#opened.reject(error));
    socket.on('close', () => {
      if (!this.#closed) setTimeout(() => this.#reopen(), REOPEN_DELAY_MS);
    });
    return socket;
  }

  #reopen(): void {
    if (!this.#closed) this.#socket = this.#open();
  }

  #stands(): void {
    this.#opened.resolve();
    // Under way on the connection before this one: their answers will not come. Those that are sent while these are
    // settled are on this one.
    for (let lost = this.#underWay.length; lost > 0; lost--) this.#settle(CONNECTION_LOST);
  }

  #settle(refusal: string | null): void {
    const order = this.#underWay.shift();
    order?.onSettled(this, order.index, refusal);
  }
}

class Http2Connection implements LoadConnection {
  readonly #target: LoadTarget;
  readonly #opened = Promise.withResolvers<void>();
  /** Settled when the next session stands. */
  #lost: (() => void)[] = [];
  #session: ClientHttp2Session;
  #closed = false;

  constructor(target: LoadTarget) {
    this.#target = target;
    this.#session = this.#open();
  }

  get ready(): Promise<void> {
    return this.#opened.promise;
  }

  send(index: number, { body, signature }: PreparedOrder, onSettled: OnSettled): void {
    const chunks: Buffer[] = [];
    let status = '';
    let ended = false;
    if (this.#session.closed || this.#session.destroyed) {
      this.#lost.push(() => onSettled(this, index, CONNECTION_LOST));
      return;
    }
    const stream = this.#session.request({
      [constants.HTTP2_HEADER_METHOD]: 'POST',
      [constants.HTTP2_HEADER_PATH]: '/',
      'content-type': 'application/json',
      'x-flashbots-signature': signature,
    });
    stream.on('response', (headers) => {
      status = String(headers[constants.HTTP2_HEADER_STATUS] ?? '');
    });
    stream.on('data', (chunk: Buffer) => chunks.push(chunk));
    stream.once('end', () => {
      ended = true;
    });
    // Errors of a stream end in 'close' too.
    stream.on('error', () => {});
    stream.once('close', () => {
      if (ended && status !== '') {
        onSettled(
          this,
          index,
          refusalOf(status, chunks.length === 1 ? (chunks[0] as Buffer) : Buffer.concat(chunks)),
        );
      } else if (this.#session.closed || this.#session.destroyed) {
        this.#lost.push(() => onSettled(this, index, CONNECTION_LOST));
      } else {
        onSettled(this, index, 'stream reset');
      }
    });
    stream.end(body);
  }

  close(): void {
    this.#closed = true;
    this.#session.destroy();
  }

  #open(): ClientHttp2Session {
    const { host, port, certificate } = this.#target;
    if (certificate === undefined) throw new Error('HTTP/2 needs a certificate');
    const session = connectHttp2(`https://${host}:${port}`, { ca: certificate });
    session.once('connect', () => this.#stands());
    session.on('error', (error) => this.#opened.reject(error));
    session.once('close', () => {
      if (!this.#closed) setTimeout(() => this.#reopen(), REOPEN_DELAY_MS);
    });
    return session;
  }

  #reopen(): void {
    if (!this.#closed) this.#session = this.#open();
  }

  #stands(): void {
    this.#opened.resolve();
    const lost = this.#lost;
    this.#lost = [];
    for (const settle of lost) settle();
  }
}
