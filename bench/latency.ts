/**
 * Latency figures from timestamps per order. An order that never arrived has no timestamp (NaN) and is counted
 * as lost, not left out quietly.
 */

/** Milliseconds; null when there is nothing to measure. */
export interface LatencyFigures {
  readonly count: number;
  readonly lost: number;
  readonly p50: number | null;
  readonly p90: number | null;
  readonly p99: number | null;
  readonly p999: number | null;
  readonly max: number | null;
}

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
  const sorted = waits.subarray(0, count).sort();
  const at = (quantile: number): number | null =>
    count === 0 ? null : (sorted[Math.min(count - 1, Math.ceil(quantile * count) - 1)] ?? null);
  return {
    count,
    lost: fromUs.length - count,
    p50: at(0.5),
    p90: at(0.9),
    p99: at(0.99),
    p999: at(0.999),
    max: at(1),
  };
}
