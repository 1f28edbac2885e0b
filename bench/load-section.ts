/** Runs of `load` as two sections of the report: the runs, and where the time went. */
import { type CaseRuns, caseTitle, type LoadPlan, slowest } from './load-cases.ts';
import { cdfs, cpuCharts, memoryChart, scaling } from './load-charts.ts';
import {
  closedTable,
  healthTable,
  openTable,
  peersTable,
  sentTable,
  shardsTable,
  threadsTable,
} from './load-tables.ts';
import { faultsOf, type RunFigures } from './run-figures.ts';
import { type Figure, runsInWords, type Section } from './section.ts';

interface LoadResult {
  readonly runs: readonly CaseRuns[];
  readonly plan: LoadPlan;
  readonly meanBytes: { readonly closed: number; readonly open: number };
  /** How many times as long as on the reference machine work takes here (yardstick.ts). */
  readonly slowness: number;
  /** Of the load generator, nanoseconds (load.ts); null where it could not be set. */
  readonly timerSlackNs: number | null;
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
      `Closed loop: ${plan.closed.orders} orders for each shard, of ${Math.round(meanBytes.closed)} bytes on average as fast as the connections take them. Open loop: ${rate} orders/s for ${seconds} s, ${Math.round(meanBytes.open)} bytes on average${plan.open.bodyBytes === 'field' ? ' with the sizes seen in the field' : ''}; latencies count from when an order was due, whether it could be sent then or not; "sent late" is how long it waited for a free connection, or for the generator itself. The generator runs at the priority of everybody, with a timer slack of ${result.timerSlackNs === null ? "the system's" : `${result.timerSlackNs} ns`}.`,
    ],
    charts: [...cdfs(runs), ...scaling(runs), memoryChart(runs)],
    tables: [
      closedTable(runs, result.slowness),
      shardsTable(runs, result.slowness),
      openTable(runs, rate),
      sentTable(runs, rate),
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
    figure('sent → builder p50', 'ms', open, (run) => run.sentToBuilder.p50),
    figure('sent → builder p99', 'ms', open, (run) => run.sentToBuilder.p99),
    figure('sent late p99', 'ms', open, (run) => run.dueToSent.p99),
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

function cpuSection(runs: readonly CaseRuns[]): Section {
  return {
    id: 'cpu',
    title: 'Where each microsecond goes',
    text: [
      "Stages are from a sampling CPU profile (every 0.25 ms) of one further run of the last node; their sum is set to what the unprofiled runs took. A sample counts for the innermost function of the project's that it was in: what Node, a library or the kernel did for a stage is that stage's.",
    ],
    charts: cpuCharts(runs),
    tables: [threadsTable(runs)].filter(({ rows }) => rows.length > 0),
    figures: [],
    faults: [],
  };
}
