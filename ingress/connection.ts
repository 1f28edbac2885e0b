/**
 * One open connection as the ingress sees it, with what it has asked for and not yet got. Found from any request by
 * its socket, as an exchange is by its response.
 */
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Http2ServerRequest, Http2ServerResponse } from 'node:http2';
import type { Socket } from 'node:net';
import { Listed } from '../pipeline/ordered-list.ts';

export type HttpRequest = IncomingMessage | Http2ServerRequest;
export type HttpResponse = ServerResponse | Http2ServerResponse;

/** Reads a connection in place of Node's HTTP server: plain-connection.ts. */
export interface OwnReader {
  /** It may read again, first what it has read and not looked at. */
  resume(): void;
  /** Nothing is in flight and the node stops: end it. */
  end(): void;
}

/** No longer than this, the rest of a body is dropped as it comes: closing might cost its sender the answer. */
const SHORT_BODY_BYTES = 65_536;

/** @returns whether what is still to come of a body that nobody wants is too much to be dropped as it comes */
export function hasLongBody({ headers }: HttpRequest): boolean {
  return (
    headers['transfer-encoding'] !== undefined || Number(headers['content-length'] ?? 0) > SHORT_BODY_BYTES
  );
}

/** Keeps account of the work that connections cause: pacer.ts. */
export interface Account {
  charge(connection: Connection, us: number): void;
}

export class Connection extends Listed {
  /** The TCP socket. */
  readonly transport: Socket;
  /** The same, and from the handshake on the TLS socket. */
  socket: Socket;
  readonly #account: Account;
  /** Requests from their head until their answer has left. */
  inFlight = 0;
  /** Of these, requests that can be no orders. */
  asides = 0;
  /** Of these, requests that can be orders whose answer has been written. */
  written = 0;
  /** Of these, requests whose body is being read. */
  reading = 0;
  /** Of these, requests whose answer the client leaves unread. */
  unread = 0;
  /** Of these, requests that nobody has begun to work on. */
  parked: NodeExchange[] = [];
  /** It asked for too much: nothing more is taken from it, and it is closed after the answers due. */
  closing = false;
  closed = false;
  /** Null when Node's HTTP server reads it. */
  reader: OwnReader | null = null;

  // What the pacer knows of it.
  /** The turn in which it last caused work, and how much then, in µs. */
  turn = 0;
  spent = 0;
  /** It waits for its turn to be read. */
  queued = false;
  /** It is not read until it has fewer requests in flight. */
  full = false;
  /** `bytesRead` of the transport when it was last looked at. */
  bytesSeen = 0;

  constructor(transport: Socket, account: Account) {
    super();
    this.transport = transport;
    this.socket = transport;
    this.#account = account;
  }

  /** Requests that are being worked on: a client that waits for nothing but the node. */
  get working(): number {
    return this.inFlight - this.reading - this.unread;
  }

  /**
   * Requests that can be orders and whose answer the client cannot have. Not `inFlight`: Node tells of what it wrote over TLS
   * a turn of the event loop later, when the client's next request may have come.
   */
  get unanswered(): number {
    return this.inFlight - this.asides - this.written;
  }

  get http2(): boolean {
    return 'alpnProtocol' in this.socket && this.socket.alpnProtocol === 'h2';
  }

  /** It has caused so much work in this turn of the event loop, in µs. */
  charge(us: number): void {
    this.#account.charge(this, us);
  }
}

/** A request, from its head until its answer has left or its connection has gone. */
export abstract class Exchange extends Listed {
  readonly connection: Connection;
  /** It can be no order. */
  readonly aside: boolean;
  /** Unix ms at which its answer was first seen to stand unread; 0 before. */
  unreadSince = 0;
  #written = false;

  constructor(connection: Connection, aside: boolean) {
    super();
    this.connection = connection;
    this.aside = aside;
  }

  /** Its answer has been written, whether it has left or not. */
  wrote(): void {
    if (this.aside || this.#written) return;
    this.#written = true;
    this.connection.written += 1;
  }

  ended(): void {
    if (this.#written) this.connection.written -= 1;
  }

  /** Its answer has been given, whether it has left or not. */
  abstract get answered(): boolean;

  /** Of its answer. */
  abstract get unsentBytes(): number;
}

/** One that Node's servers read. */
export class NodeExchange extends Exchange {
  readonly request: HttpRequest;
  readonly response: HttpResponse;

  constructor(connection: Connection, request: HttpRequest, response: HttpResponse) {
    super(connection, request.method !== 'POST');
    this.request = request;
    this.response = response;
    (response as MarkedResponse)[EXCHANGE] = this;
  }

  get answered(): boolean {
    return this.response.writableEnded;
  }

  get unsentBytes(): number {
    const { response } = this;
    return 'stream' in response ? response.stream.writableLength : response.writableLength;
  }
}

const CONNECTION = Symbol('connection');
const EXCHANGE = Symbol('exchange');
type MarkedSocket = Socket & { [CONNECTION]?: Connection };
type MarkedResponse = HttpResponse & { [EXCHANGE]?: NodeExchange };

export function bindConnection(socket: Socket, connection: Connection): void {
  (socket as MarkedSocket)[CONNECTION] = connection;
}

/** @param socket of a request; HTTP/2 gives a stand-in for the connection's, which hands this on. */
export function connectionOf(socket: Socket): Connection | undefined {
  return (socket as MarkedSocket)[CONNECTION];
}

export function exchangeOf(response: HttpResponse): NodeExchange | undefined {
  return (response as MarkedResponse)[EXCHANGE];
}
