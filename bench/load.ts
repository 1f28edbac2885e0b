/** The load generator's process: makes its orders before the timed part, then runs what bench/main.ts asks. */
import { createOrderSource, type OrderSettings } from '../devnet/orders.ts';
import { serveParent } from './child.ts';
import {
  httpRequest,
  type LoadGenerator,
  type LoadTarget,
  type RunResult,
  startLoadGenerator,
} from './load-generator.ts';

let requests: Buffer[] = [];
let generator: LoadGenerator | null = null;

const calls = {
  /** Makes orders 0 … count - 1. Returns how long it took and how long the bodies are. */
  prepare(settings: OrderSettings, count: number): { seconds: number; meanBytes: number } {
    const start = performance.now();
    const source = createOrderSource(settings);
    let bytes = 0;
    requests = Array.from({ length: count }, () => {
      const { body, signature } = source.next();
      bytes += body.length;
      return httpRequest('node', body, signature);
    });
    return { seconds: (performance.now() - start) / 1000, meanBytes: bytes / count };
  },
  /** Opens the connections; closes those of the target before. */
  async connect(target: LoadTarget, connections: number): Promise<void> {
    generator?.close();
    generator = await startLoadGenerator(target, connections, requests);
  },
  /** Open loop at a rate per second, or closed loop where it is null. */
  async run(from: number, count: number, rate: number | null): Promise<RunResult> {
    if (generator === null) throw new Error('connect first');
    return rate === null ? generator.runClosed(from, count) : generator.runOpen(from, count, rate);
  },
  disconnect(): void {
    generator?.close();
    generator = null;
  },
};
export type LoadCalls = typeof calls;

serveParent(calls);
