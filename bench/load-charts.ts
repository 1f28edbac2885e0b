/** The charts of `load`: distributions, scaling, memory, CPU by stage. Medians over the repeats. */
import type { LatencyFigures } from './latency.ts';
import { type Case, type CaseRuns, caseTitle, medianOf, overShards } from './load-cases.ts';
import type { RunFigures } from './run-figures.ts';
import type { Chart, Point, StackedChart } from './section.ts';
import { median } from './statistics.ts';

export function cdfs(runs: readonly CaseRuns[]): Chart[] {
  const chart = (title: string, pick: (run: RunFigures) => readonly LatencyFigures[]): Chart => ({
    kind: 'lines',
    title,
    x: { label: 'milliseconds', scale: 'log' },
    y: { label: 'share of orders', scale: 'nines' },
    series: runs
      .map(({ case: one, open }) => ({ name: caseTitle(one), points: medianCurve(open.flatMap(pick)) }))
      .filter(({ points }) => points.length > 0),
  });
  const charts = [
    chart('user → builder, open loop', (run) => [run.toBuilder]),
    chart('user → answer, open loop', (run) => [run.toAnswer]),
    chart('user → peer, open loop', (run) => run.toPeers),
  ];
  return charts.filter((one) => one.kind === 'lines' && one.series.length > 0);
}

/** Point by point the median of several distributions: x in milliseconds, y the share of orders. */
export function medianCurve(distributions: readonly LatencyFigures[]): Point[] {
  const byShare = new Map<number, number[]>();
  for (const { curve } of distributions) {
    for (const [share, ms] of curve) {
      const values = byShare.get(share);
      if (values === undefined) byShare.set(share, [ms]);
      else values.push(ms);
    }
  }
  return [...byShare].sort(([a], [b]) => a - b).map(([share, values]) => [median(values), share]);
}

export function scaling(runs: readonly CaseRuns[]): Chart[] {
  const [first] = runs;
  if (first === undefined) return [];
  const overPeers = runs.filter(
    ({ case: one }) => one.transport === first.case.transport && one.shards === first.case.shards,
  );
  const charts: Chart[] = [];
  const add = (over: string, cases: readonly CaseRuns[], at: (one: Case) => number) => {
    if (cases.length < 2) return;
    charts.push(
      scalingChart(
        `orders/s over ${over}, closed loop`,
        over,
        'orders/s',
        cases,
        at,
        (run) => run.ordersPerSec,
      ),
      scalingChart(
        `CPU per order over ${over}, closed loop`,
        over,
        'µs',
        cases,
        at,
        (run) => run.cpuUsPerOrder.node,
      ),
    );
  };
  add('peers', overPeers, ({ peers }) => peers);
  add('shards', overShards(runs), ({ shards }) => shards ?? 1);
  return charts;
}

function scalingChart(
  title: string,
  x: string,
  y: string,
  cases: readonly CaseRuns[],
  at: (one: Case) => number,
  pick: (run: RunFigures) => number | null,
): Chart {
  const ordered = [...cases].sort((a, b) => at(a.case) - at(b.case));
  const spread = (name: string, choose: (values: readonly number[]) => number) => ({
    name,
    points: ordered.map(({ case: one, closed }): Point => {
      const values = closed.map(pick).filter((value) => value !== null);
      return [at(one), values.length === 0 ? null : choose(values)];
    }),
  });
  const repeated = cases.some(({ closed }) => closed.length > 1);
  return {
    kind: 'lines',
    title,
    x: { label: x, scale: 'linear' },
    y: { label: y, scale: 'linear' },
    series: [
      spread('median', median),
      ...(repeated
        ? [spread('least', (values) => Math.min(...values)), spread('most', (values) => Math.max(...values))]
        : []),
    ],
  };
}

export function memoryChart(runs: readonly CaseRuns[]): Chart {
  return {
    kind: 'lines',
    title: "the node's memory over time (closed loop, then open loop; last run of each case)",
    x: { label: 'seconds', scale: 'linear' },
    y: { label: 'MiB', scale: 'linear' },
    series: runs
      .map(({ case: one, closed, open }) => ({
        name: caseTitle(one),
        points: memoryOf([closed.at(-1), open.at(-1)]),
      }))
      .filter(({ points }) => points.length > 0),
  };
}

/** Runs one behind the other. */
function memoryOf(runs: readonly (RunFigures | undefined)[]): Point[] {
  const points: Point[] = [];
  let offset = 0;
  for (const run of runs) {
    for (const [seconds, bytes] of run?.memory ?? []) points.push([offset + seconds, bytes / 2 ** 20]);
    offset = points.at(-1)?.[0] ?? offset;
  }
  return points;
}

/** By stage, where a case was profiled, and by process. */
export function cpuCharts(runs: readonly CaseRuns[]): Chart[] {
  const profiled = runs.filter(({ stages }) => stages !== null && stages.size > 0);
  const charts: Chart[] = [];
  if (profiled.length > 0) {
    charts.push({
      kind: 'stacked',
      title: 'CPU per order by stage, closed loop',
      unit: 'µs',
      bars: stageBars(
        profiled.map(({ case: one, stages, closed }) => ({
          name: caseTitle(one),
          stages: stages ?? new Map(),
          unprofiledUs: medianOf(closed, (run) => run.cpuUsPerOrder.node),
        })),
      ),
    });
  }
  charts.push({
    kind: 'stacked',
    title: 'CPU per order by process, closed loop',
    unit: 'µs',
    bars: runs.map(({ case: one, closed }) => ({
      name: caseTitle(one),
      parts: (['node', 'load', 'sinks'] as const).map((process) => ({
        name: process === 'load' ? 'load generator' : process,
        value: medianOf(closed, (run) => run.cpuUsPerOrder[process]) ?? 0,
      })),
    })),
  });
  return charts;
}

/** Stages that are less than this share of every bar are one. */
const SMALL_SHARE = 0.02;
const THE_REST = 'the rest';

/**
 * Bars of microseconds by stage, the same stages in the same order in each: the largest first. Profiling costs
 * something itself: the parts are scaled to what the node takes without it.
 */
export function stageBars(
  cases: readonly {
    readonly name: string;
    readonly stages: ReadonlyMap<string, number>;
    readonly unprofiledUs: number | null;
  }[],
): StackedChart['bars'] {
  const sums = cases.map(({ stages }) => [...stages.values()].reduce((total, us) => total + us, 0) || 1);
  const largestShare = new Map<string, number>();
  for (const [index, { stages }] of cases.entries()) {
    for (const [stage, us] of stages)
      largestShare.set(stage, Math.max(largestShare.get(stage) ?? 0, us / (sums[index] ?? 1)));
  }
  const shown = [...largestShare].filter(([, share]) => share >= SMALL_SHARE).sort((a, b) => b[1] - a[1]);
  return cases.map(({ name, stages, unprofiledUs }, index) => {
    const sum = sums[index] ?? 1;
    const total = unprofiledUs ?? sum;
    const parts = shown.map(([stage]) => ({ name: stage, value: ((stages.get(stage) ?? 0) / sum) * total }));
    const rest = total - parts.reduce((all, { value }) => all + value, 0);
    return { name, parts: rest > total * 1e-9 ? [...parts, { name: THE_REST, value: rest }] : parts };
  });
}
