/**
 * HTTP/1.1, over TCP or TLS, without Node's HTTP server, as long as a connection brings nothing but POST requests with
 * plain heads (plain-head.ts). Node's streams, timers, events and objects for a request are some 20 µs of CPU more.
 *
 * With the first byte of anything else, once all answers before it have left, a connection is Node's for good: whatever
 * is unusual has the treatment and the answers that it has there.
 *
 * One sweep looks for what takes too long, and what is answered in one callback of the event loop leaves together.
 */
import type { Socket } from 'node:net';
import { OrderedList } from '../pipeline/ordered-list.ts';
import { connectionOf } from './connection.ts';
import type { Connections } from './connections.ts';
import { PlainConnection } from './plain-connection.ts';
import type { PlainEndpoint } from './plain-request.ts';

/** Times in milliseconds, as http-server.ts has them. */
export interface PlainHttpOptions {
  readonly headTimeoutMs: number;
  readonly requestTimeoutMs: number;
  readonly idleTimeoutMs: number;
  readonly maxHeadBytes: number;
  /** With so many requests of a connection in flight nothing more of it is looked at until half of them are answered. */
  readonly pipelining: number;
}

export interface PlainHttpModules {
  readonly endpoint: PlainEndpoint;
  readonly connections: Connections;
  /** Takes a connection that brings anything else; what has been read of it and not answered is read from it again. */
  readonly handOver: (socket: Socket) => void;
}

const SWEEP_MS = 1000;

/** The connections of one server that Node's HTTP server has not got. */
export class PlainHttp {
  readonly options: PlainHttpOptions;
  readonly modules: PlainHttpModules;
  readonly #all = new OrderedList<PlainConnection>();
  readonly #sweeper: NodeJS.Timeout;
  readonly #keepAlive: string;
  readonly #flush = () => this.#flushAll();
  /** Those with answers to write. */
  #due: PlainConnection[] = [];
  /** Unix seconds of the date in the ends of heads. */
  #second = 0;
  #keptHeadEnd = '';
  #lastHeadEnd = '';

  constructor(options: PlainHttpOptions, modules: PlainHttpModules) {
    this.options = options;
    this.modules = modules;
    const seconds = Math.floor(options.idleTimeoutMs / 1000);
    this.#keepAlive = `Connection: keep-alive\r\nKeep-Alive: timeout=${seconds}\r\n\r\n`;
    this.#sweeper = setInterval(() => this.#sweep(), SWEEP_MS).unref();
  }

  /** Reads a connection from its first byte on. */
  accept(socket: Socket): void {
    const connection = connectionOf(socket);
    if (connection === undefined || socket.destroyed) return;
    const plain = new PlainConnection(this, connection, socket);
    if (plain.start()) this.#all.add(plain);
    else this.modules.handOver(socket);
  }

  close(): void {
    clearInterval(this.#sweeper);
  }

  /** It has ended, or is Node's. For the connections alone, like the following. */
  forget(connection: PlainConnection): void {
    this.#all.delete(connection);
  }

  /** Has its answers written when the present callback of the event loop is done. */
  flushSoon(connection: PlainConnection): void {
    if (this.#due.length === 0) process.nextTick(this.#flush);
    this.#due.push(connection);
  }

  /** @returns what the head of an answer ends with: date, and whether the connection stays open. */
  headEnd(last: boolean, nowMs: number): string {
    const second = Math.floor(nowMs / 1000);
    if (second !== this.#second) {
      this.#second = second;
      const date = `Date: ${new Date(nowMs).toUTCString()}\r\n`;
      this.#keptHeadEnd = date + this.#keepAlive;
      this.#lastHeadEnd = `${date}Connection: close\r\n\r\n`;
    }
    return last ? this.#lastHeadEnd : this.#keptHeadEnd;
  }

  #flushAll(): void {
    const due = this.#due;
    this.#due = [];
    for (const connection of due) connection.flush();
  }

  #sweep(): void {
    const now = Date.now();
    for (const connection of this.#all) connection.check(now);
  }
}
