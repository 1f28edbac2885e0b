/**
 * Sends prepared orders over kept-alive connections, in an open loop (a fixed rate, whatever the answers do), a closed
 * one (the next order when a connection is free), or a burst (all connections are opened at once and each sends its
 * orders one by one), and notes when each order was due, sent and answered.
 *
 * The latency of an open loop counts from the time an order was due: an order that waits for a free connection,
 * because the node stalls, has that wait in its figure ("coordinated omission" is what leaves it out).
 */
import { once } from 'node:events';
import { Worker } from 'node:worker_threads';
import { Fifo } from '../egress/fifo.ts';
import { nowUs } from './clock.ts';
import {
  type LoadConnection,
  type LoadTarget,
  openConnection,
  type PreparedOrder,
} from './load-connection.ts';

export interface LoadOptions {
  readonly connections: number;
  /** Orders under way on one connection: pipelined requests, or streams of HTTP/2. */
  readonly inFlight: number;
}

/** What happened to the orders of one run; index 0 is the run's first order. Microseconds of clock.ts. */
export interface RunResult {
  readonly dueUs: Float64Array;
  /** NaN where the order was not sent. */
  readonly sentUs: Float64Array;
  /** When a success came; NaN where none did. */
  readonly answeredUs: Float64Array;
  /** When an answer other than success came. */
  readonly refusedUs: Float64Array;
  /** Answers other than success, by status and message. */
  readonly refused: Readonly<Record<string, number>>;
}

export interface OpenLoop {
  /** Orders per second. */
  readonly rate: number;
  /** Leave unsent what no connection could take by the time the last order was due: an overload must end. */
  readonly stopWhenDue?: boolean;
}

export interface LoadGenerator {
  /** Sends orders at a rate. */
  runOpen(orders: readonly PreparedOrder[], loop: OpenLoop): Promise<RunResult>;
  /** Sends them as fast as the connections take them. */
  runClosed(orders: readonly PreparedOrder[]): Promise<RunResult>;
  close(): void;
}

/** A run in which nothing was answered for this long is over; what is missing counts as lost. */
const STALL_MS = 5_000;
const DIFFERENT_REFUSALS = 20;
/** Before the first order of an open loop is due. */
const LEAD_US = 20_000;

/** Starts to say how many orders are due; the number only grows. */
type StartClock = (onDue: (reached: number) => void) => void;

/** Opens all connections. */
export async function startLoadGenerator(
  target: LoadTarget,
  { connections, inFlight }: LoadOptions,
): Promise<LoadGenerator> {
  const opened = Array.from({ length: connections }, () => openConnection(target));
  /** A connection stands here once for each order that it can take. */
  const idle = new Fifo<LoadConnection>();
  for (let depth = 0; depth < inFlight; depth++) for (const connection of opened) idle.push(connection);
  await Promise.all(opened.map((connection) => connection.ready));

  function run(
    orders: readonly PreparedOrder[],
    dueUs: Float64Array,
    start: StartClock,
    stopWhenDue: boolean,
  ): Promise<RunResult> {
    const count = dueUs.length;
    const record = new RunRecord(dueUs);
    let due = 0;
    let sent = 0;
    let toSend = count;

    function pump(): void {
      while (sent < due && sent < toSend && !record.over) {
        const connection = idle.shift();
        if (connection === undefined) return;
        record.sent(sent);
        connection.send(sent, orderAt(orders, sent), settle);
        sent++;
      }
    }
    function settle(connection: LoadConnection, index: number, refusal: string | null): void {
      idle.push(connection);
      record.settle(index, refusal);
      pump();
    }
    start((reached) => {
      due = reached;
      pump();
      if (stopWhenDue && due === count) {
        toSend = sent;
        record.expect(sent);
      }
    });
    return record.finished;
  }

  return {
    async runOpen(orders, { rate, stopWhenDue = false }) {
      const count = orders.length;
      const intervalUs = 1e6 / rate;
      const ticker = new Worker(new URL('./ticker.ts', import.meta.url), {
        workerData: { intervalUs, count },
      });
      // Orders are due from when it can tick: a thread takes 0.1 s and more to start, and would be late for the first ones.
      await once(ticker, 'message');
      const startUs = nowUs() + LEAD_US;
      ticker.postMessage(startUs);
      const dueUs = Float64Array.from({ length: count }, (_, index) => startUs + index * intervalUs);
      const result = await run(orders, dueUs, (onDue) => ticker.on('message', onDue), stopWhenDue);
      await ticker.terminate();
      return result;
    },
    runClosed(orders) {
      const count = orders.length;
      return run(orders, new Float64Array(count).fill(Number.NaN), (onDue) => onDue(count), false);
    },
    close() {
      for (const connection of opened) connection.close();
    },
  };
}

export interface Burst {
  readonly connections: number;
  /** Orders on each. */
  readonly each: number;
}

/** Two runs as one, the first one's orders first. */
export function joined(a: RunResult, b: RunResult): RunResult {
  const both = (one: Float64Array, other: Float64Array) => {
    const times = new Float64Array(one.length + other.length);
    times.set(one);
    times.set(other, one.length);
    return times;
  };
  const refused = { ...a.refused };
  for (const [text, count] of Object.entries(b.refused)) refused[text] = (refused[text] ?? 0) + count;
  return {
    dueUs: both(a.dueUs, b.dueUs),
    sentUs: both(a.sentUs, b.sentUs),
    answeredUs: both(a.answeredUs, b.answeredUs),
    refusedUs: both(a.refusedUs, b.refusedUs),
    refused,
  };
}

/**
 * Opens `connections` at once; each sends `each` orders, the next when the one before is answered. The first order
 * of a connection is due when the burst begins, before anything is connected.
 *
 * @param orders connection c sends c * each and on
 * @returns the times in the orders' order
 */
export async function runBurst(
  target: LoadTarget,
  { connections, each }: Burst,
  orders: readonly PreparedOrder[],
): Promise<RunResult> {
  const record = new RunRecord(new Float64Array(connections * each).fill(Number.NaN));
  const startUs = nowUs();
  for (let c = 0; c < connections; c++) record.dueUs[c * each] = startUs;
  const opened = Array.from({ length: connections }, () => openConnection(target));

  function send(connection: LoadConnection, index: number): void {
    record.sent(index);
    connection.send(index, orderAt(orders, index), (_, settled, refusal) => {
      record.settle(settled, refusal);
      const next = settled + 1;
      if (next % each !== 0 && !record.over) send(connection, next);
    });
  }
  for (const [c, connection] of opened.entries()) {
    connection.ready.then(
      () => send(connection, c * each),
      (error: unknown) => {
        for (let i = 0; i < each; i++)
          record.settle(
            c * each + i,
            `not connected: ${error instanceof Error ? error.message : String(error)}`,
          );
      },
    );
  }
  const result = await record.finished;
  for (const connection of opened) connection.close();
  return result;
}

/** Keeps the times of a run and knows when it is over. */
class RunRecord implements RunResult {
  readonly dueUs: Float64Array;
  readonly sentUs: Float64Array;
  readonly answeredUs: Float64Array;
  readonly refusedUs: Float64Array;
  readonly refused: Record<string, number> = {};
  over = false;
  readonly #finished = Promise.withResolvers<RunResult>();
  readonly #watch: NodeJS.Timeout;
  #expected: number;
  #sent = 0;
  #settled = 0;
  #settledBefore = -1;

  /** @param dueUs NaN where an order is due when it is sent */
  constructor(dueUs: Float64Array) {
    this.dueUs = dueUs;
    this.sentUs = new Float64Array(dueUs.length).fill(Number.NaN);
    this.answeredUs = new Float64Array(dueUs.length).fill(Number.NaN);
    this.refusedUs = new Float64Array(dueUs.length).fill(Number.NaN);
    this.#expected = dueUs.length;
    this.#watch = setInterval(() => {
      if (this.#settled === this.#settledBefore && this.#sent > this.#settled) this.#finish();
      this.#settledBefore = this.#settled;
    }, STALL_MS);
  }

  get finished(): Promise<RunResult> {
    return this.#finished.promise;
  }

  sent(index: number): void {
    const now = nowUs();
    this.sentUs[index] = now;
    if (Number.isNaN(this.dueUs[index])) this.dueUs[index] = now;
    this.#sent++;
  }

  settle(index: number, refusal: string | null): void {
    if (this.over) return;
    (refusal === null ? this.answeredUs : this.refusedUs)[index] = nowUs();
    if (refusal !== null) countBy(this.refused, refusal);
    if (++this.#settled === this.#expected) this.#finish();
  }

  /** No more than so many orders are sent. */
  expect(count: number): void {
    this.#expected = count;
    if (this.#settled >= count) this.#finish();
  }

  #finish(): void {
    if (this.over) return;
    this.over = true;
    clearInterval(this.#watch);
    const { dueUs, sentUs, answeredUs, refusedUs, refused } = this;
    this.#finished.resolve({ dueUs, sentUs, answeredUs, refusedUs, refused });
  }
}

function orderAt(orders: readonly PreparedOrder[], index: number): PreparedOrder {
  const order = orders[index];
  if (order === undefined) throw new RangeError(`no order ${index} was made`);
  return order;
}

/** Counts by text, with a bound on how many texts. */
function countBy(counts: Record<string, number>, text: string): void {
  const key = text in counts || Object.keys(counts).length < DIFFERENT_REFUSALS ? text : 'others';
  counts[key] = (counts[key] ?? 0) + 1;
}
