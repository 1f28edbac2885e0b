import { hash } from 'node:crypto';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { DedupeWindow } from './dedupe.ts';

/** A key as orders have it. */
function keyOf(text: string): string {
  return hash('sha256', text, 'hex');
}

describe('DedupeWindow', () => {
  test('finds a key within the window, not after it', () => {
    const window = new DedupeWindow({ maxKeys: 10, windowUs: 100 });
    const seen = window.add(keyOf('a'), 1000, 'none');
    expect(window.find(keyOf('a'), 1100)).toEqual(seen);
    expect(window.find(keyOf('a'), 1101)).toBeNull();
    expect(window.find(keyOf('b'), 1000)).toBeNull();
  });

  test('the oldest leaves when one more than the bound comes', () => {
    const window = new DedupeWindow({ maxKeys: 2, windowUs: 1000 });
    window.add(keyOf('a'), 1, 'none');
    window.add(keyOf('b'), 2, 'none');
    window.add(keyOf('c'), 3, 'none');
    expect([window.find(keyOf('a'), 3), window.size]).toEqual([null, 2]);
    expect(window.find(keyOf('b'), 3)).not.toBeNull();
  });

  test('a key that came back after its time counts from then', () => {
    const window = new DedupeWindow({ maxKeys: 3, windowUs: 10 });
    window.add(keyOf('a'), 0, 'none');
    window.add(keyOf('b'), 5, 'none');
    window.add(keyOf('a'), 20, 'none');
    window.add(keyOf('c'), 29, 'none');
    expect(window.find(keyOf('a'), 29)?.receivedAtUs).toBe(20);
  });

  test('agrees with a plain model and never passes its bound', () => {
    const step = fc.record({
      key: fc.constantFrom(...['a', 'b', 'c', 'd', 'e'].map(keyOf)),
      wait: fc.nat(8),
    });
    fc.assert(
      fc.property(fc.array(step, { maxLength: 200 }), (steps) => {
        const window = new DedupeWindow({ maxKeys: 3, windowUs: 10 });
        const model: { key: string; at: number }[] = [];
        let now = 0;
        for (const { key, wait } of steps) {
          now += wait;
          const known = model.find((entry) => entry.key === key && now - entry.at <= 10);
          expect(window.find(key, now)?.receivedAtUs).toBe(known?.at);
          if (known === undefined) {
            window.add(key, now, 'none');
            const live = model.filter((entry) => entry.key !== key && now - entry.at <= 10);
            model.length = 0;
            model.push(...live.slice(-2), { key, at: now });
          }
          expect(window.size).toBeLessThanOrEqual(3);
        }
      }),
      { seed: 11, numRuns: 500 },
    );
  });

  test('who waits for a pending order is told once, and what became of it is found later', () => {
    for (const outcome of [null, new Error('disk')]) {
      const window = new DedupeWindow({ maxKeys: 10, windowUs: 1000 });
      const told: (Error | null)[] = [];
      const seen = window.add(keyOf('a'), 1, 'pending');
      expect(window.find(keyOf('a'), 2)).toBe(seen);
      window.wait(seen, (error) => void told.push(error));
      window.settle(seen, outcome);
      window.settle(seen, outcome);
      expect(told).toEqual([outcome]);
      expect(window.find(keyOf('a'), 3)?.archive).toBe(outcome === null ? 'durable' : 'none');
    }
  });

  test('only one may forward an order, and only one archive it', () => {
    const window = new DedupeWindow({ maxKeys: 10, windowUs: 1000 });
    window.add(keyOf('a'), 1, 'none', false);
    const first = window.find(keyOf('a'), 2)!;
    expect([window.forward(first), window.append(first)]).toEqual([true, true]);
    const second = window.find(keyOf('a'), 3)!;
    expect([second.forwarded, second.archive]).toEqual([true, 'pending']);
    expect([window.forward(second), window.append(second)]).toEqual([false, false]);
  });

  test('an order that has left while it was pending is settled all the same', () => {
    const window = new DedupeWindow({ maxKeys: 1, windowUs: 1000 });
    const told: (Error | null)[] = [];
    const seen = window.add(keyOf('a'), 1, 'pending');
    window.wait(seen, (error) => void told.push(error));
    window.add(keyOf('b'), 2, 'none');
    const again = window.add(keyOf('a'), 3, 'none');
    window.settle(seen, null);
    expect(told).toEqual([null]);
    expect(window.find(keyOf('a'), 3)).toEqual(again);
  });
});
