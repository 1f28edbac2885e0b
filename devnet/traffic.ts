/**
 * The gentle traffic of `npm start`: orders at an even rate, one node after the other, some of them sent again as
 * clients do in the field (3-10 duplicates in 400 a second, protocol section 8).
 */
import type { UserClient } from './client.ts';
import type { GeneratedOrder, OrderSource } from './orders.ts';

export interface TrafficOptions {
  readonly source: OrderSource;
  readonly clients: readonly UserClient[];
  /** Orders per second over all nodes. */
  readonly rate: number;
}

export interface Traffic {
  /** Orders answered with success so far. */
  readonly accepted: number;
  /** Orders refused or without an answer. */
  readonly failed: number;
  /** Why the last of them failed, null while none has. */
  readonly lastFailure: string | null;
  /** Sends no more, and resolves when what is under way is answered. */
  stop(): Promise<void>;
}

const TICK_MS = 10;
const AGAIN_EVERY = 67;
/** More than this many unanswered orders, and the generator waits: it shows the network, it does not test its limits. */
const MOST_UNDER_WAY = 256;

/** Starts at once. */
export function startTraffic({ source, clients, rate }: TrafficOptions): Traffic {
  const underWay = new Set<Promise<void>>();
  const startedMs = performance.now();
  let sent = 0;
  let accepted = 0;
  let failed = 0;
  let lastFailure: string | null = null;

  async function send(client: UserClient, order: GeneratedOrder): Promise<void> {
    try {
      const { result, error, status } = await client.send(order);
      if (result !== undefined) accepted++;
      else fail(error?.message ?? `status ${status}`);
    } catch (error) {
      fail(error instanceof Error ? error.message : String(error));
    }
  }
  function fail(reason: string): void {
    failed++;
    lastFailure = reason;
  }
  function launch(client: UserClient, order: GeneratedOrder): void {
    const done = send(client, order).finally(() => underWay.delete(done));
    underWay.add(done);
  }

  const timer = setInterval(() => {
    const due = Math.floor(((performance.now() - startedMs) / 1000) * rate);
    for (; sent < due && underWay.size < MOST_UNDER_WAY; sent++) {
      const client = clients[sent % clients.length];
      if (client === undefined) return;
      const order = source.next();
      launch(client, order);
      if (sent % AGAIN_EVERY === AGAIN_EVERY - 1) launch(client, order);
    }
    // What could not be sent in time is left out instead of following in a burst.
    sent = Math.max(sent, due - rate);
  }, TICK_MS);

  return {
    get accepted() {
      return accepted;
    },
    get failed() {
      return failed;
    },
    get lastFailure() {
      return lastFailure;
    },
    async stop() {
      clearInterval(timer);
      await Promise.all(underWay);
    },
  };
}
