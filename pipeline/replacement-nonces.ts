/**
 * The replacement nonces this node gives to mev_sendBundle: 0, 1, 2 … per UUID and signer, so that of two
 * bundles with one UUID the builder knows the later (protocol section 4).
 *
 * A count is forgotten 60 s after its last use. Limits: a fixed number of counts (default 65,536, v1 holds
 * 4,096); beyond it the one unused longest is forgotten early and starts at 0 again. No timers: what is over
 * is removed when the next order comes.
 */
import type { Address } from './order.ts';

export const FORGOTTEN_AFTER_US = 60_000_000;

/** Pairs of UUID and signer that are remembered. */
export const MAX_COUNTS = 65_536;

export interface NonceSource {
  /**
   * @param uuid - canonical: lower case with dashes.
   * @param nowUs - unix microseconds; should not run backwards.
   * @returns the nonce of this bundle; each call counts on.
   */
  next(uuid: string, signer: Address, nowUs: number): number;
}

interface Count {
  nonce: number;
  usedAtUs: number;
}

export class ReplacementNonces implements NonceSource {
  /** Oldest use first: an entry is put back at the end whenever it is used. */
  private readonly counts = new Map<string, Count>();
  private readonly maxCounts: number;

  /** @param maxCounts - pairs of UUID and signer that are remembered. */
  constructor(maxCounts = MAX_COUNTS) {
    this.maxCounts = maxCounts;
  }

  next(uuid: string, signer: Address, nowUs: number): number {
    this.forgetOld(nowUs);
    const key = uuid + signer;
    let count = this.counts.get(key);
    if (count === undefined) {
      count = { nonce: -1, usedAtUs: nowUs };
      if (this.counts.size >= this.maxCounts) this.forgetOldest();
    }
    count.nonce++;
    count.usedAtUs = nowUs;
    this.counts.delete(key);
    this.counts.set(key, count);
    return count.nonce;
  }

  /** How many pairs are remembered. */
  get size(): number {
    return this.counts.size;
  }

  private forgetOld(nowUs: number): void {
    for (const [key, { usedAtUs }] of this.counts) {
      if (nowUs - usedAtUs < FORGOTTEN_AFTER_US) return;
      this.counts.delete(key);
    }
  }

  private forgetOldest(): void {
    const oldest = this.counts.keys().next();
    if (oldest.done !== true) this.counts.delete(oldest.value);
  }
}
