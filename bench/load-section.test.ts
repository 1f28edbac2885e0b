import { expect, test } from 'vitest';
import { casesOf } from './commands/load.ts';
import { figuresOfWaits } from './latency.ts';
import { type CaseRuns, caseTitle } from './load-cases.ts';
import { medianCurve, stageBars } from './load-charts.ts';
import { shardsTable } from './load-tables.ts';
import type { RunFigures } from './run-figures.ts';

test('a curve of several runs is their median, point by point', () => {
  const run = (factor: number) =>
    figuresOfWaits(Float64Array.from({ length: 100 }, (_, i) => (i + 1) * factor));
  const points = medianCurve([run(1), run(10), run(2)]);
  expect(points).toContainEqual([100, 0.5]);
  expect(points).toContainEqual([180, 0.9]);
  expect(points.map(([, share]) => share)).toEqual(
    points.map(([, share]) => share).toSorted((a, b) => (a ?? 0) - (b ?? 0)),
  );
  expect(medianCurve([])).toEqual([]);
});

test('bars are scaled to the unprofiled time, in one order, and what is small everywhere is one part', () => {
  const bars = stageBars([
    {
      name: 'a',
      stages: new Map([
        ['x', 60],
        ['y', 39],
        ['tiny', 1],
      ]),
      unprofiledUs: 50,
    },
    {
      name: 'b',
      stages: new Map([
        ['y', 99],
        ['tiny', 1],
      ]),
      unprofiledUs: null,
    },
  ]);
  expect(bars).toEqual([
    {
      name: 'a',
      parts: [
        { name: 'y', value: 19.5 },
        { name: 'x', value: 30 },
        { name: 'the rest', value: expect.closeTo(0.5, 9) },
      ],
    },
    {
      name: 'b',
      parts: [
        { name: 'y', value: 99 },
        { name: 'x', value: 0 },
        { name: 'the rest', value: expect.closeTo(1, 9) },
      ],
    },
  ]);
});

test('every number of peers over the first transport and with the first number of shards, the rest with the first of the others', () => {
  expect(casesOf([0, 10], ['http', 'h2'], [1, 2]).map(caseTitle)).toEqual([
    'http, 0 peers, 1 shards',
    'http, 10 peers, 1 shards',
    'h2, 0 peers, 1 shards',
    'http, 0 peers, 2 shards',
  ]);
  // A node that has no such setting.
  expect(casesOf([0], ['http'], []).map(caseTitle)).toEqual(['http, 0 peers']);
});

test('linear is what a core of the node does with one shard, whatever generator and sinks take', () => {
  const runs = (shards: number | null, node: number, ordersPerSec: number, peers = 0): CaseRuns => ({
    case: { peers, peerKind: 'v1', transport: 'http', shards },
    closed: [{ ordersPerSec, cpuUsPerOrder: { node, load: 30, sinks: 20 } } as RunFigures],
    open: [],
    stages: null,
  });
  const { rows } = shardsTable([runs(1, 100, 9_000), runs(1, 200, 5_000, 10), runs(2, 125, 11_000)], 1.5);
  expect(rows).toEqual([
    ['1', 100, 50, 9_000, 1.35, 10_000, 100, 15_000],
    ['2', 125, 50, 11_000, 1.925, 8_000, 80, 24_000],
  ]);
  expect(shardsTable([runs(1, 100, 9_000), runs(1, 200, 5_000, 10)], 1).rows).toEqual([]);
  expect(shardsTable([runs(null, 100, 9_000)], 1).rows).toEqual([]);
});
