/**
 * The clients of a chaos run: orders at an even rate, one node after the other, each sent to its node over and over,
 * byte for byte the same, until it answers with success. What became of each order is kept.
 *
 * Some orders are sent twice at once, as clients do. Orders whose canonical form is another one with each send
 * (mev_sendBundle with a UUID and no nonce, protocol section 4) are left out: nobody could tell their copies apart.
 */
import { hash } from 'node:crypto';
import type { UserClient } from '../devnet/client.ts';
import { answerProblem } from '../devnet/once.ts';
import type { GeneratedOrder, OrderSource } from '../devnet/orders.ts';
import { delay, unixMs } from './chaos-process.ts';

/** What became of one order. Times in unix ms. */
export interface SentOrder {
  readonly sequence: number;
  readonly method: string;
  /** SHA-256 of its canonical bytes, 64 hex digits. */
  readonly digest: string;
  /** The node that it was sent to. */
  readonly node: string;
  /** Is a second copy recognised (protocol section 4: cancellations never are)? */
  readonly deduplicated: boolean;
  /** How often it was sent, over all tries. */
  sends: number;
  readonly firstSentAt: number;
  /** Begin of the try that was answered, or of the last one. */
  lastSentAt: number;
  /** null: no success answer came. */
  acknowledgedAt: number | null;
  /** When the last try failed that was followed by another; 0 when none was. */
  lastFailedAt: number;
}

export interface ChaosTraffic {
  readonly orders: readonly SentOrder[];
  /** Wrong answers, a sentence each. */
  readonly faults: readonly string[];
  readonly acknowledged: number;
  /** Tries that got no answer, or one that says to come again. */
  readonly retries: number;
  /** Begins no new orders; resolves when every order is acknowledged, or after `patienceMs`. */
  stop(patienceMs: number): Promise<void>;
}

export interface ChaosTrafficOptions {
  readonly source: OrderSource;
  readonly targets: readonly { readonly name: string; readonly client: UserClient }[];
  /** Orders per second over all nodes. */
  readonly rate: number;
}

const TICK_MS = 10;
const RETRY_MS = 100;
/** Tries under way at one node; further ones wait. Fewer than the client has connections, so that none waits there. */
const TRIES_AT_ONCE = 16;
const TWICE_EVERY = 23;
/** overloaded, shutting_down, archive_unavailable (pipeline/errors.ts). */
const COME_AGAIN = -32_005;

/** Starts at once. */
export function startChaosTraffic({ source, targets, rate }: ChaosTrafficOptions): ChaosTraffic {
  const orders: SentOrder[] = [];
  const faults: string[] = [];
  const underWay = new Set<Promise<void>>();
  const startedMs = performance.now();
  let retries = 0;
  const patience = new AbortController();
  const turns = new Map<string, Turns>();

  async function sendUntilAcknowledged(
    order: GeneratedOrder,
    sent: SentOrder,
    client: UserClient,
  ): Promise<void> {
    const turn = turns.get(sent.node) ?? new Turns(TRIES_AT_ONCE);
    turns.set(sent.node, turn);
    for (;;) {
      await turn.take();
      if (patience.signal.aborted) return turn.giveBack();
      const begunAt = unixMs();
      sent.sends++;
      const answer = await client.send(order).catch(() => null);
      turn.giveBack();
      if (answer !== null && answer.error?.code !== COME_AGAIN) {
        const problem = answerProblem(order, answer);
        if (problem !== null)
          faults.push(`${sent.node}, order ${sent.sequence} (${sent.method}): ${problem}`);
        else if (sent.acknowledgedAt === null) {
          sent.lastSentAt = begunAt;
          sent.acknowledgedAt = unixMs();
        }
        return;
      }
      retries++;
      sent.lastFailedAt = unixMs();
      await delay(RETRY_MS);
    }
  }

  function launch(order: GeneratedOrder, { name, client }: ChaosTrafficOptions['targets'][number]): void {
    const now = unixMs();
    const sent: SentOrder = {
      sequence: order.sequence,
      method: order.method,
      digest: hash('sha256', order.canonical),
      node: name,
      deduplicated: order.method !== 'eth_cancelBundle',
      sends: 0,
      firstSentAt: now,
      lastSentAt: now,
      acknowledgedAt: null,
      lastFailedAt: 0,
    };
    orders.push(sent);
    const copies = sent.deduplicated && orders.length % TWICE_EVERY === 0 ? 2 : 1;
    for (let copy = 0; copy < copies; copy++) {
      const done = sendUntilAcknowledged(order, sent, client).finally(() => underWay.delete(done));
      underWay.add(done);
    }
  }

  const timer = setInterval(() => {
    const due = Math.floor(((performance.now() - startedMs) / 1000) * rate);
    while (orders.length < due) {
      const target = targets[orders.length % targets.length];
      if (target === undefined) return;
      launch(nextSuitable(source), target);
    }
  }, TICK_MS);

  return {
    orders,
    faults,
    get acknowledged() {
      return orders.filter((order) => order.acknowledgedAt !== null).length;
    },
    get retries() {
      return retries;
    },
    async stop(patienceMs) {
      clearInterval(timer);
      const timeout = setTimeout(() => patience.abort(), patienceMs);
      await Promise.all(underWay);
      clearTimeout(timeout);
    },
  };
}

/** Lets so many in at once; the others wait in order. */
class Turns {
  readonly #waiting: (() => void)[] = [];
  #free: number;

  constructor(atOnce: number) {
    this.#free = atOnce;
  }

  async take(): Promise<void> {
    if (this.#free > 0) this.#free--;
    else await new Promise<void>((resolve) => this.#waiting.push(resolve));
  }

  giveBack(): void {
    const next = this.#waiting.shift();
    if (next === undefined) this.#free++;
    else next();
  }
}

function nextSuitable(source: OrderSource): GeneratedOrder {
  for (;;) {
    const order = source.next();
    const changes = order.method === 'mev_sendBundle' && order.canonical.includes('"replacementUuid"');
    if (!changes) return order;
  }
}
