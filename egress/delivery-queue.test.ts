/** The queue's bounds and the places of orders that come back. */
import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { Delivery } from './delivery.ts';
import { DeliveryQueue, QueueAllowance } from './delivery-queue.ts';
import { testOrder } from './testing/recorder.ts';

const SEED = 20_250_703;

function delivery(sequence: number, bytes = 100, bornMs = 0, large = false): Delivery {
  const request = { admitted: testOrder(sequence), bornMs, headerEnd: () => '', record: () => null };
  return { request, sequence, bytes, large, sentAtMs: 0, refusals: 0 };
}

describe('bounds', () => {
  test('refuses what exceeds the bound in bytes, and counts what is held elsewhere', () => {
    const queue = new DeliveryQueue({ maxBytes: 250, maxAgeMs: 1 });
    expect(queue.push(delivery(0))).toBe(true);
    expect(queue.push(delivery(1), 51)).toBe(false);
    expect(queue.push(delivery(1), 50)).toBe(true);
    expect(queue.push(delivery(2))).toBe(false);
    expect(queue.shift()?.sequence).toBe(0);
    expect(queue.push(delivery(2))).toBe(true);
    expect({ length: queue.length, bytes: queue.bytes }).toEqual({ length: 2, bytes: 200 });
  });

  test('queues that share an allowance hold no more than that together, whatever way orders leave them', () => {
    const allowance = new QueueAllowance(300, 0);
    const [full, other] = [1, 2].map(() => new DeliveryQueue({ maxBytes: 1_000, maxAgeMs: 50, allowance }));
    if (full === undefined || other === undefined) throw new Error('no queues');
    expect([0, 1, 2].map((sequence) => full.push(delivery(sequence)))).toEqual([true, true, true]);
    expect(other.push(delivery(3))).toBe(false);
    const [first] = [full.shift()];
    expect(other.push(delivery(3))).toBe(true);
    // What had left already comes back whatever the bound; nothing new is taken meanwhile.
    if (first !== undefined) full.putBack([first]);
    expect(allowance.bytes).toBe(400);
    expect(other.push(delivery(4))).toBe(false);
    expect(full.shiftExpired(51)?.sequence).toBe(0);
    expect(other.shiftLane(false)?.sequence).toBe(3);
    expect(allowance.bytes).toBe(200);
    expect(full.takeAll()).toHaveLength(2);
    expect(allowance.bytes).toBe(0);
  });

  test('what others hold leaves each queue its reserve', () => {
    const allowance = new QueueAllowance(300, 200);
    const [full, other] = [1, 2].map(() => new DeliveryQueue({ maxBytes: 1_000, maxAgeMs: 50, allowance }));
    expect([0, 1, 2, 3].map((sequence) => full?.push(delivery(sequence)))).toEqual([true, true, true, false]);
    expect([4, 5, 6].map((sequence) => other?.push(delivery(sequence)))).toEqual([true, true, false]);
  });

  test('gives out the expired from the front, and no other', () => {
    const queue = new DeliveryQueue({ maxBytes: 1_000, maxAgeMs: 50 });
    for (const [sequence, bornMs] of [10, 20, 30].entries()) queue.push(delivery(sequence, 100, bornMs));
    expect(queue.shiftExpired(60)).toBe(undefined);
    expect(queue.shiftExpired(71)?.sequence).toBe(0);
    expect(queue.shiftExpired(71)?.sequence).toBe(1);
    expect(queue.shiftExpired(71)).toBe(undefined);
    expect(queue.bytes).toBe(100);
  });

  test('takes back what was taken out, whatever the bound', () => {
    const queue = new DeliveryQueue({ maxBytes: 200, maxAgeMs: 1 });
    queue.push(delivery(2));
    queue.push(delivery(3));
    queue.putBack([delivery(0), delivery(1)]);
    expect(queue.bytes).toBe(400);
    expect(queue.push(delivery(4))).toBe(false);
    expect(queue.takeAll().map((each) => each.sequence)).toEqual([0, 1, 2, 3]);
    expect({ length: queue.length, bytes: queue.bytes }).toEqual({ length: 0, bytes: 0 });
  });
});

test(`orders given back by several connections in any order stand in the order of arrival (seed ${SEED})`, () => {
  fc.assert(
    fc.property(fc.array(fc.nat(4), { minLength: 1, maxLength: 80 }), (owners) => {
      const queue = new DeliveryQueue({ maxBytes: Number.POSITIVE_INFINITY, maxAgeMs: 1 });
      const connections: Delivery[][] = [[], [], [], []];
      for (const [sequence, owner] of owners.entries()) {
        // Owner 4 is the queue: still waiting.
        if (owner === 4) queue.push(delivery(sequence));
        else connections[owner]?.push(delivery(sequence));
      }
      for (const given of connections) queue.putBack(given);
      expect(queue.bytes).toBe(owners.length * 100);
      expect(queue.takeAll().map((each) => each.sequence)).toEqual(owners.map((_, sequence) => sequence));
    }),
    { seed: SEED, numRuns: 300 },
  );
});
