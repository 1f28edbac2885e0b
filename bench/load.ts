/** The load generator's process: makes its orders before the timed part, then runs what it is asked to. */
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

/** Sets of orders by name; each counts its own from 0. */
const sets = new Map<string, PreparedOrder[]>();
let target: LoadTarget | null = null;
let generator: LoadGenerator | null = null;

const calls = {
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

function part(set: string, from: number, count: number): PreparedOrder[] {
  const orders = (sets.get(set) ?? []).slice(from, from + count);
  if (orders.length < count) throw new RangeError(`set ${set} has no orders ${from} to ${from + count - 1}`);
  return orders;
}

export type LoadCalls = typeof calls;

serveParent(calls);
