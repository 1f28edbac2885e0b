/**
 * Chaos: a network of real processes under traffic while nodes, hub and builders are killed (-9), stopped, frozen and
 * started again at random moments, and the proof afterwards that no acknowledged order was lost. What must be true,
 * exactly, is defined in chaos-verdict.ts; besides, no process ends by itself, no log holds an error or an unknown
 * warning, `archive verify` passes for every node, and nothing is left running.
 *
 * Seeded: the same seed gives the same orders and the same blows at the same times. What the scheduler of the machine
 * makes of it differs.
 */
import { execFile } from 'node:child_process';
import { hash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { readArchivedOrders } from '../devnet/archive-reader.ts';
import { readBuilderJournal } from '../devnet/builder-journal.ts';
import { createOrderSource } from '../devnet/orders.ts';
import { type ChaosNetwork, type ChaosNode, startChaosNetwork } from './chaos-network.ts';
import { type ChaosProcess, delay, type Outage } from './chaos-process.ts';
import { type Blow, makeSchedule, type Victim } from './chaos-schedule.ts';
import { type ChaosTraffic, startChaosTraffic } from './chaos-traffic.ts';
import { type Bounds, judge, type NodeEvidence, type Verdict } from './chaos-verdict.ts';

export interface ChaosOptions {
  readonly seed: string;
  /** Of traffic with chaos; start, settling and proof come on top, some 10 s. */
  readonly seconds: number;
  readonly nodes: number;
  /** Orders per second over all nodes. */
  readonly rate: number;
  /** Empty or not there yet; everything stays in it for a look. */
  readonly directory: string;
  /** Settings for every node, by environment name. */
  readonly env?: Readonly<Record<string, string>>;
  /** In place of the one that the seed makes; nobody is spared then, a blow waits until its victims are back. */
  readonly schedule?: readonly Blow[];
  /** Told of each blow and each step, a line each. */
  readonly progress?: (line: string) => void;
}

export interface ChaosReport extends Verdict {
  readonly sent: number;
  readonly acknowledged: number;
  /** Tries without an answer, or told to come again. */
  readonly retries: number;
  /** Outages by what they were, such as `node killed`. */
  readonly outages: Readonly<Record<string, number>>;
  /** Longest start of a node, in ms. */
  readonly slowestStartMs: number;
  /** Longest stop of a node by SIGTERM, in ms. */
  readonly slowestStopMs: number;
}

const BOUNDS: Bounds = { settleMs: 1_500, reconnectMs: 2_500, ageMs: 30_000, graceMs: 500 };
const CONNECT_TIMEOUT_MS = 30_000;
/** Every node is up again by then. */
const PATIENCE_MS = 30_000;
const WARN = 40;
const ERROR = 50;
/** What a node may warn of while its neighbours go and come; the hub's entries are empty before nodes register. */
const EXPECTED_WARNINGS: ReadonlySet<unknown> = new Set([
  'hub failed',
  'registration failed',
  'hub entries skipped',
  'torn tail',
  // A node that stops while others are away.
  'left behind',
]);
/** Lines of a log that are shown as faults; one cause makes many. */
const MOST_LINES = 20;
const ARCHIVE_COMMAND = join(import.meta.dirname, '..', 'egress/archive/main.ts');

const run = promisify(execFile);

/** Runs it. @throws only when the network cannot be started; whatever goes wrong later is a fault of the report. */
export async function runChaos(options: ChaosOptions): Promise<ChaosReport> {
  const { seed, nodes: count, rate, progress = () => {} } = options;
  const durationMs = options.seconds * 1000;
  const schedule = options.schedule ?? makeSchedule({ seed, durationMs, nodes: count });
  const network = await startChaosNetwork({
    nodes: count,
    directory: options.directory,
    env: options.env ?? {},
  });
  const faults: string[] = [];
  try {
    await network.connected(CONNECT_TIMEOUT_MS);
    progress(`${count} nodes connected, ${schedule.length} blows in ${options.seconds} s`);
    const traffic = startChaosTraffic({
      source: createOrderSource({ seed: `${seed} orders` }),
      targets: network.nodes,
      rate,
    });
    const patient = options.schedule !== undefined;
    await Promise.all([delay(durationMs), strike(network, schedule, patient, progress)]);
    await traffic.stop(PATIENCE_MS);
    progress(`${traffic.orders.length} orders sent, ${traffic.acknowledged} acknowledged, settling`);
    await network.connected(CONNECT_TIMEOUT_MS).catch((error: Error) => faults.push(error.message));
    await delay(BOUNDS.reconnectMs + BOUNDS.settleMs);
    await network.stop();
    return await prove(network, traffic, faults);
  } finally {
    await network.close();
  }
}

/** Deals the blows, and resolves when everybody is back. */
async function strike(
  network: ChaosNetwork,
  schedule: readonly Blow[],
  patient: boolean,
  progress: (line: string) => void,
): Promise<void> {
  const begun = performance.now();
  const outages: Promise<void>[] = [];
  for (const { atMs, victim, kind, holdMs } of schedule) {
    await delay(Math.max(0, begun + atMs - performance.now()));
    const struck = victims(network, victim);
    if (patient) await Promise.all(struck.map((process) => process.back));
    for (const process of struck) {
      if (process.away) continue;
      progress(`${(atMs / 1000).toFixed(1)} s: ${process.name} ${kind}, back after ${holdMs} ms`);
      outages.push(process.outage(kind, holdMs));
    }
  }
  await Promise.all(outages);
}

function victims({ hub, nodes }: ChaosNetwork, victim: Victim): readonly ChaosProcess[] {
  switch (victim.role) {
    case 'hub':
      return [hub];
    case 'all nodes':
      return nodes.map(({ node }) => node);
    case 'node':
    case 'builder':
      return nodes.slice(victim.index, victim.index + 1).map((node) => node[victim.role]);
  }
}

/** Gathers the evidence of a network that has been stopped, and judges it. */
async function prove(
  network: ChaosNetwork,
  traffic: ChaosTraffic,
  found: readonly string[],
): Promise<ChaosReport> {
  const faults = [...found, ...traffic.faults];
  const { orders } = traffic;
  const nodes = await Promise.all(network.nodes.map((node) => evidenceOf(node, faults)));
  const verdict = judge(orders, nodes, BOUNDS);
  faults.push(...verdict.faults);
  for (const process of network.processes) {
    faults.push(...process.faults);
    const left = process.pids.filter(isAlive);
    if (left.length > 0) faults.push(`${process.name} still runs as ${left.join(', ')}`);
  }
  faults.push(...(await plainLogFaults(network.hubLogFile, /^development hub on/)));
  const unanswered = orders.filter((order) => order.acknowledgedAt === null).length;
  if (unanswered > 0) faults.push(`${unanswered} orders were never acknowledged`);
  return {
    ...verdict,
    faults,
    sent: orders.length,
    acknowledged: traffic.acknowledged,
    retries: traffic.retries,
    outages: countOutages(network),
    slowestStartMs: Math.max(...network.nodes.flatMap(({ node }) => node.startsMs)),
    slowestStopMs: Math.max(...network.nodes.flatMap(({ node }) => node.stopsMs)),
  };
}

async function evidenceOf(chaosNode: ChaosNode, faults: string[]): Promise<NodeEvidence> {
  const { name, node, builder, archiveDir, journalFile, logFile, builderLogFile } = chaosNode;
  const verified = await run(process.execPath, [ARCHIVE_COMMAND, 'verify', '--dir', archiveDir]).catch(
    (error: { stdout?: string; stderr?: string }) => error,
  );
  if (verified instanceof Error)
    faults.push(`archive verify of ${name}: ${verified.stdout}${verified.stderr}`);
  faults.push(...(await nodeLogFaults(name, logFile)));
  faults.push(...(await plainLogFaults(builderLogFile, /^(?:orders as NDJSON|\{"event":"listening")/)));
  const records = await readBuilderJournal(journalFile);
  const archived = await readArchivedOrders(archiveDir).catch((error: unknown) => {
    faults.push(`the archive of ${name} cannot be read: ${String(error)}`);
    return [];
  });
  return {
    name,
    outages: node.outages,
    builderOutages: builder.outages,
    arrivals: records.map(({ sha256, receivedAtUs }) => ({ digest: sha256, at: receivedAtUs / 1000 })),
    archived: archived.map((canonical) => hash('sha256', canonical)),
  };
}

/** Errors, warnings that are not expected, and lines that are no log lines (a crash, a warning of Node's). */
async function nodeLogFaults(name: string, file: string): Promise<string[]> {
  const faults = (await lines(file)).filter((line) => {
    try {
      const { level, event } = JSON.parse(line) as Record<string, unknown>;
      return typeof level !== 'number' || level >= ERROR || (level >= WARN && !EXPECTED_WARNINGS.has(event));
    } catch {
      return true;
    }
  });
  const more = faults.length > MOST_LINES ? [`log of ${name}: ${faults.length - MOST_LINES} more lines`] : [];
  return [...faults.slice(0, MOST_LINES).map((line) => `log of ${name}: ${line}`), ...more];
}

async function plainLogFaults(file: string, expected: RegExp): Promise<string[]> {
  return (await lines(file)).filter((line) => !expected.test(line)).map((line) => `${file}: ${line}`);
}

async function lines(file: string): Promise<string[]> {
  return (await readFile(file, 'utf8')).split('\n').filter((line) => line !== '');
}

function countOutages({ hub, nodes }: ChaosNetwork): Record<string, number> {
  const counts: Record<string, number> = {};
  const count = (role: string, outages: readonly Outage[]): void => {
    for (const { kind } of outages) counts[`${role} ${kind}`] = (counts[`${role} ${kind}`] ?? 0) + 1;
  };
  count('hub', hub.outages);
  for (const { node, builder } of nodes) {
    count('node', node.outages);
    count('builder', builder.outages);
  }
  return counts;
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}
