import { Registry } from 'prom-client';
import { expect, test } from 'vitest';
import { parseMetrics, sumOf } from '../devnet/metrics.ts';
import { pipelineMetrics } from './pipeline-metrics.ts';

test('a defect on the way to the peers counts as an internal error of the share queue, no other does', async () => {
  const registry = new Registry();
  const faults: unknown[] = [];
  const events = pipelineMetrics(registry, (error) => void faults.push(error));
  const count = async () =>
    sumOf(parseMetrics(await registry.metrics()), 'orderflow_proxy_share_queue_internal_errors', {});
  events.fault('builder', 'builder');
  events.fault('decode', null);
  expect(await count()).toBe(0);
  events.fault('share', 'share');
  expect(await count()).toBe(1);
  expect(faults).toEqual(['builder', 'decode', 'share']);
});
