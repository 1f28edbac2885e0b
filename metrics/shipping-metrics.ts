/** What the archive's shipper reports, where brokers are configured. */
import { Counter, Gauge, Histogram, type Registry } from 'prom-client';
import type { ShipperEvents, ShippingState, SpoolState } from '../egress/archive/index.ts';

/** Read when Prometheus asks. */
export interface ShippingStates {
  readonly spool: () => SpoolState;
  readonly shipping: () => ShippingState;
}

const SECONDS = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1, 2.5, 10];

/** @returns the events that are counted into `registry`. */
export function shippingMetrics(
  registry: Registry,
  states: ShippingStates,
): Pick<ShipperEvents, 'shipped' | 'skipped' | 'trouble' | 'lost' | 'deadLetter'> {
  const registers = [registry];
  const gauge = (name: string, help: string, read: () => number) => {
    const made: Gauge = new Gauge({ name, help, registers, collect: () => made.set(read()) });
  };
  const counter = (name: string, help: string) => new Counter({ name, help, registers });
  gauge('orderflow_archive_shipping', '1 while the brokers take the archive', () =>
    Number(states.shipping().connected),
  );
  gauge(
    'orderflow_archive_shipped_sequence',
    'sequence of the last record that the brokers have',
    () => states.shipping().sequence,
  );
  gauge(
    'orderflow_archive_unshipped_bytes',
    'bytes that the brokers do not have',
    () => states.spool().unshipped?.bytes ?? 0,
  );
  gauge(
    'orderflow_archive_unshipped_seconds',
    'age of the oldest record that the brokers do not have',
    () => (states.spool().unshipped?.ageMs ?? 0) / 1000,
  );
  const shipped = counter('orderflow_archive_shipped_total', 'records that the brokers have acknowledged');
  const bytes = counter('orderflow_archive_shipped_bytes_total', 'their values, before compression');
  const skipped = counter('orderflow_archive_skipped_total', 'records that the brokers had already');
  const lost = counter('orderflow_archive_lost_total', 'times that brokers lost what they had acknowledged');
  const dead = counter('orderflow_archive_dead_letters_total', 'records that the brokers refuse for good');
  const seconds = new Histogram({
    name: 'orderflow_archive_ship_seconds',
    help: 'one batch, until all in-sync replicas have it',
    buckets: SECONDS,
    registers,
  });
  const trouble = new Counter({
    name: 'orderflow_archive_ship_failures_total',
    help: 'attempts to ship that failed',
    labelNames: ['kind'],
    registers,
  });
  return {
    shipped(_position, records, size, took) {
      shipped.inc(records);
      bytes.inc(size);
      seconds.observe(took);
    },
    skipped: (_position, records) => skipped.inc(records),
    trouble: (kind) => trouble.inc({ kind }),
    lost: () => lost.inc(),
    deadLetter: () => dead.inc(),
  };
}
