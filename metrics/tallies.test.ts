import fc from 'fast-check';
import { Counter, Histogram, Registry } from 'prom-client';
import { expect, test } from 'vitest';
import { pageOf, snapshotOf } from './merge.ts';
import { TallyCounter, TallyHistogram } from './tallies.ts';

const BUCKETS = [0.001, 0.0025, 0.1, 5];
const TARGETS = ['local-builder', 'peer-1', 'a "quoted" one'];

test('on the page they are as those of prom-client, whenever it is asked for, and added up over threads', async () => {
  const step = fc.oneof(
    {
      weight: 9,
      arbitrary: fc.record({
        target: fc.constantFrom(...TARGETS),
        value: fc.constantFrom(0, ...BUCKETS, 0.05, 9),
      }),
    },
    { weight: 1, arbitrary: fc.constant('page' as const) },
  );
  await fc.assert(
    fc.asyncProperty(fc.array(step, { maxLength: 60 }), async (steps) => {
      const [ours, theirs] = [new Registry(), new Registry()];
      const seconds = { name: 'some_seconds', help: 'how long', buckets: BUCKETS };
      const total = { name: 'some_total', help: 'how many' };
      const histogram = new TallyHistogram(ours, { ...seconds, labels: ['target'] });
      const counter = new TallyCounter(ours, { ...total, labels: ['target', 'kind'] });
      const registers = [theirs];
      const theirHistogram = new Histogram({ ...seconds, labelNames: ['target'], registers });
      const theirCounter = new Counter({ ...total, labelNames: ['target', 'kind'], registers });
      const samePage = async () => expect(await ours.metrics()).toBe(await theirs.metrics());
      for (const one of steps) {
        if (one === 'page') {
          await samePage();
          continue;
        }
        const { target, value } = one;
        histogram.child(target).observe(value);
        counter.child(target, 'x').inc();
        theirHistogram.labels(target).observe(value);
        theirCounter.labels(target, 'x').inc();
      }
      await samePage();
      const twice = async (registry: Registry) =>
        pageOf([await snapshotOf(registry, true), await snapshotOf(registry, true)]);
      expect(await twice(ours)).toBe(await twice(theirs));
    }),
    { seed: 3, numRuns: 100 },
  );
});
