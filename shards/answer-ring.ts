/**
 * Memory that the node's own thread and a shard's see, the other way than order-ring.ts: the numbers of orders that the
 * archive has, one writer and one reader. A shard that is at work looks into it with each turn of its event loop; only
 * one that has nothing to do is woken.
 *
 *     written    4 bytes, how many numbers were ever there
 *     read       4 bytes, how many of them have been taken
 *     sleeping   4 bytes: 1 = the reader waits to be woken
 *     numbers    from byte 64 on, doubles, round and round
 *
 * Both count on without end, modulo 2^32; the room is a power of two.
 */

/** Orders of which a shard has not heard; what is beyond goes as a message. */
const ROOM = 16_384;
const HEAD_BYTES = 64;
const WRITTEN = 0;
const READ = 1;
const SLEEPING = 2;

/** @param room numbers, a power of two */
export function answerMemory(room = ROOM): SharedArrayBuffer {
  const memory = new SharedArrayBuffer(HEAD_BYTES + room * Float64Array.BYTES_PER_ELEMENT);
  new Int32Array(memory, 0, 3)[SLEEPING] = 1;
  return memory;
}

export class AnswerWriter {
  readonly #cells: Int32Array;
  readonly #numbers: Float64Array;
  #written: number;

  constructor(memory: SharedArrayBuffer) {
    this.#cells = new Int32Array(memory, 0, 3);
    this.#numbers = new Float64Array(memory, HEAD_BYTES);
    this.#written = Atomics.load(this.#cells, WRITTEN);
  }

  /** @returns false when there is no room; it is not there for the reader before `tell`. */
  write(number: number): boolean {
    const room = this.#numbers.length;
    if ((this.#written - Atomics.load(this.#cells, READ)) >>> 0 === room) return false;
    this.#numbers[(this.#written >>> 0) & (room - 1)] = number;
    this.#written = (this.#written + 1) | 0;
    return true;
  }

  /** What has been written is there for the reader. @returns whether it sleeps, and has to be woken by this caller. */
  tell(): boolean {
    Atomics.store(this.#cells, WRITTEN, this.#written);
    return Atomics.compareExchange(this.#cells, SLEEPING, 1, 0) === 1;
  }
}

export class AnswerReader {
  readonly #cells: Int32Array;
  readonly #numbers: Float64Array;
  #read: number;

  constructor(memory: SharedArrayBuffer) {
    this.#cells = new Int32Array(memory, 0, 3);
    this.#numbers = new Float64Array(memory, HEAD_BYTES);
    this.#read = Atomics.load(this.#cells, READ);
  }

  /** Calls `take` with each number that is there, in the order in which they were written. */
  readAll(take: (number: number) => void): void {
    const room = this.#numbers.length;
    const written = Atomics.load(this.#cells, WRITTEN);
    while (((written - this.#read) | 0) > 0) {
      const number = this.#numbers[(this.#read >>> 0) & (room - 1)] ?? 0;
      this.#read = (this.#read + 1) | 0;
      // Before it is taken: who is told may come back here.
      Atomics.store(this.#cells, READ, this.#read);
      take(number);
    }
  }

  /** The reader looks by itself from now on. */
  stayAwake(): void {
    Atomics.store(this.#cells, SLEEPING, 0);
  }

  /** The writer is to wake the reader when it has something. @returns false when it has already. */
  sleep(): boolean {
    Atomics.store(this.#cells, SLEEPING, 1);
    if (Atomics.load(this.#cells, WRITTEN) === this.#read) return true;
    // Whoever takes the mark away first has to act on it.
    return Atomics.compareExchange(this.#cells, SLEEPING, 1, 0) === 0;
  }
}
