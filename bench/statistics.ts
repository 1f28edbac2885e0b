/**
 * The statistics of repeated runs. Times are skewed and have outliers, so nothing here assumes a normal
 * distribution: medians, a rank test for "is there a difference", a bootstrap interval for "how large".
 */
import { SeededSource } from '../devnet/seeded.ts';

/** @returns the middle value, or the mean of the two middle ones; NaN of nothing. */
export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length / 2;
  if (Number.isInteger(middle))
    return ((sorted[middle - 1] ?? Number.NaN) + (sorted[middle] ?? Number.NaN)) / 2;
  return sorted[Math.floor(middle)] ?? Number.NaN;
}

/**
 * Two-sided rank-sum test of Wilcoxon (Mann and Whitney), exact: counts how many of all ways to deal the pooled
 * ranks to the two samples are at least as extreme as the one seen. Ties get their mean rank.
 *
 * @returns the probability of a difference at least this large if both came from the same distribution; 1 when
 *   one of them is empty. Cost grows with the cube of the number of values: meant for tens.
 */
export function rankTest(a: readonly number[], b: readonly number[]): number {
  if (a.length === 0 || b.length === 0) return 1;
  const ranks = doubledRanks([...a, ...b]);
  const total = ranks.reduce((sum, rank) => sum + rank, 0);
  const observed = ranks.slice(0, a.length).reduce((sum, rank) => sum + rank, 0);
  const ways = waysToSum(ranks, a.length, total);
  const expected = (total * a.length) / ranks.length;
  const distance = Math.abs(observed - expected) - 1e-9;
  let all = 0;
  let extreme = 0;
  for (let sum = 0; sum <= total; sum++) {
    const count = ways[sum] ?? 0;
    all += count;
    if (Math.abs(sum - expected) >= distance) extreme += count;
  }
  return extreme / all;
}

/** @returns the least p that samples of these sizes can give: when nothing overlaps, 2 of all ways. */
export function leastP(sizeA: number, sizeB: number): number {
  let ways = 1;
  for (let i = 1; i <= sizeB; i++) ways = (ways * (sizeA + i)) / i;
  return Math.min(1, 2 / ways);
}

/** Twice the rank of each value, so that the mean ranks of ties stay whole. */
function doubledRanks(values: readonly number[]): number[] {
  const order = values.map((_, index) => index).sort((i, j) => (values[i] ?? 0) - (values[j] ?? 0));
  const ranks = values.map(() => 0);
  for (let start = 0; start < order.length; ) {
    let end = start;
    while (end < order.length && values[order[end] ?? 0] === values[order[start] ?? 0]) end++;
    for (let at = start; at < end; at++) ranks[order[at] ?? 0] = start + end + 1;
    start = end;
  }
  return ranks;
}

/** How many subsets of `size` ranks have each sum. */
function waysToSum(ranks: readonly number[], size: number, total: number): Float64Array {
  const ways = Array.from({ length: size + 1 }, () => new Float64Array(total + 1));
  if (ways[0] !== undefined) ways[0][0] = 1;
  for (const rank of ranks) {
    for (let taken = size; taken >= 1; taken--) {
      const [to, from] = [ways[taken], ways[taken - 1]];
      if (to === undefined || from === undefined) continue;
      for (let sum = total; sum >= rank; sum--) to[sum] = (to[sum] ?? 0) + (from[sum - rank] ?? 0);
    }
  }
  return ways[size] ?? new Float64Array(0);
}

const RESAMPLES = 2_000;

/**
 * Bootstrap interval (percentile method, 95 %) of median(b) / median(a). Seeded: the same samples give the same
 * interval.
 */
export function ratioInterval(
  a: readonly number[],
  b: readonly number[],
): readonly [low: number, high: number] {
  const random = new SeededSource('bootstrap');
  const again = (values: readonly number[]) =>
    values.map(() => values[random.below(values.length)] ?? Number.NaN);
  const ratios = Array.from({ length: RESAMPLES }, () => median(again(b)) / median(again(a)));
  ratios.sort((x, y) => x - y);
  const at = (share: number) => ratios[Math.round(share * (RESAMPLES - 1))] ?? Number.NaN;
  return [at(0.025), at(0.975)];
}

/**
 * Slope of a line through points by Theil and Sen: the median of the slopes of all pairs, which a few outliers do
 * not move. 0 for fewer than two points; long series are thinned first.
 */
export function slope(points: readonly (readonly [x: number, y: number])[]): number {
  const step = Math.max(1, Math.ceil(points.length / 300));
  const kept = points.filter((_, index) => index % step === 0);
  const slopes: number[] = [];
  for (const [i, [x1, y1]] of kept.entries()) {
    for (const [x2, y2] of kept.slice(i + 1)) if (x2 !== x1) slopes.push((y2 - y1) / (x2 - x1));
  }
  return slopes.length === 0 ? 0 : median(slopes);
}
