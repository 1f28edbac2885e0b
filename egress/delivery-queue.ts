/**
 * The orders that wait for one target, in order of arrival, bounded by bytes (its own, and those of several targets
 * together) and by age.
 *
 * A new order that does not fit is refused: what waits longest has the least time left and the best
 * claim. Small and large orders stand in lanes of their own, as a target may have a way for each; together they
 * are one queue. Orders that come back from a lost connection are always taken in again, at their place; what
 * may come back is bounded by the connections.
 */
import type { Delivery } from './delivery.ts';
import { Fifo } from './fifo.ts';

export interface DeliveryQueueOptions {
  /** Sum of `Delivery.bytes`. */
  readonly maxBytes: number;
  readonly maxAgeMs: number;
  /** What this queue shares with others. */
  readonly allowance?: QueueAllowance | undefined;
}

/** Bytes that several queues may hold together: a list of a hundred dead peers then costs no more than a few. */
export class QueueAllowance {
  readonly maxBytes: number;
  /** What each queue may hold all the same, so that dead peers cost a living one nothing that waits for a moment. */
  readonly reserveBytes: number;
  /** Held by all of them. */
  bytes = 0;

  constructor(maxBytes: number, reserveBytes: number) {
    this.maxBytes = maxBytes;
    this.reserveBytes = reserveBytes;
  }

  /** May a queue that would then hold `queueBytes` take `bytes` more? */
  allows(queueBytes: number, bytes: number): boolean {
    return queueBytes <= this.reserveBytes || this.bytes + bytes <= this.maxBytes;
  }
}

export class DeliveryQueue {
  readonly #options: DeliveryQueueOptions;
  readonly #small = new Fifo<Delivery>();
  readonly #large = new Fifo<Delivery>();
  #bytes = 0;

  constructor(options: DeliveryQueueOptions) {
    this.#options = options;
  }

  get length(): number {
    return this.#small.length + this.#large.length;
  }

  get bytes(): number {
    return this.#bytes;
  }

  /** @returns the oldest, left in the queue; undefined when it is empty. */
  peek(): Delivery | undefined {
    return this.#oldest().peek();
  }

  /** @returns the oldest of the small or the large ones, left in the queue. */
  peekLane(large: boolean): Delivery | undefined {
    return this.#lane(large).peek();
  }

  /**
   * Adds behind the newest.
   * @param heldBytes what is held elsewhere and counts too
   * @returns false when that would exceed the bound in bytes, its own or the shared one
   */
  push(delivery: Delivery, heldBytes = 0): boolean {
    const { maxBytes, allowance } = this.#options;
    if (this.#bytes + heldBytes + delivery.bytes > maxBytes) return false;
    if (allowance?.allows(this.#bytes + delivery.bytes, delivery.bytes) === false) return false;
    this.#lane(delivery.large).push(delivery);
    this.#count(delivery.bytes);
    return true;
  }

  /** Takes the oldest out; undefined when the queue is empty. */
  shift(): Delivery | undefined {
    return this.#shiftOf(this.#oldest());
  }

  /** Takes out what {@link peekLane} gives. */
  shiftLane(large: boolean): Delivery | undefined {
    return this.#shiftOf(this.#lane(large));
  }

  /** Takes the oldest out if it is too old; undefined when it is not, or the queue is empty. */
  shiftExpired(nowMs: number): Delivery | undefined {
    const oldest = this.peek();
    return oldest !== undefined && this.isExpired(oldest, nowMs) ? this.shift() : undefined;
  }

  isExpired(delivery: Delivery, nowMs: number): boolean {
    return nowMs - delivery.request.bornMs > this.#options.maxAgeMs;
  }

  /** Puts orders that were taken out back to their places, whatever the bound. */
  putBack(deliveries: readonly Delivery[]): void {
    this.#putBackLane(
      false,
      deliveries.filter(({ large }) => !large),
    );
    this.#putBackLane(
      true,
      deliveries.filter(({ large }) => large),
    );
  }

  /** Empties the queue. @returns what was in it, oldest first */
  takeAll(): Delivery[] {
    this.#count(-this.#bytes);
    return [...this.#small.takeAll(), ...this.#large.takeAll()].sort((a, b) => a.sequence - b.sequence);
  }

  #putBackLane(large: boolean, deliveries: readonly Delivery[]): void {
    if (deliveries.length === 0) return;
    const lane = this.#lane(large);
    const front = [...deliveries];
    const youngest = deliveries.reduce((most, delivery) => Math.max(most, delivery.sequence), -1);
    // Several connections may give back in turn: what stands in front already may be older or younger.
    for (let next = lane.peek(); next !== undefined && next.sequence < youngest; next = lane.peek()) {
      front.push(next);
      this.#shiftOf(lane);
    }
    front.sort((a, b) => b.sequence - a.sequence);
    for (const delivery of front) {
      lane.unshift(delivery);
      this.#count(delivery.bytes);
    }
  }

  #lane(large: boolean): Fifo<Delivery> {
    return large ? this.#large : this.#small;
  }

  #shiftOf(lane: Fifo<Delivery>): Delivery | undefined {
    const delivery = lane.shift();
    if (delivery !== undefined) this.#count(-delivery.bytes);
    return delivery;
  }

  #count(bytes: number): void {
    this.#bytes += bytes;
    const { allowance } = this.#options;
    if (allowance !== undefined) allowance.bytes += bytes;
  }

  /** The lane whose first order is the older. */
  #oldest(): Fifo<Delivery> {
    const small = this.#small.peek();
    const large = this.#large.peek();
    return large !== undefined && (small === undefined || large.sequence < small.sequence)
      ? this.#large
      : this.#small;
  }
}
