/**
 * Memory that a shard's thread and the node's own thread see (ring-ends.ts): orders for the archive (order-batch.ts) go
 * round in it, one behind the other, with one writer and one reader. So an order costs neither side an allocation or a
 * message; the reader is woken only when it sleeps, which it does not while it waits for the disk.
 *
 * The room is a power of two. An order that would pass the end of the room starts at its beginning; what is left there is
 * skipped.
 */
import { type BatchedOrder, packedBytes, packOrder, type TakeOrder, unpackOrder } from './order-batch.ts';
import { HEAD_BYTES, ReadingEnd, ringOf, WritingEnd } from './ring-ends.ts';

/** 1,200 orders of 3.3 KB; room for what comes while the disk takes a tenth of a second. */
const ROOM_BYTES = 4 * 1024 * 1024;
/** A larger order goes another way: it costs little there in comparison, and would take much room here. */
const LARGEST_BYTES = ROOM_BYTES / 16;
/** In place of a method: the rest of the room is empty. */
const SKIP = 0xff;

/** @param roomBytes a power of two */
export function ringMemory(roomBytes = ROOM_BYTES): SharedArrayBuffer {
  return ringOf(roomBytes);
}

export class RingWriter {
  readonly #end: WritingEnd;
  readonly #bytes: Buffer;

  constructor(memory: SharedArrayBuffer) {
    this.#end = new WritingEnd(memory);
    this.#bytes = Buffer.from(memory, HEAD_BYTES);
  }

  /** @returns false when there is no room for it; it is not there for the reader before `tell`. */
  write(order: BatchedOrder, number: number): boolean {
    const end = this.#end;
    const room = this.#bytes.length;
    const size = packedBytes(order.order);
    if (size > Math.min(LARGEST_BYTES, room / 2)) return false;
    let start = (end.written >>> 0) & (room - 1);
    const skipped = start + size > room ? room - start : 0;
    if (end.used + skipped + size > room) return false;
    if (skipped > 0) {
      this.#bytes[start] = SKIP;
      start = 0;
    }
    packOrder(this.#bytes, start, order, number);
    end.written = (end.written + skipped + size) | 0;
    return true;
  }

  /** As {@link WritingEnd.tell}. */
  tell(): boolean {
    return this.#end.tell();
  }
}

export class RingReader {
  readonly #end: ReadingEnd;
  readonly #bytes: Buffer;

  constructor(memory: SharedArrayBuffer) {
    this.#end = new ReadingEnd(memory);
    this.#bytes = Buffer.from(memory, HEAD_BYTES);
  }

  /** Calls `take` with each order that is there; its canonical form is valid during the call. */
  readAll(take: TakeOrder): void {
    const end = this.#end;
    const room = this.#bytes.length;
    const { written } = end;
    if (written === end.read) return;
    while (end.read !== written) {
      const start = (end.read >>> 0) & (room - 1);
      const next = this.#bytes[start] === SKIP ? room : unpackOrder(this.#bytes, start, take);
      end.read = (end.read + next - start) | 0;
    }
    end.giveBack();
  }

  /** As {@link ReadingEnd.sleep}. */
  sleep(): boolean {
    return this.#end.sleep();
  }
}
