/** What `load` runs: its cases, what was measured of each, and what tables and charts of them have in common. */
import type { LatencyFigures } from './latency.ts';
import type { PeerKind } from './rig.ts';
import type { RunFigures } from './run-figures.ts';
import { median } from './statistics.ts';
import type { ForeignNodeOptions, Transport } from './subject.ts';

export interface Case {
  readonly peers: number;
  readonly peerKind: PeerKind;
  readonly transport: Transport;
  /** Null: the node's own choice. */
  readonly shards: number | null;
}

/** What to run of each case. */
export interface LoadPlan {
  readonly cases: readonly Case[];
  readonly connections: number;
  /**
   * Orders for each shard before the timed part, and in it: a thread's compilers are at work for its first 30,000 orders,
   * so that with half as many for each of two they would be twice as much of an order's time.
   */
  readonly warmUp: number;
  readonly closed: { readonly orders: number; readonly bodyBytes: number | 'field' };
  readonly open: { readonly rate: number; readonly seconds: number; readonly bodyBytes: number | 'field' };
  readonly repeats: number;
  /** Orders of the profiled run; 0 for none. */
  readonly profiled: number;
  readonly foreign?: ForeignNodeOptions;
}

export interface CaseRuns {
  readonly case: Case;
  readonly closed: RunFigures[];
  readonly open: RunFigures[];
  /** Microseconds per order by stage; null without a profile. */
  stages: ReadonlyMap<string, number> | null;
}

/** How a case is named in tables, charts and figures. */
export function caseTitle({ peers, peerKind, transport, shards }: Case): string {
  const parts = [transport, `${peers} ${peerKind === 'stream' && peers > 0 ? 'stream peers' : 'peers'}`];
  if (shards !== null) parts.push(`${shards} shards`);
  return parts.join(', ');
}

/** The cases that differ from the first in shards alone. */
export function overShards(runs: readonly CaseRuns[]): readonly CaseRuns[] {
  const [first] = runs;
  return runs.filter(
    ({ case: { peers, transport, shards } }) =>
      shards !== null && peers === first?.case.peers && transport === first.case.transport,
  );
}

/** @returns the median of what the runs have; null when none has it. */
export function medianOf(
  runs: readonly RunFigures[],
  pick: (run: RunFigures) => number | null | undefined,
): number | null {
  const values = runs.map(pick).filter((value) => value !== null && value !== undefined);
  return values.length === 0 ? null : median(values);
}

/** Null too when a peer got nothing: it is not the fastest. */
export function slowest(peers: readonly LatencyFigures[], quantile: 'p50' | 'p99' | 'max'): number | null {
  const values = peers.map((peer) => peer[quantile]).filter((value) => value !== null);
  return values.length === 0 || values.length < peers.length ? null : Math.max(...values);
}
