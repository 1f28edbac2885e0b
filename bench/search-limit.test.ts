import * as fc from 'fast-check';
import { expect, test } from 'vitest';
import { searchLimit } from './search-limit.ts';

const OPTIONS = { start: 1_000, most: 20_000, factor: 1.5, precision: 0.05 };

test('finds the limit within the precision, whatever it is', async () => {
  await fc.assert(
    fc.asyncProperty(fc.integer({ min: 100, max: 19_999 }), async (limit) => {
      const { held, failed } = await searchLimit(OPTIONS, async (rate) => rate <= limit);
      expect(held).toBeLessThanOrEqual(limit);
      expect(failed).toBeGreaterThan(limit);
      expect((failed ?? 0) - held).toBeLessThanOrEqual((failed ?? 0) * OPTIONS.precision);
    }),
    { seed: 3, numRuns: 200 },
  );
});

test('one bad try is not the end, two are', async () => {
  const tries: number[] = [];
  const result = await searchLimit(OPTIONS, async (rate) => {
    tries.push(rate);
    const again = tries.filter((other) => other === rate).length > 1;
    return rate <= 10_000 && (again || rate !== 1_500);
  });
  expect(tries.slice(0, 4)).toEqual([1_000, 1_500, 1_500, 2_250]);
  expect(result.held).toBeGreaterThan(9_500);
});

test('never above the highest rate; nothing held is 0', async () => {
  expect(await searchLimit(OPTIONS, async () => true)).toEqual({ held: 20_000, failed: null });
  const nothing = await searchLimit(OPTIONS, async () => false);
  expect(nothing.held).toBe(0);
  expect(nothing.failed).toBeLessThan(1_000 / 32);
});
