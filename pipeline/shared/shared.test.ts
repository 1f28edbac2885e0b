/** What several threads of a node share, from one thread and from several at once. */
import { hash } from 'node:crypto';
import { once } from 'node:events';
import { Worker } from 'node:worker_threads';
import fc from 'fast-check';
import { describe, expect, onTestFinished, test } from 'vitest';
import { readDigest } from '../digest-ring.ts';
import type { Address } from '../order.ts';
import { clockMemory, createSharedClock } from './clock.ts';
import { noncesMemory, SharedNonces } from './nonces.ts';
import { limiterMemory, SharedLimiter } from './rate-limit.ts';
import { SharedTable, tableMemory } from './table.ts';
import { SharedWindow, windowMemory } from './window.ts';

const WINDOW_US = 100;
const NOW = 1_718_030_000_123_456;
const keyOf = (name: unknown) => hash('sha256', String(name), 'hex');
const failed = new Error('the disk is full');

/** The windows of two threads, as one thread sees them. */
function twoWindows(maxKeys = 1024) {
  const memory = windowMemory(maxKeys);
  const clock = () => NOW;
  const [a, b] = [2, 3].map((owner) => new SharedWindow({ memory, owner, windowUs: WINDOW_US, clock }));
  const trunk = new SharedWindow({ memory, owner: 1, windowUs: WINDOW_US, clock });
  onTestFinished(() => b!.close());
  return { a: a!, b: b!, trunk };
}

describe('SharedWindow', () => {
  test('what one thread adds the other finds, within the window', () => {
    const { a, b } = twoWindows();
    expect(a.add(keyOf(1), NOW, 'none')).toMatchObject({ archive: 'none', forwarded: true });
    expect(b.find(keyOf(1), NOW + WINDOW_US)).toMatchObject({ receivedAtUs: NOW, archive: 'none' });
    expect(b.find(keyOf(1), NOW + WINDOW_US + 1)).toBeNull();
    expect(b.find(keyOf(2), NOW)).toBeNull();
    expect([a.size, b.size]).toEqual([1, 0]);
  });

  test('only one of two adds, forwards, appends', () => {
    const { a, b } = twoWindows();
    expect(a.add(keyOf(1), NOW, 'none')).not.toBeNull();
    expect(b.add(keyOf(1), NOW + 1, 'none')).toBeNull();
    const [seenByA, seenByB] = [a.find(keyOf(1), NOW), b.find(keyOf(1), NOW)];
    expect([a.append(seenByA!), b.append(seenByB!)]).toEqual([true, false]);
    a.add(keyOf(2), NOW, 'durable', false);
    const [again, late] = [a.find(keyOf(2), NOW), b.find(keyOf(2), NOW)];
    expect([again?.forwarded, late?.forwarded]).toEqual([false, false]);
    expect([b.forward(late!), a.forward(again!)]).toEqual([true, false]);
    // A key whose time is over is free again.
    expect(b.add(keyOf(1), NOW + 1000, 'none')?.receivedAtUs).toBe(NOW + 1000);
  });

  test.each([null, failed])('whoever waits, here or there, is told of %s', async (outcome) => {
    const { a, b, trunk } = twoWindows();
    const seen = a.add(keyOf(1), NOW, 'pending');
    const told: (Error | null)[] = [];
    a.wait(a.find(keyOf(1), NOW)!, (error) => told.push(error));
    const there = new Promise<Error | null>((resolve) => {
      b.wait(b.find(keyOf(1), NOW)!, resolve);
    });
    trunk.settled(keyOf(1), 2, outcome === null);
    a.settle(seen!, outcome);
    expect(told).toEqual([outcome]);
    expect(await there).toEqual(outcome === null ? null : new Error('try again'));
    expect(b.find(keyOf(1), NOW)?.archive).toBe(outcome === null ? 'durable' : 'none');
  });

  test('the word on an order of another thread changes nothing', () => {
    const { a, b } = twoWindows();
    a.add(keyOf(1), NOW, 'pending');
    b.settled(keyOf(1), 3, true);
    expect(b.find(keyOf(1), NOW)?.archive).toBe('pending');
  });

  test('of a thread that has ended: the lost are free, the archived stay, the last are forwarded again', () => {
    const { a, b, trunk } = twoWindows();
    a.add(keyOf('lost'), NOW, 'pending');
    a.add(keyOf('with the archive'), NOW, 'pending');
    a.add(keyOf('old'), NOW, 'durable');
    a.add(keyOf('last'), NOW + 50, 'durable');
    b.add(keyOf('of another'), NOW + 50, 'pending');
    const inArchive = new Set([keyOf('with the archive').slice(0, 32)]);
    trunk.abandoned(2, NOW + 50, (key) => inArchive.has(key));
    const of = (name: string) => {
      const seen = trunk.find(keyOf(name), NOW + 50);
      return [seen?.archive, seen?.forwarded];
    };
    expect(of('lost')).toEqual(['none', false]);
    expect(of('with the archive')).toEqual(['pending', true]);
    expect(of('old')).toEqual(['durable', true]);
    expect(of('last')).toEqual(['durable', false]);
    expect(of('of another')).toEqual(['pending', true]);
    trunk.settled(keyOf('with the archive'), 2, true);
    expect(of('with the archive')).toEqual(['durable', true]);
  });

  test('in a full bucket the oldest makes room', () => {
    const { a, b } = twoWindows(16);
    for (let i = 0; i <= 16; i++) a.add(keyOf(i), NOW + i, 'none');
    expect(b.find(keyOf(0), NOW)).toBeNull();
    for (let i = 1; i <= 16; i++) expect(b.find(keyOf(i), NOW)).not.toBeNull();
  });

  test('agrees with a plain model while it has room', () => {
    const step = fc.record({ key: fc.nat(8), wait: fc.nat(40), by: fc.boolean() });
    fc.assert(
      fc.property(fc.array(step, { maxLength: 200 }), (steps) => {
        const { a, b } = twoWindows();
        const model = new Map<number, number>();
        let now = NOW;
        for (const { key, wait, by } of steps) {
          now += wait;
          const at = model.get(key);
          const known = at !== undefined && now - at <= WINDOW_US;
          const window = by ? a : b;
          expect(window.find(keyOf(key), now)?.receivedAtUs).toBe(known ? at : undefined);
          expect(window.add(keyOf(key), now, 'none') === null).toBe(known);
          if (!known) model.set(key, now);
        }
      }),
      { seed: 12, numRuns: 200 },
    );
  });
});

test('a lock whose thread has ended is taken after a second', () => {
  const memory = tableMemory(16);
  const key = new Int32Array(4);
  readDigest(keyOf(1), key);
  new SharedTable(memory, 2).lock(key);
  const table = new SharedTable(memory, 3);
  const before = performance.now();
  table.unlock(table.lock(key));
  expect(performance.now() - before).toBeGreaterThan(500);
});

describe('SharedNonces', () => {
  const signer: Address = `0x${'11'.repeat(20)}`;
  const uuid = '01234567-89ab-cdef-0123-456789abcdef';

  test('count per UUID and signer over all threads, and start anew after a minute', () => {
    const memory = noncesMemory();
    const [a, b] = [new SharedNonces(memory, 2), new SharedNonces(memory, 3)];
    expect([a.next(uuid, signer, NOW), b.next(uuid, signer, NOW + 1), a.next(uuid, signer, NOW + 2)]).toEqual(
      [0, 1, 2],
    );
    expect(b.next(uuid, `0x${'22'.repeat(20)}`, NOW)).toBe(0);
    expect(b.next(uuid, signer, NOW + 60_000_001)).toBe(3);
    expect(a.next(uuid, signer, NOW + 120_000_001)).toBe(0);
  });
});

describe('SharedLimiter', () => {
  test("a second's worth at once, then the rate, over all threads", () => {
    const memory = limiterMemory();
    const [a, b] = [new SharedLimiter(memory, 4), new SharedLimiter(memory, 4)];
    expect([a, b, a, b, a].map((limiter) => limiter.take(NOW))).toEqual([true, true, true, true, false]);
    expect([a.take(NOW + 250_000), b.take(NOW + 250_000)]).toEqual([true, false]);
    expect(new SharedLimiter(limiterMemory(), 0).take(NOW)).toBe(true);
  });
});

describe('the shared clock', () => {
  test('never repeats or goes back, and follows the system clock', () => {
    const memory = clockMemory();
    let wall = 1_000_000;
    let monotonic = 0;
    const create = () =>
      createSharedClock(
        memory,
        () => wall,
        () => monotonic,
      );
    const [a, b] = [create(), create()];
    const pass = (wallMs: number) => {
      wall += wallMs;
      monotonic += 1;
    };
    const first = a.give();
    expect(first).toBe(1_000_000_000);
    pass(3_600_000);
    const second = b.give();
    expect(second - first).toBe(3_600_000_000);
    expect(a.read()).toBe(second);
    pass(-3_600_000);
    // Given times creep on; what is read is the thread's own last one, or the system's time.
    const times = [second, a.give(), b.give(), a.give()];
    expect(times).toEqual([0, 1, 2, 3].map((us) => second + us));
    expect([a.read(), b.read(), create().read()]).toEqual([second + 3, second + 2, 1_000_000_000]);
    pass(3_600_000);
    expect([a.read(), b.read()]).toEqual([second + 3, second + 2]);
    pass(1);
    expect([a.read(), b.read()]).toEqual([second + 1_000, second + 1_000]);
  });
});

/** Adds, counts and reads the clock as fast as it can. */
const WORK = `
  import { parentPort, workerData } from 'node:worker_threads';
  const { urls, window: memory, nonces, limiter, clock: clockMemory, owner, keys } = workerData;
  const { SharedWindow } = await import(urls.window);
  const { SharedNonces } = await import(urls.nonces);
  const { SharedLimiter } = await import(urls.limiter);
  const { createSharedClock } = await import(urls.clock);
  const { give: clock } = createSharedClock(clockMemory);
  const window = new SharedWindow({ memory, owner, windowUs: 60e6, clock });
  const counter = new SharedNonces(nonces, owner);
  const limit = new SharedLimiter(limiter, 500);
  const added = [], given = [], times = [];
  let taken = 0;
  const now = clock();
  for (const key of keys) {
    if (window.add(key, clock(), 'none') !== null) added.push(key);
    given.push(counter.next('uuid', '0x', now));
    times.push(clock());
    if (limit.take(now)) taken += 1;
  }
  parentPort.postMessage({ added, given, times, taken });
`;

test('three threads at once: each key is added once, each nonce and time given once, the limit holds', async () => {
  const keys = Array.from({ length: 5_000 }, (_, i) => keyOf(i));
  const urlOf = (file: string) => new URL(file, import.meta.url).href;
  const shared = {
    urls: {
      window: urlOf('./window.ts'),
      nonces: urlOf('./nonces.ts'),
      limiter: urlOf('./rate-limit.ts'),
      clock: urlOf('./clock.ts'),
    },
    window: windowMemory(65_536),
    nonces: noncesMemory(),
    limiter: limiterMemory(),
    clock: clockMemory(),
    keys,
  };
  const entry = new URL(`data:text/javascript,${encodeURIComponent(WORK)}`);
  const results = await Promise.all(
    [2, 3, 4].map(async (owner) => {
      const worker = new Worker(entry, { workerData: { ...shared, owner } });
      onTestFinished(async () => void (await worker.terminate()));
      const [result] = await once(worker, 'message');
      return result as { added: string[]; given: number[]; times: number[]; taken: number };
    }),
  );
  expect(new Set(results.flatMap(({ added }) => added))).toEqual(new Set(keys));
  expect(results.flatMap(({ added }) => added)).toHaveLength(keys.length);
  expect(results.flatMap(({ given }) => given).toSorted((x, y) => x - y)).toEqual(
    Array.from({ length: 3 * keys.length }, (_, i) => i),
  );
  expect(new Set(results.flatMap(({ times }) => times)).size).toBe(3 * keys.length);
  for (const { times } of results) expect(times).toEqual(times.toSorted((x, y) => x - y));
  // A second's worth for each of the three moments at which they looked, at most.
  const taken = results.reduce((sum, result) => sum + result.taken, 0);
  expect(taken).toBeGreaterThanOrEqual(500);
  expect(taken).toBeLessThan(3 * keys.length);
});
