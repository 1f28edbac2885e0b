/**
 * Token bucket for the user API (`MAX_USER_RPS`, protocol section 1): a second's worth of requests may
 * come at once, then the rate holds. v1 makes a request wait for up to a second; here it is refused at
 * once, so that an overload costs neither memory nor other users' latency.
 */
export interface Limiter {
  /** @returns whether one more request may pass at `nowUs` (unix microseconds). */
  take(nowUs: number): boolean;
}

export class RateLimiter implements Limiter {
  readonly #perSecond: number;
  #tokens: number;
  #lastUs = 0;

  /** @param perSecond requests per second; 0 = no limit */
  constructor(perSecond: number) {
    this.#perSecond = perSecond;
    this.#tokens = perSecond;
  }

  take(nowUs: number): boolean {
    if (this.#perSecond === 0) return true;
    if (nowUs > this.#lastUs) {
      const refill = ((nowUs - this.#lastUs) / 1e6) * this.#perSecond;
      this.#tokens = Math.min(this.#perSecond, this.#tokens + refill);
      this.#lastUs = nowUs;
    }
    if (this.#tokens < 1) return false;
    this.#tokens -= 1;
    return true;
  }
}
