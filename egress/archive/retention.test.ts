import { existsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { Retention } from './retention.ts';
import { temporaryFolder } from './testing/spool.ts';

/** A retention of 1000 ms over files a, b, c of 10 bytes, whose newest records came at 0, 100 and 200. */
function kept() {
  const dir = temporaryFolder();
  const time = { wall: 1_750_000_000_000, monotonic: 5000 };
  const retention = new Retention(dir, 1000, { now: () => time.wall, monotonic: () => time.monotonic });
  for (const [position, name] of ['a', 'b', 'c'].entries()) {
    writeFileSync(join(dir, name), '0123456789');
    retention.keep(name, 10, 5000 + position * 100, 5000 + position * 100);
  }
  const there = () => ['a', 'b', 'c'].filter((name) => existsSync(join(dir, name))).join('');
  return { retention, time, there, dir };
}

describe('retention', () => {
  test('nothing goes before its time, then the oldest first', async () => {
    const { retention, time, there } = kept();
    time.monotonic = 5999;
    expect(await retention.expire()).toEqual([]);
    expect([there(), retention.bytes, retention.oldestOpenedAt]).toEqual(['abc', 30, 5000]);
    time.monotonic = 6000;
    expect(await retention.expire()).toEqual(['a']);
    expect([there(), retention.bytes, retention.oldestOpenedAt]).toEqual(['bc', 20, 5100]);
    time.monotonic = 9000;
    expect(await retention.expire()).toEqual(['b', 'c']);
    expect([there(), retention.bytes, retention.oldestOpenedAt]).toEqual(['', 0, null]);
  });

  test('a wall clock that jumps while the node runs deletes nothing', async () => {
    const { retention, time, there } = kept();
    time.wall += 10 * 365 * 86_400_000;
    expect(await retention.expire()).toEqual([]);
    time.wall = 0;
    expect(await retention.expire()).toEqual([]);
    expect(there()).toBe('abc');
  });

  test('ages from before the start come from the wall clock; the future counts as now', () => {
    const { retention, time } = kept();
    expect(retention.monotonicOf((time.wall - 700) * 1000)).toBe(4300);
    expect(retention.monotonicOf((time.wall + 700) * 1000)).toBe(5000);
  });

  test('no hole is left when a segment in the middle would be older', async () => {
    const { retention, time, dir } = kept();
    writeFileSync(join(dir, 'd'), '');
    retention.keep('d', 0, 0, 0);
    time.monotonic = 5500;
    expect(await retention.expire()).toEqual([]);
  });

  test('a segment that someone else has deleted does not stop it', async () => {
    const { retention, time } = kept();
    retention.keep('never there', 10, 5300, 5300);
    time.monotonic = 7000;
    expect(await retention.expire()).toEqual(['a', 'b', 'c', 'never there']);
    expect(retention.bytes).toBe(0);
  });
});
