/** Runs of `load` as a section of the report: tables, CDFs, CPU, memory, scaling. Medians over the repeats. */
import type { LatencyFigures } from './latency.ts';
import type { PeerKind } from './rig.ts';
import { faultsOf, type RunFigures } from './run-figures.ts';
import {
  type Cell,
  type Chart,
  type Figure,
  type Point,
  runsInWords,
  type Section,
  type StackedChart,
  type Table,
} from './section.ts';
import { median } from './statistics.ts';
import type { ForeignNodeOptions, Transport } from './subject.ts';

export interface Case {
  readonly peers: number;
  readonly peerKind: PeerKind;
  readonly transport: Transport;
  /** Null: the node's own choice. */
  readonly shards: number | null;
}

/** What to run of each case. */
export interface LoadPlan {
  readonly cases: readonly Case[];
  readonly connections: number;
  /**
   * Orders for each shard before the timed part, and in it: a thread's compilers are at work for its first 30,000 orders,
   * so that with half as many for each of two they would be twice as much of an order's time.
   */
  readonly warmUp: number;
  readonly closed: { readonly orders: number; readonly bodyBytes: number | 'field' };
  readonly open: { readonly rate: number; readonly seconds: number; readonly bodyBytes: number | 'field' };
  readonly repeats: number;
  /** Orders of the profiled run; 0 for none. */
  readonly profiled: number;
  readonly foreign?: ForeignNodeOptions;
}

export interface CaseRuns {
  readonly case: Case;
  readonly closed: RunFigures[];
  readonly open: RunFigures[];
  /** Microseconds per order by stage; null without a profile. */
  stages: ReadonlyMap<string, number> | null;
}

interface LoadResult {
  readonly runs: readonly CaseRuns[];
  readonly plan: LoadPlan;
  readonly meanBytes: { readonly closed: number; readonly open: number };
  /** How many times as long as on the reference machine work takes here (yardstick.ts). */
  readonly slowness: number;
}

/** How a case is named in tables, charts and figures. */
export function caseTitle({ peers, peerKind, transport, shards }: Case): string {
  const parts = [transport, `${peers} ${peerKind === 'stream' && peers > 0 ? 'stream peers' : 'peers'}`];
  if (shards !== null) parts.push(`${shards} shards`);
  return parts.join(', ');
}

/** @returns two sections: the runs, and where the time went. */
export function loadSections(result: LoadResult): Section[] {
  const { runs, plan, meanBytes } = result;
  const { rate, seconds } = plan.open;
  const title = plan.foreign === undefined ? 'One node under load' : `The node at ${plan.foreign.url}`;
  const load: Section = {
    id: 'load',
    title,
    text: [
      `${runsInWords(plan.repeats)} of each case, each with a fresh node, in turns. Warmed up with ${plan.warmUp} orders for each thread that takes them, over ${plan.connections} connections, and each loop with orders of its own sizes. Orders are bundles with really signed transactions, made before the timed part. Validation, archive and metrics are on.`,
      `Closed loop: ${plan.closed.orders} orders for each shard, of ${Math.round(meanBytes.closed)} bytes on average as fast as the connections take them. Open loop: ${rate} orders/s for ${seconds} s, ${Math.round(meanBytes.open)} bytes on average${plan.open.bodyBytes === 'field' ? ' with the sizes seen in the field' : ''}; latencies count from when an order was due, whether it could be sent then or not; "sent late" is how long it waited for a free connection, or for the generator itself.`,
    ],
    charts: [...cdfs(runs), ...scaling(runs), memoryChart(runs)],
    tables: [
      closedTable(runs, result.slowness),
      shardsTable(runs, result.slowness),
      openTable(runs, rate),
      peersTable(runs),
      healthTable(runs),
    ].filter(({ rows }) => rows.length > 0),
    figures: runs.flatMap(figuresOfCase),
    faults: runs.flatMap(faultsOfCase),
  };
  return [load, cpuSection(runs)];
}

function figuresOfCase({ case: one, closed, open }: CaseRuns): Figure[] {
  const title = caseTitle(one);
  const figure = (
    name: string,
    unit: string,
    runs: readonly RunFigures[],
    pick: (run: RunFigures) => number | null,
    better: Figure['better'] = 'lower',
  ): Figure => ({
    name: `${title}: ${name}`,
    unit,
    better,
    samples: runs.map(pick).filter((value) => value !== null),
  });
  const slowestPeer = (run: RunFigures) => slowest(run.toPeers, 'p99');
  return [
    figure('orders/s, closed loop', '1/s', closed, (run) => run.ordersPerSec, 'higher'),
    figure('CPU per order, closed loop', 'µs', closed, (run) => run.cpuUsPerOrder.node),
    figure('CPU per order, open loop', 'µs', open, (run) => run.cpuUsPerOrder.node),
    figure('user → builder p50', 'ms', open, (run) => run.toBuilder.p50),
    figure('user → builder p99', 'ms', open, (run) => run.toBuilder.p99),
    figure('user → builder p99.9', 'ms', open, (run) => run.toBuilder.p999),
    figure('user → answer p50', 'ms', open, (run) => run.toAnswer.p50),
    figure('user → answer p99', 'ms', open, (run) => run.toAnswer.p99),
    figure('user → slowest peer p99', 'ms', open, slowestPeer),
    figure('event loop delay p99, open loop', 'ms', open, (run) => run.loopDelay?.p99 ?? null),
    figure('peak memory', 'MiB', open, (run) =>
      run.peakRssBytes === null ? null : run.peakRssBytes / 2 ** 20,
    ),
  ].filter(({ samples }) => samples.length > 0);
}

function faultsOfCase({ case: one, closed, open }: CaseRuns): string[] {
  const title = caseTitle(one);
  return [
    ...closed.flatMap((run) => faultsOf(`${title}, closed loop`, run)),
    ...open.flatMap((run) => faultsOf(`${title}, open loop`, run)),
  ];
}

/** @returns the median of what the runs have; null when none has it. */
function medianOf(
  runs: readonly RunFigures[],
  pick: (run: RunFigures) => number | null | undefined,
): number | null {
  const values = runs.map(pick).filter((value) => value !== null && value !== undefined);
  return values.length === 0 ? null : median(values);
}

const QUANTILES = ['p50', 'p90', 'p99', 'p999', 'max'] as const;
const QUANTILE_HEADINGS = ['p50', 'p90', 'p99', 'p99.9', 'max'];

function quantileCells(
  runs: readonly RunFigures[],
  pick: (run: RunFigures) => LatencyFigures | undefined,
): Cell[] {
  return QUANTILES.map((quantile) => medianOf(runs, (run) => pick(run)?.[quantile]));
}

function closedTable(runs: readonly CaseRuns[], factor: number): Table {
  return {
    title: 'as fast as the connections take them',
    headings: [
      'case',
      'orders/s',
      'CPU µs/order',
      'on the reference machine',
      'generator µs',
      'sinks µs',
      ...QUANTILE_HEADINGS.slice(0, 3).map((heading) => `answer ${heading} ms`),
    ],
    rows: runs.map(({ case: one, closed }) => {
      const cpu = medianOf(closed, (run) => run.cpuUsPerOrder.node);
      return [
        caseTitle(one),
        medianOf(closed, (run) => run.ordersPerSec),
        cpu,
        cpu === null ? null : cpu / factor,
        medianOf(closed, (run) => run.cpuUsPerOrder.load),
        medianOf(closed, (run) => run.cpuUsPerOrder.sinks),
        ...quantileCells(closed, (run) => run.toAnswer).slice(0, 3),
      ];
    }),
  };
}

/**
 * Are two shards worth two cores? Generator and sinks take their part of the same cores, so that orders/s alone would
 * say less than the truth: what a core of the node's own does is a million by its CPU per order, and linear is that of
 * one shard. CPU per order is that of all threads of the process, the archive's, the disk's and the compilers' among them.
 */
export function shardsTable(runs: readonly CaseRuns[], factor: number): Table {
  const cases = overShards(runs)
    .map(({ case: one, closed }) => ({
      shards: one.shards ?? 1,
      cpu: medianOf(closed, (run) => run.cpuUsPerOrder.node),
      others: medianOf(closed, (run) => run.cpuUsPerOrder.load + run.cpuUsPerOrder.sinks) ?? 0,
      rate: medianOf(closed, (run) => run.ordersPerSec) ?? 0,
    }))
    .filter(({ cpu }) => cpu !== null)
    .map(({ cpu, ...rest }) => ({ ...rest, cpu: cpu ?? 0 }))
    .sort((a, b) => a.shards - b.shards);
  const [first] = cases;
  return {
    title: "shards: what a core does, with generator's and sinks' part of the cores taken out",
    headings: [
      'shards',
      'node µs/order',
      'generator and sinks µs/order',
      'orders/s',
      'cores in use',
      "orders/s of a core of the node's own",
      '% of linear',
      'orders/s of a core for each shard, on the reference machine',
    ],
    rows:
      first === undefined || cases.length < 2
        ? []
        : cases.map(({ shards, cpu, others, rate }) => [
            String(shards),
            cpu,
            others,
            rate,
            ((cpu + others) * rate) / 1e6,
            1e6 / cpu,
            (first.cpu / cpu) * 100,
            (shards * 1e6 * factor) / cpu,
          ]),
  };
}

function openTable(runs: readonly CaseRuns[], rate: number): Table {
  return {
    title: `at ${rate} orders/s, milliseconds from when each was due`,
    headings: [
      'case',
      ...QUANTILE_HEADINGS.map((heading) => `builder ${heading}`),
      ...QUANTILE_HEADINGS.map((heading) => `answer ${heading}`),
      'sent late p99',
      'CPU µs/order',
    ],
    rows: runs.map(({ case: one, open }) => [
      caseTitle(one),
      ...quantileCells(open, (run) => run.toBuilder),
      ...quantileCells(open, (run) => run.toAnswer),
      medianOf(open, (run) => run.dueToSent.p99),
      medianOf(open, (run) => run.cpuUsPerOrder.node),
    ]),
  };
}

function peersTable(runs: readonly CaseRuns[]): Table {
  return {
    title: 'user → peer, milliseconds: all peers together, and the slowest of them',
    headings: [
      'case',
      ...QUANTILE_HEADINGS.map((heading) => `median peer ${heading}`),
      'slowest peer p50',
      'slowest peer p99',
      'slowest peer max',
    ],
    rows: runs
      .filter(({ case: one }) => one.peers > 0)
      .map(({ case: one, open }) => [
        caseTitle(one),
        ...QUANTILES.map((quantile) =>
          medianOf(open, (run) => {
            const values = run.toPeers.map((peer) => peer[quantile]).filter((value) => value !== null);
            return values.length === 0 ? null : median(values);
          }),
        ),
        medianOf(open, (run) => slowest(run.toPeers, 'p50')),
        medianOf(open, (run) => slowest(run.toPeers, 'p99')),
        medianOf(open, (run) => slowest(run.toPeers, 'max')),
      ]),
  };
}

/** Null too when a peer got nothing: it is not the fastest. */
function slowest(peers: readonly LatencyFigures[], quantile: (typeof QUANTILES)[number]): number | null {
  const values = peers.map((peer) => peer[quantile]).filter((value) => value !== null);
  return values.length === 0 || values.length < peers.length ? null : Math.max(...values);
}

function healthTable(runs: readonly CaseRuns[]): Table {
  const kinds = runs.flatMap(({ case: one, closed, open }) => [
    { title: `${caseTitle(one)}, closed`, runs: closed },
    { title: `${caseTitle(one)}, open`, runs: open },
  ]);
  return {
    title: "the node's event loop, garbage collection and memory (lateness and pauses in ms)",
    headings: ['run', 'late p50', 'late p99', 'late max', 'pauses', 'all', 'p99', 'longest', 'peak MiB'],
    rows: kinds
      .filter((kind) => kind.runs.some(({ pauses }) => pauses !== null))
      .map((kind) => [
        kind.title,
        medianOf(kind.runs, (run) => run.loopDelay?.p50),
        medianOf(kind.runs, (run) => run.loopDelay?.p99),
        medianOf(kind.runs, (run) => run.loopDelay?.max),
        medianOf(kind.runs, (run) => run.pauses?.count),
        medianOf(kind.runs, (run) => run.pauses?.totalMs),
        medianOf(kind.runs, (run) => run.pauses?.p99Ms),
        medianOf(kind.runs, (run) => run.pauses?.maxMs),
        medianOf(kind.runs, (run) => (run.peakRssBytes === null ? null : run.peakRssBytes / 2 ** 20)),
      ]),
  };
}

function cdfs(runs: readonly CaseRuns[]): Chart[] {
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

function scaling(runs: readonly CaseRuns[]): Chart[] {
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

/** The cases that differ from the first in shards alone. */
function overShards(runs: readonly CaseRuns[]): readonly CaseRuns[] {
  const [first] = runs;
  return runs.filter(
    ({ case: { peers, transport, shards } }) =>
      shards !== null && peers === first?.case.peers && transport === first.case.transport,
  );
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

function memoryChart(runs: readonly CaseRuns[]): Chart {
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

function cpuSection(runs: readonly CaseRuns[]): Section {
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
  return {
    id: 'cpu',
    title: 'Where each microsecond goes',
    text: [
      "Stages are from a sampling CPU profile (every 0.25 ms) of one further run of the last node; their sum is set to what the unprofiled runs took. A sample counts for the innermost function of the project's that it was in: what Node, a library or the kernel did for a stage is that stage's.",
    ],
    charts,
    tables: [threadsTable(runs)].filter(({ rows }) => rows.length > 0),
    figures: [],
    faults: [],
  };
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

function threadsTable(runs: readonly CaseRuns[]): Table {
  const names = [
    ...new Set(runs.flatMap(({ closed }) => closed.flatMap((run) => Object.keys(run.cpuUsPerOrderByThread)))),
  ];
  return {
    title: 'CPU per order by kind of thread, closed loop, µs',
    headings: ['case', ...names],
    rows: runs
      .filter(({ closed }) => closed.some((run) => run.cpuUsPerOrder.node !== null))
      .map(({ case: one, closed }) => [
        caseTitle(one),
        ...names.map((name) => medianOf(closed, (run) => run.cpuUsPerOrderByThread[name] ?? 0)),
      ]),
  };
}
