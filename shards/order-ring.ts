/**
 * Memory that a shard's thread and the node's own thread see: orders for the archive (order-batch.ts) go round in it, one
 * behind the other, with one writer and one reader. So an order costs neither side an allocation or a message; the
 * reader is woken only when it sleeps, which it does not while it waits for the disk.
 *
 *     written    4 bytes, the place up to which orders are there
 *     read       4 bytes, the place up to which they have been taken
 *     sleeping   4 bytes: 1 = the reader waits to be woken
 *     orders     from byte 64 on
 *
 * Places count on without end, modulo 2^32; the room is a power of two. An order that would pass the end of the room
 * starts at its beginning; what is left there is skipped. A place is told after its bytes are written: what a thread
 * that ends in the middle has not told is not there.
 */
import { type BatchedOrder, packedBytes, packOrder, type TakeOrder, unpackOrder } from './order-batch.ts';

/** 1,200 orders of 3.3 KB; room for what comes while the disk takes a tenth of a second. */
const ROOM_BYTES = 4 * 1024 * 1024;
/** A larger order goes another way: it costs little there in comparison, and would take much room here. */
const LARGEST_BYTES = ROOM_BYTES / 16;
const HEAD_BYTES = 64;
const WRITTEN = 0;
const READ = 1;
const SLEEPING = 2;
/** In place of a method: the rest of the room is empty. */
const SKIP = 0xff;

/** @param roomBytes a power of two */
export function ringMemory(roomBytes = ROOM_BYTES): SharedArrayBuffer {
  const memory = new SharedArrayBuffer(HEAD_BYTES + roomBytes);
  new Int32Array(memory, 0, 3)[SLEEPING] = 1;
  return memory;
}

export class RingWriter {
  readonly #cells: Int32Array;
  readonly #bytes: Buffer;
  /** Written, and not yet told. */
  #written: number;

  constructor(memory: SharedArrayBuffer) {
    this.#cells = new Int32Array(memory, 0, 3);
    this.#bytes = Buffer.from(memory, HEAD_BYTES);
    this.#written = Atomics.load(this.#cells, WRITTEN);
  }

  /** @returns false when there is no room for it; it is not there for the reader before `tell`. */
  write(order: BatchedOrder, number: number): boolean {
    const room = this.#bytes.length;
    const size = packedBytes(order.order);
    if (size > Math.min(LARGEST_BYTES, room / 2)) return false;
    let start = (this.#written >>> 0) & (room - 1);
    const skipped = start + size > room ? room - start : 0;
    const used = (this.#written - Atomics.load(this.#cells, READ)) >>> 0;
    if (used + skipped + size > room) return false;
    if (skipped > 0) {
      this.#bytes[start] = SKIP;
      start = 0;
    }
    packOrder(this.#bytes, start, order, number);
    this.#written = (this.#written + skipped + size) | 0;
    return true;
  }

  /** What has been written is there for the reader. @returns whether it sleeps, and has to be woken by this caller. */
  tell(): boolean {
    Atomics.store(this.#cells, WRITTEN, this.#written);
    return Atomics.compareExchange(this.#cells, SLEEPING, 1, 0) === 1;
  }
}

export class RingReader {
  readonly #cells: Int32Array;
  readonly #bytes: Buffer;
  #read: number;

  constructor(memory: SharedArrayBuffer) {
    this.#cells = new Int32Array(memory, 0, 3);
    this.#bytes = Buffer.from(memory, HEAD_BYTES);
    this.#read = Atomics.load(this.#cells, READ);
  }

  /** Calls `take` with each order that is there; its canonical form is valid during the call. */
  readAll(take: TakeOrder): void {
    const room = this.#bytes.length;
    const written = Atomics.load(this.#cells, WRITTEN);
    if (written === this.#read) return;
    while (this.#read !== written) {
      const start = (this.#read >>> 0) & (room - 1);
      const end = this.#bytes[start] === SKIP ? room : unpackOrder(this.#bytes, start, take);
      this.#read = (this.#read + end - start) | 0;
    }
    Atomics.store(this.#cells, READ, this.#read);
  }

  /** The writer is to wake the reader when it has something. @returns false when it has already. */
  sleep(): boolean {
    Atomics.store(this.#cells, SLEEPING, 1);
    if (Atomics.load(this.#cells, WRITTEN) === this.#read) return true;
    // Whoever takes the mark away first has to act on it.
    return Atomics.compareExchange(this.#cells, SLEEPING, 1, 0) === 0;
  }
}
