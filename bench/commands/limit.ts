/** `limit`: the rate at which user → builder p99 passes a bound, and the curve of latency over rate on the way. */
import {
  type Bench,
  benchAndPublish,
  COMMON_HELP,
  COMMON_OPTIONS,
  optionsOf,
  positive,
  sizeOf,
  transportList,
  whole,
} from '../command.ts';
import { Cycle, FORGETFUL, FORGETFUL_SEC } from '../cycle.ts';
import { startRig } from '../rig.ts';
import { faultsOf, type RunFigures } from '../run-figures.ts';
import { searchLimit } from '../search-limit.ts';
import type { Point, Section } from '../section.ts';
import type { Transport } from '../subject.ts';

export const name = 'limit';

export const help = `
orders/s at which user → builder p99 passes 5 ms (a search)

Usage: npm run bench -- limit [options]

  --p99 MS          the bound (default 5)
  --peers N         (default 0)
  --transport T     http, https or h2 (default http)
  --start R         first rate (default 1000)
  --most R          highest rate (default 20000)
  --seconds S       length of one try (default 4)
  --size BYTES      body size, or "field" (default 3279)
  --repeats N       searches, each with a fresh node (default 3)
${COMMON_HELP}
`;

export interface LimitPlan {
  readonly boundMs: number;
  readonly peers: number;
  readonly transport: Transport;
  readonly connections: number;
  readonly start: number;
  readonly most: number;
  readonly seconds: number;
  readonly bodyBytes: number | 'field';
  readonly repeats: number;
}

const PRECISION = 0.05;
const FACTOR = 1.5;
export async function run(args: readonly string[]): Promise<number> {
  const { values } = optionsOf(args, {
    ...COMMON_OPTIONS,
    p99: { type: 'string', default: '5' },
    peers: { type: 'string', default: '0' },
    transport: { type: 'string', default: 'http' },
    start: { type: 'string', default: '1000' },
    most: { type: 'string', default: '20000' },
    seconds: { type: 'string' },
    size: { type: 'string', default: '3279' },
    repeats: { type: 'string' },
  });
  const [transport = 'http'] = transportList(values.transport);
  const plan: LimitPlan = {
    boundMs: positive('--p99', values.p99),
    peers: whole('--peers', values.peers, 0),
    transport,
    connections: 64,
    start: positive('--start', values.start),
    most: positive('--most', values.most),
    seconds: positive('--seconds', values.seconds ?? (values.quick ? '1.5' : '4')),
    bodyBytes: sizeOf(values.size),
    repeats: whole('--repeats', values.repeats ?? (values.quick ? '1' : '3')),
  };
  return benchAndPublish(values, async (bench) => [await measureLimit(bench, plan)]);
}

export async function measureLimit(bench: Bench, plan: LimitPlan): Promise<Section> {
  const most = Math.round(plan.most * plan.seconds);
  bench.say(`making and signing ${most} orders`);
  const set = `limit ${plan.bodyBytes}`;
  await bench.lab.prepare(set, { seed: bench.seed, methods: 'bundles', bodyBytes: plan.bodyBytes }, most);
  const limits: number[] = [];
  const tries: { readonly repeat: number; readonly rate: number; readonly run: RunFigures }[] = [];
  for (let repeat = 1; repeat <= plan.repeats; repeat++) {
    const rig = await startRig(bench.lab, {
      peers: plan.peers,
      transport: plan.transport,
      connections: plan.connections,
      inFlight: 1,
      orders: most,
      env: { ...bench.env, ...FORGETFUL },
      ...(bench.entry !== undefined && { entry: bench.entry }),
    });
    try {
      const cycle = new Cycle(rig, { set, length: most, forgottenAfterMs: FORGETFUL_SEC * 1000 });
      await cycle.run(Math.min(3_000, most), null);
      const { held } = await searchLimit(
        { start: plan.start, most: plan.most, factor: FACTOR, precision: PRECISION },
        async (rate) => {
          const figures = await cycle.run(Math.round(rate * plan.seconds), rate);
          tries.push({ repeat, rate, run: figures });
          const p99 = figures.toBuilder.p99 ?? Number.POSITIVE_INFINITY;
          bench.say(`search ${repeat} of ${plan.repeats}: ${rate}/s: p99 ${p99.toFixed(2)} ms`);
          return p99 <= plan.boundMs && figures.accepted === figures.orders;
        },
      );
      limits.push(held);
    } finally {
      await rig.close();
    }
  }
  return sectionOf(plan, limits, tries);
}

function sectionOf(
  plan: LimitPlan,
  limits: readonly number[],
  tries: readonly { readonly repeat: number; readonly rate: number; readonly run: RunFigures }[],
): Section {
  const sorted = [...tries].sort((a, b) => a.rate - b.rate);
  const points = (pick: (run: RunFigures) => number | null): Point[] =>
    sorted.map(({ rate, run: figures }) => [rate, pick(figures)]);
  const title = `${plan.transport}, ${plan.peers} peers`;
  return {
    id: 'limit',
    title: `How much it takes until p99 passes ${plan.boundMs} ms`,
    text: [
      `${title}: the rate goes up by half until user → builder p99 is above ${plan.boundMs} ms or an order is not accepted, twice in a row, then the gap is halved to ${PRECISION * 100} %. ${plan.seconds} s for each try; the node forgets orders after a second here, so that they can be used again.`,
    ],
    charts: [
      {
        kind: 'lines',
        title: 'throughput and latency, user → builder',
        x: { label: 'orders/s', scale: 'linear' },
        y: { label: 'milliseconds', scale: 'log' },
        series: [
          { name: 'p50', points: points((run) => run.toBuilder.p50) },
          { name: 'p99', points: points((run) => run.toBuilder.p99) },
          { name: 'p99.9', points: points((run) => run.toBuilder.p999) },
        ],
        mark: { y: plan.boundMs, label: `${plan.boundMs} ms` },
      },
    ],
    tables: [
      {
        title: 'highest rate that held',
        headings: ['search', 'orders/s'],
        rows: limits.map((limit, index) => [String(index + 1), limit]),
      },
      {
        title: 'tries',
        headings: [
          'orders/s',
          'search',
          'p50 ms',
          'p99 ms',
          'p99.9 ms',
          'max ms',
          'accepted %',
          'CPU µs/order',
        ],
        rows: sorted.map(({ rate, repeat, run: figures }) => [
          rate,
          String(repeat),
          figures.toBuilder.p50,
          figures.toBuilder.p99,
          figures.toBuilder.p999,
          figures.toBuilder.max,
          (figures.accepted / figures.orders) * 100,
          figures.cpuUsPerOrder.node,
        ]),
      },
    ],
    figures: [
      {
        name: `${title}: orders/s at p99 ≤ ${plan.boundMs} ms`,
        unit: '1/s',
        better: 'higher',
        samples: limits,
      },
    ],
    faults: tries.flatMap(({ rate, run: figures }) => faultsOf(`limit, ${rate}/s`, figures, true)),
  };
}
