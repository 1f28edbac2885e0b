/**
 * The two ends of a ring in memory that two threads see: how far it is written and read, and whether the reader has to be
 * woken. What goes round in it is its owner's (order-ring.ts, answer-ring.ts).
 *
 *     written    4 bytes, the place up to which something is there
 *     read       4 bytes, the place up to which it has been taken
 *     sleeping   4 bytes: 1 = the reader waits to be woken
 *     contents   from byte 64 on
 *
 * Places count on without end, modulo 2^32. A place is told after what is before it was written: what a thread that ends in
 * the middle has not told is not there.
 */

/** Where the contents begin. */
export const HEAD_BYTES = 64;
const WRITTEN = 0;
const READ = 1;
const SLEEPING = 2;

/** Memory for a ring whose reader sleeps. @param bytes of the contents */
export function ringOf(bytes: number): SharedArrayBuffer {
  const memory = new SharedArrayBuffer(HEAD_BYTES + bytes);
  cellsOf(memory)[SLEEPING] = 1;
  return memory;
}

export class WritingEnd {
  readonly #cells: Int32Array;
  /** Written, and not yet told. */
  written: number;

  constructor(memory: SharedArrayBuffer) {
    this.#cells = cellsOf(memory);
    this.written = Atomics.load(this.#cells, WRITTEN);
  }

  /** What has been written and not been taken. */
  get used(): number {
    return (this.written - Atomics.load(this.#cells, READ)) >>> 0;
  }

  /** What has been written is there for the reader. @returns whether it sleeps, and has to be woken by this caller. */
  tell(): boolean {
    Atomics.store(this.#cells, WRITTEN, this.written);
    return Atomics.compareExchange(this.#cells, SLEEPING, 1, 0) === 1;
  }
}

export class ReadingEnd {
  readonly #cells: Int32Array;
  /** Taken, and not yet given back. */
  read: number;

  constructor(memory: SharedArrayBuffer) {
    this.#cells = cellsOf(memory);
    this.read = Atomics.load(this.#cells, READ);
  }

  /** The place up to which something is there. */
  get written(): number {
    return Atomics.load(this.#cells, WRITTEN);
  }

  /** The writer may use the place of what has been taken. */
  giveBack(): void {
    Atomics.store(this.#cells, READ, this.read);
  }

  /** The reader looks by itself from now on. */
  stayAwake(): void {
    Atomics.store(this.#cells, SLEEPING, 0);
  }

  /** The writer is to wake the reader when it has something. @returns false when it has already. */
  sleep(): boolean {
    Atomics.store(this.#cells, SLEEPING, 1);
    if (this.written === this.read) return true;
    // Whoever takes the mark away first has to act on it.
    return Atomics.compareExchange(this.#cells, SLEEPING, 1, 0) === 0;
  }
}

function cellsOf(memory: SharedArrayBuffer): Int32Array {
  return new Int32Array(memory, 0, 3);
}
