import * as fc from 'fast-check';
import { expect, test } from 'vitest';
import { leastP, median, rankTest, ratioInterval, slope } from './statistics.ts';

test('the median is the middle value, or between the two middle ones', () => {
  expect(median([3, 1, 2])).toBe(2);
  expect(median([4, 1, 2, 3])).toBe(2.5);
  expect(median([7])).toBe(7);
  expect(median([])).toBeNaN();
});

test('the rank test gives the exact probabilities of the tables', () => {
  // Five against five without overlap: 2 of C(10, 5) = 252 deals.
  expect(rankTest([1, 2, 3, 4, 5], [6, 7, 8, 9, 10])).toBeCloseTo(2 / 252, 12);
  // One exchange more: U = 1, p = 4 / 252 = 0.0159.
  expect(rankTest([1, 2, 3, 4, 6], [5, 7, 8, 9, 10])).toBeCloseTo(4 / 252, 12);
  // R: wilcox.test(c(1.1, 2.2, 3.3, 4.4), c(2.5, 3.5, 4.5, 5.5, 6.5))$p.value
  expect(rankTest([1.1, 2.2, 3.3, 4.4], [2.5, 3.5, 4.5, 5.5, 6.5])).toBeCloseTo(0.111_111_111, 9);
  expect(rankTest([1, 1, 1], [1, 1, 1])).toBe(1);
  expect(rankTest([], [1])).toBe(1);
});

test('ties get their mean rank', () => {
  // Ranks 1, 2.5 | 2.5, 4 of four: sums 3.5 against 6.5; the deals {1, 2.5} (twice) and {2.5, 4} (twice) are as extreme.
  expect(rankTest([1, 2], [2, 3])).toBeCloseTo(4 / 6, 12);
});

const sample = fc.array(fc.integer({ min: 0, max: 20 }), { minLength: 1, maxLength: 6 });

test('the rank test agrees with counting every deal', () => {
  fc.assert(
    fc.property(sample, sample, (a, b) => {
      expect(rankTest(a, b)).toBeCloseTo(countedP(a, b), 9);
    }),
    { seed: 5, numRuns: 60 },
  );
});

/** By brute force: every way to choose which of the pooled values are the first sample. */
function countedP(a: readonly number[], b: readonly number[]): number {
  const pooled = [...a, ...b];
  const ranks = pooled.map((value) => {
    const below = pooled.filter((other) => other < value).length;
    const equal = pooled.filter((other) => other === value).length;
    return below + (equal + 1) / 2;
  });
  const expected = (a.length * (pooled.length + 1)) / 2;
  const distance = Math.abs(ranks.slice(0, a.length).reduce((sum, rank) => sum + rank, 0) - expected);
  let all = 0;
  let extreme = 0;
  for (let mask = 0; mask < 2 ** pooled.length; mask++) {
    const chosen = ranks.filter((_, index) => (mask >> index) & 1);
    if (chosen.length !== a.length) continue;
    all++;
    const sum = chosen.reduce((total, rank) => total + rank, 0);
    if (Math.abs(sum - expected) >= distance - 1e-9) extreme++;
  }
  return extreme / all;
}

test('small samples cannot show anything', () => {
  expect(leastP(5, 5)).toBeCloseTo(2 / 252, 12);
  expect(leastP(3, 3)).toBeCloseTo(0.1, 12);
  expect(leastP(1, 1)).toBe(1);
});

test('the interval of a ratio is seeded, and holds the ratio', () => {
  const a = [10, 11, 10.5, 9.8, 10.2];
  const b = [20, 21, 22, 19.5, 20.4];
  const [low, high] = ratioInterval(a, b);
  expect(ratioInterval(a, b)).toEqual([low, high]);
  expect(low).toBeLessThanOrEqual(median(b) / median(a));
  expect(high).toBeGreaterThanOrEqual(median(b) / median(a));
  expect(low).toBeGreaterThan(1.7);
  expect(high).toBeLessThan(2.4);
  expect(ratioInterval([4], [2])).toEqual([0.5, 0.5]);
});

test('the slope is not moved by an outlier', () => {
  const line = Array.from({ length: 50 }, (_, x) => [x, 3 + 2 * x] as const);
  expect(slope(line)).toBeCloseTo(2, 12);
  expect(slope([...line, [25, 1e9]])).toBeCloseTo(2, 9);
  expect(slope([[1, 1]])).toBe(0);
});
