/**
 * The orders that wait for one target, in order of arrival, bounded by bytes and by age.
 *
 * A new order that does not fit is refused: what waits longest has the least time left and the best
 * claim. Orders that come back from a lost connection are always taken in again, at their place; what
 * may come back is bounded by the connections.
 */
import type { Delivery } from './delivery.ts';
import { Fifo } from './fifo.ts';

export interface DeliveryQueueOptions {
  /** Sum of `Delivery.bytes`. */
  readonly maxBytes: number;
  readonly maxAgeMs: number;
}

export class DeliveryQueue {
  readonly #options: DeliveryQueueOptions;
  readonly #waiting = new Fifo<Delivery>();
  #bytes = 0;

  constructor(options: DeliveryQueueOptions) {
    this.#options = options;
  }

  get length(): number {
    return this.#waiting.length;
  }

  get bytes(): number {
    return this.#bytes;
  }

  /** @returns the oldest, left in the queue; undefined when it is empty. */
  peek(): Delivery | undefined {
    return this.#waiting.peek();
  }

  /**
   * Adds behind the newest.
   * @param heldBytes what is held elsewhere and counts too
   * @returns false when that would exceed the bound in bytes
   */
  push(delivery: Delivery, heldBytes = 0): boolean {
    if (this.#bytes + heldBytes + delivery.bytes > this.#options.maxBytes) return false;
    this.#waiting.push(delivery);
    this.#bytes += delivery.bytes;
    return true;
  }

  /** Takes the oldest out; undefined when the queue is empty. */
  shift(): Delivery | undefined {
    const delivery = this.#waiting.shift();
    if (delivery !== undefined) this.#bytes -= delivery.bytes;
    return delivery;
  }

  /** Takes the oldest out if it is too old; undefined when it is not, or the queue is empty. */
  shiftExpired(nowMs: number): Delivery | undefined {
    const oldest = this.#waiting.peek();
    return oldest !== undefined && this.isExpired(oldest, nowMs) ? this.shift() : undefined;
  }

  isExpired(delivery: Delivery, nowMs: number): boolean {
    return nowMs - delivery.request.bornMs > this.#options.maxAgeMs;
  }

  /** Puts orders that were taken out back to their places, whatever the bound. */
  putBack(deliveries: readonly Delivery[]): void {
    const front = [...deliveries];
    const youngest = deliveries.reduce((most, delivery) => Math.max(most, delivery.sequence), -1);
    // Several connections may give back in turn: what stands in front already may be older or younger.
    for (let next = this.peek(); next !== undefined && next.sequence < youngest; next = this.peek()) {
      front.push(next);
      this.shift();
    }
    front.sort((a, b) => b.sequence - a.sequence);
    for (const delivery of front) {
      this.#waiting.unshift(delivery);
      this.#bytes += delivery.bytes;
    }
  }

  /** Empties the queue. @returns what was in it, oldest first */
  takeAll(): Delivery[] {
    this.#bytes = 0;
    return this.#waiting.takeAll();
  }
}
