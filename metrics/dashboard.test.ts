import { readFileSync } from 'node:fs';
import { Registry } from 'prom-client';
import { expect, test } from 'vitest';
import { attestedMetrics } from '../attested/metrics.ts';
import { deliveryMetrics } from './delivery-metrics.ts';
import { nodeMetrics } from './node-metrics.ts';
import { operatorMetrics } from './operator-metrics.ts';
import { pipelineMetrics } from './pipeline-metrics.ts';
import { connectionsGauge, shardMetrics } from './shard-metrics.ts';
import { shippingMetrics } from './shipping-metrics.ts';
import { streamMetrics } from './stream-metrics.ts';

interface Panel {
  readonly id: number;
  readonly gridPos: { readonly x: number; readonly y: number; readonly w: number; readonly h: number };
  readonly title: string;
  readonly targets?: readonly { readonly expr: string }[];
}

const dashboard = JSON.parse(readFileSync(new URL('dashboard.json', import.meta.url), 'utf8')) as {
  readonly panels: readonly Panel[];
};

/** Names of all metrics that a node and the programs beside it serve. */
async function servedNames(): Promise<Set<string>> {
  const registry = new Registry();
  const spool = () => ({
    accepting: true,
    reason: null,
    bytes: 0,
    pendingBytes: 0,
    epoch: 0,
    lastSequence: 0,
    durableSequence: 0,
    oldestRecordAgeMs: 0,
    unshipped: null,
  });
  pipelineMetrics(registry, () => undefined);
  deliveryMetrics(registry, () => []);
  streamMetrics(registry, { outgoing: () => [], incoming: () => [] });
  shardMetrics(registry, {
    pipeline: () => ({ waitingBytes: 0, waiting: 0, waitMs: 0, unanswered: 0, dedupeKeys: 0 }),
    bodiesReading: () => ({ bytes: 0 }),
  });
  connectionsGauge(registry, () => []);
  nodeMetrics(registry, {
    ready: () => true,
    registered: () => true,
    peers: () => 0,
    shards: () => 1,
    archive: spool,
  });
  shippingMetrics(registry, { spool, shipping: () => ({ connected: true, sequence: 0 }) });
  const operator = new Registry();
  operatorMetrics(operator, { events: () => 0, connections: () => 0, certificateEnds: () => null });
  const attested = attestedMetrics('server', {
    connections: () => 0,
    ready: () => true,
    collateralUntil: () => undefined,
  });
  const text = [await registry.metrics(), await operator.metrics(), await attested.text()].join('\n');
  return new Set([...text.matchAll(/^# TYPE (\S+)/gm)].map((match) => match[1] ?? ''));
}

test('every metric that the dashboard asks for is served', async () => {
  const served = await servedNames();
  const exprs = dashboard.panels.flatMap((panel) => panel.targets ?? []).map((target) => target.expr);
  expect(exprs.length).toBeGreaterThan(20);
  for (const expr of exprs) {
    const names = [...expr.matchAll(/\b((?:orderflow|attested|goutils|process|nodejs)_\w+)\{/g)].map(
      (match) => match[1] ?? '',
    );
    expect(names.length, expr).toBeGreaterThan(0);
    for (const name of names) expect(served, name).toContain(name.replace(/_(?:bucket|count)$/, ''));
  }
});

test('each panel has a number and a place of its own', () => {
  const { panels } = dashboard;
  expect(new Set(panels.map(({ id }) => id)).size).toBe(panels.length);
  const cells = panels.flatMap(({ gridPos: { x, y, w, h } }) =>
    Array.from({ length: w * h }, (_, at) => `${x + (at % w)} ${y + Math.floor(at / w)}`),
  );
  expect(new Set(cells).size).toBe(cells.length);
});
