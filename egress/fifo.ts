/**
 * A first-in-first-out list on a ring of array slots: constant cost at both ends, no shifting of
 * elements, no memory held by what was taken out. Not bounded itself: its owner counts.
 */

const SMALLEST = 16;

export class Fifo<T> {
  #slots = emptySlots<T>(SMALLEST);
  #first = 0;
  #length = 0;

  /** Number of elements. */
  get length(): number {
    return this.#length;
  }

  /** Adds behind the newest. */
  push(element: T): void {
    if (this.#length === this.#slots.length) this.#resize(this.#length * 2);
    this.#slots[(this.#first + this.#length) & (this.#slots.length - 1)] = element;
    this.#length++;
  }

  /** Adds before the oldest. */
  unshift(element: T): void {
    if (this.#length === this.#slots.length) this.#resize(this.#length * 2);
    this.#first = (this.#first - 1) & (this.#slots.length - 1);
    this.#slots[this.#first] = element;
    this.#length++;
  }

  /** The oldest, left where it is; undefined when empty. */
  peek(): T | undefined {
    return this.#slots[this.#first];
  }

  /** Takes the oldest out; undefined when empty. */
  shift(): T | undefined {
    if (this.#length === 0) return undefined;
    const element = this.#slots[this.#first];
    this.#slots[this.#first] = undefined;
    this.#first = (this.#first + 1) & (this.#slots.length - 1);
    this.#length--;
    if (this.#slots.length > SMALLEST * 4 && this.#length < this.#slots.length / 8)
      this.#resize(this.#slots.length / 4);
    return element;
  }

  /** @returns all elements, oldest first; the list is empty afterwards. */
  takeAll(): T[] {
    const taken: T[] = [];
    for (let element = this.shift(); element !== undefined; element = this.shift()) taken.push(element);
    return taken;
  }

  #resize(size: number): void {
    const slots = emptySlots<T>(size);
    for (let i = 0; i < this.#length; i++)
      slots[i] = this.#slots[(this.#first + i) & (this.#slots.length - 1)];
    this.#slots = slots;
    this.#first = 0;
  }
}

/** @param size a power of two */
function emptySlots<T>(size: number): (T | undefined)[] {
  return Array.from({ length: size }, () => undefined);
}
