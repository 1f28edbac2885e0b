/**
 * When orders leave for the peers: at once when none has left for a while, else together with those that come within
 * the interval. A write to a peer, its wake-up and its answer cost as much as an order or two, for each peer.
 *
 * What waits is bounded in time, number and bytes; at the bound it leaves at once.
 */

export interface DeparturesOptions {
  /** Least time between two departures, ms; 0: at the end of every slice. */
  readonly intervalMs: number;
  readonly maxOrders: number;
  readonly maxBytes: number;
}

export class Departures {
  readonly #options: DeparturesOptions;
  readonly #depart: () => void;
  #orders = 0;
  #bytes = 0;
  #lastMs = Number.NEGATIVE_INFINITY;
  #timer: NodeJS.Timeout | null = null;

  /** @param depart sends all that waits. Must not throw */
  constructor(options: DeparturesOptions, depart: () => void) {
    this.#options = options;
    this.#depart = depart;
  }

  /** An order of so many bytes waits. */
  add(bytes: number): void {
    this.#orders += 1;
    this.#bytes += bytes;
  }

  /** A slice has passed: sends what waits, or sets the time for it. */
  sliceEnd(): void {
    if (this.#orders === 0) return;
    const { intervalMs, maxOrders, maxBytes } = this.#options;
    if (this.#orders >= maxOrders || this.#bytes >= maxBytes) {
      this.now();
      return;
    }
    if (this.#timer !== null) return;
    const leftMs = this.#lastMs + intervalMs - performance.now();
    if (leftMs <= 0) this.now();
    else this.#timer = setTimeout(() => this.now(), leftMs);
  }

  /** Sends what waits. */
  now(): void {
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#timer = null;
    if (this.#orders === 0) return;
    this.#orders = 0;
    this.#bytes = 0;
    this.#lastMs = performance.now();
    this.#depart();
  }
}
