/**
 * Orders that a target has refused for now ("too busy", "I do not know you yet"), and how much it may be
 * asked meanwhile.
 *
 * A refused order waits out a back-off that doubles with each round; other orders flow on. After several
 * refusals in a row the target, not the order, is taken to be the cause: nothing is sent until the wait is
 * over, then one order, a different one each round, and with every order it takes one more at a time. So an
 * overloaded target is not hammered, and an order that it never takes does not stop the rest.
 *
 * Not bounded itself: what it holds counts against the target's queue.
 */
import { type BackoffOptions, backoffMs } from './backoff.ts';
import type { Delivery } from './delivery.ts';

/** Refusals in a row after which the target is taken to be the cause. */
const REFUSALS_TO_PAUSE = 4;
/** So many orders at a time taken again: the target has recovered. */
const RECOVERED = 64;

const NONE: readonly Delivery[] = [];

export class Refusals {
  readonly #backoff: BackoffOptions;
  readonly #onWaitOver: () => void;
  #held: Delivery[] = [];
  #bytes = 0;
  #limit = Number.POSITIVE_INFINITY;
  #inARow = 0;
  #round = 0;
  #timer: NodeJS.Timeout | null = null;

  /** @param onWaitOver called when `release` should be */
  constructor(backoff: BackoffOptions, onWaitOver: () => void) {
    this.#backoff = backoff;
    this.#onWaitOver = onWaitOver;
  }

  /** How many orders may be outstanding at the target: infinite unless it refuses. */
  get limit(): number {
    return this.#limit;
  }

  get length(): number {
    return this.#held.length;
  }

  get bytes(): number {
    return this.#bytes;
  }

  /** The order that has been held longest; undefined when none is. */
  oldest(): Delivery | undefined {
    return this.#held[0];
  }

  /** Holds an order that was refused just now. */
  add(delivery: Delivery): void {
    // A new order, after the last one was taken: whatever was the matter before is over.
    if (this.#inARow === 0 && delivery.refusals === 0 && this.#held.length === 0) this.#round = 0;
    delivery.refusals++;
    this.#inARow++;
    this.#held.push(delivery);
    this.#bytes += delivery.bytes;
    if (this.#inARow >= REFUSALS_TO_PAUSE || this.#limit !== Number.POSITIVE_INFINITY) this.#limit = 0;
    this.#arm();
  }

  /**
   * The target has dealt with an order.
   * @returns orders that may be sent now
   */
  taken(delivery: Delivery): readonly Delivery[] {
    this.#inARow = 0;
    if (delivery.refusals > 0) this.#round = 0;
    if (this.#limit === Number.POSITIVE_INFINITY) return NONE;
    this.#limit++;
    if (this.#limit >= RECOVERED) {
      this.#limit = Number.POSITIVE_INFINITY;
      this.#round = 0;
    }
    return this.takeAll();
  }

  /**
   * A wait is over.
   * @param nothingElse no other order is there to ask with
   * @returns orders that may be sent now
   */
  release(nothingElse: boolean): readonly Delivery[] {
    if (this.#limit === Number.POSITIVE_INFINITY) return this.takeAll();
    this.#limit = Math.max(1, this.#limit);
    const probe = nothingElse ? this.#held.shift() : undefined;
    if (probe !== undefined) this.#bytes -= probe.bytes;
    if (this.#held.length > 0) this.#arm();
    return probe === undefined ? NONE : [probe];
  }

  /** Takes out the orders for which `isExpired` holds. */
  takeExpired(isExpired: (delivery: Delivery) => boolean): Delivery[] {
    const expired: Delivery[] = [];
    const kept: Delivery[] = [];
    for (const delivery of this.#held) (isExpired(delivery) ? expired : kept).push(delivery);
    for (const delivery of expired) this.#bytes -= delivery.bytes;
    this.#held = kept;
    return expired;
  }

  /** Takes out all orders. */
  takeAll(): readonly Delivery[] {
    const held = this.#held;
    this.#held = [];
    this.#bytes = 0;
    return held;
  }

  /** Stops the clock. */
  close(): void {
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#timer = null;
  }

  #arm(): void {
    if (this.#timer !== null) return;
    this.#round++;
    this.#timer = setTimeout(
      () => {
        this.#timer = null;
        this.#onWaitOver();
      },
      backoffMs(this.#round, this.#backoff),
    );
  }
}
