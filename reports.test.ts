import { pino } from 'pino';
import { Registry } from 'prom-client';
import { expect, test } from 'vitest';
import { deliveryMetrics } from './metrics/delivery-metrics.ts';
import { connectionReports } from './reports.ts';

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
