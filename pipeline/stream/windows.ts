/**
 * Sequence numbers, acknowledgements and credit of one connection, as the two ends count them. Pure arithmetic: no
 * sockets, no clocks. Orders are numbered 1, 2, 3 … per connection; each costs its record and a fixed overhead, so
 * that many tiny orders are bounded too. Credit is the sum of costs that may be sent since the connection began.
 */
import type { CloseReason } from './close-reasons.ts';

/** Bookkeeping of one order at the receiver, bytes: about what its objects take. */
export const ORDER_OVERHEAD_BYTES = 256;

/** @param recordBytes length of its record. @returns what an order costs of the window. */
export function orderCost(recordBytes: number): number {
  return recordBytes + ORDER_OVERHEAD_BYTES;
}

/** The sending end. */
export class SendWindow {
  #limit: number;
  #sentCost = 0;
  #sent = 0;
  #acknowledged = 0;

  /** @param windowBytes of the receiver's hello */
  constructor(windowBytes: number) {
    this.#limit = windowBytes;
  }

  /** Orders sent and not acknowledged. */
  get outstanding(): number {
    return this.#sent - this.#acknowledged;
  }

  /** Sequence number of the last order acknowledged. */
  get acknowledged(): number {
    return this.#acknowledged;
  }

  /** Sequence number of the last order sent. */
  get sent(): number {
    return this.#sent;
  }

  /** @returns whether an order of this cost may be sent. One larger than the whole window may, when it is alone. */
  allows(cost: number): boolean {
    return this.#sentCost + cost <= this.#limit || this.outstanding === 0;
  }

  /** Counts an order as sent. @returns its sequence number */
  send(cost: number): number {
    this.#sentCost += cost;
    this.#sent += 1;
    return this.#sent;
  }

  /** @returns how many orders it acknowledges newly, or why the connection must end. */
  acknowledge(sequence: number, limit: number): number | CloseReason {
    if (sequence > this.#sent || sequence < this.#acknowledged || limit < this.#limit) {
      return 'acknowledgement';
    }
    const fresh = sequence - this.#acknowledged;
    this.#acknowledged = sequence;
    this.#limit = limit;
    return fresh;
  }

  /** @returns whether a refusal of this order can be: it was sent and is not acknowledged. */
  mayRefuse(sequence: number): boolean {
    return sequence > this.#acknowledged && sequence <= this.#sent;
  }
}

/** The receiving end. */
export class ReceiveWindow {
  readonly #windowBytes: number;
  #received = 0;
  #receivedCost = 0;
  #settledCost = 0;
  #settledCount = 0;
  /** All orders up to this one are settled. */
  #settled = 0;
  /** Settled ones behind the first that is not. Empty but for orders that wait for the hub's list. */
  readonly #early = new Set<number>();

  /** @param windowBytes as this side's hello says */
  constructor(windowBytes: number) {
    this.#windowBytes = windowBytes;
  }

  /** What can be acknowledged. */
  get sequence(): number {
    return this.#settled;
  }

  /** Sum of costs that the sender may have sent. */
  get limit(): number {
    return this.#settledCost + this.#windowBytes;
  }

  /** Orders received and not settled. */
  get unsettled(): number {
    return this.#received - this.#settledCount;
  }

  /** Costs of the orders received and not settled. */
  get unsettledCost(): number {
    return this.#receivedCost - this.#settledCost;
  }

  /**
   * Counts the orders of one frame as received.
   *
   * @param first sequence number of the first
   * @param cost of all of them
   * @returns why the connection must end, or null
   */
  receive(first: number, count: number, cost: number): CloseReason | null {
    if (first !== this.#received + 1) return 'sequence';
    const alone = count === 1 && this.unsettled === 0;
    if (this.#receivedCost + cost > this.limit && !alone) return 'window';
    this.#received += count;
    this.#receivedCost += cost;
    return null;
  }

  /** The node is done with an order, whatever became of it. Once for each. */
  settle(sequence: number, cost: number): void {
    this.#settledCost += cost;
    this.#settledCount += 1;
    if (sequence !== this.#settled + 1) {
      this.#early.add(sequence);
      return;
    }
    this.#settled = sequence;
    while (this.#early.size > 0 && this.#early.delete(this.#settled + 1)) this.#settled += 1;
  }
}
