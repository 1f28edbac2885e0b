/**
 * Receive times: unix microseconds that never repeat and never go back within a node, so that two
 * orders never share a replacement nonce (protocol section 4). Follows the system clock: when that
 * steps back, the returned time creeps on by one microsecond per call until the clock has caught up.
 */

/** Source of unix microseconds. */
export type Clock = () => number;

/** Drift between the monotonic and the system clock above which the anchor is set anew, in milliseconds. */
const MAX_DRIFT_MS = 2;
/** How often the system clock is looked at: an order asks for the time a dozen times. */
const LOOK_MS = 1;

/**
 * @returns a clock with microsecond steps, anchored to the system clock.
 * @param wallMs unix milliseconds, whole numbers
 * @param monotonicMs monotonic milliseconds with fractions
 */
export function createClock(
  wallMs: () => number = Date.now,
  monotonicMs: () => number = () => performance.now(),
): Clock {
  let anchor = wallMs() - monotonicMs();
  let looked = Number.NEGATIVE_INFINITY;
  let last = 0;
  return () => {
    const monotonic = monotonicMs();
    if (monotonic - looked >= LOOK_MS) {
      looked = monotonic;
      const wall = wallMs();
      const drift = wall - (anchor + monotonic);
      if (drift > MAX_DRIFT_MS || drift < -MAX_DRIFT_MS) anchor = wall - monotonic;
    }
    const now = Math.floor((anchor + monotonic) * 1000);
    last = now > last ? now : last + 1;
    return last;
  };
}
