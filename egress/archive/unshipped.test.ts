import { existsSync, readdirSync, statSync, utimesSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test, vi } from 'vitest';
import { Retention } from './retention.ts';
import { order } from './testing/orders.ts';
import { append, appendEach, openTestSpool, recordedEvents, temporaryFolder } from './testing/spool.ts';
import { Unshipped } from './unshipped.ts';

const MARKS = { topic: 'orders', maxBytes: 100_000, lowBytes: 50_000, maxMs: 10_000, lowMs: 5_000 };

/** A clock that tests move. */
function handClock(startMs = 1_750_000_000_000) {
  const clock = { ms: 0, now: () => startMs + clock.ms, monotonic: () => clock.ms };
  return clock;
}

describe('what is not shipped', () => {
  test('bytes are counted across segments, ages from when they came', () => {
    const unshipped = new Unshipped(2560);
    unshipped.begin('a', 1000);
    unshipped.grow(500, 1000);
    unshipped.begin('b', 2000);
    unshipped.grow(100, 2000);
    expect([unshipped.bytes, unshipped.ageMs(3000)]).toEqual([600, 2000]);
    unshipped.ship({ segment: 'a', end: 200 });
    expect([unshipped.bytes, unshipped.ageMs(3000)]).toEqual([400, 2000]);
    unshipped.ship({ segment: 'a', end: 500 });
    expect([unshipped.bytes, unshipped.ageMs(3000)]).toEqual([100, 1000]);
    unshipped.grow(150, 2900);
    unshipped.ship({ segment: 'b', end: 100 });
    expect([unshipped.bytes, unshipped.ageMs(3000)]).toEqual([50, 100]);
    unshipped.ship({ segment: 'b', end: 150 });
    expect([unshipped.bytes, unshipped.ageMs(9000)]).toEqual([0, 0]);
    // What came before it says nothing of what comes after silence.
    unshipped.grow(200, 9000);
    expect([unshipped.bytes, unshipped.ageMs(9500)]).toEqual([50, 500]);
  });

  test('a place in a segment that is not there any more, and one that was shipped before', () => {
    const unshipped = new Unshipped(1000);
    unshipped.begin('b', 0);
    unshipped.grow(100, 0);
    unshipped.begin('d', 10);
    unshipped.grow(100, 10);
    unshipped.ship({ segment: 'a', end: 70 });
    expect(unshipped.bytes).toBe(200);
    unshipped.ship({ segment: 'c', end: 70 });
    expect(unshipped.bytes).toBe(100);
    unshipped.ship({ segment: 'b', end: 10 });
    expect(unshipped.bytes).toBe(100);
  });

  test('an outage of any length takes no more memory than its marks', () => {
    const unshipped = new Unshipped(1000);
    unshipped.begin('a', 0);
    for (let n = 1; n <= 10_000; n += 1) unshipped.grow(n * 10, n / 100);
    unshipped.ship({ segment: 'a', end: 50_000 });
    expect(unshipped.ageMs(100)).toBeGreaterThanOrEqual(50);
    expect(unshipped.ageMs(100)).toBeLessThan(50 + 2 * (1000 / 256));
  });
});

describe('backpressure', () => {
  test('by bytes: closed at the high mark, open again at the low one', async () => {
    const events = recordedEvents();
    const dir = temporaryFolder();
    const spool = await openTestSpool(dir, { shipping: MARKS }, { events });
    const large = { ...order(1), value: Buffer.alloc(20_000, 'x') };
    const places = [];
    while (spool.refusal === null) {
      expect(await append(spool, large)).toBe(null);
      places.push(spool.durable);
    }
    expect(spool.state()).toMatchObject({ accepting: false, reason: 'unshipped' });
    expect(spool.refusal?.message).toBe('the brokers of the archive are behind, try again later');
    expect((await append(spool, large))?.message).toBe(spool.refusal?.message);
    // Below the high mark is not enough.
    spool.shipped(places[1]!);
    expect(spool.state().unshipped!.bytes).toBeLessThan(MARKS.maxBytes);
    expect(spool.refusal).not.toBe(null);
    spool.shipped(places[3]!);
    expect(spool.state().unshipped!.bytes).toBeLessThan(MARKS.lowBytes);
    expect(await append(spool, large)).toBe(null);
    expect(events.seen).toEqual(['gateClosed unshipped', 'gateOpened']);
  });

  test('by age, on a clock that nobody sets', async () => {
    const clock = handClock();
    const events = recordedEvents();
    const spool = await openTestSpool(temporaryFolder(), { shipping: MARKS }, { events, clock });
    await appendEach(spool, 1, 2);
    spool.shipped(spool.durable);
    clock.ms = 60_000;
    await appendEach(spool, 3, 3);
    const { durable } = spool;
    clock.ms += 9_000;
    await appendEach(spool, 4, 4);
    expect(spool.state().unshipped!.ageMs).toBe(9_000);
    clock.ms += 1_000;
    await vi.waitFor(() => expect(spool.state().reason).toBe('unshipped'), { timeout: 3000 });
    spool.shipped(durable);
    expect(spool.state()).toMatchObject({ accepting: true, unshipped: { ageMs: 1_000 } });
  });

  test('what was waiting before a restart counts after it', async () => {
    const dir = temporaryFolder();
    const first = await openTestSpool(dir);
    await append(first, { ...order(1), value: Buffer.alloc(120_000, 'x') });
    await first.close();
    const spool = await openTestSpool(dir, { shipping: MARKS });
    expect(spool.state().reason).toBe('unshipped');
  });
});

describe('retention', () => {
  test('nothing goes before it is shipped, and a retention after that', async () => {
    const clock = handClock();
    const dir = temporaryFolder();
    const retention = new Retention(dir, 1000, clock, true);
    for (const name of ['a', 'b', 'c']) retention.keep(name, 10, 0, 0);
    clock.ms = 50_000;
    expect(await retention.expire()).toEqual([]);
    // The first word after a start: what was shipped in earlier runs is dated already.
    await retention.shippedUpTo('b');
    expect(await retention.expire()).toEqual(['a']);
    await retention.shippedUpTo('c');
    expect(await retention.expire()).toEqual([]);
    clock.ms = 51_000;
    expect(await retention.expire()).toEqual(['b']);
    expect(retention.bytes).toBe(10);
  });

  test('a restart knows when a segment was shipped', async () => {
    const dir = temporaryFolder();
    const options = { segmentBytes: 1000, retentionMs: 3_600_000, shipping: MARKS };
    const spool = await openTestSpool(dir, options);
    await appendEach(spool, 1, 12);
    const [oldest, next] = readdirSync(dir)
      .filter((name) => name.endsWith('.segment'))
      .toSorted();
    const long = new Date(Date.now() - 86_400_000);
    for (const name of [oldest!, next!]) utimesSync(join(dir, name), long, long);
    spool.shipped({ segment: next!, end: 0, epoch: 1, sequence: 1 });
    spool.shipped(spool.durable);
    await vi.waitFor(() => expect(statSync(join(dir, next!)).mtimeMs).toBeGreaterThan(Date.now() - 60_000));
    await spool.close();
    expect(existsSync(join(dir, oldest!))).toBe(true);
  });
});

test.each([
  [{ lowBytes: 100_000 }, 'shipping.lowBytes: above 0 and below shipping.maxBytes'],
  [{ lowMs: 10_000 }, 'shipping.lowMs: above 0 and below shipping.maxMs'],
])('marks that make no sense: %j', async (change, message) => {
  await expect(openTestSpool(temporaryFolder(), { shipping: { ...MARKS, ...change } })).rejects.toThrow(
    message,
  );
});

test.each([-1, 1.5, 2 ** 31])('partition %d', async (partition) => {
  await expect(openTestSpool(temporaryFolder(), { partition })).rejects.toThrow('partition: a whole number');
});
