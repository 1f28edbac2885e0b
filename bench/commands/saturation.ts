/**
 * `saturation`: from the public traffic to fifty times as much. A node that is offered more than it can take must
 * refuse with a reason, and keep the latency of what it accepts.
 */
import {
  type Bench,
  benchAndPublish,
  COMMON_HELP,
  COMMON_OPTIONS,
  optionsOf,
  positive,
  sizeOf,
  whole,
  wholeList,
} from '../command.ts';
import { Cycle, FORGETFUL, FORGETFUL_SEC } from '../cycle.ts';
import { startRig } from '../rig.ts';
import { faultsOf, type RunFigures } from '../run-figures.ts';
import type { Point, Section } from '../section.ts';

export const name = 'saturation';

export const help = `
1 to 50 times the public traffic: what is accepted, what is refused, and how fast

Usage: npm run bench -- saturation [options]

  --base R          orders per second of the public traffic (default 400)
  --times LIST      multiples of it (default 1,2,5,10,20,30,40,50)
  --seconds S       length of one step (default 4)
  --peers N         (default 0)
  --size BYTES      body size, or "field" (default field)
  --connections N   (default 256)
  --in-flight N     pipelined orders on each (default 16)
  --goodput SHARE   of the most that any step accepted, the least that the last must (default 0.5)
  --p99 MS          sent → answer of what is accepted, at most, where not all is (default 250)
${COMMON_HELP}
`;

export interface SaturationPlan {
  readonly base: number;
  readonly times: readonly number[];
  readonly seconds: number;
  readonly peers: number;
  readonly bodyBytes: number | 'field';
  readonly connections: number;
  readonly inFlight: number;
  /** What the last step must accept at least, as a share of the most that any step accepted. */
  readonly leastGoodput: number;
  /** Longest sent → answer p99 of the accepted in a step that refuses, ms. */
  readonly mostP99Ms: number;
}

/** Orders before the first step, and how many a second. */
const WARM_UP = 8_000;
const WARM_UP_RATE = 2_000;

interface Step {
  readonly times: number;
  readonly rate: number;
  readonly run: RunFigures;
}

export async function run(args: readonly string[]): Promise<number> {
  const { values } = optionsOf(args, {
    ...COMMON_OPTIONS,
    base: { type: 'string', default: '400' },
    times: { type: 'string' },
    seconds: { type: 'string' },
    peers: { type: 'string', default: '0' },
    size: { type: 'string', default: 'field' },
    connections: { type: 'string', default: '256' },
    'in-flight': { type: 'string', default: '16' },
    goodput: { type: 'string', default: '0.5' },
    p99: { type: 'string', default: '250' },
  });
  const plan: SaturationPlan = {
    base: positive('--base', values.base),
    times: wholeList('--times', values.times ?? (values.quick ? '1,10,30,50' : '1,2,5,10,20,30,40,50'), 1),
    seconds: positive('--seconds', values.seconds ?? (values.quick ? '1.5' : '4')),
    peers: whole('--peers', values.peers, 0),
    bodyBytes: sizeOf(values.size),
    connections: whole('--connections', values.connections),
    inFlight: whole('--in-flight', values['in-flight']),
    leastGoodput: positive('--goodput', values.goodput),
    mostP99Ms: positive('--p99', values.p99),
  };
  return benchAndPublish(values, async (bench) => [await measureSaturation(bench, plan)]);
}

export async function measureSaturation(bench: Bench, plan: SaturationPlan): Promise<Section> {
  const most = Math.round(plan.base * Math.max(...plan.times) * plan.seconds);
  bench.say(`making and signing ${most} orders`);
  const set = `saturation ${plan.bodyBytes}`;
  await bench.lab.prepare(set, { seed: bench.seed, methods: 'bundles', bodyBytes: plan.bodyBytes }, most);
  const rig = await startRig(bench.lab, {
    peers: plan.peers,
    transport: 'http',
    connections: plan.connections,
    inFlight: plan.inFlight,
    orders: most,
    env: { ...bench.env, ...FORGETFUL },
    ...(bench.entry !== undefined && { entry: bench.entry }),
  });
  const steps: Step[] = [];
  try {
    const cycle = new Cycle(rig, { set, length: most, forgottenAfterMs: FORGETFUL_SEC * 1000 });
    // At a rate that is taken whole: what is refused warms nothing up.
    await cycle.run(Math.min(WARM_UP, most), WARM_UP_RATE);
    for (const times of plan.times) {
      const rate = plan.base * times;
      const figures = await cycle.run(Math.round(rate * plan.seconds), rate, true);
      steps.push({ times, rate, run: figures });
      bench.say(`${times} × public traffic, ${rate}/s: ${figures.accepted} of ${figures.orders} accepted`);
    }
  } finally {
    await rig.close();
  }
  return saturationSection(plan, steps);
}

/** @returns orders with an answer that was no success. */
function refusedOf(run: RunFigures): number {
  return Object.values(run.refused).reduce((sum, count) => sum + count, 0);
}

export function saturationSection(plan: SaturationPlan, steps: readonly Step[]): Section {
  const share = (count: number, run: RunFigures) => (count / run.orders) * 100;
  const points = (pick: (step: Step) => number | null): Point[] =>
    steps.map((step) => [step.rate, pick(step)]);
  /** Of what was offered in the time of the step. */
  const perSecond = (pick: (run: RunFigures) => number) =>
    points(({ rate, run }) => (pick(run) / run.orders) * rate);
  const reasons = steps.flatMap(({ times, run }) =>
    Object.entries(run.refused).map(([text, count]) => [`${times} ×`, text, count]),
  );
  return {
    id: 'saturation',
    title: 'More than it can take',
    text: [
      `1 × is ${plan.base} orders/s, one public feed. ${plan.seconds} s for each step over ${plan.connections} connections with ${plan.inFlight} pipelined orders each, ${plan.peers} peers, ${plan.bodyBytes === 'field' ? 'sizes as seen in the field' : `${plan.bodyBytes} bytes`}. The generator sends on schedule as long as a connection has room; what has none by the end of the step is "not sent": the node read too slowly to be offered more.`,
      'A good node refuses with a reason (429, -32005) before its queue makes the accepted ones late: "sent → answer" of the accepted is what a client sees that got through, and refusing what is too much must not take the time for what is not.',
      'Node, generator and sinks have the machine\'s cores together; "cores" says how much of one each took. Where the generator is late ("due → sent"), the rate is not what was asked for.',
    ],
    charts: [
      {
        kind: 'lines',
        title: 'offered and what became of it',
        x: { label: 'offered orders/s', scale: 'linear' },
        y: { label: 'orders/s', scale: 'linear' },
        series: [
          { name: 'offered', points: points(({ rate }) => rate) },
          { name: 'accepted', points: perSecond((run) => run.accepted) },
          { name: 'refused', points: perSecond(refusedOf) },
          { name: 'not sent', points: perSecond((run) => run.orders - run.sent) },
        ],
      },
      {
        kind: 'lines',
        title: 'latency of the accepted, and of the refusals',
        x: { label: 'offered orders/s', scale: 'linear' },
        y: { label: 'milliseconds', scale: 'log' },
        series: [
          { name: 'sent → answer p50', points: points(({ run }) => run.sentToAnswer.p50) },
          { name: 'sent → answer p99', points: points(({ run }) => run.sentToAnswer.p99) },
          { name: 'sent → refusal p50', points: points(({ run }) => run.sentToRefusal.p50) },
          { name: 'sent → refusal p99', points: points(({ run }) => run.sentToRefusal.p99) },
          { name: 'due → builder p50', points: points(({ run }) => run.toBuilder.p50) },
          { name: 'due → builder p99', points: points(({ run }) => run.toBuilder.p99) },
        ],
      },
    ],
    tables: [
      {
        title: 'steps',
        headings: [
          '×',
          'offered/s',
          'accepted/s',
          'accepted %',
          'refused %',
          'not sent %',
          'sent → answer p50 ms',
          'p99 ms',
          'due → builder p50 ms',
          'p99 ms',
          'sent → refusal p50 ms',
          'p99 ms',
          'due → sent p99 ms',
          'node, generator, sinks: cores',
          'loop late p99 ms',
          'peak MiB',
        ],
        rows: steps.map(({ times, rate, run }) => [
          String(times),
          rate,
          run.ordersPerSec,
          share(run.accepted, run),
          share(refusedOf(run), run),
          share(run.orders - run.sent, run),
          run.sentToAnswer.p50,
          run.sentToAnswer.p99,
          run.toBuilder.p50,
          run.toBuilder.p99,
          run.sentToRefusal.p50,
          run.sentToRefusal.p99,
          run.dueToSent.p99,
          coresOf(run),
          run.loopDelay?.p99 ?? null,
          run.peakRssBytes === null ? null : run.peakRssBytes / 2 ** 20,
        ]),
      },
      ...(reasons.length === 0
        ? []
        : [{ title: 'refusals', headings: ['step', 'answer', 'orders'], rows: reasons }]),
    ],
    figures: steps.flatMap(({ times, run }) => [
      {
        name: `saturation ${times} ×: accepted`,
        unit: '1/s',
        better: 'higher' as const,
        samples: [run.ordersPerSec],
      },
      {
        name: `saturation ${times} ×: sent → answer p99`,
        unit: 'ms',
        better: 'lower' as const,
        samples: run.sentToAnswer.p99 === null ? [] : [run.sentToAnswer.p99],
      },
    ]),
    faults: [
      ...steps.flatMap(({ times, run }) => faultsOf(`saturation ${times} ×`, run, true)),
      ...verdictOf(plan, steps),
    ],
  };
}

/** @returns what a node does wrong that is offered too much, in words; empty when it degrades as it should */
function verdictOf({ leastGoodput, mostP99Ms }: SaturationPlan, steps: readonly Step[]): string[] {
  const found: string[] = [];
  const last = steps.at(-1);
  const most = Math.max(0, ...steps.map(({ run }) => run.ordersPerSec));
  if (
    last !== undefined &&
    last.run.accepted < last.run.orders &&
    last.run.ordersPerSec < leastGoodput * most
  ) {
    found.push(
      `saturation ${last.times} ×: ${Math.round(last.run.ordersPerSec)} accepted/s, below ${leastGoodput} of the most, which is ${Math.round(most)}`,
    );
  }
  for (const { times, run } of steps) {
    const p99 = run.sentToAnswer.p99 ?? 0;
    if (run.accepted < run.orders && p99 > mostP99Ms)
      found.push(`saturation ${times} ×: sent → answer p99 ${Math.round(p99)} ms, above ${mostP99Ms}`);
  }
  return found;
}

/** @returns how much of a core each had while orders were accepted; work after the last answer is in it */
function coresOf({ cpuUsPerOrder, ordersPerSec }: RunFigures): string {
  const { node, load, sinks } = cpuUsPerOrder;
  const cores = (us: number | null) => (us === null ? '?' : ((us * ordersPerSec) / 1e6).toFixed(2));
  return [node, load, sinks].map(cores).join(', ');
}
