/** Metrics of several threads on one page. */
import { Counter, Gauge, Histogram, Registry } from 'prom-client';
import { describe, expect, test } from 'vitest';
import { parseMetrics, sumOf as sumOfSamples } from '../devnet/metrics.ts';
import { grownIn, pageOf, snapshotOf, sumOf } from './merge.ts';
import { Summary } from './summary.ts';

/** What one thread has counted: orders of a size each. */
function thread(sizes: readonly number[], oldest: number): Registry {
  const registry = new Registry();
  const registers = [registry];
  const orders = new Counter({ name: 'orders_total', help: 'o', labelNames: ['side'], registers });
  const seconds = new Histogram({ name: 'seconds', help: 's', buckets: [10, 100], registers });
  new Gauge({ name: 'waiting', help: 'w', registers }).set(sizes.length);
  new Gauge({ name: 'oldest', help: 'x', aggregator: 'max', registers }).set(oldest);
  new Gauge({ name: 'process_open_fds', help: 'f', registers }).set(7);
  const summary = new Summary({ name: 'sizes', help: 'z', labels: ['side'], scale: 1 });
  registry.registerMetric(summary as never);
  for (const size of sizes) {
    orders.inc({ side: 'user' });
    seconds.observe(size);
    summary.child('user').observe(size);
  }
  return registry;
}

const small = Array.from({ length: 90 }, (_, i) => i % 20);
const large = Array.from({ length: 10 }, (_, i) => 1000 + i);

async function figuresOf(page: Promise<string>) {
  const samples = parseMetrics(await page);
  return (name: string, labels: Record<string, string> = {}) => sumOfSamples(samples, name, labels);
}

describe('one page of two threads', () => {
  test('counters, histograms and gauges are added, ages are the oldest, the process is counted once', async () => {
    const figure = await figuresOf(
      pageOf([await snapshotOf(thread(small, 3), false), await snapshotOf(thread(large, 2), true)]),
    );
    expect(figure('orders_total', { side: 'user' })).toBe(100);
    expect(figure('waiting')).toBe(100);
    expect(figure('oldest')).toBe(3);
    expect(figure('process_open_fds')).toBe(7);
    expect([figure('seconds_bucket', { le: '100' }), figure('seconds_count')]).toEqual([90, 100]);
  });

  test('summaries are those of all values together', async () => {
    const figure = await figuresOf(
      pageOf([await snapshotOf(thread(small, 0), false), await snapshotOf(thread(large, 0), true)]),
    );
    const one = await figuresOf(thread([...small, ...large], 0).metrics());
    for (const quantile of ['0.5', '0.9', '0.97', '0.99', '1']) {
      expect(figure('sizes', { quantile })).toBe(one('sizes', { quantile }));
    }
    expect([figure('sizes_sum'), figure('sizes_count')]).toEqual([one('sizes_sum'), one('sizes_count')]);
  });

  test('of a thread that has ended what only grows stays, however often', async () => {
    const ended = grownIn(await snapshotOf(thread(large, 5), true));
    const twice = await sumOf([ended, ended]);
    const figure = await figuresOf(pageOf([await snapshotOf(thread(small, 3), false), twice]));
    expect(figure('orders_total')).toBe(110);
    expect(figure('seconds_count')).toBe(110);
    expect(figure('sizes_count')).toBe(110);
    expect(figure('waiting')).toBe(90);
    expect(figure('oldest')).toBe(3);
    expect(figure('sizes', { quantile: '1' })).toBeLessThan(20);
  });
});
