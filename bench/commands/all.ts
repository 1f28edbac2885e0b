/** The whole bench: one report with everything in it. */
import { type Bench, benchAndPublish, COMMON_HELP, COMMON_OPTIONS, optionsOf } from '../command.ts';
import type { LoadPlan } from '../load-cases.ts';
import type { Section } from '../section.ts';
import { type BurstPlan, measureBurst } from './burst.ts';
import { type LimitPlan, measureLimit } from './limit.ts';
import { casesOf, defaultShards, measureLoad } from './load.ts';
import { type MicroPlan, measureMicro } from './micro.ts';
import { measureSaturation, type SaturationPlan } from './saturation.ts';
import { measureSoak, type SoakPlan } from './soak.ts';

export const name = 'all';

export const help = `
everything, as one report (the default)

Usage: npm run bench -- [options]

  --only LIST       some of: load, limit, saturation, burst, soak, micro
${COMMON_HELP.replace('a smaller run', 'for continuous integration: two minutes, one run of each, no statistics')}

Half an hour; the soak is short here (npm run bench -- soak --minutes 30 for the long one). Exits with 1 when an
acknowledged order was lost, an order came twice or was refused where it should not be, or something leaked.
`;

/** How much of everything. */
export interface Plan {
  readonly load: LoadPlan;
  readonly limit: LimitPlan;
  readonly saturation: SaturationPlan;
  readonly burst: BurstPlan;
  readonly soak: SoakPlan;
  readonly micro: MicroPlan;
}

const TARGET_BYTES = 3_279;

export const FULL: Plan = {
  load: {
    cases: casesOf([0, 2, 10], ['http', 'https', 'h2'], defaultShards()),
    connections: 64,
    warmUp: 30_000,
    closed: { orders: 30_000, bodyBytes: TARGET_BYTES },
    open: { rate: 2_000, seconds: 10, bodyBytes: 'field' },
    repeats: 5,
    profiled: 15_000,
  },
  limit: {
    boundMs: 5,
    peers: 0,
    transport: 'http',
    connections: 64,
    start: 1_000,
    most: 20_000,
    seconds: 4,
    bodyBytes: TARGET_BYTES,
    repeats: 3,
  },
  saturation: {
    base: 400,
    times: [1, 2, 5, 10, 20, 30, 40, 50],
    seconds: 4,
    peers: 0,
    bodyBytes: 'field',
    connections: 256,
    inFlight: 16,
    leastGoodput: 0.5,
    mostP99Ms: 250,
  },
  burst: {
    connections: 1_000,
    each: 5,
    steadyRate: 500,
    warmUp: 8_000,
    first: false,
    transports: ['http', 'https'],
    repeats: 5,
  },
  soak: { seconds: 200, rate: 2_000, peers: 2, bodyBytes: 'field' },
  micro: { only: '', measureMs: 300, repeats: 5 },
};

export const QUICK: Plan = {
  load: {
    ...FULL.load,
    cases: casesOf([0, 2], ['http', 'h2'], [1]),
    warmUp: 2_000,
    closed: { orders: 6_000, bodyBytes: TARGET_BYTES },
    open: { rate: 1_000, seconds: 2, bodyBytes: 'field' },
    repeats: 1,
    profiled: 3_000,
  },
  limit: { ...FULL.limit, start: 2_000, most: 8_000, seconds: 1, repeats: 1 },
  // A step so short is mostly its beginning.
  saturation: { ...FULL.saturation, times: [1, 10, 50], seconds: 1, mostP99Ms: 1_000 },
  burst: { ...FULL.burst, warmUp: 2_000, transports: ['http'], repeats: 1 },
  soak: { ...FULL.soak, seconds: 18, rate: 1_000 },
  micro: { ...FULL.micro, measureMs: 40, repeats: 1 },
};

/** In the order of the report. */
const PARTS: readonly {
  readonly part: keyof Plan;
  readonly measure: (bench: Bench, plan: Plan) => Promise<Section | Section[]>;
}[] = [
  { part: 'load', measure: (bench, plan) => measureLoad(bench, plan.load) },
  { part: 'limit', measure: (bench, plan) => measureLimit(bench, plan.limit) },
  { part: 'saturation', measure: (bench, plan) => measureSaturation(bench, plan.saturation) },
  { part: 'burst', measure: (bench, plan) => measureBurst(bench, plan.burst) },
  { part: 'soak', measure: (bench, plan) => measureSoak(bench, plan.soak) },
  { part: 'micro', measure: (bench, plan) => measureMicro(plan.micro, bench.seed, bench.say) },
];

export async function run(args: readonly string[]): Promise<number> {
  const { values } = optionsOf(args, { ...COMMON_OPTIONS, only: { type: 'string' } });
  const parts: readonly string[] = PARTS.map(({ part }) => part);
  const only = values.only?.split(',') ?? parts;
  for (const part of only) if (!parts.includes(part)) throw new RangeError(`--only: there is no ${part}`);
  return benchAndPublish(values, (bench) => measureAll(bench, values.quick ? QUICK : FULL, only));
}

/** @param only names of parts; they run in the report's order */
export async function measureAll(bench: Bench, plan: Plan, only: readonly string[]): Promise<Section[]> {
  const sections: Section[] = [];
  for (const { part, measure } of PARTS) {
    if (only.includes(part)) sections.push(...[await measure(bench, plan)].flat());
  }
  return sections;
}
