/** The load generator's process: makes its orders before the timed part, then runs what it is asked to. */
import { readFileSync, writeFileSync } from 'node:fs';
import { createOrderSource, type OrderSettings } from '../devnet/orders.ts';
import { serveParent } from './child.ts';
import { type LoadTarget, type PreparedOrder, prepareOrder } from './load-connection.ts';
import {
  type Burst,
  type LoadGenerator,
  type LoadOptions,
  type OpenLoop,
  type RunResult,
  runBurst,
  startLoadGenerator,
} from './load-generator.ts';

/**
 * How much later than asked the kernel may wake a thread so that it wakes several at once: 50 µs unless set, which every
 * order of an open loop would be late by. The threads that wait for when orders are due have it from this one.
 */
const TIMER_SLACK = '/proc/self/timerslack_ns';
const timerSlackNs = sharpenTimers();

/** Sets of orders by name; each counts its own from 0. */
const sets = new Map<string, PreparedOrder[]>();
let target: LoadTarget | null = null;
let generator: LoadGenerator | null = null;

const calls = {
  /** Of this process, nanoseconds; null where there is no such thing. */
  timerSlackNs(): number | null {
    return timerSlackNs;
  },
  /** Makes orders 0 … count - 1 of a set. Returns how long it took and how long the bodies are. */
  prepare(set: string, settings: OrderSettings, count: number): { seconds: number; meanBytes: number } {
    const start = performance.now();
    const source = createOrderSource(settings);
    let bytes = 0;
    const orders = Array.from({ length: count }, () => {
      const { body, signature } = source.next();
      bytes += body.length;
      return prepareOrder('node', body, signature);
    });
    sets.set(set, orders);
    return { seconds: (performance.now() - start) / 1000, meanBytes: bytes / count };
  },
  /** Opens the connections; closes those of the target before. */
  async connect(to: LoadTarget, options: LoadOptions): Promise<void> {
    generator?.close();
    target = to;
    generator = await startLoadGenerator(to, options);
  },
  /** Open loop, or closed where it is null. */
  async run(set: string, from: number, count: number, loop: OpenLoop | null): Promise<RunResult> {
    if (generator === null) throw new Error('connect first');
    const orders = part(set, from, count);
    return loop === null ? generator.runClosed(orders) : generator.runOpen(orders, loop);
  },
  /** New connections to the target, all at once, beside those that are open. */
  async burst(set: string, from: number, burst: Burst): Promise<RunResult> {
    if (target === null) throw new Error('connect first');
    return runBurst(target, burst, part(set, from, burst.connections * burst.each));
  },
  disconnect(): void {
    generator?.close();
    generator = null;
  },
};

/** @returns the timer slack after it, nanoseconds. */
function sharpenTimers(): number | null {
  try {
    writeFileSync(TIMER_SLACK, '1');
    return Number(readFileSync(TIMER_SLACK, 'utf8'));
  } catch {
    // Not Linux, or not allowed: orders are later, and the report says why.
    return null;
  }
}

function part(set: string, from: number, count: number): PreparedOrder[] {
  const orders = (sets.get(set) ?? []).slice(from, from + count);
  if (orders.length < count) throw new RangeError(`set ${set} has no orders ${from} to ${from + count - 1}`);
  return orders;
}

export type LoadCalls = typeof calls;

serveParent(calls);
