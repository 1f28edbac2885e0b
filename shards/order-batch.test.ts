import fc from 'fast-check';
import { expect, test } from 'vitest';
import { type Address, type Hex, METHODS, type Method } from '../pipeline/order.ts';
import { type BatchedOrder, packOrders, unpackOrders } from './order-batch.ts';

const hex = (digits: number) =>
  fc
    .array(fc.constantFrom(...Array.from('0123456789abcdef')), { minLength: digits, maxLength: digits })
    .map((list) => list.join(''));

const batched = fc.record({
  receivedAtUs: fc.maxSafeNat(),
  order: fc.record({
    method: fc.constantFrom<Method>(...METHODS),
    signer: hex(40).map((digits): Address => `0x${digits}`),
    hash: fc.option(hex(64).map((digits): Hex => `0x${digits}`)),
    key: fc.option(hex(64)),
    canonical: fc.uint8Array({ maxLength: 300 }).map((bytes) => Buffer.from(bytes)),
  }),
});

test('orders come out as they went in', () => {
  fc.assert(
    fc.property(fc.array(batched, { maxLength: 10 }), (orders) => {
      const out: BatchedOrder[] = [];
      const numbers: number[] = [];
      unpackOrders(structuredClone(packOrders(orders, 7)), (order, number) => {
        out.push(order);
        numbers.push(number);
      });
      expect(out).toEqual(orders);
      expect(numbers).toEqual(orders.map((_, index) => 7 + index));
    }),
    { seed: 5, numRuns: 300 },
  );
});
