import { expect, test } from 'vitest';
import { Cycle } from './cycle.ts';
import type { Part } from './rig.ts';
import type { RunFigures } from './run-figures.ts';

test('takes the next orders, goes round, and lets the node forget before an order comes again', async () => {
  const runs: (Part & { readonly atMs: number })[] = [];
  const rig = {
    async run(part: Part): Promise<RunFigures> {
      runs.push({ ...part, atMs: performance.now() });
      return {} as RunFigures;
    },
  };
  const cycle = new Cycle(rig, { set: 's', length: 10, forgottenAfterMs: 600 });
  for (const count of [4, 4, 4, 2]) await cycle.run(count, 100);
  expect(runs.map(({ set, from, count }) => [set, from, count])).toEqual([
    ['s', 0, 4],
    ['s', 4, 4],
    ['s', 0, 4],
    ['s', 4, 2],
  ]);
  const [first, second, third, fourth] = runs;
  expect(second!.atMs - first!.atMs).toBeLessThan(600);
  // Timers count from when the loop last looked at the clock, and may fire a little early.
  expect(third!.atMs - first!.atMs).toBeGreaterThan(690);
  expect(fourth!.atMs - second!.atMs).toBeGreaterThan(690);
});
