/**
 * One open connection as the ingress sees it: its sockets, what it has asked for and not yet got, and whether it
 * is being read. Found from any request by its socket.
 */
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Http2ServerRequest, Http2ServerResponse } from 'node:http2';
import type { Socket } from 'node:net';
import type { Pacer } from './pacer.ts';

export type HttpRequest = IncomingMessage | Http2ServerRequest;
export type HttpResponse = ServerResponse | Http2ServerResponse;

export class Connection {
  /** The TCP socket. */
  readonly transport: Socket;
  /** The same, and from the handshake on the TLS socket. */
  socket: Socket;
  readonly #pacer: Pacer;
  /** Requests from their head until their answer has left. */
  inFlight = 0;
  /** Of these, requests whose body is being read. */
  reading = 0;
  /** Of these, requests whose answer the client leaves unread. */
  unread = 0;
  /** It asked for too much: what it asks for now is not answered, and it is closed after the answers due. */
  closing = false;
  closed = false;

  // The pacer's.
  turn = 0;
  spent = 0;
  /** Waits for its turn to be read. */
  queued = false;
  /** Is not read until it has fewer requests in flight. */
  full = false;
  bytesSeen = 0;

  constructor(transport: Socket, pacer: Pacer) {
    this.transport = transport;
    this.socket = transport;
    this.#pacer = pacer;
  }

  /** Requests of whole orders that have no answer yet. */
  get working(): number {
    return this.inFlight - this.reading - this.unread;
  }

  get http2(): boolean {
    return 'alpnProtocol' in this.socket && this.socket.alpnProtocol === 'h2';
  }

  /** It has caused so much work (µs, roughly) in this turn of the event loop. */
  charge(us: number): void {
    this.#pacer.charge(this, us);
  }
}

const CONNECTION = Symbol('connection');
type Marked = Socket & { [CONNECTION]?: Connection };

export function bindConnection(socket: Socket, connection: Connection): void {
  (socket as Marked)[CONNECTION] = connection;
}

/** @param socket of a request; HTTP/2 gives a stand-in for the connection's, which hands this on. */
export function connectionOf(socket: Socket): Connection | undefined {
  return (socket as Marked)[CONNECTION];
}
