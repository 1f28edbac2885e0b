/** Counters and gauges of the operator API. Labels are results and configured names, never what a caller sent. */
import { Counter, collectDefaultMetrics, Gauge, Histogram, type Registry } from 'prom-client';
import type { EventSource } from '../operator/event-log.ts';

/** Read when Prometheus asks. */
export interface OperatorStates {
  readonly events: () => number;
  readonly connections: () => number;
  /** Unix ms; null without TLS. */
  readonly certificateEnds: () => number | null;
}

export interface OperatorMetrics {
  answered(status: number): void;
  login(result: string): void;
  passwordChanged(result: string): void;
  event(source: EventSource): void;
  eventFileFailed(): void;
  pipeFailed(): void;
  action(name: string, ok: boolean, seconds: number): void;
  upload(name: string, result: string): void;
  connectionEvicted(): void;
}

/** @returns what the operator API reports into `registry`. */
export function operatorMetrics(registry: Registry, states: OperatorStates): OperatorMetrics {
  const registers = [registry];
  collectDefaultMetrics({ register: registry });
  const gauge = (name: string, help: string, read: () => number) => {
    const made: Gauge = new Gauge({ name, help, registers, collect: () => made.set(read()) });
  };
  const counter = <T extends string>(name: string, help: string, labelNames: T[] = []) =>
    new Counter({ name, help, labelNames, registers });
  gauge('orderflow_operator_events', 'events kept', states.events);
  gauge('orderflow_operator_connections', 'open connections', states.connections);
  gauge(
    'orderflow_operator_certificate_expiry_timestamp_seconds',
    'unix time at which the certificate ends; 0 without TLS',
    () => (states.certificateEnds() ?? 0) / 1000,
  );
  const answers = counter('orderflow_operator_answers_total', 'requests by status of the answer', ['status']);
  const logins = counter('orderflow_operator_logins_total', 'requests by what came of their credentials', [
    'result',
  ]);
  const passwords = counter('orderflow_operator_password_changes_total', 'password changes by result', [
    'result',
  ]);
  const events = counter('orderflow_operator_events_total', 'events received', ['source']);
  const fileFailures = counter(
    'orderflow_operator_event_file_failures_total',
    'times that the event file began to refuse writes; the events stay in memory',
  );
  const pipeFailures = counter('orderflow_operator_pipe_failures_total', 'failures of the event FIFO');
  const uploads = counter('orderflow_operator_uploads_total', 'uploads by result', ['name', 'result']);
  const evictions = counter(
    'orderflow_operator_connections_evicted_total',
    'idle connections closed to make room',
  );
  const actions = new Histogram({
    name: 'orderflow_operator_action_seconds',
    help: 'runs of actions',
    labelNames: ['name', 'result'],
    buckets: [0.01, 0.1, 1, 10, 60],
    registers,
  });
  return {
    answered: (status) => answers.inc({ status }),
    login: (result) => logins.inc({ result }),
    passwordChanged: (result) => passwords.inc({ result }),
    event: (source) => events.inc({ source }),
    eventFileFailed: () => fileFailures.inc(),
    pipeFailed: () => pipeFailures.inc(),
    action: (name, ok, seconds) => actions.observe({ name, result: ok ? 'done' : 'failed' }, seconds),
    upload: (name, result) => uploads.inc({ name, result }),
    connectionEvicted: () => evictions.inc(),
  };
}
