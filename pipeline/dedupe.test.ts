import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { DedupeWindow } from './dedupe.ts';

describe('DedupeWindow', () => {
  test('finds a key within the window, not after it', () => {
    const window = new DedupeWindow({ maxKeys: 10, windowUs: 100 });
    const seen = window.add('a', 1000, 'none');
    expect(window.find('a', 1100)).toBe(seen);
    expect(window.find('a', 1101)).toBeNull();
    expect(window.find('b', 1000)).toBeNull();
  });

  test('the oldest leaves when one more than the bound comes', () => {
    const window = new DedupeWindow({ maxKeys: 2, windowUs: 1000 });
    window.add('a', 1, 'none');
    window.add('b', 2, 'none');
    window.add('c', 3, 'none');
    expect([window.find('a', 3), window.size]).toEqual([null, 2]);
    expect(window.find('b', 3)).not.toBeNull();
  });

  test('a key that came back after its time counts from then', () => {
    const window = new DedupeWindow({ maxKeys: 3, windowUs: 10 });
    window.add('a', 0, 'none');
    window.add('b', 5, 'none');
    window.add('a', 20, 'none');
    window.add('c', 29, 'none');
    expect(window.find('a', 29)?.receivedAtUs).toBe(20);
  });

  test('agrees with a plain model and never passes its bound', () => {
    const step = fc.record({ key: fc.constantFrom('a', 'b', 'c', 'd', 'e'), wait: fc.nat(8) });
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
});
