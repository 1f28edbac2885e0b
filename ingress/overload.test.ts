/** The fair queue's policy for overload as a whole, against a clock and a processor that are played. */
import { expect, test } from 'vitest';
import { FairQueue, type Party } from './fair-queue.ts';

/** What reading an order and working it off take, and refusing one. */
const ORDER_US = 200;
const REFUSAL_US = 20;

interface Client {
  /** Orders per second on each of its connections. */
  readonly rate: number;
  readonly connections: number;
  readonly party?: Party;
  readonly fromMs?: number;
  /** Each connection has sent an order before, in the first 500 ms. */
  readonly known?: boolean;
  readonly untilMs: number;
  /** On each connection, then no more. */
  readonly orders?: number;
}

interface Order {
  readonly client: number;
  readonly key: { unanswered: number };
  readonly cameMs: number;
}

interface Outcome {
  taken: number;
  refused: number;
  readonly waitsMs: number[];
}

/**
 * Plays clients against a queue and a thread that does one thing at a time.
 *
 * @param pause ms for which the thread does nothing, after so many ms each time
 * @returns what became of each client's orders, and how long the thread had nothing to do
 */
function play(clients: readonly Client[], pause: { ms: number; everyMs: number } | null = null) {
  let now = 1;
  let idleMs = 0;
  const turns: (() => void)[] = [];
  const outcomes = clients.map((): Outcome => ({ taken: 0, refused: 0, waitsMs: [] }));
  const queue = new FairQueue<Order>(
    { maxBytes: 1e9, maxWaitMs: 10, maxBurstWaitMs: 1000 },
    {
      submit: ({ client, key, cameMs }) => {
        now += ORDER_US / 1000;
        key.unanswered -= 1;
        outcomes[client]?.waitsMs.push(now - cameMs);
      },
      schedule: (turn) => void turns.push(turn),
      now: () => now,
    },
  );
  const asks = clients
    .flatMap(({ rate, connections, fromMs = 0, known, untilMs, orders = Number.POSITIVE_INFINITY }, client) =>
      Array.from({ length: connections }, (_, index) => {
        const key = { unanswered: 0 };
        const everyMs = 1000 / rate;
        const firstMs = fromMs + (index / connections) * everyMs;
        const count = Math.min(orders, Math.ceil((untilMs - firstMs) / everyMs));
        const times = Array.from({ length: count }, (_, order) => firstMs + order * everyMs);
        if (known === true) times.unshift((500 * index) / connections);
        return times.map((atMs) => ({ client, key, atMs }));
      }).flat(),
    )
    .toSorted((a, b) => a.atMs - b.atMs);
  let pauseMs = pause?.everyMs ?? Number.POSITIVE_INFINITY;
  let next = 0;
  while (next < asks.length || turns.length > 0) {
    const due = asks[next]?.atMs ?? Number.POSITIVE_INFINITY;
    if (turns.length === 0 && due > now) {
      idleMs += due - now;
      now = due;
    }
    if (now >= pauseMs && pause !== null) {
      now += pause.ms;
      pauseMs += pause.everyMs;
    }
    // All that has come since the last turn is read.
    const readMs = now;
    for (; next < asks.length; next += 1) {
      const { client, key, atMs } = asks[next] as (typeof asks)[number];
      if (atMs > readMs) break;
      const outcome = outcomes[client] as Outcome;
      const party = clients[client]?.party ?? 'users';
      key.unanswered += 1;
      const order = { client, key, cameMs: atMs };
      if ((queue.refusal(key, party, 3000) ?? queue.offer(key, party, order, 3000)) === null) {
        outcome.taken += 1;
      } else {
        outcome.refused += 1;
        key.unanswered -= 1;
        now += REFUSAL_US / 1000;
      }
    }
    turns.shift()?.();
  }
  expect(queue.length).toBe(0);
  return { outcomes, idleMs };
}

/** @returns the wait that so large a part of them had at most, ms */
function quantile({ waitsMs }: Outcome, part: number): number {
  return waitsMs.toSorted((a, b) => a - b)[Math.floor(part * (waitsMs.length - 1))] ?? 0;
}

function only<T>(list: readonly T[]): T {
  expect(list).toHaveLength(1);
  return list[0] as T;
}

test.each([
  [1, 2000],
  [64, 31],
  [1000, 2],
])('%i connections with %i orders/s each, and pauses of 50 ms: all are taken', (connections, rate) => {
  const { outcomes } = play([{ connections, rate, untilMs: 3000 }], { ms: 50, everyMs: 150 });
  expect(only(outcomes).refused).toBe(0);
});

test('a thousand new connections with one order each are all taken, and so is what comes beside them', () => {
  const { outcomes } = play([
    { connections: 64, rate: 31, untilMs: 2000 },
    { connections: 1000, rate: 1000, orders: 1, fromMs: 1000, untilMs: 1001 },
  ]);
  const [steady, burst] = outcomes as [Outcome, Outcome];
  expect([steady.refused, burst.refused, burst.taken]).toEqual([0, 0, 1000]);
  // Whose orders have come before does not stand behind a thousand newcomers.
  expect(quantile(steady, 1)).toBeLessThan(20);
});

test('clients that wait for each answer are not too many because they keep the node busy', () => {
  // As many as are answered in the time that they take: 64 connections, each with its next order when it is free.
  const { outcomes } = play([{ connections: 64, rate: 1_000_000 / ORDER_US / 64, untilMs: 3000 }]);
  expect(only(outcomes).refused).toBe(0);
});

test.each([1.2, 2, 4])(
  '%i times what can be worked off: the thread stays busy, what is taken waits little',
  (times) => {
    const capacity = 1_000_000 / ORDER_US;
    const untilMs = 4000;
    const { outcomes, idleMs } = play([
      { connections: 256, rate: (times * capacity) / 256, known: true, fromMs: 500, untilMs },
    ]);
    const flood = only(outcomes);
    // What refusing leaves.
    const best = (capacity * (untilMs - 500)) / 1000 - (flood.refused * REFUSAL_US) / ORDER_US;
    expect(flood.taken).toBeGreaterThan(0.97 * best);
    expect(idleMs).toBeLessThan(500);
    expect(quantile(flood, 0.5)).toBeLessThan(20);
    expect(quantile(flood, 0.99)).toBeLessThan(125);
  },
);

test.each([1, 16, 256, 1000])(
  'a flood on %i connections costs a client nothing that sends a little',
  (connections) => {
    const { outcomes } = play([
      { connections, rate: 20_000 / connections, fromMs: 1000, untilMs: 6000 },
      { connections: 4, rate: 1, untilMs: 6000 },
    ]);
    const [flood, polite] = outcomes as [Outcome, Outcome];
    expect(flood.refused).toBeGreaterThan(flood.taken);
    expect(polite.refused).toBe(0);
    expect(quantile(polite, 1)).toBeLessThan(150);
  },
);

test('a flood of users takes nothing from the peers', () => {
  const { outcomes } = play([
    { connections: 256, rate: 80, untilMs: 3000 },
    { connections: 2, rate: 500, untilMs: 3000, party: 'peers' },
  ]);
  const [flood, peers] = outcomes as [Outcome, Outcome];
  expect(flood.refused).toBeGreaterThan(flood.taken);
  expect(peers.refused).toBe(0);
  expect(quantile(peers, 0.99)).toBeLessThan(10);
});

test('peers that send more than can be worked off are refused too, and leave the users half', () => {
  const { outcomes } = play([
    { connections: 64, rate: 20, untilMs: 6000 },
    { connections: 16, rate: 1000, untilMs: 6000, party: 'peers' },
  ]);
  const [users, peers] = outcomes as [Outcome, Outcome];
  expect(users.refused).toBe(0);
  expect(peers.refused).toBeGreaterThan(peers.taken);
  expect(quantile(peers, 1)).toBeLessThan(2500);
});

test('connections that each come once, without end: beyond a burst they are refused', () => {
  const newcomers = Array.from({ length: 60 }, (_, i) => ({
    connections: 1000,
    rate: 10,
    orders: 1,
    fromMs: 100 * i,
    untilMs: 100 * i + 100,
  }));
  const { outcomes } = play(newcomers);
  const late = outcomes.slice(30);
  expect(late.reduce((sum, { taken }) => sum + taken, 0)).toBeGreaterThan(0.7 * 3000 * 5 * 0.8);
  for (const outcome of late) expect(quantile(outcome, 1)).toBeLessThan(200);
});

test('after a flood everything is taken again', () => {
  const { outcomes } = play([
    { connections: 256, rate: 80, untilMs: 2000 },
    { connections: 256, rate: 12, fromMs: 2200, untilMs: 4000 },
  ]);
  expect(outcomes[0]?.refused).toBeGreaterThan(0);
  expect(outcomes[1]?.refused).toBe(0);
});
