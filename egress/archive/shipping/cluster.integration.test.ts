/**
 * The shipper and a cluster of three brokers with min.insync.replicas=2, orders flowing all the time: the leader killed,
 * two brokers killed and back, the leader frozen, the network cut. In the end every acknowledged order is there, once
 * after the reader's rule, in order.
 *
 * ARCHIVE_PAUSE_SEC is how long the leader is frozen: 6, in the long form 40.
 */
import { afterAll, beforeAll, expect, test } from 'vitest';
import { type KafkaBroker, startKafka, type TestKafka } from '../testing/kafka.ts';
import { plainClient } from '../testing/kafka-client.ts';
import {
  kafkaOptions,
  readPartition,
  shipperOptions,
  startFlow,
  startTestShipper,
} from '../testing/shipping.ts';
import { openTestSpool, temporaryFolder } from '../testing/spool.ts';

const PAUSE_SEC = Number(process.env.ARCHIVE_PAUSE_SEC ?? 6);
const PARTITION = 1;

let kafka: TestKafka;
beforeAll(async () => {
  kafka = await startKafka({ nodes: 3, proxied: true });
}, 120_000);
afterAll(() => kafka.close());

/** The broker that leads the archive's partition, as the others see it. */
async function leaderOf(topic: string): Promise<KafkaBroker> {
  const admin = plainClient(kafka.brokers).admin();
  await admin.connect();
  try {
    const { topics } = await admin.fetchTopicMetadata({ topics: [topic] });
    return kafka.node(topics[0]!.partitions.find(({ partitionId }) => partitionId === PARTITION)!.leader);
  } finally {
    await admin.disconnect();
  }
}

const after = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

test('every trouble of a cluster', async () => {
  const topic = 'archive';
  const dir = temporaryFolder();
  const spool = await openTestSpool(dir, {
    partition: PARTITION,
    segmentBytes: 1024 * 1024,
    shipping: { topic, maxBytes: 1e9, lowBytes: 5e8, maxMs: 600_000, lowMs: 30_000 },
  });
  const options = kafkaOptions(kafka.brokers, topic, { sendTimeoutMs: 3000 });
  const shipper = startTestShipper(
    spool,
    shipperOptions(dir, options, {
      topic: {
        partitions: 2,
        replicationFactor: 3,
        minInsyncReplicas: 2,
        retentionMs: -1,
        maxMessageBytes: 2e6,
      },
    }),
  );
  const flow = startFlow(spool);
  await shipper.events.until(/shipped/);

  const leader = await leaderOf(topic);
  await leader.kill();
  await shipper.caughtUp();
  await leader.restart();
  const [one, two] = kafka.nodes;
  await Promise.all([one!.kill(), two!.kill()]);
  const before = spool.state().unshipped!.bytes;
  await after(1500);
  // Nothing counts as shipped with one replica.
  expect(spool.state().unshipped!.bytes).toBeGreaterThan(before);
  await Promise.all([one!.restart(), two!.restart()]);
  await shipper.caughtUp();
  const frozen = await leaderOf(topic);
  frozen.freeze();
  const started = performance.now();
  // It is left: this ends while it is still frozen. How soon is the cluster's affair, which elects a controller too.
  await shipper.caughtUp();
  console.log(`caught up ${Math.round(performance.now() - started)} ms after the leader was frozen`);
  await after(Math.max(0, PAUSE_SEC * 1000 - (performance.now() - started)));
  frozen.thaw();
  await shipper.caughtUp();
  for (const { proxy } of kafka.nodes) proxy!.cut();
  await after(2000);
  for (const { proxy } of kafka.nodes) proxy!.mend();
  await flow.stop();
  await shipper.caughtUp();
  expect(spool.state().unshipped).toEqual({ bytes: 0, ageMs: 0 });
  const content = await readPartition(options, PARTITION);
  expect(content.problems).toEqual([]);
  expect(content.numbers).toEqual(flow.acknowledged);
  expect(flow.acknowledged.length).toBeGreaterThan(PAUSE_SEC * 100);
}, 300_000);
