/**
 * When orders leave for the peers: at once as long as they come seldom, else together with those that come within
 * the interval. A write to a peer, its wake-up and its answer cost as much as an order or two, for each peer; with
 * many peers and orders that is time which the next orders wait for the builder.
 *
 * What waits is bounded in time, number and bytes; at the bound it leaves at once.
 */

export interface DeparturesOptions {
  /** Least time between two departures, ms; 0: at the end of every slice. */
  readonly intervalMs: number;
  /** Orders wait for others only while they come closer together than this on average, ms. */
  readonly busyGapMs: number;
  readonly maxOrders: number;
  readonly maxBytes: number;
}

/** Gaps between orders that their average is over. */
const GAPS = 8;

export class Departures {
  readonly #options: DeparturesOptions;
  readonly #depart: () => void;
  #orders = 0;
  #bytes = 0;
  /** Of the orders that wait, those of this slice. */
  #newOrders = 0;
  /** When the last slice with orders passed. */
  #sliceMs = 0;
  #gapMs = 0;
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
    this.#newOrders += 1;
    this.#bytes += bytes;
  }

  /** A slice has passed: sends what waits, or sets the time for it. */
  sliceEnd(): void {
    const { intervalMs, busyGapMs, maxOrders, maxBytes } = this.#options;
    const now = performance.now();
    this.#observe(now);
    if (this.#orders === 0) return;
    const seldom = this.#gapMs >= busyGapMs;
    if (seldom || this.#orders >= maxOrders || this.#bytes >= maxBytes) {
      this.now();
      return;
    }
    if (this.#timer !== null) return;
    const leftMs = this.#lastMs + intervalMs - now;
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

  /** How close together the orders come. One long gap is enough to be no longer busy. */
  #observe(nowMs: number): void {
    if (this.#newOrders === 0) return;
    const longestMs = GAPS * this.#options.busyGapMs;
    const gapMs = Math.min((nowMs - this.#sliceMs) / this.#newOrders, longestMs);
    this.#gapMs += (gapMs - this.#gapMs) / GAPS;
    this.#sliceMs = nowMs;
    this.#newOrders = 0;
  }
}
