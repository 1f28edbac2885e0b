import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { ORDER_OVERHEAD_BYTES, orderCost, ReceiveWindow, SendWindow } from './windows.ts';

const SEED = 20_260_803;

describe('the sender', () => {
  test('stops at the credit, and goes on when more is granted', () => {
    const window = new SendWindow(1_000);
    expect([window.send(600), window.allows(400), window.allows(401)]).toEqual([1, true, false]);
    expect(window.acknowledge(1, 1_600)).toBe(1);
    expect([window.outstanding, window.allows(1_000)]).toEqual([0, true]);
    expect(orderCost(10)).toBe(10 + ORDER_OVERHEAD_BYTES);
  });

  test('an order beyond the whole window goes alone', () => {
    const window = new SendWindow(100);
    expect(window.allows(5_000)).toBe(true);
    window.send(5_000);
    expect(window.allows(1)).toBe(false);
    expect(window.acknowledge(1, 5_100)).toBe(1);
    window.send(50);
    expect(window.allows(5_000)).toBe(false);
  });

  test('acknowledgements of the future, of less than before, and credit that shrinks end the connection', () => {
    const window = new SendWindow(1_000);
    for (let i = 0; i < 5; i++) window.send(10);
    expect(window.acknowledge(6, 1_000)).toBe('acknowledgement');
    expect(window.acknowledge(3, 1_000)).toBe(3);
    expect(window.acknowledge(2, 1_000)).toBe('acknowledgement');
    expect(window.acknowledge(4, 999)).toBe('acknowledgement');
    expect(window.acknowledge(4, 1_000)).toBe(1);
    expect([4, 5, 6].map((sequence) => window.mayRefuse(sequence))).toEqual([false, true, false]);
  });
});

describe('the receiver', () => {
  test('takes numbers in a row, within its credit', () => {
    const window = new ReceiveWindow(100);
    expect(window.receive(2, 1, 10)).toBe('sequence');
    expect(window.receive(1, 2, 60)).toBeNull();
    expect(window.receive(1, 1, 10)).toBe('sequence');
    expect(window.receive(3, 1, 41)).toBe('window');
    expect(window.receive(3, 1, 40)).toBeNull();
    expect([window.unsettled, window.unsettledCost, window.limit]).toEqual([3, 100, 100]);
  });

  test('takes one beyond its window when that is alone', () => {
    const window = new ReceiveWindow(100);
    expect(window.receive(1, 1, 5_000)).toBeNull();
    expect(window.receive(2, 1, 1)).toBe('window');
    window.settle(1, 5_000);
    expect(window.receive(2, 2, 5_000)).toBe('window');
    expect(window.receive(2, 1, 5_000)).toBeNull();
  });

  test('acknowledges what is settled without a hole, and gives credit for all that is', () => {
    const window = new ReceiveWindow(100);
    window.receive(1, 4, 80);
    window.settle(2, 20);
    window.settle(4, 20);
    expect([window.sequence, window.limit, window.unsettled]).toEqual([0, 140, 2]);
    window.settle(1, 20);
    expect(window.sequence).toBe(2);
    window.settle(3, 20);
    expect([window.sequence, window.limit, window.unsettledCost]).toEqual([4, 180, 0]);
  });
});

test('two honest ends never break each other: whatever is sent, settled and told, in whatever order', () => {
  const step = fc.record({ act: fc.constantFrom('send', 'settle', 'ack'), n: fc.nat(2_000) });
  fc.assert(
    fc.property(fc.nat(3_000), fc.array(step, { maxLength: 300 }), (windowBytes, steps) => {
      const sender = new SendWindow(windowBytes);
      const receiver = new ReceiveWindow(windowBytes);
      const unsettled = new Map<number, number>();
      for (const { act, n } of steps) {
        if (act === 'send' && sender.allows(n)) {
          const sequence = sender.send(n);
          expect(receiver.receive(sequence, 1, n)).toBeNull();
          unsettled.set(sequence, n);
        } else if (act === 'settle' && unsettled.size > 0) {
          const [sequence, cost] = [...unsettled][n % unsettled.size]!;
          unsettled.delete(sequence);
          receiver.settle(sequence, cost);
        } else if (act === 'ack') {
          expect(typeof sender.acknowledge(receiver.sequence, receiver.limit)).toBe('number');
        }
      }
      for (const [sequence, cost] of unsettled) receiver.settle(sequence, cost);
      sender.acknowledge(receiver.sequence, receiver.limit);
      expect([sender.outstanding, receiver.unsettled, receiver.unsettledCost]).toEqual([0, 0, 0]);
      expect(sender.allows(windowBytes)).toBe(true);
    }),
    { seed: SEED, numRuns: 500 },
  );
});
