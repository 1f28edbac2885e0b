/**
 * The records of one group commit: their frames in one buffer, in order, and who waits for them. Two of these
 * take turns in the spool: one is filled while the other is written.
 */
import { encodeFrame, frameBytes } from './record.ts';

/** Called once, when the record is durable (null) or will not be archived (the error). Must not throw. */
export type Done = (error: Error | null) => void;

const INITIAL_BYTES = 256 * 1024;
/** A buffer that one burst made larger than this is given back. */
const KEPT_BYTES = 8 * 1024 * 1024;

export class Batch {
  #buffer = Buffer.allocUnsafeSlow(INITIAL_BYTES);
  #length = 0;
  #waiting: Done[] = [];
  /** Latest received-at of the records, unix µs; 0 when empty. */
  newestUs = 0;
  /** Records that are orders. */
  orders = 0;

  /** Frames from 0 to {@link length}. */
  get buffer(): Buffer {
    return this.#buffer;
  }

  /** Bytes of all frames. */
  get length(): number {
    return this.#length;
  }

  get records(): number {
    return this.#waiting.length;
  }

  /** Adds one record. */
  add(sequence: number, headers: string, value: Buffer, receivedAtUs: number, done: Done): void {
    const needed = this.#length + frameBytes(headers, value);
    if (needed > this.#buffer.length) this.#grow(needed);
    this.#length = encodeFrame(this.#buffer, this.#length, sequence, this.#waiting.length, headers, value);
    this.#waiting.push(done);
    if (receivedAtUs > this.newestUs) this.newestUs = receivedAtUs;
  }

  /** Empties the batch. @returns who waited, for {@link tell}. */
  take(): readonly Done[] {
    const waiting = this.#waiting;
    this.#waiting = [];
    this.#length = 0;
    this.newestUs = 0;
    this.orders = 0;
    if (this.#buffer.length > KEPT_BYTES) this.#buffer = Buffer.allocUnsafeSlow(INITIAL_BYTES);
    return waiting;
  }

  #grow(needed: number): void {
    const larger = Buffer.allocUnsafeSlow(Math.max(needed, this.#buffer.length * 2));
    this.#buffer.copy(larger, 0, 0, this.#length);
    this.#buffer = larger;
  }
}

/** Tells everybody who waited. What one of them throws surfaces as an uncaught exception, and the others hear all the same. */
export function tell(waiting: readonly Done[], error: Error | null): void {
  for (const done of waiting) {
    try {
      done(error);
    } catch (thrown) {
      queueMicrotask(() => {
        throw thrown;
      });
    }
  }
}
