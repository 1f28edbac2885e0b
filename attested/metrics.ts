/** What a proxy reports, as Prometheus names with the prefix `attested_`. No addresses, no contents. */
import { Counter, Gauge, Histogram, Registry } from 'prom-client';

/** Asked for when Prometheus does. */
export interface AttestedStates {
  readonly connections: () => number;
  readonly ready: () => boolean;
  /** Unix milliseconds; undefined while there is no collateral. */
  readonly collateralUntil: () => number | undefined;
}

export interface AttestedMetrics {
  readonly contentType: string;
  text(): Promise<string>;
  request(status: number, milliseconds: number): void;
  handshake(milliseconds: number, attested: boolean): void;
  refused(check: string): void;
  quote(outcome: 'made' | 'failed', milliseconds: number): void;
  collateralFailed(): void;
  mockRoot(): void;
}

const BUCKETS_SECONDS = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10];

export function attestedMetrics(role: 'server' | 'client', states: AttestedStates): AttestedMetrics {
  const registry = new Registry();
  registry.setDefaultLabels({ role });
  const registers = [registry];
  const requests = new Counter({
    registers,
    name: 'attested_requests_total',
    help: 'Requests by status of the answer',
    labelNames: ['status'],
  });
  const latency = new Histogram({
    registers,
    name: 'attested_request_seconds',
    help: 'From the head of a request to the end of its answer',
    buckets: BUCKETS_SECONDS,
  });
  const handshakes = new Counter({
    registers,
    name: 'attested_handshakes_total',
    help: 'Connections whose other side was good enough',
    labelNames: ['attested'],
  });
  const handshakeSeconds = new Histogram({
    registers,
    name: 'attested_handshake_seconds',
    help: 'From TCP to the verdict',
    buckets: BUCKETS_SECONDS,
  });
  const refusals = new Counter({
    registers,
    name: 'attested_refused_total',
    help: 'Connections refused, by the check that failed',
    labelNames: ['check'],
  });
  const quotes = new Counter({
    registers,
    name: 'attested_quotes_total',
    help: 'Quotes asked for',
    labelNames: ['outcome'],
  });
  const quoteSeconds = new Histogram({
    registers,
    name: 'attested_quote_seconds',
    help: 'Time to make a quote',
    buckets: BUCKETS_SECONDS,
  });
  const collateralFailures = new Counter({
    registers,
    name: 'attested_collateral_failures_total',
    help: 'Collateral that could not be fetched or used',
  });
  const mock = new Gauge({
    registers,
    name: 'attested_mock_root',
    help: '1: a mock root is trusted, attestation proves nothing',
  });
  const gauge = (name: string, help: string, value: () => number): void => {
    new Gauge({
      registers,
      name,
      help,
      collect() {
        this.set(value());
      },
    });
  };
  gauge('attested_connections', 'Open connections of callers', states.connections);
  gauge('attested_ready', '1: /readyz answers 200', () => (states.ready() ? 1 : 0));
  gauge(
    'attested_collateral_valid_until_seconds',
    'Earliest end of the collateral held, Unix time; 0 = none',
    () => (states.collateralUntil() ?? 0) / 1000,
  );
  return {
    contentType: registry.contentType,
    text: () => registry.metrics(),
    request(status, milliseconds) {
      requests.inc({ status });
      latency.observe(milliseconds / 1000);
    },
    handshake(milliseconds, attested) {
      handshakes.inc({ attested: String(attested) });
      handshakeSeconds.observe(milliseconds / 1000);
    },
    refused: (check) => refusals.inc({ check }),
    quote(outcome, milliseconds) {
      quotes.inc({ outcome });
      quoteSeconds.observe(milliseconds / 1000);
    },
    collateralFailed: () => collateralFailures.inc(),
    mockRoot: () => mock.set(1),
  };
}
