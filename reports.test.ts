import { pino } from 'pino';
import { Registry } from 'prom-client';
import { expect, test } from 'vitest';
import { deliveryMetrics } from './metrics/delivery-metrics.ts';
import { streamMetrics } from './metrics/stream-metrics.ts';
import type { CloseReason } from './pipeline/stream/close-reasons.ts';
import { connectionReports, streamReports } from './reports.ts';

test.each([
  ['info', []],
  ['debug', ['connected', 'disconnected']],
])('connections are logged at debug level alone: %s', (level, expected) => {
  const events: unknown[] = [];
  const write = (line: string) => void events.push((JSON.parse(line) as { event: unknown }).event);
  const reports = connectionReports(
    pino({ level }, { write }),
    deliveryMetrics(new Registry(), () => []),
  );
  reports.connected('peer');
  reports.disconnected('peer', 'closed');
  expect(events).toEqual(expected);
});

test('strangers whose streams are refused cannot fill the log: one line for each reason in ten seconds', async () => {
  const lines: { reason: string; peer: string; more?: number }[] = [];
  const registry = new Registry();
  let nowMs = 0;
  const reports = streamReports(
    pino({ level: 'info' }, { write: (line) => void lines.push(JSON.parse(line) as (typeof lines)[0]) }),
    streamMetrics(registry, { outgoing: () => [], incoming: () => [] }),
    () => nowMs,
  );
  const ends = (peer: string, reason: CloseReason, count: number) => {
    for (let i = 0; i < count; i++) reports.closed(peer, 'in', reason, false);
  };
  ends('', 'not_listed', 1_000);
  ends('', 'hello_timeout', 1_000);
  ends('', 'lost', 1_000);
  ends('peer', 'window', 3);
  nowMs = 10_000;
  ends('', 'not_listed', 2);
  expect(lines.map(({ peer, reason, more }) => [peer, reason, more])).toEqual([
    ['', 'not_listed', undefined],
    ['', 'hello_timeout', undefined],
    ...Array.from({ length: 3 }, () => ['peer', 'window', undefined]),
    ['', 'not_listed', 999],
  ]);
  expect(await registry.metrics()).toContain('reason="not_listed",by="us"} 1002');
});
