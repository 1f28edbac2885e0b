/**
 * Latency figures from timestamps per order. An order that never arrived has no timestamp (NaN) and is counted
 * as missing, not left out quietly.
 */

/** Milliseconds; null when there is nothing to measure. */
export interface LatencyFigures {
  readonly count: number;
  /** Orders without an arrival. */
  readonly missing: number;
  readonly p50: number | null;
  readonly p90: number | null;
  readonly p99: number | null;
  readonly p999: number | null;
  readonly max: number | null;
  /** Pairs of share and milliseconds, for charts; see CURVE_SHARES. */
  readonly curve: readonly (readonly [share: number, ms: number])[];
}

/** Where the curve of a distribution is kept: ever closer together towards the tail. */
const CURVE_SHARES: readonly number[] = [0, 0.9, 0.99, 0.999].flatMap((from) =>
  Array.from({ length: 9 }, (_, step) => Number((from + ((1 - from) / 10) * step).toFixed(6))),
);

/**
 * @param fromUs when each order should have been sent (the schedule, not the sending: else a stalled
 *   generator hides the wait it causes), microseconds
 * @param toUs when it arrived, same index and clock; NaN = never
 */
export function latencyFigures(fromUs: Float64Array, toUs: Float64Array): LatencyFigures {
  if (fromUs.length !== toUs.length) throw new RangeError('both must have one entry per order');
  const waits = new Float64Array(fromUs.length);
  let count = 0;
  for (let i = 0; i < fromUs.length; i++) {
    const wait = ((toUs[i] ?? Number.NaN) - (fromUs[i] ?? Number.NaN)) / 1000;
    if (!Number.isNaN(wait)) waits[count++] = wait;
  }
  return figuresOfWaits(waits.subarray(0, count), fromUs.length - count);
}

/** @param waits milliseconds; sorted in place */
export function figuresOfWaits(waits: Float64Array, missing = 0): LatencyFigures {
  const sorted = waits.sort();
  const count = sorted.length;
  const at = (share: number): number | null =>
    count === 0 ? null : (sorted[Math.min(count - 1, Math.max(0, Math.ceil(share * count) - 1))] ?? null);
  const curve = CURVE_SHARES.filter((share) => share < 1 - 1 / (count + 1)).map(
    (share) => [share, at(share) ?? 0] as const,
  );
  return {
    count,
    missing,
    p50: at(0.5),
    p90: at(0.9),
    p99: at(0.99),
    p999: at(0.999),
    max: at(1),
    curve,
  };
}
