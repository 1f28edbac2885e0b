/**
 * `burst`: a thousand clients that connect at the same moment, beside a few that have been there before. Neither may
 * starve the other.
 */
import { availableParallelism } from 'node:os';
import {
  type Bench,
  benchAndPublish,
  COMMON_HELP,
  COMMON_OPTIONS,
  optionsOf,
  positive,
  transportList,
  whole,
} from '../command.ts';
import type { LatencyFigures } from '../latency.ts';
import { type BurstFigures, startRig } from '../rig.ts';
import { faultsOf } from '../run-figures.ts';
import { type Cell, runsInWords, type Section } from '../section.ts';
import { median } from '../statistics.ts';
import type { Transport } from '../subject.ts';

export const name = 'burst';

export const help = `
1,000 new connections at the same moment, beside a steady client

Usage: npm run bench -- burst [options]

  --connections N   new connections (default 1000)
  --each N          orders on each, one after the other (default 5)
  --steady R        orders per second of the clients that are there before, for four seconds (default 500)
  --first           the node's first burst, instead of one that comes after another
  --transports LIST http, https, h2 (default http,https)
  --repeats N       (default 5)
${COMMON_HELP}
`;

export interface BurstPlan {
  readonly connections: number;
  readonly each: number;
  readonly steadyRate: number;
  /** Orders before, for each thread that takes them: each compiles for itself. */
  readonly warmUp: number;
  /** No burst before the measured one: nothing of what takes connections is compiled then. */
  readonly first: boolean;
  readonly transports: readonly Transport[];
  readonly repeats: number;
}

const BODY_BYTES = 3_279;
const STEADY_SECONDS = 4;
const STEADY_CONNECTIONS = 16;

export async function run(args: readonly string[]): Promise<number> {
  const { values } = optionsOf(args, {
    ...COMMON_OPTIONS,
    connections: { type: 'string', default: '1000' },
    each: { type: 'string', default: '5' },
    steady: { type: 'string', default: '500' },
    first: { type: 'boolean', default: false },
    transports: { type: 'string' },
    repeats: { type: 'string' },
  });
  const plan: BurstPlan = {
    connections: whole('--connections', values.connections),
    each: whole('--each', values.each),
    steadyRate: positive('--steady', values.steady),
    first: values.first,
    warmUp: values.quick ? 2_000 : 8_000,
    transports: transportList(values.transports ?? (values.quick ? 'http' : 'http,https')),
    repeats: whole('--repeats', values.repeats ?? (values.quick ? '1' : '5')),
  };
  return benchAndPublish(values, async (bench) => [await measureBurst(bench, plan)]);
}

export async function measureBurst(bench: Bench, plan: BurstPlan): Promise<Section> {
  const steady = Math.round(plan.steadyRate * STEADY_SECONDS);
  const burst = plan.connections * plan.each;
  // As many as the node takes that is not told.
  const shards = Number(bench.env.SHARDS) || availableParallelism();
  const warmUp = shards * plan.warmUp;
  const before = warmUp + (plan.first ? 0 : burst);
  const total = before + burst + steady;
  bench.say(`making and signing ${total} orders`);
  const settings = { seed: bench.seed, methods: 'bundles', bodyBytes: BODY_BYTES } as const;
  await bench.lab.prepare('burst', settings, total);
  await bench.lab.prepare('burst', settings, total, 'steady');
  const results: { readonly transport: Transport; readonly runs: BurstFigures[] }[] = [];
  for (const transport of plan.transports) {
    const runs: BurstFigures[] = [];
    for (let repeat = 1; repeat <= plan.repeats; repeat++) {
      bench.say(`${plan.connections} new connections over ${transport}: run ${repeat} of ${plan.repeats}`);
      const rig = await startRig(bench.lab, {
        peers: 0,
        transport,
        connections: STEADY_CONNECTIONS,
        inFlight: 1,
        orders: total,
        env: bench.env,
        ...(bench.entry !== undefined && { entry: bench.entry }),
      });
      try {
        await rig.run({ set: 'burst', from: 0, count: warmUp }, null);
        const { connections, each } = plan;
        if (!plan.first) await rig.crowd({ set: 'burst', from: warmUp, connections, each });
        runs.push(
          await rig.burst({
            set: 'burst',
            from: before,
            connections,
            each,
            steady: { count: steady, rate: plan.steadyRate, connections: STEADY_CONNECTIONS },
          }),
        );
      } finally {
        await rig.close();
      }
    }
    results.push({ transport, runs });
  }
  return burstSection(plan, results);
}

type Result = { readonly transport: Transport; readonly runs: readonly BurstFigures[] };

/** Who is looked at: a column of the table, a line of the chart. */
const VIEWS: readonly { readonly title: string; readonly pick: (run: BurstFigures) => LatencyFigures }[] = [
  { title: 'burst → builder', pick: (run) => run.burstToBuilder },
  { title: 'burst → answer', pick: (run) => run.burstToAnswer },
  { title: 'steady → builder', pick: (run) => run.steadyToBuilder },
  { title: 'steady → answer', pick: (run) => run.steadyToAnswer },
];

function burstSection(plan: BurstPlan, results: readonly Result[]): Section {
  const of = (values: readonly (number | null)[]): Cell => {
    const known = values.filter((value) => value !== null);
    return known.length === 0 ? null : median(known);
  };
  const rows = results.flatMap(({ transport, runs }) =>
    VIEWS.map(({ title, pick }) => [
      `${transport}, ${title}`,
      ...(['p50', 'p90', 'p99', 'p999', 'max'] as const).map((quantile) =>
        of(runs.map((one) => pick(one)[quantile])),
      ),
    ]),
  );
  return {
    id: 'burst',
    title: `${plan.connections} new connections at once`,
    text: [
      `${plan.connections} clients connect at the same moment and send ${plan.each} orders each, one when the one before is answered; the first counts from the moment of the burst, before anything is connected. Beside them ${STEADY_CONNECTIONS} connections of another process, which were there before, send ${plan.steadyRate} orders/s; of theirs those count that are due while the burst lasts. Warmed up with ${plan.warmUp} orders for each thread that takes them${plan.first ? '' : ' and a burst before'}. ${runsInWords(plan.repeats)}, each with a fresh node.`,
    ],
    charts: [
      {
        kind: 'lines',
        title: 'latencies around the burst, last run',
        x: { label: 'milliseconds', scale: 'log' },
        y: { label: 'share of orders', scale: 'nines' },
        series: results.flatMap(({ transport, runs }) =>
          VIEWS.map(({ title, pick }) => {
            const last = runs.at(-1);
            return {
              name: `${transport}, ${title}`,
              points: last === undefined ? [] : pick(last).curve.map(([share, ms]) => [ms, share] as const),
            };
          }),
        ),
      },
    ],
    tables: [{ title: 'milliseconds', headings: ['who', 'p50', 'p90', 'p99', 'p99.9', 'max'], rows }],
    figures: results.flatMap(({ transport, runs }) =>
      VIEWS.map(({ title, pick }) => ({
        name: `${plan.connections} new connections, ${transport}: ${title} p99`,
        unit: 'ms',
        better: 'lower' as const,
        samples: runs.map((one) => pick(one).p99).filter((value) => value !== null),
      })),
    ),
    faults: results.flatMap(({ transport, runs }) =>
      runs.flatMap(({ all }) => faultsOf(`${plan.connections} new connections, ${transport}`, all)),
    ),
  };
}
