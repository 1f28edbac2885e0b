/** What the order stream reports: connections, why they end, one-way latency and the peers' clocks. */
import { Counter, Gauge, Histogram, type Registry } from 'prom-client';
import type { TargetState } from '../egress/delivery.ts';

const LATENCY_BUCKETS = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5];
/** A connection whose other side had not proven yet who it is. */
const NOBODY = 'unknown';

type Direction = 'in' | 'out';

export interface StreamMetrics {
  opened(peer: string, direction: Direction): void;
  closed(peer: string, direction: Direction, reason: string, byPeer: boolean): void;
  orders(peer: string, direction: Direction, count: number): void;
  oneWay(peer: string, seconds: number): void;
  /** Takes a peer out of the metrics when it has left the network. */
  forget(peer: string): void;
}

/** Read when Prometheus asks. */
export interface StreamStates {
  readonly outgoing: () => readonly TargetState[];
  readonly incoming: () => readonly { peer: string; open: number; clockOffsetUs: number | null }[];
}

/** @returns the streams' events, counted into `registry`. */
export function streamMetrics(registry: Registry, states: StreamStates): StreamMetrics {
  const registers = [registry];
  const opened = new Counter({
    name: 'orderflow_stream_opened_total',
    help: 'connections of the order stream opened, by the direction of the orders',
    labelNames: ['peer', 'direction'],
    registers,
  });
  const closed = new Counter({
    name: 'orderflow_stream_closed_total',
    help: 'connections of the order stream ended, and which side said so',
    labelNames: ['peer', 'direction', 'reason', 'by'],
    registers,
  });
  const oneWay = new Histogram({
    name: 'orderflow_stream_one_way_seconds',
    help: 'from a frame of orders being sent to its being read, by both clocks and their estimated offset',
    labelNames: ['peer'],
    buckets: LATENCY_BUCKETS,
    registers,
  });
  const orders = new Counter({
    name: 'orderflow_stream_orders_total',
    help: 'orders sent and read over the order stream; the others of a peer went as requests',
    labelNames: ['peer', 'direction'],
    registers,
  });
  const owed: Gauge = new Gauge({
    name: 'orderflow_stream_unacknowledged_bytes',
    help: 'orders on the streams to a peer that it has not acknowledged',
    labelNames: ['peer'],
    registers,
    collect: () => {
      owed.reset();
      for (const { name, streamsUp, streamOwedBytes } of states.outgoing())
        if (streamsUp > 0) owed.set({ peer: name }, streamOwedBytes);
    },
  });
  const connections: Gauge = new Gauge({
    name: 'orderflow_stream_connections',
    help: 'open connections of the order stream',
    labelNames: ['peer', 'direction'],
    registers,
    collect: () => {
      connections.reset();
      for (const { name, streamsUp } of states.outgoing())
        connections.set({ peer: name, direction: 'out' }, streamsUp);
      for (const { peer, open } of states.incoming()) connections.set({ peer, direction: 'in' }, open);
    },
  });
  const offset: Gauge = new Gauge({
    name: 'orderflow_stream_clock_offset_seconds',
    help: "how far a peer's clock is ahead of ours, estimated by pings",
    labelNames: ['peer'],
    aggregator: 'average',
    registers,
    collect: () => {
      offset.reset();
      for (const { peer, clockOffsetUs } of states.incoming())
        if (clockOffsetUs !== null) offset.set({ peer }, clockOffsetUs / 1e6);
      for (const { name, clockOffsetUs } of states.outgoing())
        if (clockOffsetUs !== null) offset.set({ peer: name }, clockOffsetUs / 1e6);
    },
  });

  const latencies = new Map<string, Histogram.Internal<'peer'>>();
  /** Found by name once, not with every frame. */
  const counts: Record<Direction, Map<string, Counter.Internal>> = { in: new Map(), out: new Map() };
  return {
    opened: (peer, direction) => opened.inc({ peer, direction }),
    closed: (peer, direction, reason, byPeer) =>
      closed.inc({ peer: peer === '' ? NOBODY : peer, direction, reason, by: byPeer ? 'peer' : 'us' }),
    orders(peer, direction, count) {
      let counter = counts[direction].get(peer);
      if (counter === undefined) {
        counter = orders.labels({ peer, direction });
        counts[direction].set(peer, counter);
      }
      counter.inc(count);
    },
    oneWay(peer, seconds) {
      let latency = latencies.get(peer);
      if (latency === undefined) {
        latency = oneWay.labels(peer);
        latencies.set(peer, latency);
      }
      latency.observe(seconds);
    },
    forget(peer) {
      latencies.delete(peer);
      counts.in.delete(peer);
      counts.out.delete(peer);
    },
  };
}
