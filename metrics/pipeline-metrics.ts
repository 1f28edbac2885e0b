/**
 * What the pipeline reports, as v1's metric names (spec: metrics) and as our own (`orderflow_`, base units).
 * Children are kept per label set, because looking them up costs more than counting.
 *
 * Of v1's steps `add_fields` is not served: fields are added while the order is decoded, in
 * `serialize_parsed_request`.
 */
import { Counter, type Registry } from 'prom-client';
import type { RejectionKind } from '../pipeline/errors.ts';
import { BIG_REQUEST_BYTES, type Method, type Side } from '../pipeline/order.ts';
import type { PipelineEvents } from '../pipeline/pipeline.ts';
import { Summary, type SummaryChild } from './summary.ts';
import { TallyCounter, TallyHistogram } from './tallies.ts';

/** v1's name of each API in its labels. */
const SERVER_NAMES: Readonly<Record<Side, string>> = {
  user: 'user_server',
  system: 'system_server',
  sender: 'user_server',
};

const V1_STEPS = {
  validation: 'validation',
  rate_limiting: 'rate_limiting',
  serialize: 'serialize_parsed_request',
  builder: 'local_builder',
  share: 'share_queue',
  archive: 'archive_queue',
} as const;
type Step = keyof typeof V1_STEPS;

/** Latency buckets in seconds: a builder wants an order within microseconds, a disk takes milliseconds. */
const LATENCY_BUCKETS = [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1, 5];

type CounterChild = ReturnType<TallyCounter['child']>;
type HistogramChild = ReturnType<TallyHistogram['child']>;

interface MethodChildren {
  readonly requests: CounterChild;
  readonly bigRequests: CounterChild;
  readonly duration: SummaryChild;
  readonly bigDuration: SummaryChild;
  readonly size: SummaryChild;
  readonly seconds: HistogramChild;
}

/** @returns the pipeline's events, counted into `registry`. */
export function pipelineMetrics(
  registry: Registry,
  onFault: (error: unknown) => void,
): PipelineEvents & {
  rejectedBeforePipeline(side: Side, kind: RejectionKind): void;
} {
  const registers = [registry];
  const counter = (name: string, help: string, labelNames: string[]) =>
    new Counter({ name, help, labelNames, registers });
  const tally = (name: string, help: string, labels: string[]) =>
    new TallyCounter(registry, { name, help, labels });
  const summary = (name: string, help: string, labels: string[], scale: number) => {
    const made = new Summary({ name, help, labels, scale });
    registry.registerMetric(made as never);
    return made;
  };

  const byPeer = counter('orderflow_proxy_api_incoming_requests_by_peer', 'system API requests by hub name', [
    'peer',
  ]);
  const duplicatesByPeer = counter('orderflow_proxy_api_duplicate_requests_by_peer', 'duplicates', ['peer']);
  const rateLimits = counter(
    'orderflow_proxy_api_user_rate_limits',
    'user requests refused by the limiter',
    [],
  );
  const archiveErrors = counter(
    'orderflow_proxy_archive_events_processed_err',
    'user orders refused because the archive could not keep them',
    [],
  );
  const shareErrors = counter(
    'orderflow_proxy_share_queue_internal_errors',
    'orders that could not be handed to the peers: defects of ours',
    [],
  );
  const steps = summary(
    'orderflow_proxy_api_request_processing_duration_milliseconds',
    'time spent in each step of a request',
    ['method', 'server_name', 'step'],
    1000,
  );
  const requests = tally('goutils_rpcserver_request_count', 'requests', ['method', 'server_name', 'is_big']);
  const errors = counter('goutils_rpcserver_error_count', 'requests answered with an error', [
    'method',
    'server_name',
  ]);
  const incorrect = counter('goutils_rpcserver_incorrect_request_total', 'requests that are no request', [
    'server_name',
  ]);
  const internal = counter('goutils_rpcserver_internal_errors_total', 'defects of ours', ['server_name']);
  // What should stay at zero is there from the start, so that an alarm can be set on it.
  for (const server_name of ['user_server', 'system_server']) {
    incorrect.inc({ server_name }, 0);
    internal.inc({ server_name }, 0);
  }
  const durations = summary(
    'goutils_rpcserver_request_duration_milliseconds',
    'whole request',
    ['method', 'server_name', 'is_big'],
    1000,
  );
  const sizes = summary(
    'goutils_rpcserver_request_size_bytes',
    'request bodies',
    ['method', 'server_name'],
    1,
  );
  const orders = tally('orderflow_orders_total', 'orders that decoded, duplicates included', [
    'side',
    'method',
  ]);
  const duplicates = counter('orderflow_duplicates_total', 'orders seen before', ['side']);
  const rejected = counter('orderflow_rejected_total', 'requests refused', ['side', 'kind']);
  const seconds = new TallyHistogram(registry, {
    name: 'orderflow_request_seconds',
    help: 'from the last byte of the body to the answer',
    labels: ['side', 'method'],
    buckets: LATENCY_BUCKETS,
  });

  const methodChildren = keyed((side: Side, method: string): MethodChildren => {
    const server = SERVER_NAMES[side];
    return {
      requests: requests.child(method, server, 'false'),
      bigRequests: requests.child(method, server, 'true'),
      duration: durations.child(method, server, 'false'),
      bigDuration: durations.child(method, server, 'true'),
      size: sizes.child(method, server),
      seconds: seconds.child(side, method),
    };
  });
  const stepChildren: Record<Step, (side: Side, method: string) => SummaryChild> = {
    validation: stepsOf('validation'),
    rate_limiting: stepsOf('rate_limiting'),
    serialize: stepsOf('serialize'),
    builder: stepsOf('builder'),
    share: stepsOf('share'),
    archive: stepsOf('archive'),
  };
  function stepsOf(step: Step) {
    return keyed((side: Side, method: string) => steps.child(method, SERVER_NAMES[side], V1_STEPS[step]));
  }
  const orderChildren = keyed((side: Side, method: string) => orders.child(side, method));

  const rejectedBeforePipeline = (side: Side, kind: RejectionKind) => {
    rejected.inc({ side, kind });
    incorrect.inc({ server_name: SERVER_NAMES[side] });
  };
  return {
    rejectedBeforePipeline,
    called: (peer) => byPeer.inc({ peer }),
    incoming: (side, method) => orderChildren(side, method).inc(),
    duplicate(side, caller) {
      duplicates.inc({ side });
      duplicatesByPeer.inc({ peer: side === 'system' ? caller : 'user-request' });
    },
    step(side, method, step, us) {
      stepChildren[step](side, method).observe(us);
    },
    rejected(side, method, kind) {
      rejected.inc({ side, kind });
      errors.inc({ method, server_name: SERVER_NAMES[side] });
      if (kind === 'rate_limited') rateLimits.inc();
      if (kind === 'archive_unavailable') archiveErrors.inc();
      if (kind === 'parse_error') incorrect.inc({ server_name: SERVER_NAMES[side] });
      if (kind === 'internal') internal.inc({ server_name: SERVER_NAMES[side] });
    },
    answered(side, method: Method | 'unknown', us, bytes) {
      const children = methodChildren(side, method);
      const big = bytes >= BIG_REQUEST_BYTES;
      (big ? children.bigRequests : children.requests).inc();
      (big ? children.bigDuration : children.duration).observe(us);
      children.size.observe(bytes);
      children.seconds.observe(us / 1e6);
    },
    fault(error, step) {
      if (step === 'share') shareErrors.inc();
      onFault(error);
    },
  };
}

/** Remembers what `make` returns for each (side, method): both are small closed sets. */
function keyed<T>(make: (side: Side, method: string) => T): (side: Side, method: string) => T {
  const made: Record<Side, Map<string, T>> = { user: new Map(), system: new Map(), sender: new Map() };
  return (side, method) => {
    let child = made[side].get(method);
    if (child === undefined) {
      child = make(side, method);
      made[side].set(method, child);
    }
    return child;
  };
}
