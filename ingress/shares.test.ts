import { expect, test } from 'vitest';
import { Asker, Shares } from './shares.ts';

/** Windows in which each asks so often, of which so many are refused and the others served. */
function play(
  shares: Shares,
  asks: readonly (readonly [asker: Asker, times: number])[],
  refused: number,
  windows = 2,
) {
  let now = 1000;
  for (let window = 0; window < windows; window += 1) {
    const total = asks.reduce((sum, [, times]) => sum + times, 0);
    for (const [asker, times] of asks) for (let i = 0; i < times; i += 1) shares.asks(asker, 0, now);
    for (let i = 0; i < refused; i += 1) shares.refused();
    for (let i = refused; i < total; i += 1) shares.served();
    now += 100;
  }
  return now;
}

test('while nearly nothing is refused there are no shares', () => {
  const shares = new Shares();
  const asker = new Asker();
  const now = play(shares, [[asker, 100]], 5);
  asker.takenMs = now - 99;
  expect(shares.allows(asker, now)).toBe(false);
});

test('those who ask often have equal shares of what those who ask seldom leave', () => {
  const shares = new Shares();
  const often = Array.from({ length: 10 }, () => [new Asker(), 50] as const);
  const seldom = Array.from({ length: 20 }, () => [new Asker(), 1] as const);
  // 520 asked, 120 served, 20 of these for the seldom: 100 for ten in 100 ms, one each in 10 ms.
  const now = play(shares, [...often, ...seldom], 400);
  shares.asks(new Asker(), 0, now);
  const asker = new Asker();
  expect(shares.allows(asker, now)).toBe(true);
  asker.takenMs = now - 9;
  expect(shares.allows(asker, now)).toBe(false);
  asker.takenMs = now - 10;
  expect(shares.allows(asker, now)).toBe(true);
});

test('what waits already is not given out again, and nobody waits longer than a second for his share', () => {
  const shares = new Shares();
  const often = Array.from({ length: 10 }, () => [new Asker(), 50] as const);
  const now = play(shares, often, 400);
  shares.asks(new Asker(), 500, now);
  const asker = new Asker();
  asker.takenMs = now - 999;
  expect(shares.allows(asker, now)).toBe(false);
  expect(shares.allows(asker, now + 1)).toBe(true);
});

test('shares end with the first window in which nothing is refused', () => {
  const shares = new Shares();
  const asker = new Asker();
  const now = play(shares, [[asker, 50]], 40);
  shares.asks(asker, 0, now);
  expect(shares.allows(new Asker(), now)).toBe(true);
  shares.asks(asker, 0, now + 100);
  expect(shares.allows(new Asker(), now + 100)).toBe(false);
});
