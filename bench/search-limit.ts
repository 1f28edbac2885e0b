/**
 * Looks for the rate at which a latency passes a bound: goes up by a factor until it does (or down, when the first rate
 * does), then halves the gap. One bad second of a shared machine must not end the search, so a rate that passes the bound
 * is tried a second time.
 */

export interface LimitOptions {
  /** Orders per second to begin with. */
  readonly start: number;
  /** Never above this. */
  readonly most: number;
  /** Factor of the way up, above 1. */
  readonly factor: number;
  /** The gap at which the search ends, as a share of the rate. */
  readonly precision: number;
}

export interface LimitResult {
  /** Highest rate that held, 0 when none did; and the lowest that did not, null when all held. */
  readonly held: number;
  readonly failed: number | null;
}

/** A node that does not hold this part of the first rate holds none. */
const LEAST_PART = 1 / 32;

/** @param holds tries a rate and tells whether it stayed within the bound */
export async function searchLimit(
  options: LimitOptions,
  holds: (rate: number) => Promise<boolean>,
): Promise<LimitResult> {
  const tried = async (rate: number) => (await holds(rate)) || holds(rate);
  let held = 0;
  let failed: number | null = null;
  for (
    let rate = options.start;
    failed === null;
    rate = Math.min(options.most, Math.round(rate * options.factor))
  ) {
    if (!(await tried(rate))) failed = rate;
    else if (rate >= options.most) return { held: rate, failed: null };
    else held = rate;
  }
  for (let rate = failed; held === 0 && rate >= options.start * LEAST_PART; ) {
    rate = Math.round(rate / options.factor ** 2);
    if (await tried(rate)) held = rate;
    else failed = rate;
  }
  while (held > 0 && failed - held > failed * options.precision) {
    const middle: number = Math.round((held + failed) / 2);
    if (await tried(middle)) held = middle;
    else failed = middle;
  }
  return { held, failed };
}
