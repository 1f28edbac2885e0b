/** `soak`: a steady rate for a long time, and a verdict: is memory flat, do descriptors, handles and timers grow? */
import { statfs } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import {
  type Bench,
  benchAndPublish,
  COMMON_HELP,
  COMMON_OPTIONS,
  optionsOf,
  positive,
  sizeOf,
  whole,
} from '../command.ts';
import { Cycle } from '../cycle.ts';
import { type Rig, startRig } from '../rig.ts';
import { faultsOf, type RunFigures } from '../run-figures.ts';
import type { Point, Section } from '../section.ts';
import { type HeldSample, type ProcessSample, soakVerdict } from '../soak-verdict.ts';

export const name = 'soak';

export const help = `
2,000 orders/s for 30 minutes: flat memory, no leak of descriptors, handles or timers

Usage: npm run bench -- soak [options]

  --minutes M       (default 30; with --quick 0.5)
  --rate R          orders per second (default 2000)
  --peers N         (default 2)
  --size BYTES      body size, or "field" (default field)
${COMMON_HELP}

Exits with 1 when something grew or an order was lost. The archive keeps everything: 30 minutes need 30 GB in TMPDIR.
`;

export interface SoakPlan {
  readonly seconds: number;
  readonly rate: number;
  readonly peers: number;
  readonly bodyBytes: number | 'field';
}

const CONNECTIONS = 64;
const SAMPLE_MS = 1_000;
const CHECKPOINTS = 12;
/** A node in a short soak forgets orders sooner, so that its window is full in the first third. */
const SHORT = { untilSeconds: 240, roundSeconds: 2, dedupeSeconds: 3 };
const LONG = { roundSeconds: 30, dedupeSeconds: 60 };

interface Round {
  readonly seconds: number;
  readonly run: RunFigures;
}

export async function run(args: readonly string[]): Promise<number> {
  const { values } = optionsOf(args, {
    ...COMMON_OPTIONS,
    minutes: { type: 'string' },
    rate: { type: 'string', default: '2000' },
    peers: { type: 'string', default: '2' },
    size: { type: 'string', default: 'field' },
  });
  const plan: SoakPlan = {
    seconds: positive('--minutes', values.minutes ?? (values.quick ? '0.5' : '30')) * 60,
    rate: positive('--rate', values.rate),
    peers: whole('--peers', values.peers, 0),
    bodyBytes: sizeOf(values.size),
  };
  return benchAndPublish(values, async (bench) => [await measureSoak(bench, plan)]);
}

/** @throws RangeError when the disk has no room for the archive. */
export async function measureSoak(bench: Bench, plan: SoakPlan): Promise<Section> {
  const kind = plan.seconds < SHORT.untilSeconds ? SHORT : LONG;
  const perRound = Math.round(plan.rate * kind.roundSeconds);
  // The same orders come again once the node has forgotten them.
  const rounds = Math.max(1, Math.round(plan.seconds / kind.roundSeconds));
  const ring = perRound * Math.min(rounds, Math.ceil(kind.dedupeSeconds / kind.roundSeconds) + 1);
  bench.say(`making and signing ${ring} orders`);
  const set = `soak ${plan.bodyBytes}`;
  const meanBytes = await bench.lab.prepare(
    set,
    { seed: bench.seed, methods: 'bundles', bodyBytes: plan.bodyBytes },
    ring,
  );
  await checkRoom(plan.rate * plan.seconds * (meanBytes + 500));
  const rig = await startRig(bench.lab, {
    peers: plan.peers,
    transport: 'http',
    connections: CONNECTIONS,
    inFlight: 1,
    orders: ring,
    env: { DEDUPE_SEC: String(kind.dedupeSeconds), ...bench.env },
    ...(bench.entry !== undefined && { entry: bench.entry }),
  });
  const samples: ProcessSample[] = [];
  const held: HeldSample[] = [];
  const done: Round[] = [];
  const startedMs = performance.now();
  const elapsed = () => (performance.now() - startedMs) / 1000;
  const sampler = setInterval(() => void sample(rig, samples, elapsed), SAMPLE_MS);
  try {
    const cycle = new Cycle(rig, { set, length: ring, forgottenAfterMs: kind.dedupeSeconds * 1000 });
    const every = Math.max(1, Math.floor(rounds / CHECKPOINTS));
    for (let round = 0; round < rounds; round++) {
      done.push({ seconds: elapsed(), run: await cycle.run(perRound, plan.rate) });
      if (round % every !== 0 && round !== rounds - 1) continue;
      const checkpoint = await rig.held();
      if (checkpoint !== null) held.push({ seconds: elapsed(), ...checkpoint });
      bench.say(`${Math.round(elapsed())} s: ${((samples.at(-1)?.rssBytes ?? 0) / 2 ** 20).toFixed(0)} MiB`);
    }
    const seconds = elapsed();
    return soakSection(plan, seconds, samples, held, done);
  } finally {
    clearInterval(sampler);
    await rig.close();
  }
}

async function sample(rig: Rig, samples: ProcessSample[], elapsed: () => number): Promise<void> {
  // A node that has ended shows in the round's own figures.
  const now = await rig.process().catch(() => null);
  if (now === null) return;
  samples.push({ seconds: elapsed(), rssBytes: now.rssBytes, fds: now.fds, threads: now.threads });
}

async function checkRoom(bytes: number): Promise<void> {
  const { bavail, bsize } = await statfs(tmpdir());
  const gigabytes = (count: number) => `${(count / 1e9).toFixed(1)} GB`;
  if (bavail * bsize < bytes * 1.1)
    throw new RangeError(
      `the archive of this soak takes ${gigabytes(bytes)}, ${tmpdir()} has ${gigabytes(bavail * bsize)} (set TMPDIR)`,
    );
}

export function soakSection(
  plan: SoakPlan,
  seconds: number,
  samples: readonly ProcessSample[],
  held: readonly HeldSample[],
  rounds: readonly Round[],
): Section {
  const verdict = soakVerdict(seconds, samples, held);
  const overTime = (pick: (run: RunFigures) => number | null): Point[] =>
    rounds.map(({ seconds: at, run }) => [at, pick(run)]);
  const grown = verdict.findings.filter(({ flat }) => !flat);
  return {
    id: 'soak',
    title: `${plan.rate} orders/s for ${seconds < 120 ? `${Math.round(seconds)} s` : `${Math.round(seconds / 60)} minutes`}`,
    text: [
      `${plan.peers} peers, ${plan.bodyBytes === 'field' ? 'sizes as seen in the field' : `${plan.bodyBytes} bytes`}, ${CONNECTIONS} connections, in rounds with a pause of a fraction of a second. Verdict: ${grown.length === 0 ? 'flat' : 'something grows'}. The last third of the run is held against the third before it; the live heap is measured after a forced full collection, at most ${CHECKPOINTS + 1} times.`,
      `RSS over the last two thirds: ${verdict.rssSlopeMiBPerHour >= 0 ? '+' : '−'}${Math.abs(verdict.rssSlopeMiBPerHour).toFixed(0)} MiB per hour (median slope).${verdict.notJudged.length > 0 ? ` Not judged: ${verdict.notJudged.join('; ')}.` : ''}`,
    ],
    charts: [
      {
        kind: 'lines',
        title: 'memory over time',
        x: { label: 'seconds', scale: 'linear' },
        y: { label: 'MiB', scale: 'linear' },
        series: [
          {
            name: 'RSS',
            points: samples.map(({ seconds: at, rssBytes }) => [at, rssBytes / 2 ** 20] as const),
          },
          {
            name: 'live heap and buffers',
            points: held.map(({ seconds: at, liveBytes }) => [at, liveBytes / 2 ** 20] as const),
          },
        ],
      },
      {
        kind: 'lines',
        title: 'user → builder, round by round',
        x: { label: 'seconds', scale: 'linear' },
        y: { label: 'milliseconds', scale: 'log' },
        series: [
          { name: 'p50', points: overTime((run) => run.toBuilder.p50) },
          { name: 'p99', points: overTime((run) => run.toBuilder.p99) },
          { name: 'max', points: overTime((run) => run.toBuilder.max) },
        ],
      },
    ],
    tables: [
      {
        title: 'the last third against the one before',
        headings: ['what', 'before', 'after', 'at most', 'verdict'],
        rows: verdict.findings.map(({ what, before, after, limit, flat }) => [
          what,
          before,
          after,
          limit,
          flat ? 'flat' : 'GROWS',
        ]),
      },
    ],
    figures: [
      {
        name: 'soak: user → builder p99',
        unit: 'ms',
        better: 'lower',
        samples: rounds.map(({ run }) => run.toBuilder.p99).filter((value) => value !== null),
      },
    ],
    faults: [
      ...grown.map(
        ({ what, before, after }) => `soak: ${what} grew from ${before.toFixed(1)} to ${after.toFixed(1)}`,
      ),
      ...(samples.length === 0 ? ['soak: the process could not be looked at'] : []),
      ...rounds.flatMap(({ seconds: at, run }) => faultsOf(`soak, round at ${at.toFixed(0)} s`, run)),
    ],
  };
}
