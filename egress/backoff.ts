/** Exponential back-off with jitter, for reconnecting and for asking again. */

export interface BackoffOptions {
  readonly baseMs: number;
  readonly maxMs: number;
}

/**
 * @param attempt 1 for the first wait
 * @param random 0..1, uniform
 * @returns milliseconds: between half and all of base × 2^(attempt-1), itself at most the maximum. The
 *   jitter keeps the nodes of a network from returning to a restarted one in the same instant.
 */
export function backoffMs(attempt: number, options: BackoffOptions, random = Math.random()): number {
  const full = Math.min(options.maxMs, options.baseMs * 2 ** Math.min(attempt - 1, 30));
  return full * (0.5 + random / 2);
}
