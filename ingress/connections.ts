/**
 * The open connections of one server, in order of their last request. At the bound the one that has been
 * idle longest is closed, not the newcomer refused: ten thousand idle connections then cost their owner
 * the connections and nobody else anything.
 */
import type { Server, Socket } from 'node:net';
import type { TLSSocket } from 'node:tls';

export interface ConnectionsOptions {
  readonly maxConnections: number;
  /** How long a client may leave an answer unread. */
  readonly writeTimeoutMs: number;
  /** Called for each connection that had to go. */
  readonly onEvicted: () => void;
}

/** Requests of one connection that may be unanswered at once (pipelining, HTTP/2 streams). */
export const MAX_IN_FLIGHT_PER_CONNECTION = 512;

class Connection {
  /** The TCP socket, and from the handshake on the TLS socket. */
  socket: Socket;
  inFlight = 0;

  constructor(socket: Socket) {
    this.socket = socket;
  }
}

const SWEEP_MS = 1000;
const CONNECTION = Symbol('connection');
type Tracked = Socket & { [CONNECTION]?: Connection };

export class Connections {
  readonly #options: ConnectionsOptions;
  /** A set keeps insertion order: a request moves its connection to the end. */
  readonly #open = new Set<Connection>();
  /** Connections whose TLS handshake is not done, by the far end's address: Node does not name the TCP socket below. */
  readonly #handshaking = new Map<string, Connection>();
  /** Connections whose client does not read, with the time at which that ends. */
  readonly #stalled = new Map<Socket, number>();
  readonly #sweeper: NodeJS.Timeout;
  #ending = false;

  constructor(server: Server, tls: boolean, options: ConnectionsOptions) {
    this.#options = options;
    this.#sweeper = setInterval(() => this.#sweep(), SWEEP_MS).unref();
    server.once('close', () => clearInterval(this.#sweeper));
    server.on('connection', (socket: Socket) => this.#add(socket, tls));
    if (!tls) return;
    server.on('secureConnection', (socket: TLSSocket) => {
      const key = farEnd(socket);
      const connection = this.#handshaking.get(key);
      this.#handshaking.delete(key);
      if (connection === undefined) return;
      (socket as Tracked)[CONNECTION] = connection;
      connection.socket = socket;
      // The TCP socket below does not always tell when the TLS socket on it has ended.
      socket.once('close', () => this.#open.delete(connection));
    });
  }

  get size(): number {
    return this.#open.size;
  }

  /** A request came in on `socket`. @returns false when the connection has too many unanswered ones. */
  begin(socket: Socket): boolean {
    const connection = (socket as Tracked)[CONNECTION];
    if (connection === undefined) return true;
    connection.inFlight += 1;
    if (this.#open.delete(connection)) this.#open.add(connection);
    return connection.inFlight <= MAX_IN_FLIGHT_PER_CONNECTION;
  }

  /** A request of `socket` was answered or given up. */
  end(socket: Socket): void {
    const connection = (socket as Tracked)[CONNECTION];
    if (connection !== undefined) connection.inFlight -= 1;
  }

  /** An answer was written on `socket`. One that does not leave because the client does not read has its time. */
  answered(socket: Socket): void {
    const connection = (socket as Tracked)[CONNECTION];
    if (this.#ending && connection !== undefined) endIfIdle(connection);
    if (socket.writableLength === 0 || this.#stalled.has(socket)) return;
    this.#stalled.set(socket, Date.now() + this.#options.writeTimeoutMs);
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

  #sweep(): void {
    const now = Date.now();
    for (const [socket, deadline] of this.#stalled) {
      if (socket.destroyed || socket.writableLength === 0) this.#stalled.delete(socket);
      else if (deadline <= now) socket.destroy();
    }
  }

  #add(socket: Socket, tls: boolean): void {
    const connection = new Connection(socket);
    const key = farEnd(socket);
    if (tls) this.#handshaking.set(key, connection);
    else (socket as Tracked)[CONNECTION] = connection;
    this.#open.add(connection);
    socket.once('close', () => {
      this.#open.delete(connection);
      if (this.#handshaking.get(key) === connection) this.#handshaking.delete(key);
    });
    if (this.#open.size > this.#options.maxConnections) this.#evict(connection);
  }

  #evict(newcomer: Connection): void {
    for (const candidate of this.#open) {
      if (candidate === newcomer || candidate.inFlight > 0) continue;
      this.#options.onEvicted();
      candidate.socket.destroy();
      return;
    }
    // Every connection has an order under way: those come first.
    this.#options.onEvicted();
    newcomer.socket.destroy();
  }
}

function endIfIdle({ socket, inFlight }: Connection): void {
  const http2 = 'alpnProtocol' in socket && socket.alpnProtocol === 'h2';
  if (inFlight === 0 && !http2) socket.end();
}

function farEnd(socket: Socket): string {
  return `${socket.remoteAddress}|${socket.remotePort}`;
}
