/**
 * One page of metrics for a node of several threads: counters, histograms and most gauges are added up, as each
 * metric's `aggregator` says, and the summaries are made anew from all threads' buckets. What a thread that failed had
 * counted by the last look stays in the sums, so that they do not fall.
 */
import {
  AggregatorRegistry,
  type MetricObjectWithValues,
  type MetricValue,
  type Registry,
} from 'prom-client';
import { Summary, type SummarySnapshot } from './summary.ts';

/** What one thread has counted; can be sent to another. */
export interface MetricsSnapshot {
  readonly metrics: readonly MetricObjectWithValues<MetricValue<string>>[];
  readonly summaries: readonly SummarySnapshot[];
}

/** Of the whole process: the same in all threads. */
const PROCESS_WIDE = /^process_/;

/** @param shard of a thread beside the one that has the process's own metrics */
export async function snapshotOf(registry: Registry, shard: boolean): Promise<MetricsSnapshot> {
  const summaries: SummarySnapshot[] = [];
  for (const metric of registry.getMetricsAsArray() as unknown[]) {
    if (metric instanceof Summary) summaries.push(metric.snapshot());
  }
  const names = new Set(summaries.map(({ name }) => name));
  const metrics = await registry.getMetricsAsJSON();
  return {
    metrics: metrics.filter(({ name }) => !names.has(name) && !(shard && PROCESS_WIDE.test(name))),
    summaries,
  };
}

/** What stays of a thread that has ended: what only grows. */
export function grownIn({ metrics, summaries }: MetricsSnapshot): MetricsSnapshot {
  return {
    // prom-client gives its types as text.
    metrics: metrics.filter(({ type }) => ['counter', 'histogram'].includes(String(type))),
    summaries: summaries.map((summary) => ({
      ...summary,
      children: summary.children.map((child) => ({ ...child, max: 0, buckets: [] })),
    })),
  };
}

/** @returns the page in Prometheus's text format. */
export function pageOf(snapshots: readonly MetricsSnapshot[]): Promise<string> {
  return merged(snapshots).metrics();
}

/** @returns one snapshot of several. */
export function sumOf(snapshots: readonly MetricsSnapshot[]): Promise<MetricsSnapshot> {
  return snapshotOf(merged(snapshots), false);
}

function merged(snapshots: readonly MetricsSnapshot[]): Registry {
  const page = AggregatorRegistry.aggregate(snapshots.map(({ metrics }) => [...metrics])) as Registry;
  const summaries = new Map<string, Summary>();
  for (const { children, ...options } of snapshots.flatMap((snapshot) => snapshot.summaries)) {
    let summary = summaries.get(options.name);
    if (summary === undefined) {
      summary = new Summary(options);
      summaries.set(options.name, summary);
      page.registerMetric(summary as never);
    }
    for (const child of children) summary.child(...child.labels).absorb(child);
  }
  return page;
}
