/**
 * Chaos in short: one seeded run, the orderly stops and the hard cases by name, and how soon a node that comes back is
 * in use again. `node testing/chaos-main.ts` runs it for as long as one likes.
 */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { readBuilderJournal } from '../devnet/builder-journal.ts';
import { createOrderSource } from '../devnet/orders.ts';
import { type ChaosOptions, type ChaosReport, runChaos } from './chaos.ts';
import { startChaosNetwork } from './chaos-network.ts';
import type { Blow } from './chaos-schedule.ts';
import { startChaosTraffic } from './chaos-traffic.ts';

/** Its schedule hits every kind of process, all nodes at once among them. */
const SEED = '20261135';

/** Kept when the test fails: the logs tell why. */
async function directory(): Promise<string> {
  const made = await mkdtemp(join(tmpdir(), 'orderflow-chaos-'));
  onTestFinished(async ({ task }) => {
    if (task.result?.state === 'fail') console.error(`files in ${made}`);
    else await rm(made, { recursive: true, force: true });
  });
  return made;
}

async function chaos(options: Omit<ChaosOptions, 'directory' | 'nodes' | 'seed'>): Promise<ChaosReport> {
  const report = await runChaos({ ...options, seed: SEED, nodes: 3, directory: await directory() });
  const { faults, ...figures } = report;
  console.log(`seed ${SEED}: ${JSON.stringify(figures)}`);
  // One cause makes many.
  expect(faults.slice(0, 30)).toEqual([]);
  expect(report.acknowledged).toBe(report.sent);
  expect(report.sent).toBeGreaterThan(options.seconds * options.rate * 0.8);
  return report;
}

test(`nodes, hub and builders killed, stopped and frozen at random moments, seed ${SEED}`, async () => {
  const { kept, keptThroughOutage, handed, outages } = await chaos({ seconds: 25, rate: 100 });
  expect(outages['node killed']).toBeGreaterThan(4);
  expect(Object.keys(outages)).toEqual(
    expect.arrayContaining(['hub killed', 'builder killed', 'node frozen']),
  );
  // Else it would prove little.
  expect(kept.owed).toBeGreaterThan(1_000);
  expect(keptThroughOutage.owed).toBeGreaterThan(500);
  expect(handed.owed).toBeGreaterThan(20);
});

test('a drain ends soon, whoever else stops, stands still or never answers; so does a kill with orders in queues', async () => {
  const all = { role: 'all nodes' } as const;
  const schedule: Blow[] = [
    { atMs: 1_000, victim: all, kind: 'stopped', holdMs: 0 },
    { atMs: 4_500, victim: all, kind: 'stopped', holdMs: 0 },
    // With a peer that stands still.
    { atMs: 8_000, victim: { role: 'node', index: 2 }, kind: 'frozen', holdMs: 2_000 },
    { atMs: 8_500, victim: { role: 'node', index: 0 }, kind: 'stopped', holdMs: 0 },
    // With a builder, then a hub, that does not answer.
    { atMs: 12_000, victim: { role: 'builder', index: 1 }, kind: 'frozen', holdMs: 2_000 },
    { atMs: 12_300, victim: { role: 'node', index: 1 }, kind: 'stopped', holdMs: 0 },
    { atMs: 12_400, victim: { role: 'hub' }, kind: 'frozen', holdMs: 2_000 },
    { atMs: 12_700, victim: { role: 'node', index: 2 }, kind: 'stopped', holdMs: 0 },
    // kill -9 while orders wait for a peer that stands still.
    { atMs: 16_000, victim: { role: 'node', index: 1 }, kind: 'frozen', holdMs: 3_000 },
    { atMs: 18_500, victim: { role: 'node', index: 0 }, kind: 'killed', holdMs: 0 },
  ];
  const { slowestStopMs, outages } = await chaos({ seconds: 21, rate: 200, schedule });
  expect(outages).toMatchObject({ 'node stopped': 9, 'node frozen': 2, 'node killed': 1 });
  // A second for peers and three for a builder that take nothing; the bound, DRAIN_TIMEOUT_SEC, is 10 s.
  expect(slowestStopMs).toBeLessThan(7_000);
});

test('a node that comes back is in use again at once, and not only at the next poll', async () => {
  const network = await startChaosNetwork({
    nodes: 3,
    directory: await directory(),
    env: { PEER_POLL_SEC: '30' },
  });
  onTestFinished(() => network.close());
  await network.connected(20_000);
  const source = createOrderSource({ seed: SEED });
  const traffic = startChaosTraffic({ source, targets: network.nodes, rate: 50 });
  const [, second, third] = network.nodes;
  // Longer than the back-off takes to reach its longest pause, which is what the others may be late.
  await second!.node.outage('killed', 6_000);
  await network.connected(3_000);
  await everythingAt(second!.journalFile);
  // The hub too, when a node has started without it.
  await Promise.all([network.hub.outage('killed', 1_000), third!.node.outage('killed', 0)]);
  await network.connected(4_000);
  await traffic.stop(10_000);
  await everythingAt(second!.journalFile);
  await network.stop();
  expect(network.processes.flatMap(({ faults }) => faults)).toEqual([]);

  /** Every order acknowledged by now; what waited in queues has come too. */
  async function everythingAt(journalFile: string): Promise<void> {
    const digests = traffic.orders
      .filter((order) => order.acknowledgedAt !== null)
      .map(({ digest }) => digest);
    const missing = async () => {
      const received = new Set((await readBuilderJournal(journalFile)).map(({ sha256 }) => sha256));
      return digests.filter((digest) => !received.has(digest)).length;
    };
    await expect.poll(missing, { timeout: 5_000, interval: 50 }).toBe(0);
  }
});
