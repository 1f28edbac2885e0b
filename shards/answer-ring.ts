/**
 * Memory that the node's own thread and a shard's see (ring-ends.ts), the other way than order-ring.ts: the numbers of
 * orders that the archive has, as doubles, one writer and one reader. A shard that is at work looks into it with each turn
 * of its event loop; only one that has nothing to do is woken. The room is a power of two.
 */
import { HEAD_BYTES, ReadingEnd, ringOf, WritingEnd } from './ring-ends.ts';

/** Orders of which a shard has not heard; what is beyond goes as a message. */
const ROOM = 16_384;

/** @param room numbers, a power of two */
export function answerMemory(room = ROOM): SharedArrayBuffer {
  return ringOf(room * Float64Array.BYTES_PER_ELEMENT);
}

export class AnswerWriter {
  readonly #end: WritingEnd;
  readonly #numbers: Float64Array;

  constructor(memory: SharedArrayBuffer) {
    this.#end = new WritingEnd(memory);
    this.#numbers = new Float64Array(memory, HEAD_BYTES);
  }

  /** @returns false when there is no room; it is not there for the reader before `tell`. */
  write(number: number): boolean {
    const end = this.#end;
    const room = this.#numbers.length;
    if (end.used === room) return false;
    this.#numbers[(end.written >>> 0) & (room - 1)] = number;
    end.written = (end.written + 1) | 0;
    return true;
  }

  /** As {@link WritingEnd.tell}. */
  tell(): boolean {
    return this.#end.tell();
  }
}

export class AnswerReader {
  readonly #end: ReadingEnd;
  readonly #numbers: Float64Array;

  constructor(memory: SharedArrayBuffer) {
    this.#end = new ReadingEnd(memory);
    this.#numbers = new Float64Array(memory, HEAD_BYTES);
  }

  /** Calls `take` with each number that is there, in the order in which they were written. */
  readAll(take: (number: number) => void): void {
    const end = this.#end;
    const room = this.#numbers.length;
    const { written } = end;
    while (((written - end.read) | 0) > 0) {
      const number = this.#numbers[(end.read >>> 0) & (room - 1)] ?? 0;
      end.read = (end.read + 1) | 0;
      // Before it is taken: who is told may come back here.
      end.giveBack();
      take(number);
    }
  }

  /** As {@link ReadingEnd.stayAwake}. */
  stayAwake(): void {
    this.#end.stayAwake();
  }

  /** As {@link ReadingEnd.sleep}. */
  sleep(): boolean {
    return this.#end.sleep();
  }
}
