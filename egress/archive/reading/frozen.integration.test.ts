/** Readers of a cluster of which one broker is frozen: it keeps its connections, takes new ones, and never answers. */
import { afterAll, beforeAll, expect, onTestFinished, test } from 'vitest';
import { connectReader } from '../shipping/kafka-reader.ts';
import { Journal, produce } from '../testing/journal.ts';
import { type KafkaBroker, startKafka, type TestKafka } from '../testing/kafka.ts';
import { createTopic, plainClient } from '../testing/kafka-client.ts';
import { orderNumber, range } from '../testing/orders.ts';
import { consumeArchive } from './consumer.ts';
import { KafkaSource, rangesSince } from './kafka-source.ts';
import type { SourceFinding } from './source.ts';

const ORDERS = 60;
const TOPIC = 'archive';

let kafka: TestKafka;
beforeAll(async () => {
  kafka = await startKafka({ nodes: 3, properties: { 'offsets.topic.num.partitions': '1' } });
  const journal = new Journal();
  await createTopic(kafka.brokers, TOPIC);
  await produce(kafka.brokers, TOPIC, [journal.opening(), ...journal.orders(1, ORDERS)]);
}, 120_000);
afterAll(() => kafka.close());

const access = () => ({ brokers: kafka.brokers, topic: TOPIC, clientId: 'tests', tls: null, sasl: null });

/** The leader of a topic's first partition as one broker sees it; null when it does not answer. */
async function leaderOf(topic: string, seenBy: KafkaBroker): Promise<number | null> {
  const admin = plainClient([seenBy.address], { requestTimeout: 2000, retry: { retries: 1 } }).admin();
  try {
    await admin.connect();
    const { topics } = await admin.fetchTopicMetadata({ topics: [topic] });
    return topics[0]?.partitions[0]?.leader ?? null;
  } catch {
    return null;
  } finally {
    void admin.disconnect().catch(() => {});
  }
}

/** Freezes the leader of a topic until the test ends. @returns it, and another broker. */
async function freezeLeaderOf(topic: string): Promise<[KafkaBroker, KafkaBroker]> {
  let id: number | null = null;
  for (let at = 0; id === null || id < 0; at += 1) id = await leaderOf(topic, kafka.nodes[at % 3]!);
  const leader = kafka.node(id);
  leader.freeze();
  onTestFinished(() => leader.thaw());
  return [leader, kafka.nodes.find((broker) => broker !== leader)!];
}

test('the leader of a partition: a reader without a group goes on with the next one', async () => {
  const reader = await connectReader(access());
  const findings: SourceFinding[] = [];
  const source = new KafkaSource(reader, await rangesSince(reader, 0), null);
  await freezeLeaderOf(TOPIC);
  const seen: (number | null)[] = [];
  const { signal } = new AbortController();
  for await (const record of source.records((finding) => findings.push(finding), signal)) {
    seen.push(orderNumber(record));
  }
  await source.close();
  expect(seen).toEqual([null, ...range(1, ORDERS)]);
  expect(findings.filter(({ kind }) => kind === 'problem')).toEqual([]);
});

test('the coordinator of a group: a member that leaves is not kept by commits that nobody answers', async () => {
  const consumer = await consumeArchive({ ...access(), groupId: 'payments', inspect: false, commitMs: 100 });
  const seen = new Set<number | null>();
  let other: KafkaBroker | null = null;
  let leavingAt = 0;
  const reading = async () => {
    for await (const order of consumer.orders()) {
      seen.add(orderNumber(order));
      if (seen.size === ORDERS - 8) [, other] = await freezeLeaderOf('__consumer_offsets');
      // Takes its time, so that one commit after another is due.
      if (other !== null) await leaderOf(TOPIC, other);
      if (seen.size < ORDERS) continue;
      leavingAt = performance.now();
      break;
    }
  };
  // The last commit may have met nobody: that is told.
  await reading().catch((error: unknown) => expect(error).toMatchObject({ kind: 'stalled' }));
  expect([...seen]).toEqual(range(1, ORDERS));
  // Each of some dozens would be waited for 20 s.
  expect(performance.now() - leavingAt).toBeLessThan(90_000);
}, 240_000);
