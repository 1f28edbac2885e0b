/**
 * What tests of egress share: orders that look like real ones, and a recorder of what is reported about
 * them, on which a test can wait.
 */
import { createClock } from '../../pipeline/clock.ts';
import { keccak256Hex } from '../../pipeline/keccak.ts';
import type { AdmittedOrder } from '../../pipeline/order.ts';
import type { ConnectionEnd, DeliveryEvents, DropReason, FailureReason } from '../delivery.ts';

/** Receive times of test orders: give it to what measures from them. */
export const testClock = createClock();

/**
 * @param id tells orders apart: it is the bundle's block number
 * @param bytes length of the canonical form, at least about 150
 */
export function testOrder(id: number, bytes = 1_000): AdmittedOrder {
  const head = '{"method":"eth_sendBundle","params":[{"txs":["0x';
  const tail = `"],"blockNumber":"0x${id.toString(16)}"}],"id":0,"jsonrpc":"2.0"}`;
  const canonical = Buffer.from(head + 'a'.repeat(Math.max(0, bytes - head.length - tail.length)) + tail);
  const hash = keccak256Hex(canonical);
  return {
    order: {
      method: 'eth_sendBundle',
      canonical,
      hash: `0x${hash}`,
      key: hash,
      signer: `0x${'1'.repeat(40)}`,
    },
    side: 'user',
    caller: 'user',
    receivedAtUs: testClock(),
  };
}

/** @returns the ids of the orders that these bodies are, in their order */
export function orderIds(requests: readonly { readonly body: Buffer }[]): number[] {
  return requests.map(({ body }) => Number(/"blockNumber":"(0x[0-9a-f]+)"/.exec(body.toString())?.[1]));
}

interface Waiter {
  readonly met: () => boolean;
  readonly resolve: () => void;
}

/** Counts by target; `until` waits for a condition on the counts, which are looked at after every event. */
export class Recorder implements DeliveryEvents {
  readonly accepted: AdmittedOrder[] = [];
  readonly rejected: AdmittedOrder[] = [];
  readonly drops: { target: string; reason: DropReason; admitted: AdmittedOrder }[] = [];
  readonly failures: { target: string; reason: FailureReason }[] = [];
  readonly ends: { target: string; reason: ConnectionEnd }[] = [];
  readonly e2eMs = new Map<string, number[]>();
  readonly sentTo = new Map<string, number>();
  readonly acceptedBy = new Map<string, number>();
  readonly resentTo = new Map<string, number>();
  readonly connectedTo = new Map<string, number>();
  #waiters: Waiter[] = [];

  sent(target: string): void {
    this.#count(this.sentTo, target);
  }

  answered(
    target: string,
    admitted: AdmittedOrder,
    accepted: boolean,
    _big: boolean,
    _rpcMs: number,
    e2eMs: number,
  ): void {
    (accepted ? this.accepted : this.rejected).push(admitted);
    const times = this.e2eMs.get(target);
    if (times === undefined) this.e2eMs.set(target, [e2eMs]);
    else times.push(e2eMs);
    if (accepted) this.#count(this.acceptedBy, target);
    this.#look();
  }

  failed(target: string, reason: FailureReason): void {
    this.failures.push({ target, reason });
    this.#look();
  }

  dropped(target: string, reason: DropReason, admitted: AdmittedOrder): void {
    this.drops.push({ target, reason, admitted });
    this.#look();
  }

  resent(target: string): void {
    this.#count(this.resentTo, target);
  }

  connected(target: string): void {
    this.#count(this.connectedTo, target);
  }

  disconnected(target: string, reason: ConnectionEnd): void {
    this.ends.push({ target, reason });
    this.#look();
  }

  /** @returns when the condition holds; it may use the counts above and anything else that changes with them */
  until(met: () => boolean): Promise<void> {
    if (met()) return Promise.resolve();
    return new Promise((resolve) => this.#waiters.push({ met, resolve }));
  }

  /** @returns e.g. `{ queue_full: 3 }` */
  dropCounts(target: string): Partial<Record<DropReason, number>> {
    return countBy(this.drops, target);
  }

  failureCounts(target: string): Partial<Record<FailureReason, number>> {
    return countBy(this.failures, target);
  }

  endCounts(target: string): Partial<Record<ConnectionEnd, number>> {
    return countBy(this.ends, target);
  }

  #count(counts: Map<string, number>, target: string): void {
    counts.set(target, (counts.get(target) ?? 0) + 1);
    this.#look();
  }

  #look(): void {
    if (this.#waiters.length === 0) return;
    const met = this.#waiters.filter((waiter) => waiter.met());
    this.#waiters = this.#waiters.filter((waiter) => !met.includes(waiter));
    for (const waiter of met) waiter.resolve();
  }
}

function countBy<R extends string>(
  list: readonly { target: string; reason: R }[],
  target: string,
): Partial<Record<R, number>> {
  const counts: Partial<Record<R, number>> = {};
  for (const entry of list) {
    if (entry.target === target) counts[entry.reason] = (counts[entry.reason] ?? 0) + 1;
  }
  return counts;
}
