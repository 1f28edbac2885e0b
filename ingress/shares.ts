/**
 * Who of many connections asks for more than its share, while not all can have what they ask for. Each may have an order
 * taken in so long a time that those who ask often have the same, and those who ask seldom have all: a connection
 * that asks a thousand times is refused what it asks beyond that, one that asks once is not.
 *
 * Counted in windows of 100 ms; what a window has shown holds for the next. While (nearly) nothing is refused, there are no
 * shares.
 *
 * Limits: who opens connections without end has a share with each of them.
 */

const WINDOW_MS = 100;
/** Part of what is asked for that may be refused without anybody being held to a share. */
const FEW = 0.1;
/** Nobody waits longer for the next of his share. */
const MOST_MS = 1000;

/** From one window to the next: when it is shorter at once, all come at once whose time that is. */
const SHORTER = 0.8;

/** What a connection has asked for. */
export class Asker {
  /** The window in which it asked last, and how often then. */
  window = 0;
  asked = 0;
  takenMs = Number.NEGATIVE_INFINITY;
  /** When it last asked for an order without having the answers to those before. */
  hastyMs = Number.NEGATIVE_INFINITY;
}

export class Shares {
  #window = 1;
  #windowEndMs = 0;
  #intervalMs = 0;
  // Of this window: connections that asked, those that did more than once; requests, those refused and those worked off.
  #askers = 0;
  #repeaters = 0;
  #asked = 0;
  #refused = 0;
  #served = 0;

  /**
   * A request's head has come.
   *
   * @param waiting requests that wait for their turn
   */
  asks(asker: Asker, waiting: number, nowMs: number): void {
    if (nowMs >= this.#windowEndMs) this.#nextWindow(waiting, nowMs);
    if (asker.window !== this.#window) {
      asker.window = this.#window;
      asker.asked = 0;
      this.#askers += 1;
    }
    asker.asked += 1;
    if (asker.asked === 2) this.#repeaters += 1;
    this.#asked += 1;
  }

  refused(): void {
    this.#refused += 1;
  }

  /** One has had its turn. */
  served(): void {
    this.#served += 1;
  }

  /** Not all get what they ask for. */
  get scarce(): boolean {
    return this.#intervalMs > 0;
  }

  /** @returns whether anybody is held to a share, and one more order is within this one's */
  allows(asker: Asker, nowMs: number): boolean {
    return this.#intervalMs > 0 && nowMs - asker.takenMs >= this.#intervalMs;
  }

  #nextWindow(waiting: number, nowMs: number): void {
    let intervalMs = 0;
    if (this.#refused > FEW * this.#asked && nowMs < this.#windowEndMs + WINDOW_MS) {
      // As many as in this window, less what waits already and what those will ask for who ask seldom.
      const left = this.#served - waiting - (this.#askers - this.#repeaters);
      const fairMs = Math.min(MOST_MS, (WINDOW_MS * this.#repeaters) / Math.max(1, left));
      intervalMs = Math.max(fairMs, SHORTER * this.#intervalMs);
    }
    this.#intervalMs = intervalMs;
    this.#window += 1;
    this.#windowEndMs = nowMs + WINDOW_MS;
    this.#askers = 0;
    this.#repeaters = 0;
    this.#asked = 0;
    this.#refused = 0;
    this.#served = 0;
  }
}
