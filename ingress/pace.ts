/**
 * How long the work that waits will take: what orders of their sizes cost on the reference machine, times how much longer the
 * last ones took here. All that the thread does meanwhile is in it: reading, refusing, answers, peers.
 */

/** An order without its bytes, and each KiB of it, µs (measured from socket to answer, decoding and archive included). */
const ORDER_US = 120;
const KIB_US = 14;
/** So much work done counts as much as all before it. */
const MEMORY_US = 100_000;

/** @returns what an order of so many bytes costs on the reference machine, µs */
export function workOf(bytes: number): number {
  return ORDER_US + (KIB_US * bytes) / 1024;
}

export class Pace {
  // As if so much had been done at the reference machine's pace: the first orders after a start take longer.
  #doneUs = MEMORY_US;
  #tookUs = MEMORY_US;

  /** @param workUs that was done while more waited, and how long it took, µs */
  worked(workUs: number, tookUs: number): void {
    this.#doneUs += workUs;
    this.#tookUs += tookUs;
    if (this.#doneUs < 2 * MEMORY_US) return;
    this.#doneUs /= 2;
    this.#tookUs /= 2;
  }

  /** @returns how long so much work will take, ms */
  msOf(workUs: number): number {
    return ((this.#tookUs / this.#doneUs) * workUs) / 1000;
  }
}
