import { expect, test } from 'vitest';
import { latencyFigures } from './latency.ts';

test('percentiles are of the nearest rank, in milliseconds', () => {
  const from = Float64Array.from({ length: 1000 }, (_, i) => i * 500);
  const to = Float64Array.from({ length: 1000 }, (_, i) => i * 500 + (1000 - i) * 1000);
  expect(latencyFigures(from, to)).toEqual({
    count: 1000,
    lost: 0,
    p50: 500,
    p90: 900,
    p99: 990,
    p999: 999,
    max: 1000,
  });
});

test('an order that never arrived is lost, not fast', () => {
  const figures = latencyFigures(Float64Array.of(0, 0, 0), Float64Array.of(2000, Number.NaN, 4000));
  expect(figures).toMatchObject({ count: 2, lost: 1, p50: 2, max: 4 });
  expect(latencyFigures(Float64Array.of(0), Float64Array.of(Number.NaN))).toMatchObject({
    lost: 1,
    p99: null,
  });
});

test('refuses timestamps that do not belong together', () => {
  expect(() => latencyFigures(Float64Array.of(1), Float64Array.of(1, 2))).toThrow(RangeError);
});
