/** What a bench found: figures per scenario, as a table for people and as JSON for comparison. */
import { execFileSync } from 'node:child_process';
import { availableParallelism, cpus, totalmem } from 'node:os';
import type { LatencyFigures } from './latency.ts';

/** One run against a node with a number of peers. */
export interface RunFigures {
  readonly orders: number;
  /** Answered with success per second, first sending to last answer. */
  readonly ordersPerSec: number;
  /** CPU of the whole node process per order, until builder and peers had all of them. */
  readonly cpuUsPerOrder: number;
  readonly toBuilder: LatencyFigures;
  readonly toAnswer: LatencyFigures;
  readonly toPeers: readonly LatencyFigures[];
  /** Orders that came to a sink twice. */
  readonly duplicates: number;
  /** Answers that were no success, by status and text. */
  readonly refused: Readonly<Record<string, number>>;
}

export interface Scenario {
  readonly peers: number;
  /** As fast as the connections take them. */
  readonly closed: RunFigures;
  /** At the fixed rate. */
  readonly open: RunFigures;
  readonly peakRssBytes: number;
}

export interface Report {
  readonly startedAt: string;
  readonly machine: { readonly cpu: string; readonly cores: number; readonly memoryBytes: number };
  readonly nodeVersion: string;
  readonly platform: string;
  /** Of the working tree; "-dirty" when it has changes, null without a repository. */
  readonly commit: string | null;
  readonly command: string;
  readonly settings: Readonly<Record<string, unknown>>;
  readonly scenarios: readonly Scenario[];
}

/** Where and with what a bench runs. */
export function surroundings(): Pick<
  Report,
  'startedAt' | 'machine' | 'nodeVersion' | 'platform' | 'commit' | 'command'
> {
  return {
    startedAt: new Date().toISOString(),
    machine: { cpu: cpus()[0]?.model ?? 'unknown', cores: availableParallelism(), memoryBytes: totalmem() },
    nodeVersion: process.version,
    platform: `${process.platform} ${process.arch}`,
    commit: git(['describe', '--always', '--abbrev=12', '--dirty', '--exclude=*']),
    command: ['npm run bench --', ...process.argv.slice(2)].join(' '),
  };
}

/** Lines for the terminal: where it ran, one table per kind of run, then every loss and refusal. */
export function renderReport(report: Report): string[] {
  const { machine } = report;
  const lines = [
    `${machine.cpu}, ${machine.cores} cores, Node ${report.nodeVersion}, ${report.platform}, commit ${report.commit ?? 'unknown'}`,
    Object.entries(report.settings)
      .map(([name, value]) => `${name} ${String(value)}`)
      .join(', '),
    '',
    'as fast as the connections take them',
    ...table(report.scenarios.map((scenario) => row(scenario.peers, scenario.closed))),
    '',
    `at ${String(report.settings.rate)} orders/s, from when each was due`,
    ...table(report.scenarios.map((scenario) => row(scenario.peers, scenario.open))),
    '',
    'times in ms: builder = until the builder has it, answer = until the user is answered, peers = the slowest p99 of a peer',
  ];
  for (const scenario of report.scenarios) {
    for (const [kind, run] of [
      ['closed', scenario.closed],
      ['open', scenario.open],
    ] as const) {
      lines.push(...faults(`${scenario.peers} peers, ${kind}`, run));
    }
  }
  return lines;
}

/** @returns every loss, duplicate and refusal of a run; empty when there was none. */
export function faults(title: string, run: RunFigures): string[] {
  const found: string[] = [];
  if (run.toBuilder.lost > 0) found.push(`${title}: ${run.toBuilder.lost} never reached the builder`);
  for (const [index, peer] of run.toPeers.entries()) {
    if (peer.lost > 0) found.push(`${title}: ${peer.lost} never reached peer ${index + 1}`);
  }
  if (run.duplicates > 0) found.push(`${title}: ${run.duplicates} came twice`);
  for (const [text, count] of Object.entries(run.refused)) found.push(`${title}: ${count} × ${text}`);
  return found;
}

const HEADINGS = [
  'peers',
  'orders/s',
  'CPU µs',
  'builder p50',
  'p90',
  'p99',
  'p99.9',
  'answer p50',
  'p99',
  'peers p99',
];

function row(peers: number, run: RunFigures): string[] {
  const { toBuilder, toAnswer } = run;
  const slowest =
    run.toPeers.length === 0 ? null : Math.max(...run.toPeers.map((peer) => peer.p99 ?? Infinity));
  return [
    String(peers),
    run.ordersPerSec.toFixed(0),
    run.cpuUsPerOrder.toFixed(0),
    ...[toBuilder.p50, toBuilder.p90, toBuilder.p99, toBuilder.p999, toAnswer.p50, toAnswer.p99, slowest].map(
      milliseconds,
    ),
  ];
}

function table(rows: readonly string[][]): string[] {
  const all = [HEADINGS, ...rows];
  const widths = HEADINGS.map((_, column) => Math.max(...all.map((cells) => cells[column]?.length ?? 0)));
  return all.map((cells) => cells.map((cell, column) => cell.padStart(widths[column] ?? 0)).join('  '));
}

function milliseconds(value: number | null): string {
  return value === null ? '-' : value.toFixed(value < 10 ? 2 : 0);
}

function git(args: readonly string[]): string | null {
  try {
    return execFileSync('git', args, {
      encoding: 'utf8',
      cwd: import.meta.dirname,
      stdio: ['ignore', 'pipe', 'ignore'],
    }).trim();
  } catch {
    return null;
  }
}
