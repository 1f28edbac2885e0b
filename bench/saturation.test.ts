import { expect, test } from 'vitest';
import { QUICK } from './commands/all.ts';
import { saturationSection } from './commands/saturation.ts';
import { figuresOfWaits } from './latency.ts';
import { figuresOf, type RunFigures } from './run-figures.ts';

const USED = { cpuUs: 0, cpuByThreadUs: {}, rssBytes: 0, peakRssBytes: 0, fds: 0, threads: 0 };
const used = { node: USED, load: USED, sinks: USED };

/** One order a millisecond, of which so many are accepted, each after so long. */
function run(orders: number, accepted: number, answerMs: number): RunFigures {
  const dueUs = Float64Array.from({ length: orders }, (_, i) => i * 1000);
  const taken = (i: number) => i % Math.round(orders / accepted) === 0;
  const answeredUs = dueUs.map((due, i) => (taken(i) ? due + answerMs * 1000 : Number.NaN));
  const refusedUs = dueUs.map((due, i) => (taken(i) ? Number.NaN : due + 500));
  const figures = figuresOf({
    result: { dueUs, sentUs: dueUs, answeredUs, refusedUs, refused: { '429 no': orders - accepted } },
    received: { receivedUs: [answeredUs], duplicates: 0, corrupted: 0 },
    before: used,
    after: used,
    loops: [],
    memory: [],
  });
  expect(figures.sentToAnswer).toEqual({
    ...figuresOfWaits(new Float64Array(accepted).fill(answerMs)),
    missing: orders - accepted,
  });
  return figures;
}

const plan = { ...QUICK.saturation, leastGoodput: 0.5, mostP99Ms: 100 };

test('refusing what is too much is no fault while the rest is fast and not much less than before', () => {
  const steps = [
    { times: 1, rate: 1000, run: run(1000, 1000, 400) },
    { times: 50, rate: 50_000, run: run(1000, 500, 90) },
  ];
  const { faults, tables } = saturationSection(plan, steps);
  expect(faults).toEqual([]);
  expect(tables[0]?.rows.map(([, , , accepted, refused]) => [accepted, refused])).toEqual([
    [100, 0],
    [50, 50],
  ]);
});

test('a node that hardly accepts anything under overload, or late, has a fault for each', () => {
  const steps = [
    { times: 1, rate: 1000, run: run(1000, 1000, 1) },
    { times: 50, rate: 50_000, run: run(1000, 250, 200) },
  ];
  const [goodput, late, ...others] = saturationSection(plan, steps).faults;
  expect(goodput).toMatch(/^saturation 50 ×: \d+ accepted\/s, below 0.5 of the most/);
  expect(late).toBe('saturation 50 ×: sent → answer p99 200 ms, above 100');
  expect(others).toEqual([]);
});
