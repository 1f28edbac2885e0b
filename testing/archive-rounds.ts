/**
 * Rounds of `kill -9` of a whole node at random moments under load, with real brokers behind its archive, and the proof
 * afterwards: every order whose sender was told of success is in Kafka, once after the reader's rule, in one unbroken
 * sequence and chain. Orders without an answer may be there or not, but not twice.
 *
 * Seeded; what the scheduler of the machine makes of it differs.
 */
import { hash } from 'node:crypto';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { startGuard } from '../devnet/guard.ts';
import { parseMetrics, sumOf } from '../devnet/metrics.ts';
import { type NodeProcess, startNodeProcess } from '../devnet/node-process.ts';
import { createOrderSource, type GeneratedOrder } from '../devnet/orders.ts';
import { freePorts } from '../devnet/ports.ts';
import { SeededSource } from '../devnet/seeded.ts';
import type { KafkaBroker } from '../egress/archive/testing/kafka.ts';
import { kafkaOptions, readPartition } from '../egress/archive/testing/shipping.ts';

export interface RoundsOptions {
  readonly rounds: number;
  readonly seed: string;
  readonly brokers: readonly string[];
  readonly topic: string;
  readonly replicationFactor: number;
  /** A broker to be killed in every tenth round; null: none. */
  readonly victim: KafkaBroker | null;
  /** Empty; the node's folder and log. */
  readonly directory: string;
  /** Told of each round. */
  readonly progress?: (line: string) => void;
}

export interface RoundsReport {
  readonly rounds: number;
  readonly sent: number;
  readonly acknowledged: number;
  /** Orders in Kafka after the reader's rule. */
  readonly archived: number;
  /** Acknowledged, and not there. */
  readonly lost: number;
  /** Orders there twice after the reader's rule. */
  readonly doubled: number;
  /** Records there twice with the same place and chain value: dropped by the reader's rule. */
  readonly duplicates: number;
  /** Gaps, breaks of the chain, records that differ. */
  readonly problems: readonly string[];
}

const SENDERS = 16;
/** A round ends after fewer answers than this, or after this long. */
const ORDERS_PER_ROUND = 400;
const ROUND_MS = 3000;
const CATCH_UP_MS = 60_000;
const digest = (bytes: Uint8Array) => hash('sha256', bytes);

/** Runs the rounds. @throws when a node or a broker cannot be started, or the end is not shipped in time. */
export async function runRounds(options: RoundsOptions): Promise<RoundsReport> {
  const { rounds, brokers, topic, directory, victim, progress = () => {} } = options;
  const random = new SeededSource(`${options.seed} rounds`);
  const source = createOrderSource({ seed: options.seed, bodyBytes: 1500 });
  const ports = await freePorts(4);
  const guard = startGuard();
  const address = (index: number) => `127.0.0.1:${ports[index]}`;
  const start = (): Promise<NodeProcess> =>
    startNodeProcess({
      name: 'node',
      guard,
      logFile: join(directory, 'node.log'),
      env: {
        USER_LISTEN_ADDR: address(0),
        USER_TLS: 'false',
        SYSTEM_LISTEN_ADDR: address(1),
        CERT_LISTEN_ADDR: address(2),
        METRICS_ADDR: address(3),
        BUILDER_ENDPOINT: 'none',
        BUILDER_READY_ENDPOINT: 'none',
        // Nobody: a node serves without a hub.
        BUILDERHUB_ENDPOINT: 'http://127.0.0.1:1',
        DATA_DIR: join(directory, 'data'),
        SHARDS: '1',
        ARCHIVE_CHECKPOINT_SEC: '1',
        KAFKA_BROKERS: brokers.join(','),
        KAFKA_TOPIC: topic,
        KAFKA_TOPIC_PARTITIONS: '1',
        KAFKA_TOPIC_REPLICATION: String(options.replicationFactor),
        KAFKA_TOPIC_MIN_INSYNC: String(Math.max(1, options.replicationFactor - 1)),
        KAFKA_TLS: 'false',
      },
    });

  const acknowledged = new Set<string>();
  let sent = 0;
  let node: NodeProcess | null = null;

  /** One sender: an order after the other until the node is gone. */
  async function sendUntil(stopped: () => boolean): Promise<void> {
    while (!stopped()) {
      const order = source.next();
      sent += 1;
      if (await post(`http://${address(0)}/`, order).catch(() => false))
        acknowledged.add(digest(order.canonical));
    }
  }

  try {
    for (let round = 1; round <= rounds; round += 1) {
      const running = await start();
      node = running;
      let stopped = false;
      const senders = Array.from({ length: SENDERS }, () => sendUntil(() => stopped));
      const kills = victim !== null && round % 10 === 0;
      const enough = acknowledged.size + random.below(ORDERS_PER_ROUND);
      const latest = performance.now() + ROUND_MS;
      while (acknowledged.size < enough && performance.now() < latest) await sleep(5);
      // Between the answers too.
      await sleep(random.below(20));
      if (kills) await victim.kill();
      if (kills) await sleep(random.below(200));
      running.kill();
      await running.ended;
      stopped = true;
      await Promise.all(senders);
      if (kills) await victim.restart();
      progress(`round ${round}: ${acknowledged.size} acknowledged of ${sent}`);
    }
    node = await start();
    await shipped(`http://${address(3)}/metrics`);
    await node.stop();
    node = null;
  } finally {
    node?.kill();
    await guard.close();
  }

  const { records, duplicates, problems } = await readPartition(kafkaOptions(brokers, topic), 0);
  const seen = new Map<string, Set<string>>();
  for (const { method, epoch, sequence, value } of records) {
    if (method === null) continue;
    const places = seen.get(digest(value)) ?? new Set();
    seen.set(digest(value), places.add(`${epoch} ${sequence}`));
  }
  return {
    rounds,
    sent,
    acknowledged: acknowledged.size,
    archived: seen.size,
    lost: [...acknowledged].filter((order) => !seen.has(order)).length,
    doubled: [...seen.values()].filter((places) => places.size > 1).length,
    duplicates,
    problems,
  };
}

/** @returns whether the node answered with success. */
async function post(url: string, order: GeneratedOrder): Promise<boolean> {
  const answer = await fetch(url, {
    method: 'POST',
    headers: { 'content-type': 'application/json', 'x-flashbots-signature': order.signature },
    body: new Uint8Array(order.body),
  });
  const { result } = (await answer.json()) as { result?: unknown };
  return answer.status === 200 && result !== undefined;
}

/** Resolves when the brokers have everything. */
async function shipped(metricsUrl: string): Promise<void> {
  const deadline = performance.now() + CATCH_UP_MS;
  for (;;) {
    const samples = parseMetrics(await (await fetch(metricsUrl)).text());
    const value = (name: string) => sumOf(samples, name, {});
    const sequence = value('orderflow_archive_shipped_sequence');
    if (sequence > 0 && value('orderflow_archive_unshipped_bytes') === 0) return;
    if (performance.now() > deadline) throw new Error('the archive was not shipped in time');
    await sleep(50);
  }
}
