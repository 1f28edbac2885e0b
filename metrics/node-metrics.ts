/** Gauges and counters of the node as a whole: readiness, hub, archive, shards, event loop. */
import { Counter, collectDefaultMetrics, Gauge, Histogram, type Registry } from 'prom-client';
import type { SpoolState } from '../egress/archive/index.ts';
import { Summary } from './summary.ts';

/** Read when Prometheus asks. */
export interface NodeStates {
  readonly ready: () => boolean;
  readonly registered: () => boolean;
  readonly peers: () => number;
  /** Shards that take orders. */
  readonly shards: () => number;
  /** Null in sender mode. */
  readonly archive: (() => SpoolState | null) | null;
}

export interface NodeMetrics {
  hubError(): void;
  skippedEntries(count: number): void;
  /** A shard ended without being asked to. */
  shardRestarted(): void;
  /** A commit of the spool became durable. */
  archived(records: number, seconds: number): void;
  /** The disk refused a commit. */
  archiveSendFailed(): void;
}

const COMMIT_BUCKETS = [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 1];

/** @returns what the composition root reports into `registry`. */
export function nodeMetrics(registry: Registry, states: NodeStates): NodeMetrics {
  const registers = [registry];
  collectDefaultMetrics({ register: registry });
  const gauge = (name: string, help: string, read: () => number) => {
    const made: Gauge = new Gauge({ name, help, registers, collect: () => made.set(read()) });
  };
  gauge('orderflow_ready', '1 when /readyz is 200', () => Number(states.ready()));
  gauge('orderflow_hub_registered', '1 when the hub has accepted our credentials', () =>
    Number(states.registered()),
  );
  gauge('orderflow_peers', 'peers that orders can be sent to', states.peers);
  gauge('orderflow_shards', 'shards that take orders', states.shards);
  if (states.archive !== null) archiveGauges(gauge, states.archive);

  const hubErrors = new Counter({
    name: 'orderflow_proxy_confighub_errors',
    help: 'failed hub calls',
    registers,
  });
  const skipped = new Gauge({
    name: 'orderflow_hub_skipped_entries',
    help: "entries of the hub's last list that could not be used",
    registers,
  });
  const restarts = new Counter({
    name: 'orderflow_shard_restarts_total',
    help: 'shards that ended without being asked to and were started again',
    registers,
  });
  const processed = new Counter({
    name: 'orderflow_proxy_archive_events_processed_total',
    help: 'orders the archive has taken',
    registers,
  });
  const sentOk = new Counter({
    name: 'orderflow_proxy_archive_events_sent_ok',
    help: 'orders durable in the archive',
    registers,
  });
  const rpcDuration = new Summary({
    name: 'orderflow_proxy_archive_rpc_duration_milliseconds',
    help: 'one archive send: a group commit',
    labels: [],
    scale: 1000,
  });
  registry.registerMetric(rpcDuration as never);
  const rpcErrors = new Counter({
    name: 'orderflow_proxy_archive_rpc_errors',
    help: 'archive sends that failed',
    registers,
  });
  const commits = rpcDuration.child();
  const commit = new Histogram({
    name: 'orderflow_archive_commit_seconds',
    help: 'one group commit: write and fdatasync',
    buckets: COMMIT_BUCKETS,
    registers,
  });
  return {
    hubError: () => hubErrors.inc(),
    skippedEntries: (count) => skipped.set(count),
    shardRestarted: () => restarts.inc(),
    archived(records, seconds) {
      processed.inc(records);
      sentOk.inc(records);
      commit.observe(seconds);
      commits.observe(seconds * 1e6);
    },
    archiveSendFailed: () => rpcErrors.inc(),
  };
}

function archiveGauges(
  gauge: (name: string, help: string, read: () => number) => void,
  archive: () => SpoolState | null,
): void {
  const of = (pick: (state: SpoolState) => number) => () => {
    const state = archive();
    return state === null ? 0 : pick(state);
  };
  gauge(
    'orderflow_archive_accepting',
    '1 while user orders are taken',
    of((state) => Number(state.accepting)),
  );
  gauge(
    'orderflow_archive_bytes',
    'bytes of all segments',
    of((state) => state.bytes),
  );
  gauge(
    'orderflow_archive_pending_bytes',
    'bytes not yet durable',
    of((state) => state.pendingBytes),
  );
  gauge(
    'orderflow_archive_sequence',
    'sequence of the last record',
    of((state) => state.lastSequence),
  );
  gauge(
    'orderflow_archive_durable_sequence',
    'sequence of the last durable record',
    of((state) => state.durableSequence),
  );
  gauge(
    'orderflow_archive_oldest_seconds',
    'age of the oldest segment',
    of((state) => state.oldestRecordAgeMs / 1000),
  );
}
