/**
 * The open connections of one server, in order of their last request, and the requests on them that have not
 * got their answer. At the bound the connection that has been idle longest is closed, not the newcomer
 * refused: ten thousand idle connections then cost their owner the connections and nobody else anything. A
 * request whose body is still coming, or whose answer is not being read, does not make a connection busy.
 */
import type { Server, Socket } from 'node:net';
import type { TLSSocket } from 'node:tls';
import {
  bindConnection,
  Connection,
  connectionOf,
  type HttpRequest,
  type HttpResponse,
} from './connection.ts';
import { Pacer } from './pacer.ts';

export interface ConnectionsOptions {
  readonly maxConnections: number;
  /**
   * HTTP/1.1: with so many requests in flight a connection is read no further, until half of them are answered. What
   * has been read by then is still taken.
   */
  readonly pipelining: number;
  /** How long a client may leave an answer unread. */
  readonly writeTimeoutMs: number;
  /** Called for each connection that had to go. */
  readonly onEvicted: () => void;
}

/** HTTP/2 streams of one connection. */
export const MAX_STREAMS = 128;
/**
 * Times `pipelining`: in flight beyond that, the next request is refused and the connection
 * closed. One read of 64 KiB may hold 160 of the smallest signed requests on top of `pipelining`.
 */
const REFUSE_AT = 4;
/** With so many in flight on all connections together, each connection may have only so many. */
const CROWDED: readonly (readonly [all: number, each: number])[] = [
  [32_768, 1],
  [16_384, 8],
];
/** Answers, and their bytes, that may stand unread in all; beyond, the oldest cost their client the connection. */
const MAX_UNREAD = 8192;
const MAX_UNREAD_BYTES = 1 << 26;
/** What a request costs besides its body: head, objects, answer (measured with heads of 200 bytes). */
const REQUEST_US = 30;
const SWEEP_MS = 1000;

/** A request from its head until its answer has left, or its connection has gone. */
class Exchange {
  readonly connection: Connection;
  readonly request: HttpRequest;
  readonly response: HttpResponse;
  /** Since when its answer has been seen unread; 0 while there is none. */
  unreadSince = 0;

  constructor(connection: Connection, request: HttpRequest, response: HttpResponse) {
    this.connection = connection;
    this.request = request;
    this.response = response;
  }
}

const EXCHANGE = Symbol('exchange');
type Answering = HttpResponse & { [EXCHANGE]?: Exchange };

export class Connections {
  readonly #options: ConnectionsOptions;
  /** A set keeps insertion order: a request moves its connection to the end. */
  readonly #open = new Set<Connection>();
  /** Connections whose TLS handshake is not done, by the far end's address: Node does not name the TCP socket below. */
  readonly #handshaking = new Map<string, Connection>();
  /** In order of arrival. */
  readonly #exchanges = new Set<Exchange>();
  readonly #pacer: Pacer;
  readonly #sweeper: NodeJS.Timeout;
  readonly #onAnswered: (this: Answering) => void;
  #ending = false;

  constructor(server: Server, tls: boolean, options: ConnectionsOptions) {
    this.#options = options;
    this.#pacer = new Pacer(this.#open);
    this.#sweeper = setInterval(() => this.#sweep(), SWEEP_MS).unref();
    const answered = (exchange: Exchange) => this.#end(exchange);
    this.#onAnswered = function onAnswered() {
      const exchange = this[EXCHANGE];
      if (exchange !== undefined) answered(exchange);
    };
    server.once('close', () => {
      clearInterval(this.#sweeper);
      this.#pacer.close();
    });
    server.on('connection', (socket: Socket) => this.#add(socket, tls));
    if (tls) server.on('secureConnection', (socket: TLSSocket) => this.#secured(socket));
  }

  get size(): number {
    return this.#open.size;
  }

  /** Requests whose answer has not left. */
  get inFlight(): number {
    return this.#exchanges.size;
  }

  /**
   * A request came in. Sets `closing` on its connection when that has too many in flight: then this one is to be
   * refused, and the answer is its last.
   *
   * @returns false when nobody is to look at it.
   */
  begin(request: HttpRequest, response: HttpResponse): boolean {
    const connection = connectionOf(request.socket);
    if (connection === undefined) {
      request.socket.destroy();
      return false;
    }
    if (connection.closing) {
      abandon(request, response);
      return false;
    }
    const exchange = new Exchange(connection, request, response);
    (response as Answering)[EXCHANGE] = exchange;
    response.on('close', this.#onAnswered);
    this.#exchanges.add(exchange);
    connection.inFlight += 1;
    if (this.#open.delete(connection)) this.#open.add(connection);
    connection.charge(REQUEST_US);
    if (connection.inFlight > this.#limit()) {
      connection.closing = true;
      if ('shouldKeepAlive' in response) response.shouldKeepAlive = false;
    }
    if (connection.closing || connection.inFlight >= this.#options.pipelining) this.#hold(connection);
    return true;
  }

  /**
   * Ends each connection as soon as its requests are answered; answers on their way still arrive. HTTP/2
   * connections are left to their sessions, which end in the same way.
   */
  endAll(): void {
    this.#ending = true;
    for (const connection of this.#open) endIfIdle(connection);
  }

  /** Closes all that are still open, whatever is on its way. */
  destroyAll(): void {
    for (const connection of this.#open) connection.socket.destroy();
  }

  /** HTTP/2 is not held: it bounds its streams itself, and must hear that a client takes its answers. */
  #hold(connection: Connection): void {
    if (!connection.http2) this.#pacer.hold(connection);
  }

  #limit(): number {
    for (const [all, each] of CROWDED) if (this.#exchanges.size > all) return each;
    return REFUSE_AT * this.#options.pipelining;
  }

  #end(exchange: Exchange): void {
    if (!this.#exchanges.delete(exchange)) return;
    const { connection, request } = exchange;
    connection.inFlight -= 1;
    if (exchange.unreadSince !== 0) connection.unread -= 1;
    // Nobody reads what is still to come of a request that has its answer.
    if (!request.complete && !connection.http2 && hasLongBody(request)) connection.socket.destroySoon();
    const enough = connection.inFlight <= this.#options.pipelining / 2;
    if (connection.full && enough && !connection.closing) this.#pacer.release(connection);
    if (this.#ending) endIfIdle(connection);
  }

  /** Answers that do not leave because their client does not read have their time, and a bound in all. */
  #sweep(): void {
    const now = Date.now();
    let unread = 0;
    let bytes = 0;
    for (const exchange of this.#exchanges) {
      const { connection, response } = exchange;
      if (connection.closed) {
        this.#exchanges.delete(exchange);
      } else if (response.writableEnded) {
        if (exchange.unreadSince === 0) {
          exchange.unreadSince = now;
          connection.unread += 1;
        }
        unread += 1;
        bytes += unsentBytes(response);
        if (now - exchange.unreadSince >= this.#options.writeTimeoutMs) connection.socket.destroy();
      }
    }
    if (unread > MAX_UNREAD || bytes > MAX_UNREAD_BYTES) this.#cutUnread(unread, bytes);
  }

  #cutUnread(unread: number, bytes: number): void {
    let answers = unread;
    let unsent = bytes;
    for (const { connection, response, unreadSince } of this.#exchanges) {
      if (answers <= MAX_UNREAD && unsent <= MAX_UNREAD_BYTES) return;
      if (unreadSince === 0) continue;
      answers -= 1;
      unsent -= unsentBytes(response);
      if (!connection.socket.destroyed) {
        this.#options.onEvicted();
        connection.socket.destroy();
      }
    }
  }

  #add(socket: Socket, tls: boolean): void {
    const connection = new Connection(socket, this.#pacer);
    if (tls) this.#handshaking.set(farEnd(socket), connection);
    else bindConnection(socket, connection);
    this.#open.add(connection);
    const key = farEnd(socket);
    socket.once('close', () => {
      this.#remove(connection);
      if (this.#handshaking.get(key) === connection) this.#handshaking.delete(key);
    });
    if (this.#open.size > this.#options.maxConnections) this.#evict(connection);
  }

  #secured(socket: TLSSocket): void {
    const key = farEnd(socket);
    const connection = this.#handshaking.get(key);
    this.#handshaking.delete(key);
    if (connection === undefined) return;
    bindConnection(socket, connection);
    connection.socket = socket;
    // The TCP socket below does not always tell when the TLS socket on it has ended.
    socket.once('close', () => this.#remove(connection));
  }

  #remove(connection: Connection): void {
    connection.closed = true;
    this.#open.delete(connection);
  }

  #evict(newcomer: Connection): void {
    this.#options.onEvicted();
    for (const candidate of this.#open) {
      if (candidate === newcomer || candidate.working > 0) continue;
      candidate.socket.destroy();
      return;
    }
    // Every connection has an order under way: those come first.
    newcomer.socket.destroy();
  }
}

/** A request that is not answered: its connection closes after the answers due. */
function abandon(request: HttpRequest, response: HttpResponse): void {
  // REFUSED_STREAM (RFC 9113 section 8.7): sending it again elsewhere is safe.
  if ('stream' in response) response.stream.close(7);
  else request.resume();
}

/** No longer than this, the rest of a body is dropped as it comes: closing might cost its sender the answer. */
const SHORT_BODY_BYTES = 65_536;

function hasLongBody({ headers }: HttpRequest): boolean {
  return (
    headers['transfer-encoding'] !== undefined || Number(headers['content-length'] ?? 0) > SHORT_BODY_BYTES
  );
}

function unsentBytes(response: HttpResponse): number {
  return 'stream' in response ? response.stream.writableLength : response.writableLength;
}

function endIfIdle({ socket, inFlight, http2 }: Connection): void {
  if (inFlight === 0 && !http2) socket.end();
}

function farEnd(socket: Socket): string {
  return `${socket.remoteAddress}|${socket.remotePort}`;
}
