import { gzipSync } from 'node:zlib';
import { describe, expect, test } from 'vitest';
import { Gathered } from './gathered.ts';
import { type GunzipFailure, GunzipJob, GunzipQueue, gunzipQuickly } from './gunzip.ts';

const MAX = 10_000_000;

function job(queue: GunzipQueue, input: Buffer) {
  const output = new Gathered(() => undefined);
  const done = Promise.withResolvers<GunzipFailure | null>();
  const made = new GunzipJob(input, output, MAX, done.resolve);
  queue.add(made);
  return { made, output, done: done.promise };
}

describe('gunzipQuickly', () => {
  test('small ones at once, whole or damaged', () => {
    expect(gunzipQuickly(gzipSync('hello'), MAX)).toEqual(Buffer.from('hello'));
    expect(gunzipQuickly(gzipSync(Buffer.alloc(65_536)), MAX)).toHaveLength(65_536);
    expect(gunzipQuickly(Buffer.concat([gzipSync('one '), gzipSync('two')]), MAX)).toEqual(
      Buffer.from('one two'),
    );
    expect(gunzipQuickly(Buffer.from('no gzip'), MAX)).toBe('bad_gzip');
    // Its last four bytes are no size.
    expect(gunzipQuickly(Buffer.alloc(1000, '{'), MAX)).toBe('bad_gzip');
    expect(gunzipQuickly(gzipSync('hello').subarray(0, 15), MAX)).toBe('bad_gzip');
    expect(gunzipQuickly(Buffer.alloc(0), MAX)).toBe('bad_gzip');
  });

  test('what takes longer is left for later', () => {
    expect(gunzipQuickly(gzipSync(Buffer.alloc(65_537)), MAX)).toBeNull();
  });

  test('what says itself that it is too big is believed', () => {
    expect(gunzipQuickly(gzipSync(Buffer.alloc(MAX + 1)), MAX)).toBe('too_big');
    expect(gunzipQuickly(gzipSync(Buffer.alloc(11)), 10)).toBe('too_big');
  });
});

describe('GunzipQueue', () => {
  test('whole, damaged, too big though it says otherwise', async () => {
    const queue = new GunzipQueue();
    const body = Buffer.alloc(MAX, 'abc');
    const whole = job(queue, gzipSync(body));
    const damaged = job(queue, gzipSync(body).subarray(0, 5000));
    const big = gzipSync(Buffer.alloc(2 * MAX));
    big.writeUInt32LE(5, big.length - 4);
    const liar = job(queue, big);
    expect(await Promise.all([whole.done, damaged.done, liar.done])).toEqual([null, 'bad_gzip', 'too_big']);
    expect(whole.output.join().equals(body)).toBe(true);
  });

  test('two at a time; one that is cancelled makes room', async () => {
    const queue = new GunzipQueue();
    const bomb = gzipSync(Buffer.alloc(MAX));
    const jobs = Array.from({ length: 4 }, () => job(queue, bomb));
    expect(jobs.map(({ made }) => made.gunzip !== null)).toEqual([true, true, false, false]);
    for (const { made } of jobs.slice(0, 3)) queue.cancel(made);
    expect(jobs[3]?.made.gunzip).not.toBeNull();
    expect(await jobs[3]?.done).toBeNull();
    expect(jobs[3]?.output.length).toBe(MAX);
  });
});
