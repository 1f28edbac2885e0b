/**
 * The limit of rate-limit.ts for all threads of a node together. In place of tokens it keeps the time at which the
 * bucket would be full again: one number, changed by compare-and-exchange.
 */
import type { Limiter } from '../rate-limit.ts';

const SECOND_NS = 1_000_000_000n;

export function limiterMemory(): SharedArrayBuffer {
  return new SharedArrayBuffer(8);
}

export class SharedLimiter implements Limiter {
  readonly #cell: BigInt64Array<SharedArrayBuffer>;
  /** What one request takes of a second; 0 = no limit. */
  readonly #perRequestNs: bigint;

  /** @param perSecond requests per second; 0 = no limit */
  constructor(memory: SharedArrayBuffer, perSecond: number) {
    this.#cell = new BigInt64Array(memory);
    this.#perRequestNs = perSecond === 0 ? 0n : SECOND_NS / BigInt(perSecond);
  }

  take(nowUs: number): boolean {
    if (this.#perRequestNs === 0n) return true;
    const now = BigInt(nowUs) * 1000n;
    for (;;) {
      const fullAt = Atomics.load(this.#cell, 0);
      const next = (fullAt > now ? fullAt : now) + this.#perRequestNs;
      if (next - now > SECOND_NS) return false;
      if (Atomics.compareExchange(this.#cell, 0, fullAt, next) === fullAt) return true;
    }
  }
}
