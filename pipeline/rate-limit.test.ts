import { expect, test } from 'vitest';
import { RateLimiter } from './rate-limit.ts';

test('lets a second of requests come at once, then the rate', () => {
  const limiter = new RateLimiter(10);
  const start = 1_000_000;
  const burst = Array.from({ length: 15 }, () => limiter.take(start));
  expect(burst.filter(Boolean)).toHaveLength(10);
  expect(limiter.take(start + 99_000)).toBe(false);
  expect(limiter.take(start + 101_000)).toBe(true);
  expect(limiter.take(start + 101_000)).toBe(false);
});

test('0 is no limit; a clock that stands still refills nothing', () => {
  const open = new RateLimiter(0);
  expect(Array.from({ length: 1000 }, () => open.take(1)).every(Boolean)).toBe(true);
  const one = new RateLimiter(1);
  expect([one.take(5), one.take(5), one.take(4)]).toEqual([true, false, false]);
});
