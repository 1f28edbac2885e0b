/**
 * Sends prepared orders over kept-alive HTTP/1.1 connections, one request at a time on each, in an open loop (a
 * fixed rate, whatever the answers do) or a closed one (the next order when a connection is free), and notes when each order was due,
 * sent and answered.
 *
 * The latency of an open loop counts from the time an order was due: an order that waits for a free connection,
 * because the node stalls, has that wait in its figure ("coordinated omission" is what leaves it out).
 */
import { connect, type Socket } from 'node:net';
import { connect as connectTls } from 'node:tls';
import { Worker } from 'node:worker_threads';
import { nowUs } from './clock.ts';
import { MessageReader } from './wire.ts';

export interface LoadTarget {
  readonly host: string;
  readonly port: number;
  /** PEM certificate to trust; HTTPS when set. */
  readonly certificate?: string;
}

/** What happened to the orders of one run; index 0 is the run's first order. Microseconds of clock.ts. */
export interface RunResult {
  readonly dueUs: Float64Array;
  readonly sentUs: Float64Array;
  /** NaN where no answer came. */
  readonly answeredUs: Float64Array;
  /** Answers other than success, by status and message. */
  readonly refused: Readonly<Record<string, number>>;
}

export interface LoadGenerator {
  /** Sends requests `from` … `from + count - 1` at `rate` per second. */
  runOpen(from: number, count: number, rate: number): Promise<RunResult>;
  /** Sends them as fast as the connections take them. */
  runClosed(from: number, count: number): Promise<RunResult>;
  close(): void;
}

/** A run in which nothing was answered for this long is over; what is missing counts as lost. */
const STALL_MS = 5_000;
const RESULT = Buffer.from('"result"');
const DIFFERENT_REFUSALS = 20;
const REOPEN_DELAY_MS = 50;

/** Starts to say how many orders are due; the number only grows. */
type StartClock = (onDue: (reached: number) => void) => void;
/** @param refusal null for success, else why not */
type OnSettled = (connection: Connection, index: number, refusal: string | null) => void;

/** Opens all connections. `requests` are whole HTTP messages, see httpRequest. */
export async function startLoadGenerator(
  target: LoadTarget,
  connections: number,
  requests: readonly Buffer[],
): Promise<LoadGenerator> {
  const opened = Array.from({ length: connections }, () => new Connection(target));
  const idle = [...opened];
  await Promise.all(opened.map((connection) => connection.ready));

  function run(from: number, count: number, dueUs: Float64Array, start: StartClock): Promise<RunResult> {
    const sentUs = new Float64Array(count).fill(Number.NaN);
    const answeredUs = new Float64Array(count).fill(Number.NaN);
    const refused: Record<string, number> = {};
    const { promise, resolve } = Promise.withResolvers<RunResult>();
    let due = 0;
    let sent = 0;
    let settled = 0;
    let settledBefore = -1;
    let over = false;

    function finish(): void {
      over = true;
      clearInterval(watch);
      resolve({ dueUs, sentUs, answeredUs, refused });
    }
    const watch = setInterval(() => {
      if (settled === settledBefore && due > settled) finish();
      settledBefore = settled;
    }, STALL_MS);

    function pump(): void {
      if (over) return;
      while (sent < due) {
        const connection = idle.shift();
        if (connection === undefined) return;
        const request = requests[from + sent];
        if (request === undefined) throw new RangeError(`no order ${from + sent} was made`);
        const now = nowUs();
        sentUs[sent] = now;
        if (Number.isNaN(dueUs[sent])) dueUs[sent] = now;
        connection.send(sent++, request, settle);
      }
    }
    function settle(connection: Connection, index: number, refusal: string | null): void {
      idle.push(connection);
      if (over) return;
      if (refusal === null) answeredUs[index] = nowUs();
      else countBy(refused, refusal);
      if (++settled === count) finish();
      else pump();
    }
    start((reached) => {
      due = reached;
      pump();
    });
    return promise;
  }

  return {
    async runOpen(from, count, rate) {
      const intervalUs = 1e6 / rate;
      // A little ahead, so that the ticker's own start is not in the first figures.
      const startUs = nowUs() + 200_000;
      const dueUs = Float64Array.from({ length: count }, (_, index) => startUs + index * intervalUs);
      const ticker = new Worker(new URL('./ticker.ts', import.meta.url), {
        workerData: { startUs, intervalUs, count },
      });
      const result = await run(from, count, dueUs, (onDue) => ticker.on('message', onDue));
      await ticker.terminate();
      return result;
    },
    runClosed(from, count) {
      return run(from, count, new Float64Array(count).fill(Number.NaN), (onDue) => onDue(count));
    },
    close() {
      for (const connection of opened) connection.close();
    },
  };
}

/** One prepared HTTP/1.1 message for a signed JSON-RPC body. */
export function httpRequest(host: string, body: Buffer, signature: string): Buffer {
  const head = `POST / HTTP/1.1\r\nhost: ${host}\r\ncontent-type: application/json\r\nx-flashbots-signature: ${signature}\r\ncontent-length: ${body.length}\r\n\r\n`;
  return Buffer.concat([Buffer.from(head, 'latin1'), body]);
}

/** Counts by text, with a bound on how many texts. */
function countBy(counts: Record<string, number>, text: string): void {
  const key = text in counts || Object.keys(counts).length < DIFFERENT_REFUSALS ? text : 'others';
  counts[key] = (counts[key] ?? 0) + 1;
}

/** A kept-alive connection with at most one request under way; opened again when the server closes it. */
class Connection {
  readonly #target: LoadTarget;
  readonly #opened = Promise.withResolvers<void>();
  #socket: Socket;
  #index = -1;
  #onSettled: OnSettled | null = null;
  #closed = false;

  constructor(target: LoadTarget) {
    this.#target = target;
    this.#socket = this.#open();
  }

  /** Resolves when the first connection stands. */
  get ready(): Promise<void> {
    return this.#opened.promise;
  }

  send(index: number, request: Buffer, onSettled: OnSettled): void {
    this.#index = index;
    this.#onSettled = onSettled;
    this.#socket.write(request);
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
    const reader = new MessageReader((head, body) => this.#answered(head, body));
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
    // Under way on the connection before this one: its answer will not come.
    this.#settle('connection lost');
  }

  #answered(head: string, body: Buffer): void {
    const success = head.startsWith('HTTP/1.1 200') && body.includes(RESULT);
    this.#settle(success ? null : `${head.slice(9, 12)} ${body.toString('utf8', 0, 200)}`);
  }

  #settle(refusal: string | null): void {
    const index = this.#index;
    if (index < 0) return;
    this.#index = -1;
    this.#onSettled?.(this, index, refusal);
  }
}
