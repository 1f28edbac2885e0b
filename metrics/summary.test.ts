import fc from 'fast-check';
import { Registry } from 'prom-client';
import { describe, expect, test } from 'vitest';
import { Summary, SummaryChild } from './summary.ts';

describe('SummaryChild', () => {
  test('quantiles are within 3.2 % of the exact ones, the maximum is exact', () => {
    fc.assert(
      fc.property(fc.array(fc.nat(2_000_000_000), { minLength: 1, maxLength: 300 }), (values) => {
        const child = new SummaryChild();
        for (const value of values) child.observe(value);
        const sorted = values.toSorted((a, b) => a - b);
        for (const q of [0.5, 0.9, 0.97, 0.99]) {
          const exact = sorted[Math.ceil(q * sorted.length) - 1] ?? 0;
          expect(child.quantile(q)).toBeGreaterThanOrEqual(exact);
          expect(child.quantile(q)).toBeLessThanOrEqual(exact * 1.032 + 1);
        }
        expect(child.quantile(1)).toBe(sorted.at(-1));
        expect(child.sum).toBe(values.reduce((sum, value) => sum + value, 0));
      }),
      { seed: 7, numRuns: 200 },
    );
  });

  test('values leave the window after two rotations, sum and count stay', () => {
    const child = new SummaryChild();
    child.observe(5);
    child.rotate();
    expect(child.quantile(1)).toBe(5);
    child.rotate();
    expect(child.quantile(1)).toBe(0);
    expect([child.sum, child.count]).toEqual([5, 1]);
  });
});

test('the exposition has the form v1 serves', async () => {
  const registry = new Registry();
  const summary = new Summary({ name: 'x_milliseconds', help: 'h', labels: ['peer'], scale: 1000 });
  registry.registerMetric(summary as never);
  summary.child('a"b').observe(1500);
  expect(await registry.metrics()).toBe(
    [
      '# HELP x_milliseconds h',
      '# TYPE x_milliseconds summary',
      ...[0.5, 0.9, 0.97, 0.99, 1].map((q) => `x_milliseconds{peer="a\\"b",quantile="${q}"} 1.5`),
      'x_milliseconds_sum{peer="a\\"b"} 1.5',
      'x_milliseconds_count{peer="a\\"b"} 1',
      '',
    ].join('\n'),
  );
});
