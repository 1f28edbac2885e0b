/**
 * `load`: one node with a number of peers, over HTTP, HTTPS or HTTP/2: first as fast as the connections take orders
 * (closed loop), then at a fixed rate (open loop). Where each microsecond goes comes from a CPU profile of one
 * further run.
 */

import { settingRows } from '../../settings.ts';
import {
  type Bench,
  benchAndPublish,
  COMMON_HELP,
  COMMON_OPTIONS,
  optionsOf,
  positive,
  publishTo,
  say,
  sizeOf,
  transportList,
  whole,
  wholeList,
  withBench,
} from '../command.ts';
import { compareFigures, comparisonTable, comparisonText } from '../compare.ts';
import { type Case, type CaseRuns, caseTitle, type LoadPlan } from '../load-cases.ts';
import { loadSections } from '../load-section.ts';
import { figuresOfReport, surroundings } from '../report.ts';
import { type PeerKind, type Rig, startRig } from '../rig.ts';
import type { Section } from '../section.ts';
import type { ForeignNodeOptions, Transport } from '../subject.ts';
import { slowness } from '../yardstick.ts';

export const name = 'load';

export const help = `
orders/s, CPU per order and latencies of one node with 0, 2 and 10 peers

Usage: npm run bench -- load [options]

  --peers LIST        numbers of peers (default 0,2,10)
  --peer-kind KIND    what peers speak: v1 (requests) or stream (default v1)
  --transports LIST   http, https, h2; all but the first with the least peers alone (default http,https,h2)
  --shards LIST       numbers of shards; all but the first with the least peers alone (default 1,2 where the node has such a setting)
  --rate R            orders per second of the open loop (default 2000)
  --seconds S         length of the open loop (default 10)
  --size BYTES        body size of the open loop, or "field" for the sizes seen in the field (default field)
  --orders N          orders of the closed loop for each shard (default 30000)
  --closed-size BYTES body size of the closed loop (default 3279)
  --connections N     connections of the load generator (default 64)
  --repeats N         runs of each case, each with a fresh node (default 5)
  --no-stages         leave out the profiled run
  --against FILE      main.ts of another checkout: run both in turns, and compare them
${COMMON_HELP}

Any other node under the same load:
  --target URL        its user API; the environment it needs is printed, and the bench waits until it answers
  --target-cert FILE  PEM certificate to trust, for https
  --target-start CMD  a shell command that starts it with that environment; without it there is one case, run once
  --target-pid PID    its process, for CPU and memory (known with --target-start)
`;

/**
 * Seconds of the open loop's own orders before it is measured, for each thread: code that was compiled for orders of one
 * size is thrown away and compiled again when others come, and for half a second the node cannot keep up.
 */
const OPEN_WARM_UP_SECONDS = 2;

export async function run(args: readonly string[]): Promise<number> {
  const { values } = optionsOf(args, {
    ...COMMON_OPTIONS,
    peers: { type: 'string' },
    'peer-kind': { type: 'string', default: 'v1' },
    transports: { type: 'string' },
    shards: { type: 'string' },
    rate: { type: 'string', default: '2000' },
    seconds: { type: 'string' },
    size: { type: 'string', default: 'field' },
    orders: { type: 'string' },
    'closed-size': { type: 'string', default: '3279' },
    connections: { type: 'string', default: '64' },
    repeats: { type: 'string' },
    'no-stages': { type: 'boolean', default: false },
    against: { type: 'string' },
    target: { type: 'string' },
    'target-cert': { type: 'string' },
    'target-start': { type: 'string' },
    'target-pid': { type: 'string' },
  });
  const { quick } = values;
  const peers = wholeList('--peers', values.peers ?? (quick ? '0,2' : '0,2,10'));
  const transports = transportList(
    values.transports ?? (quick || values.target !== undefined ? 'http' : 'http,https,h2'),
  );
  const shards = values.shards === undefined ? defaultShards() : wholeList('--shards', values.shards, 1);
  const foreign: ForeignNodeOptions | null =
    values.target === undefined
      ? null
      : {
          url: values.target,
          h2: transports[0] === 'h2',
          say,
          ...(values['target-cert'] !== undefined && { certificateFile: values['target-cert'] }),
          ...(values['target-start'] !== undefined && { startCommand: values['target-start'] }),
          ...(values['target-pid'] !== undefined && { pid: whole('--target-pid', values['target-pid']) }),
        };
  const once = foreign !== null && foreign.startCommand === undefined;
  const cases = casesOf(peers, transports, foreign === null ? shards : [], peerKindOf(values['peer-kind']));
  const plan: LoadPlan = {
    cases: once ? cases.slice(0, 1) : cases,
    connections: whole('--connections', values.connections),
    warmUp: quick ? 4_000 : 30_000,
    closed: {
      orders: whole('--orders', values.orders ?? (quick ? '8000' : '30000')),
      bodyBytes: sizeOf(values['closed-size']),
    },
    open: {
      rate: positive('--rate', values.rate),
      seconds: positive('--seconds', values.seconds ?? (quick ? '3' : '10')),
      bodyBytes: sizeOf(values.size),
    },
    repeats: once ? 1 : whole('--repeats', values.repeats ?? (quick ? '1' : '5')),
    profiled: values['no-stages'] || foreign !== null ? 0 : quick ? 5_000 : 15_000,
    ...(foreign !== null && { foreign }),
  };
  if (values.against === undefined) return benchAndPublish(values, (bench) => measureLoad(bench, plan));

  const around = surroundings(values.seed);
  const both = await withBench(values, around.yardstick, async (bench) => {
    const other: Bench = { ...bench, entry: values.against ?? '' };
    return interleaved([other, bench], plan);
  });
  const [a, b] = both.map((sections) => ({ ...around, sections }));
  if (a === undefined || b === undefined) throw new Error('two reports were made');
  const rows = compareFigures(figuresOfReport(a), figuresOfReport(b));
  const section: Section = {
    id: 'against',
    title: `A: ${values.against}, B: ${values.entry ?? 'this checkout'}`,
    text: comparisonText(a, b, rows),
    charts: [],
    tables: [comparisonTable(rows)],
    figures: [],
    faults: a.sections.flatMap(({ faults }) => faults.map((fault) => `A: ${fault}`)),
  };
  const code = await publishTo({ ...around, sections: [section, ...b.sections] }, values.out);
  process.stdout.write(`\n${section.text.join('\n')}\n`);
  return code;
}

/** The numbers of shards that the node can be told to have; none where it has no such setting. */
export function defaultShards(): number[] {
  return settingRows().some(({ env }) => env.split(', ').includes('SHARDS')) ? [1, 2] : [];
}

function peerKindOf(text: string): PeerKind {
  if (text === 'v1' || text === 'stream') return text;
  throw new RangeError(`--peer-kind is v1 or stream, got ${text}`);
}

/** Every number of peers over the first transport with the first number of shards; what else there is of each with the first of the others. */
export function casesOf(
  peers: readonly number[],
  transports: readonly Transport[],
  shards: readonly number[],
  peerKind: PeerKind = 'v1',
): Case[] {
  const [firstTransport = 'http', ...otherTransports] = transports;
  const [firstPeers = 0] = peers;
  const [firstShards = null, ...otherShards] = shards;
  return [
    ...peers.map((count) => ({ peers: count, peerKind, transport: firstTransport, shards: firstShards })),
    ...otherTransports.map((transport) => ({ peers: firstPeers, peerKind, transport, shards: firstShards })),
    ...otherShards.map((count) => ({
      peers: firstPeers,
      peerKind,
      transport: firstTransport,
      shards: count,
    })),
  ];
}

/** Runs all cases in turns, so that what the machine does meanwhile meets all of them. */
export async function measureLoad(bench: Bench, plan: LoadPlan): Promise<Section[]> {
  const [sections] = await interleaved([bench], plan);
  return sections ?? [];
}

async function interleaved(benches: readonly Bench[], plan: LoadPlan): Promise<Section[][]> {
  const [first] = benches;
  if (first === undefined) return [];
  const { closed, open, profiled, warmUp } = plan;
  const mostShards = Math.max(...plan.cases.map(({ shards }) => shards ?? 1));
  const openOrders = openWarmUp(plan, mostShards) + Math.round(open.rate * open.seconds);
  const closedOrders = (warmUp + closed.orders) * mostShards + profiled;
  first.say(`making and signing ${closedOrders + openOrders} orders`);
  const { lab, seed } = first;
  const source = { seed, methods: 'bundles' as const };
  const closedBytes = await lab.prepare('closed', { ...source, bodyBytes: closed.bodyBytes }, closedOrders);
  const openBytes = await lab.prepare(
    'open',
    { ...source, seed: `${seed} open`, bodyBytes: open.bodyBytes },
    openOrders,
  );

  const results = benches.map(() =>
    plan.cases.map((one): CaseRuns => ({ case: one, closed: [], open: [], stages: null })),
  );
  for (let repeat = 1; repeat <= plan.repeats; repeat++) {
    for (const [index, one] of plan.cases.entries()) {
      // Who comes first changes, so that being second is nobody's advantage.
      const turns = [...benches.entries()];
      for (const [which, bench] of repeat % 2 === 0 ? turns.toReversed() : turns) {
        const into = results[which]?.[index];
        if (into === undefined) continue;
        bench.say(
          `${caseTitle(one)}${benches.length > 1 ? `, ${which === 0 ? 'A' : 'B'}` : ''}: run ${repeat} of ${plan.repeats}`,
        );
        await runCase(bench, plan, into, repeat === plan.repeats);
      }
    }
  }
  const timerSlackNs = await lab.load.call('timerSlackNs');
  return results.map((runs) =>
    loadSections({
      timerSlackNs,
      runs,
      plan,
      meanBytes: { closed: closedBytes, open: openBytes },
      slowness: slowness(first.yardstick),
    }),
  );
}

/** @returns orders of the open loop before the measured ones. */
function openWarmUp({ open }: LoadPlan, shards: number): number {
  return Math.round(open.rate * OPEN_WARM_UP_SECONDS * shards);
}

async function runCase(bench: Bench, plan: LoadPlan, into: CaseRuns, last: boolean): Promise<void> {
  const { closed, open, profiled } = plan;
  const { peers, peerKind, transport, shards } = into.case;
  const warmUp = plan.warmUp * (shards ?? 1);
  const orders = closed.orders * (shards ?? 1);
  const openFrom = openWarmUp(plan, shards ?? 1);
  const openOrders = Math.round(open.rate * open.seconds);
  const rig: Rig = await startRig(bench.lab, {
    peers,
    peerKind,
    transport,
    connections: plan.connections,
    inFlight: 1,
    orders: Math.max(warmUp + orders + profiled, openFrom + openOrders),
    env: { ...bench.env, ...(shards !== null && { SHARDS: String(shards) }) },
    ...(bench.entry !== undefined && { entry: bench.entry }),
    ...(plan.foreign !== undefined && { foreign: plan.foreign }),
  });
  try {
    await rig.run({ set: 'closed', from: 0, count: warmUp }, null);
    into.closed.push(await rig.run({ set: 'closed', from: warmUp, count: orders }, null));
    await rig.run({ set: 'open', from: 0, count: openFrom }, { rate: open.rate });
    into.open.push(await rig.run({ set: 'open', from: openFrom, count: openOrders }, { rate: open.rate }));
    if (last && profiled > 0) {
      into.stages = await rig.profile({ set: 'closed', from: warmUp + orders, count: profiled });
    }
  } finally {
    await rig.close();
  }
}
