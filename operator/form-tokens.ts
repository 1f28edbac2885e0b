/**
 * Tokens that the page puts into its forms: only who has read the page can send one (RFC 6749 calls the attack
 * cross-site request forgery). They end after an hour, with this process, and when the password changes.
 */
import { createHmac, randomBytes, timingSafeEqual } from 'node:crypto';

const LIFETIME_MS = 3_600_000;

export class FormTokens {
  readonly #key = randomBytes(32);
  readonly #now: () => number;

  /** @param now milliseconds, from any start */
  constructor(now: () => number) {
    this.#now = now;
  }

  /** @param generation of the password */
  make(generation: number): string {
    const end = Math.floor(this.#now() + LIFETIME_MS);
    return `${end}.${this.#mac(end, generation).toString('base64url')}`;
  }

  isGood(token: string, generation: number): boolean {
    const match = /^(\d{1,16})\.([A-Za-z0-9_-]{43})$/.exec(token);
    if (match === null) return false;
    const end = Number(match[1]);
    const right = this.#mac(end, generation);
    return timingSafeEqual(Buffer.from(match[2] ?? '', 'base64url'), right) && end > this.#now();
  }

  #mac(end: number, generation: number): Buffer {
    return createHmac('sha256', this.#key).update(`${end} ${generation}`).digest();
  }
}
