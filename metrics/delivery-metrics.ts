/**
 * What becomes of orders at the builder and the peers, as v1's metric names and as our own. A target is a
 * peer's hub name or `local-builder`.
 */
import { Counter, Gauge, type Registry } from 'prom-client';
import type { DeliveryEvents, TargetState } from '../egress/delivery.ts';
import { type AdmittedOrder, METHODS } from '../pipeline/order.ts';
import { Summary, type SummaryChild } from './summary.ts';
import { TallyCounter, TallyHistogram } from './tallies.ts';

const LATENCY_BUCKETS = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10];

export interface DeliveryMetrics extends DeliveryEvents {
  /** Takes the latencies of a peer that has left the network out of the metrics; what was counted stays. */
  forget(target: string): void;
}

/**
 * @param states current queues and connections, read when Prometheus asks
 * @returns the targets' events, counted into `registry`
 */
export function deliveryMetrics(registry: Registry, states: () => readonly TargetState[]): DeliveryMetrics {
  const registers = [registry];
  const counter = (name: string, help: string, labelNames: string[]) =>
    new Counter({ name, help, labelNames, registers });
  const summary = (name: string, help: string, labels: string[]) => {
    const made = new Summary({ name, help, labels, scale: 1000 });
    registry.registerMetric(made as never);
    return made;
  };

  const stalling = counter(
    'orderflow_proxy_share_queue_peer_stalling_errors',
    "orders dropped because the peer's queue was full",
    ['peer'],
  );
  const rpcErrors = counter('orderflow_proxy_share_queue_peer_rpc_errors', 'failed sends', ['peer']);
  const rpcDuration = summary('orderflow_proxy_share_queue_peer_rpc_duration_milliseconds', 'one send', [
    'peer',
    'is_big',
  ]);
  const orderLabels = ['peer', 'method', 'system_endpoint', 'is_big'];
  const queueDuration = summary(
    'orderflow_proxy_share_queue_peer_queue_duration_milliseconds',
    'from the receipt to leaving the queue',
    orderLabels,
  );
  const e2eDuration = summary(
    'orderflow_proxy_share_queue_peer_e2e_duration_milliseconds',
    'from the receipt to the answer of the peer',
    orderLabels,
  );

  const sent = new TallyCounter(registry, {
    name: 'orderflow_delivery_sent_total',
    help: 'orders handed to a connection',
    labels: ['target'],
  });
  const answered = new TallyCounter(registry, {
    name: 'orderflow_delivery_answered_total',
    help: 'orders answered for good',
    labels: ['target', 'outcome'],
  });
  const failures = counter('orderflow_delivery_failures_total', 'attempts that failed', ['target', 'reason']);
  const dropped = counter('orderflow_delivery_dropped_total', 'orders given up', ['target', 'reason']);
  const resent = counter('orderflow_delivery_resent_total', 'orders sent again after a lost connection', [
    'target',
  ]);
  const connects = counter('orderflow_delivery_connects_total', 'connections made', ['target']);
  const disconnects = counter('orderflow_delivery_disconnects_total', 'connections ended', [
    'target',
    'reason',
  ]);
  const seconds = new TallyHistogram(registry, {
    name: 'orderflow_delivery_queue_seconds',
    help: 'from the receipt of an order to its bytes leaving for the target',
    labels: ['target'],
    buckets: [0.0001, 0.00025, ...LATENCY_BUCKETS],
  });
  const gauge = (
    name: string,
    help: string,
    value: (state: TargetState) => number,
    aggregator: 'sum' | 'max' = 'sum',
  ) => {
    const made: Gauge = new Gauge({
      name,
      help,
      aggregator,
      labelNames: ['target'],
      registers,
      collect: () => {
        made.reset();
        for (const state of states()) made.set({ target: state.name }, value(state));
      },
    });
  };
  gauge(
    'orderflow_delivery_connections',
    'connections that can carry orders',
    (state) => state.connectionsUp,
  );
  gauge('orderflow_delivery_queue_orders', 'orders waiting', (state) => state.queueLength);
  gauge('orderflow_delivery_queue_bytes', 'bytes of orders waiting', (state) => state.queueBytes);
  gauge('orderflow_delivery_outstanding', 'orders sent and not answered', (state) => state.outstanding);
  gauge(
    'orderflow_delivery_oldest_seconds',
    'age of the oldest order waiting',
    (state) => state.oldestAgeMs / 1000,
    'max',
  );

  const make = (target: string) => ({
    sent: sent.child(target),
    accepted: answered.child(target, 'accepted'),
    refused: answered.child(target, 'refused'),
    seconds: seconds.child(target),
    rpc: rpcDuration.child(target, 'false'),
    bigRpc: rpcDuration.child(target, 'true'),
    queue: perOrder((labels) => queueDuration.child(target, ...labels)),
    e2e: perOrder((labels) => e2eDuration.child(target, ...labels)),
  });
  const targets = new Map<string, ReturnType<typeof make>>();
  const of = (target: string) => {
    let children = targets.get(target);
    if (children === undefined) {
      children = make(target);
      targets.set(target, children);
    }
    return children;
  };

  return {
    sent(target, admitted, big, queueMs) {
      const children = of(target);
      children.sent.inc();
      children.seconds.observe(queueMs / 1000);
      children.queue(admitted, big).observe(queueMs * 1000);
    },
    answered(target, admitted, accepted, big, rpcMs, e2eMs) {
      const children = of(target);
      (accepted ? children.accepted : children.refused).inc();
      (big ? children.bigRpc : children.rpc).observe(rpcMs * 1000);
      children.e2e(admitted, big).observe(e2eMs * 1000);
    },
    failed(target, reason) {
      failures.inc({ target, reason });
      rpcErrors.inc({ peer: target });
    },
    dropped(target, reason) {
      dropped.inc({ target, reason });
      if (reason === 'queue_full') stalling.inc({ peer: target });
    },
    resent: (target) => resent.inc({ target }),
    connected: (target) => connects.inc({ target }),
    disconnected: (target, reason) => disconnects.inc({ target, reason }),
    forget(target) {
      targets.delete(target);
      for (const metric of [rpcDuration, queueDuration, e2eDuration])
        metric.remove(([peer]) => peer === target);
    },
  };
}

/** Keeps the children for v1's labels of an order (method, system_endpoint, is_big): looking one up costs a microsecond. */
function perOrder(make: (labels: [method: string, system: string, big: string]) => SummaryChild) {
  const children: SummaryChild[] = [];
  return ({ order, side }: AdmittedOrder, big: boolean): SummaryChild => {
    const system = side === 'system';
    const index = METHODS.indexOf(order.method) * 4 + (system ? 2 : 0) + (big ? 1 : 0);
    let child = children[index];
    if (child === undefined) {
      child = make([order.method, String(system), String(big)]);
      children[index] = child;
    }
    return child;
  };
}
