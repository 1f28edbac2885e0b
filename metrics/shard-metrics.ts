/** Gauges and counters of one shard: what waits in it, its connections, and those it turned away. */
import { Counter, Gauge, type Registry } from 'prom-client';
import type { Side } from '../pipeline/order.ts';

/** Read when Prometheus asks. */
export interface ShardStates {
  readonly pipeline: () => {
    waitingBytes: number;
    waiting: number;
    waitMs: number;
    unanswered: number;
    dedupeKeys: number;
  };
  readonly bodiesReading: () => { bytes: number };
}

export interface ShardMetrics {
  connectionEvicted(side: Side): void;
  clientCertificateRefused(reason: string): void;
}

/** @returns what a shard reports into `registry`. */
export function shardMetrics(registry: Registry, states: ShardStates): ShardMetrics {
  const registers = [registry];
  const gauge = (name: string, help: string, read: () => number, aggregator: 'sum' | 'average' = 'sum') => {
    const made: Gauge = new Gauge({ name, help, registers, aggregator, collect: () => made.set(read()) });
  };
  gauge(
    'orderflow_dedupe_keys',
    'orders remembered to recognise duplicates',
    () => states.pipeline().dedupeKeys,
  );
  gauge('orderflow_waiting_orders', 'requests waiting for the pipeline', () => states.pipeline().waiting);
  gauge('orderflow_waiting_bytes', 'bytes of requests waiting', () => states.pipeline().waitingBytes);
  gauge(
    'orderflow_wait_seconds',
    'how long what waits for the pipeline will take; of several threads the mean',
    () => states.pipeline().waitMs / 1000,
    'average',
  );
  gauge('orderflow_unanswered_orders', 'requests without an answer yet', () => states.pipeline().unanswered);
  gauge('orderflow_reading_bytes', 'bytes of bodies being read', () => states.bodiesReading().bytes);
  const evicted = new Counter({
    name: 'orderflow_connections_evicted_total',
    help: 'idle connections closed to make room',
    labelNames: ['side'],
    registers,
  });
  const certificates = new Counter({
    name: 'orderflow_client_certificates_refused_total',
    help: 'connections closed because of their client certificate',
    labelNames: ['reason'],
    registers,
  });
  return {
    connectionEvicted: (side) => evicted.inc({ side }),
    clientCertificateRefused: (reason) => certificates.inc({ reason }),
  };
}

/** Counts open connections by server, read when Prometheus asks. */
export function connectionsGauge(
  registry: Registry,
  connections: () => readonly { server: string; open: number }[],
): void {
  const gauge: Gauge = new Gauge({
    name: 'orderflow_connections',
    help: 'open connections',
    labelNames: ['server'],
    registers: [registry],
    collect: () => {
      for (const { server, open } of connections()) gauge.set({ server }, open);
    },
  });
}
