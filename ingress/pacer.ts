/**
 * Keeps one connection from having a turn of the event loop for itself. Node reads a socket that always has
 * more for up to 2 MB in one go, which as one-byte chunks, empty frames or tiny requests is a second of work,
 * while every other connection waits; an order needs some six turns from its first byte to its answer.
 *
 * A connection that has caused more work in a turn than an honest client would is not read further: it goes to
 * the end of a queue, and each turn the first of the queue is read again. Flooders share the turns among
 * themselves, everybody else is read as always. Nothing is refused: what is not read waits in the sender's TCP.
 *
 * Work is charged where it shows (requests, pieces of bodies). What causes none in JavaScript (pings, window
 * updates, blank lines) is found by the bytes read, looked at only while the event loop is late.
 *
 * Limits: stops and starts reading on the socket's handle, because Node's own pause is undone by each request
 * that reads its body, and HTTP/2 has none. What has been read from the kernel is worked off all the same:
 * 64 KiB at most, 16 over TLS.
 */
import type { Connection } from './connection.ts';
import { startReading, stopReading } from './node-internals.ts';

/** Work of one connection in one turn, in µs. */
const BUDGET_US = 1000;
/** The same of all together; beyond it a connection has only its share, which is a few orders. */
const BUDGET_OF_ALL_US = 4000;
const SHARE_US = 120;
/** Bytes read of one connection in one turn, or while the loop was late, that no honest client sends. */
const FLOOD_BYTES = 1 << 20;
const WATCH_MS = 50;
/** The event loop is late when a timer is. */
const LATE_MS = 25;

export class Pacer {
  readonly #connections: () => Iterable<Connection>;
  readonly #watch: NodeJS.Timeout;
  readonly #onTurn = () => this.#nextTurn();
  #queue: Connection[] = [];
  #head = 0;
  #turn = 1;
  #scheduled = false;
  /** Work of all connections in this turn, in µs. */
  #spent = 0;
  /** Read again since the last turn: those that flood again go back. */
  #resumed: Connection[] = [];
  #lastTick = performance.now();
  #watching = false;

  /** @param connections all that are open, looked through while the event loop is late. */
  constructor(connections: () => Iterable<Connection>) {
    this.#connections = connections;
    this.#watch = setInterval(() => this.#tick(), WATCH_MS).unref();
  }

  /** Connections that wait for their turn to be read. */
  get queued(): number {
    return this.#queue.length - this.#head;
  }

  close(): void {
    clearInterval(this.#watch);
  }

  /** Counts work of a connection in this turn; beyond the budget it waits for its turn. */
  charge(connection: Connection, us: number): void {
    if (!this.#scheduled) this.#schedule();
    if (connection.turn !== this.#turn) {
      connection.turn = this.#turn;
      connection.spent = 0;
    }
    connection.spent += us;
    this.#spent += us;
    const budget = this.#spent > BUDGET_OF_ALL_US ? SHARE_US : BUDGET_US;
    if (connection.spent > budget) this.#enqueue(connection);
  }

  /** Reads no more of it until `release`. */
  hold(connection: Connection): void {
    connection.full = true;
    stopReading(connection.transport);
  }

  release(connection: Connection): void {
    connection.full = false;
    this.#enqueue(connection);
  }

  #enqueue(connection: Connection): void {
    // Node may have started it again meanwhile, for reasons of its own.
    stopReading(connection.transport);
    if (connection.queued) return;
    connection.queued = true;
    this.#queue.push(connection);
    if (!this.#scheduled) this.#schedule();
  }

  #schedule(): void {
    this.#scheduled = true;
    setImmediate(this.#onTurn);
  }

  #nextTurn(): void {
    this.#turn += 1;
    this.#spent = 0;
    this.#scheduled = false;
    for (const connection of this.#resumed) {
      if (connection.transport.bytesRead - connection.bytesSeen > FLOOD_BYTES / 4) this.#enqueue(connection);
    }
    this.#resumed = [];
    if (this.#head === this.#queue.length) return;
    this.#resumeNext();
    this.#schedule();
  }

  /** As many as will probably use up one turn, going by what they spent in their last one. */
  #resumeNext(): void {
    let expected = 0;
    while (this.#head < this.#queue.length && expected < BUDGET_OF_ALL_US) {
      const connection = this.#queue[this.#head] as Connection;
      this.#head += 1;
      connection.queued = false;
      if (connection.closed || connection.full) continue;
      expected += connection.spent;
      connection.bytesSeen = connection.transport.bytesRead;
      if (connection.reader === null) startReading(connection.transport);
      else connection.reader.resume();
      this.#resumed.push(connection);
    }
    if (this.#head > 1024 || this.#head === this.#queue.length) {
      this.#queue = this.#queue.slice(this.#head);
      this.#head = 0;
    }
  }

  /** While the loop is late: who has sent more than an honest client would, without any work to charge? */
  #tick(): void {
    const now = performance.now();
    const late = now - this.#lastTick > WATCH_MS + LATE_MS;
    this.#lastTick = now;
    if (!late) {
      this.#watching = false;
      return;
    }
    for (const connection of this.#connections()) {
      const { bytesRead } = connection.transport;
      // The first late tick only takes the measure of what is read until the next.
      if (this.#watching && bytesRead - connection.bytesSeen > FLOOD_BYTES) {
        connection.spent = BUDGET_OF_ALL_US;
        this.#enqueue(connection);
      }
      connection.bytesSeen = bytesRead;
    }
    this.#watching = true;
  }
}
