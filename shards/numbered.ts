/**
 * What waits for an answer by number: numbers are given in turn, and answers come nearly in that order. A ring of array
 * slots, because a Map through which orders pass keeps them from the collector (pipeline/ordered-list.ts says why).
 *
 * Limit: the ring is as long as the oldest without an answer is behind the newest. Every number gets its answer; who adds
 * bounds how many wait.
 */

const SMALLEST = 64;

export class Numbered<T> {
  #slots = emptySlots<T>(SMALLEST);
  /** The oldest number without an answer, or #next. */
  #first = 0;
  #next = 0;

  /** @returns its number: 0, 1, 2 … */
  add(value: T): number {
    if (this.#next - this.#first === this.#slots.length) this.#grow();
    this.#slots[this.#next % this.#slots.length] = value;
    this.#next += 1;
    return this.#next - 1;
  }

  /** @returns what waits under the number, which then does not any longer; undefined when nothing does. */
  take(number: number): T | undefined {
    if (number < this.#first || number >= this.#next) return undefined;
    const { length } = this.#slots;
    const value = this.#slots[number % length];
    this.#slots[number % length] = undefined;
    while (this.#first < this.#next && this.#slots[this.#first % length] === undefined) this.#first += 1;
    return value;
  }

  #grow(): void {
    const slots = emptySlots<T>(this.#slots.length * 2);
    for (let number = this.#first; number < this.#next; number += 1)
      slots[number % slots.length] = this.#slots[number % this.#slots.length];
    this.#slots = slots;
  }
}

/** @param size a power of two */
function emptySlots<T>(size: number): (T | undefined)[] {
  return Array.from({ length: size }, () => undefined);
}
