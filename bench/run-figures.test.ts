import { expect, test } from 'vitest';
import type { RunResult } from './load-generator.ts';
import type { ProcessFigures } from './process-figures.ts';
import { faultsOf, figuresOf, type RunFigures, type RunMeasurements } from './run-figures.ts';

const N = Number.NaN;

function result(answered: readonly number[], refused: Record<string, number> = {}): RunResult {
  const dueUs = Float64Array.from(answered, (_, index) => index * 1000);
  return {
    dueUs,
    sentUs: dueUs.map((due) => due + 100),
    answeredUs: Float64Array.from(answered),
    refusedUs: dueUs.map((due, index) => (Number.isNaN(answered[index]) ? due + 600 : N)),
    refused,
  };
}

function used(cpuUs: number, main: number): ProcessFigures {
  return {
    cpuUs,
    cpuByThreadUs: { main, other: cpuUs - main, gone: 5 },
    rssBytes: 1,
    peakRssBytes: 2,
    fds: 3,
    threads: 4,
  };
}

function figures(
  run: RunResult,
  receivedUs: Float64Array[],
  changes: Partial<RunMeasurements> = {},
): RunFigures {
  return figuresOf({
    result: run,
    received: { receivedUs, duplicates: 0, corrupted: 0 },
    before: { node: used(1000, 800), load: used(0, 0), sinks: used(10, 0) },
    after: { node: used(1400, 1000), load: used(200, 0), sinks: used(50, 0) },
    loops: [],
    memory: [],
    ...changes,
  });
}

const good = figures(result([2_000, 3_000, 4_000, 5_000]), [Float64Array.of(500, 1_500, 2_500, 3_750)]);

test('a run counts from when orders were due, and its rate from the first sending to the last answer', () => {
  expect(good).toMatchObject({
    orders: 4,
    sent: 4,
    accepted: 4,
    unanswered: 0,
    cpuUsPerOrder: { node: 100, load: 50, sinks: 10 },
    cpuUsPerOrderByThread: { main: 50, other: 50 },
    toAnswer: { p50: 2, count: 4 },
    sentToAnswer: { p50: 1.9 },
    toBuilder: { max: 0.75 },
    sentToBuilder: { max: 0.65 },
    peakRssBytes: 2,
    loopDelay: null,
    pauses: null,
  });
  expect(good.cpuUsPerOrderByThread).not.toHaveProperty('gone');
  expect(good.ordersPerSec).toBeCloseTo(4 / 0.0049, 6);
  expect(faultsOf('x', good)).toEqual([]);
});

test('every loss, double, refusal and silence is told', () => {
  const bad = figures(
    result([2_000, N, 4_000, N], { '429 slow': 1 }),
    [Float64Array.of(500, N, N, N), Float64Array.of(N, N, N, N)],
    {
      received: {
        receivedUs: [Float64Array.of(500, N, N, N), Float64Array.of(N, N, N, N)],
        duplicates: 2,
        corrupted: 3,
      },
    },
  );
  expect(faultsOf('10 peers, open', bad)).toEqual([
    '10 peers, open: 1 acknowledged orders never reached the builder',
    '10 peers, open: 2 acknowledged orders never reached peer 1',
    '10 peers, open: 2 came twice',
    '10 peers, open: 3 came to a peer with other bytes than to the builder',
    '10 peers, open: 1 got no answer',
    '10 peers, open: 1 × 429 slow',
  ]);
  // Under an overload, refusing is right.
  expect(faultsOf('x', bad, true)).not.toContain('x: 1 × 429 slow');
});

test('an order that was refused is not lost', () => {
  const run = figures(result([2_000, N], { '429 slow': 1 }), [Float64Array.of(500, N)]);
  expect(run).toMatchObject({ accepted: 1, unanswered: 0, lostToBuilder: 0 });
});

test('of several threads the latest counts, and the pauses of all', () => {
  const delay = (p99: number) => ({ p50: 1, p90: 1, p99, p999: p99, max: p99 });
  const run = figures(result([1]), [Float64Array.of(1)], {
    loops: [
      { delay: delay(3), pausesMs: [1, 2] },
      { delay: delay(9), pausesMs: [4] },
    ],
  });
  expect(run.loopDelay?.p99).toBe(9);
  expect(run.pauses).toEqual({ count: 3, totalMs: 7, p99Ms: 4, maxMs: 4 });
});

test('a node whose process is not known has no CPU figures', () => {
  const nobody = { node: null, load: used(0, 0), sinks: used(0, 0) };
  const run = figures(result([1]), [Float64Array.of(1)], { before: nobody, after: nobody });
  expect(run).toMatchObject({ cpuUsPerOrder: { node: null }, cpuUsPerOrderByThread: {}, peakRssBytes: null });
});
