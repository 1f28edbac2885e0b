/**
 * When to ask and when to give up on a silent connection, and what the pings tell about the other clock. Pure: the
 * caller brings the time.
 *
 * Numbers: a ping after one quiet second and silence for four make a half-open connection known within five,
 * and outlive a blackout of a second with the retransmissions that follow it.
 */

export interface LivenessOptions {
  /** Quiet time after which a ping is due, ms. */
  readonly pingMs: number;
  /** Silence after which the connection is given up, ms. */
  readonly silentMs: number;
  /** How often `tick` is called, ms. */
  readonly tickMs: number;
}

export const LIVENESS: LivenessOptions = { pingMs: 1_000, silentMs: 4_000, tickMs: 500 };

export class Liveness {
  readonly #options: LivenessOptions;
  #heardMs: number;
  #pingedMs: number;
  #tickedMs: number;

  constructor(nowMs: number, options: LivenessOptions = LIVENESS) {
    this.#options = options;
    this.#heardMs = nowMs;
    this.#pingedMs = nowMs;
    this.#tickedMs = nowMs;
  }

  /** Something came. */
  heard(nowMs: number): void {
    this.#heardMs = nowMs;
  }

  /** @returns what is due. */
  tick(nowMs: number): 'ping' | 'silent' | null {
    const { pingMs, silentMs, tickMs } = this.#options;
    // This process stood still: what came meanwhile has not been read yet, so nobody was silent.
    if (nowMs - this.#tickedMs > tickMs + pingMs) this.#heardMs = Math.max(this.#heardMs, nowMs - pingMs);
    this.#tickedMs = nowMs;
    if (nowMs - this.#heardMs >= silentMs) return 'silent';
    if (nowMs - this.#pingedMs < pingMs) return null;
    this.#pingedMs = nowMs;
    return 'ping';
  }
}

const SAMPLES = 8;

/**
 * How far the other clock is ahead of ours, from the ping with the shortest way there and back among the last
 * eight. Reported and used for the latency metric alone: the other side can say what it likes.
 */
export class ClockOffset {
  readonly #samples: { readonly roundTripUs: number; readonly offsetUs: number }[] = [];
  #best = { roundTripUs: 0, offsetUs: 0 };

  /** False before the first pong. */
  get known(): boolean {
    return this.#samples.length > 0;
  }

  /** Microseconds that the other clock is ahead. */
  get offsetUs(): number {
    return this.#best.offsetUs;
  }

  get roundTripUs(): number {
    return this.#best.roundTripUs;
  }

  /** All unix microseconds: when we asked and got the answer, and what the other clock said between. */
  sample(askedUs: number, answeredUs: number, otherUs: number): void {
    const sample = { roundTripUs: answeredUs - askedUs, offsetUs: otherUs - (askedUs + answeredUs) / 2 };
    if (sample.roundTripUs < 0) return;
    if (this.#samples.push(sample) > SAMPLES) this.#samples.shift();
    this.#best = sample;
    for (const one of this.#samples) if (one.roundTripUs < this.#best.roundTripUs) this.#best = one;
  }
}
