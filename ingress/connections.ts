/**
 * The open connections of one server, in order of their last request, and the requests on them that have not
 * got their answer. At the bound the connection that has been idle longest is closed, first among those that never
 * asked for anything, not the newcomer refused: ten thousand idle connections then cost their owner the connections
 * and nobody else anything. A request whose body is still coming, or whose answer is not being read, does not
 * make a connection busy.
 */
import type { Server, Socket } from 'node:net';
import type { TLSSocket } from 'node:tls';
import { OrderedList } from '../pipeline/ordered-list.ts';
import {
  bindConnection,
  Connection,
  connectionOf,
  type Exchange,
  exchangeOf,
  type HttpRequest,
  type HttpResponse,
  hasLongBody,
  NodeExchange,
} from './connection.ts';
import { endParsing } from './node-internals.ts';
import { Pacer } from './pacer.ts';

export interface ConnectionsOptions {
  readonly maxConnections: number;
  /**
   * HTTP/1.1: so many requests of a connection are worked on at once, and with so many in flight it is read no further
   * until half of them are answered. What has been read by then waits for its turn.
   */
  readonly pipelining: number;
  /** How long a client may leave an answer unread. */
  readonly writeTimeoutMs: number;
}

export interface ConnectionsModules {
  /** Takes a request and answers it. */
  readonly onRequest: (request: HttpRequest, response: HttpResponse) => void;
  /** Called for each connection that had to go. */
  readonly onEvicted: () => void;
}

/** HTTP/2 streams of one connection. */
export const MAX_STREAMS = 128;
/**
 * HTTP/1.1: times `pipelining`, with more in flight a connection is cut off. No honest client gets there: one read of
 * 64 KiB may hold 160 of the smallest signed requests on top of `pipelining`.
 */
const CUT_OFF_AT = 4;
/** The same for requests that are no orders: health checks and mistakes. */
const MAX_ASIDES = 32;
/** With so many in flight on all connections together, more than so many of each connection are refused. */
const CROWDED: readonly (readonly [all: number, each: number])[] = [
  [32_768, 1],
  [16_384, 8],
];
/** Answers, and their bytes, that may stand unread in all; beyond, the oldest cost their client the connection. */
const MAX_UNREAD = 8192;
const MAX_UNREAD_BYTES = 1 << 26;
/** What a request costs besides its body: head, objects, answer; measured with heads of 200 bytes. */
const REQUEST_US = 30;
/** Of all connections; while there are fewer that never asked for anything, newcomers have time to ask. */
const SHARE_OF_FRESH = 0.25;
const SWEEP_MS = 1000;

export class Connections {
  readonly #options: ConnectionsOptions;
  readonly #modules: ConnectionsModules;
  /** Connections without a request so far, in the order in which they came. */
  readonly #fresh = new OrderedList<Connection>();
  /** All others; a request moves its connection to the end. */
  readonly #used = new OrderedList<Connection>();
  /** Those that carry a stream of orders: never idle, bounded and ended by who owns them. */
  readonly #streams = new OrderedList<Connection>();
  /** Connections whose TLS handshake is not done, by the far end's address: Node does not name the TCP socket below. */
  readonly #handshaking = new Map<string, Connection>();
  /** In order of arrival. */
  readonly #exchanges = new OrderedList<Exchange>();
  readonly #pacer: Pacer;
  readonly #sweeper: NodeJS.Timeout;
  readonly #onClose: (this: HttpResponse) => void;
  #ending = false;

  constructor(server: Server, tls: boolean, options: ConnectionsOptions, modules: ConnectionsModules) {
    this.#options = options;
    this.#modules = modules;
    this.#pacer = new Pacer(() => this.#all());
    this.#sweeper = setInterval(() => this.#sweep(), SWEEP_MS).unref();
    const end = (exchange: NodeExchange) => {
      const { connection, request } = exchange;
      this.end(exchange);
      // Nobody reads what is still to come of a request that has its answer.
      if (!request.complete && !connection.http2 && hasLongBody(request)) connection.socket.destroySoon();
    };
    // One function for all responses.
    this.#onClose = function onClose() {
      const exchange = exchangeOf(this);
      if (exchange !== undefined) end(exchange);
    };
    server.once('close', () => {
      clearInterval(this.#sweeper);
      this.#pacer.close();
    });
    server.on('connection', (socket: Socket) => this.#add(socket, tls));
    if (tls) server.on('secureConnection', (socket: TLSSocket) => this.#secured(socket));
    server.on('request', (request: HttpRequest, response: HttpResponse) =>
      this.#beginNode(request, response),
    );
  }

  get size(): number {
    return this.#fresh.size + this.#used.size + this.#streams.size;
  }

  /** Requests whose answer has not left. */
  get inFlight(): number {
    return this.#exchanges.size;
  }

  /**
   * Ends each connection as soon as its requests are answered; answers on their way still arrive. HTTP/2
   * connections are left to their sessions, which end in the same way.
   */
  endAll(): void {
    this.#ending = true;
    for (const connection of this.#all()) if (!this.#streams.has(connection)) endIfIdle(connection);
  }

  /** Closes all that are still open, whatever is on its way. */
  destroyAll(): void {
    for (const connection of this.#all()) connection.socket.destroy();
  }

  /** Takes a connection whose far end has proven itself off the ones that may be closed for being idle. */
  keep(socket: Socket): void {
    const connection = connectionOf(socket);
    if (connection === undefined || connection.closed) return;
    if (this.#fresh.delete(connection)) this.#streams.add(connection);
  }

  /**
   * Counts a request in flight, from its head on.
   * @returns false when there are too many in all for another of this connection: it is to be refused
   */
  begin(exchange: Exchange, workUs: number): boolean {
    const { connection } = exchange;
    this.#exchanges.add(exchange);
    connection.inFlight += 1;
    if (exchange.aside) connection.asides += 1;
    if (this.#used.has(connection) || this.#fresh.delete(connection)) this.#used.add(connection);
    connection.charge(workUs);
    return connection.inFlight <= this.#crowded();
  }

  /** Its answer has left, or nobody is there to take it. */
  end(exchange: Exchange): void {
    if (!this.#exchanges.delete(exchange)) return;
    const { connection } = exchange;
    connection.inFlight -= 1;
    if (exchange.aside) connection.asides -= 1;
    exchange.ended();
    if (exchange.unreadSince !== 0) connection.unread -= 1;
    if (connection.full) this.#next(connection);
    if (this.#ending) endIfIdle(connection);
  }

  /** Reads no more of a connection until it has fewer requests in flight. */
  hold(connection: Connection): void {
    this.#pacer.hold(connection);
  }

  /** No requests are taken any more. */
  get ending(): boolean {
    return this.#ending;
  }

  #beginNode(request: HttpRequest, response: HttpResponse): void {
    const connection = connectionOf(request.socket);
    if (connection === undefined) {
      request.socket.destroy();
      return;
    }
    if (connection.closing) {
      abandon(request, response);
      return;
    }
    const exchange = new NodeExchange(connection, request, response);
    response.on('close', this.#onClose);
    if (!this.begin(exchange, REQUEST_US)) this.#close(connection, response);
    else if (!connection.http2 && this.#isTooFast(connection, exchange)) return;
    this.#modules.onRequest(request, response);
  }

  /** HTTP/1.1, where the client sets the pace. @returns true when nobody is to work on the request now. */
  #isTooFast(connection: Connection, exchange: NodeExchange): boolean {
    const { pipelining } = this.#options;
    if (connection.inFlight < pipelining && connection.asides <= MAX_ASIDES) return false;
    this.#pacer.hold(connection);
    if (connection.inFlight > CUT_OFF_AT * pipelining || connection.asides > MAX_ASIDES) {
      connection.closing = true;
      this.#modules.onEvicted();
      endParsing(connection.socket);
      connection.socket.destroy();
      return true;
    }
    if (connection.inFlight === pipelining) return false;
    connection.parked.push(exchange);
    return true;
  }

  /** Nothing more is taken from it: this request is refused, which is the last answer it gets. */
  #close(connection: Connection, response: HttpResponse): void {
    connection.closing = true;
    if ('stream' in response) return;
    response.shouldKeepAlive = false;
    this.#pacer.hold(connection);
    endParsing(connection.socket);
  }

  /** @returns how many requests each connection may have in flight, considering all the others. */
  #crowded(): number {
    for (const [all, each] of CROWDED) if (this.#exchanges.size > all) return each;
    return Number.POSITIVE_INFINITY;
  }

  #next(connection: Connection): void {
    const parked = connection.parked.shift();
    if (parked !== undefined) this.#modules.onRequest(parked.request, parked.response);
    else if (connection.closing) return;
    else if (connection.inFlight <= this.#options.pipelining / 2) this.#pacer.release(connection);
  }

  /** Answers that do not leave because their client does not read have their time, and a bound in all. */
  #sweep(): void {
    const now = Date.now();
    let unread = 0;
    let bytes = 0;
    for (const exchange of this.#exchanges) {
      const { connection } = exchange;
      if (connection.closed) {
        this.#exchanges.delete(exchange);
      } else if (exchange.answered) {
        if (exchange.unreadSince === 0) {
          exchange.unreadSince = now;
          connection.unread += 1;
        }
        unread += 1;
        bytes += exchange.unsentBytes;
        if (now - exchange.unreadSince >= this.#options.writeTimeoutMs) connection.socket.destroy();
      }
    }
    if (unread > MAX_UNREAD || bytes > MAX_UNREAD_BYTES) this.#cutUnread(unread, bytes);
  }

  #cutUnread(unread: number, bytes: number): void {
    let answers = unread;
    let unsent = bytes;
    for (const { connection, unsentBytes, unreadSince } of this.#exchanges) {
      if (answers <= MAX_UNREAD && unsent <= MAX_UNREAD_BYTES) return;
      if (unreadSince === 0) continue;
      answers -= 1;
      unsent -= unsentBytes;
      if (connection.socket.destroyed) continue;
      this.#modules.onEvicted();
      connection.socket.destroy();
    }
  }

  #add(socket: Socket, tls: boolean): void {
    const connection = new Connection(socket, this.#pacer);
    this.#fresh.add(connection);
    if (tls) {
      const key = farEnd(socket);
      this.#handshaking.set(key, connection);
      socket.once('close', () => {
        this.#remove(connection);
        if (this.#handshaking.get(key) === connection) this.#handshaking.delete(key);
      });
    } else {
      bindConnection(socket, connection);
      socket.once('close', () => this.#remove(connection));
    }
    if (this.size > this.#options.maxConnections) this.#evict(connection);
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
    connection.parked = [];
    if (!this.#fresh.delete(connection) && !this.#used.delete(connection)) this.#streams.delete(connection);
  }

  #evict(newcomer: Connection): void {
    this.#modules.onEvicted();
    const manyFresh = this.#fresh.size > SHARE_OF_FRESH * this.#options.maxConnections;
    const [first, second] = manyFresh ? [this.#fresh, this.#used] : [this.#used, this.#fresh];
    // Where every connection has an order under way, those come first.
    const candidate = firstIdle(first, newcomer) ?? firstIdle(second, newcomer) ?? newcomer;
    // At once: it tells of its end only after the other newcomers of this turn.
    this.#remove(candidate);
    candidate.socket.destroy();
  }

  *#all(): Iterable<Connection> {
    yield* this.#fresh;
    yield* this.#used;
    yield* this.#streams;
  }
}

function firstIdle(connections: Iterable<Connection>, newcomer: Connection): Connection | undefined {
  for (const connection of connections) {
    if (connection !== newcomer && connection.working === 0) return connection;
  }
  return undefined;
}

/** A request that is not answered: its connection closes after the answers due. */
function abandon(request: HttpRequest, response: HttpResponse): void {
  // REFUSED_STREAM (RFC 9113 section 8.7): sending it again elsewhere is safe.
  if ('stream' in response) response.stream.close(7);
  else request.resume();
}

/** What comes after the end could not be answered: it is not begun, and its client sends it elsewhere. */
function endIfIdle(connection: Connection): void {
  if (connection.inFlight > 0 || connection.http2) return;
  connection.closing = true;
  if (connection.reader === null) connection.socket.end();
  else connection.reader.end();
}

function farEnd(socket: Socket): string {
  return `${socket.remoteAddress}|${socket.remotePort}`;
}
