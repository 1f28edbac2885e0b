import { expect, test } from 'vitest';
import type { RunResult } from './load-generator.ts';
import { faults, type Report, renderReport, surroundings } from './report.ts';
import { figuresOf } from './scenario.ts';

const N = Number.NaN;

function result(answered: readonly number[], refused: Record<string, number> = {}): RunResult {
  const dueUs = Float64Array.from(answered, (_, index) => index * 1000);
  return { dueUs, sentUs: dueUs.map((due) => due + 100), answeredUs: Float64Array.from(answered), refused };
}

const good = figuresOf(
  result([2_000, 3_000, 4_000, 5_000]),
  { builder: Float64Array.of(500, 1_500, 2_500, 3_750), peers: [], duplicates: 0 },
  123.4,
);

test('a run counts from when orders were due, and its rate from the first sending to the last answer', () => {
  expect(good).toMatchObject({
    orders: 4,
    cpuUsPerOrder: 123.4,
    toAnswer: { p50: 2, count: 4 },
    toBuilder: { max: 0.75 },
  });
  expect(good.ordersPerSec).toBeCloseTo(4 / 0.0049, 6);
  expect(faults('x', good)).toEqual([]);
});

test('every loss, double and refusal is told', () => {
  const bad = figuresOf(
    result([2_000, N, 4_000], { '429 slow': 1 }),
    { builder: Float64Array.of(500, N, 2_500), peers: [Float64Array.of(N, N, 1)], duplicates: 2 },
    1,
  );
  expect(faults('10 peers, open', bad)).toEqual([
    '10 peers, open: 1 never reached the builder',
    '10 peers, open: 2 never reached peer 1',
    '10 peers, open: 2 came twice',
    '10 peers, open: 1 × 429 slow',
  ]);
});

test('the report says where it was made and has one row per number of peers', () => {
  const report: Report = {
    ...surroundings(),
    settings: { rate: 2000, size: 3279 },
    scenarios: [
      { peers: 0, closed: good, open: good, peakRssBytes: 1 },
      { peers: 10, closed: good, open: good, peakRssBytes: 1 },
    ],
  };
  const lines = renderReport(report);
  expect(lines[0]).toContain(`Node ${process.version}`);
  expect(lines[1]).toBe('rate 2000, size 3279');
  expect(lines.filter((line) => /^ +(0|10) /.test(line))).toHaveLength(4);
  expect(lines.find((line) => line.startsWith('    0'))).toBe(
    '    0       816     123         0.50  0.75  0.75   0.75        2.00  2.00          -',
  );
});
