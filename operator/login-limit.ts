/**
 * Failed logins of one address: so many at once, then so many a minute. An attempt is paid for before it is checked,
 * so that a thousand sent together cost as much as one after another, and given back when it was right.
 *
 * Limits: addresses that have failed lately are remembered up to a number, the one longest unheard of goes first. What
 * many addresses can do together is bounded by the slow hash (access.ts).
 */
import { isIPv6 } from 'node:net';

const MAX_ADDRESSES = 8192;
const MINUTE_MS = 60_000;

interface Account {
  left: number;
  at: number;
}

export class LoginLimit {
  readonly #perMinute: number;
  readonly #now: () => number;
  readonly #accounts = new Map<string, Account>();

  /** @param now milliseconds, from any start */
  constructor(perMinute: number, now: () => number) {
    this.#perMinute = perMinute;
    this.#now = now;
  }

  /** @returns 0 when the attempt may be made, else the seconds until one may. */
  take(address: string): number {
    const key = keyOf(address);
    const now = this.#now();
    const account = this.#accounts.get(key) ?? { left: this.#perMinute, at: now };
    const earned = ((now - account.at) / MINUTE_MS) * this.#perMinute;
    account.left = Math.min(this.#perMinute, account.left + earned);
    account.at = now;
    this.#accounts.delete(key);
    this.#accounts.set(key, account);
    if (this.#accounts.size > MAX_ADDRESSES) this.#forgetOldest();
    if (account.left < 1) return Math.ceil(((1 - account.left) * 60) / this.#perMinute);
    account.left -= 1;
    return 0;
  }

  /** The attempt was right, or was not checked. */
  giveBack(address: string): void {
    const account = this.#accounts.get(keyOf(address));
    if (account !== undefined) account.left += 1;
  }

  #forgetOldest(): void {
    for (const key of this.#accounts.keys()) {
      this.#accounts.delete(key);
      return;
    }
  }
}

/** Who has one IPv6 address has the 2^64 beside it. */
function keyOf(address: string): string {
  const mapped = /^::ffff:(\d+\.\d+\.\d+\.\d+)$/i.exec(address)?.[1];
  if (mapped !== undefined || !isIPv6(address)) return mapped ?? address;
  const [head = '', tail] = address.replace(/%.*$/, '').split('::');
  const groups = head === '' ? [] : head.split(':');
  if (tail !== undefined) {
    const after = tail === '' ? 0 : tail.split(':').length;
    while (groups.length < 8 - after) groups.push('0');
  }
  return groups.slice(0, 4).join(':');
}
