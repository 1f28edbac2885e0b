/**
 * The well-behaved client of the hostile tests: sends an order every few milliseconds over kept-alive connections,
 * whatever became of the earlier ones, and knows how long each answer took and whether it was the right one. It lives
 * in a thread of its own, so that what the test does to the node does not delay the watch.
 */
import { once } from 'node:events';
import { Worker } from 'node:worker_threads';

export interface SteadyClientOptions {
  /** http: or https: */
  readonly url: string;
  /** The only certificate that is trusted. */
  readonly certificatePem: string;
  readonly seed: string;
  readonly everyMs: number;
}

/** What became of the orders sent between two reports. */
export interface SteadyReport {
  /** Milliseconds from sending to the whole answer. */
  readonly latencies: readonly number[];
  /** One sentence for each order that was not answered as the protocol promises. */
  readonly problems: readonly string[];
  /** How late the client itself was with sending, in milliseconds: what the machine, not the node, adds. */
  readonly lateMs: readonly number[];
}

export interface SteadyClient {
  /** Resolves when so many more orders have been sent and answered. */
  orders(count: number): Promise<void>;
  /** @returns on all orders since the last report, once they are answered. */
  report(): Promise<SteadyReport>;
  close(): Promise<void>;
}

export type Command =
  | { readonly kind: 'orders'; readonly count: number }
  | { readonly kind: 'report' }
  | { readonly kind: 'close' };

/** Starts sending. */
export function startSteadyClient(options: SteadyClientOptions): SteadyClient {
  const worker = new Worker(new URL('./steady-client-thread.ts', import.meta.url), { workerData: options });
  const replies: PromiseWithResolvers<unknown>[] = [];
  worker.on('message', (reply: unknown) => replies.shift()?.resolve(reply));
  worker.on('error', (error) => {
    for (const { reject } of replies.splice(0)) reject(error);
  });

  /** One after another: replies come in the order of the commands. */
  async function ask(command: Command): Promise<unknown> {
    const reply = Promise.withResolvers<unknown>();
    replies.push(reply);
    worker.postMessage(command);
    return reply.promise;
  }

  return {
    async orders(count) {
      await ask({ kind: 'orders', count });
    },
    async report() {
      return (await ask({ kind: 'report' })) as SteadyReport;
    },
    async close() {
      const ended = once(worker, 'exit');
      await ask({ kind: 'close' });
      await ended;
    },
  };
}
