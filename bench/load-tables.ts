/** The tables of `load`; medians over the repeats. */
import type { LatencyFigures } from './latency.ts';
import { type CaseRuns, caseTitle, medianOf, overShards, slowest } from './load-cases.ts';
import type { RunFigures } from './run-figures.ts';
import type { Cell, Table } from './section.ts';
import { median } from './statistics.ts';

const QUANTILES = ['p50', 'p90', 'p99', 'p999', 'max'] as const;
const QUANTILE_HEADINGS = ['p50', 'p90', 'p99', 'p99.9', 'max'];

function quantileCells(
  runs: readonly RunFigures[],
  pick: (run: RunFigures) => LatencyFigures | undefined,
): Cell[] {
  return QUANTILES.map((quantile) => medianOf(runs, (run) => pick(run)?.[quantile]));
}

export function closedTable(runs: readonly CaseRuns[], factor: number): Table {
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

export function openTable(runs: readonly CaseRuns[], rate: number): Table {
  return {
    title: `at ${rate} orders/s, milliseconds from when each was due`,
    headings: [
      'case',
      ...QUANTILE_HEADINGS.map((heading) => `builder ${heading}`),
      ...QUANTILE_HEADINGS.map((heading) => `answer ${heading}`),
      'CPU µs/order',
    ],
    rows: runs.map(({ case: one, open }) => [
      caseTitle(one),
      ...quantileCells(open, (run) => run.toBuilder),
      ...quantileCells(open, (run) => run.toAnswer),
      medianOf(open, (run) => run.cpuUsPerOrder.node),
    ]),
  };
}

/** The generator waits for a core as everybody on the machine does: what of the figures above is its own lateness? */
export function sentTable(runs: readonly CaseRuns[], rate: number): Table {
  return {
    title: `at ${rate} orders/s, milliseconds from when each was sent, and how late that was`,
    headings: [
      'case',
      ...QUANTILE_HEADINGS.map((heading) => `builder ${heading}`),
      ...QUANTILE_HEADINGS.map((heading) => `sent late ${heading}`),
    ],
    rows: runs.map(({ case: one, open }) => [
      caseTitle(one),
      ...quantileCells(open, (run) => run.sentToBuilder),
      ...quantileCells(open, (run) => run.dueToSent),
    ]),
  };
}

export function peersTable(runs: readonly CaseRuns[]): Table {
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

export function healthTable(runs: readonly CaseRuns[]): Table {
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

export function threadsTable(runs: readonly CaseRuns[]): Table {
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
