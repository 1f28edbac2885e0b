import { expect, test } from 'vitest';
import { figuresOfWaits, latencyFigures } from './latency.ts';

test('percentiles are of the nearest rank, in milliseconds', () => {
  const from = Float64Array.from({ length: 1000 }, (_, i) => i * 500);
  const to = Float64Array.from({ length: 1000 }, (_, i) => i * 500 + (1000 - i) * 1000);
  expect(latencyFigures(from, to)).toMatchObject({
    count: 1000,
    missing: 0,
    p50: 500,
    p90: 900,
    p99: 990,
    p999: 999,
    max: 1000,
  });
});

test('an order that never arrived is missing, not fast', () => {
  const figures = latencyFigures(Float64Array.of(0, 0, 0), Float64Array.of(2000, Number.NaN, 4000));
  expect(figures).toMatchObject({ count: 2, missing: 1, p50: 2, max: 4 });
  expect(latencyFigures(Float64Array.of(0), Float64Array.of(Number.NaN))).toMatchObject({
    missing: 1,
    p99: null,
    curve: [],
  });
});

test('refuses timestamps that do not belong together', () => {
  expect(() => latencyFigures(Float64Array.of(1), Float64Array.of(1, 2))).toThrow(RangeError);
});

test('a curve goes as far into the tail as there are orders for', () => {
  const { curve } = figuresOfWaits(Float64Array.from({ length: 1000 }, (_, i) => i + 1));
  expect(curve[0]).toEqual([0, 1]);
  expect(curve).toContainEqual([0.9, 900]);
  expect(curve).toContainEqual([0.99, 990]);
  expect(curve.at(-1)).toEqual([0.999, 999]);
  const shares = curve.map(([share]) => share);
  expect(shares).toEqual([...new Set(shares)].sort((a, b) => a - b));
});
