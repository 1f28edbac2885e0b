/** The shipper against a real broker: what README's table of failures says, row by row. */
import { afterAll, beforeAll, expect, test } from 'vitest';
import { startKafka, type TestKafka } from '../testing/kafka.ts';
import { range } from '../testing/orders.ts';
import { kafkaOptions, readPartition, shipperOptions, startTestShipper } from '../testing/shipping.ts';
import { appendEach, openTestSpool, temporaryFolder } from '../testing/spool.ts';

let kafka: TestKafka;
beforeAll(async () => {
  kafka = await startKafka({ proxied: true });
});
afterAll(() => kafka.close());

let topics = 0;
function newTopic(): string {
  topics += 1;
  return `archive-${topics}`;
}

/** Where a spool's records go in these tests: anywhere but the first partition. */
const PARTITION = 2;
const shipped = (topic: string) => ({
  partition: PARTITION,
  shipping: { topic, maxBytes: 1e9, lowBytes: 5e8, maxMs: 60_000, lowMs: 30_000 },
});

test('every order arrives once and in order, and goes on where it was after a restart', async () => {
  const topic = newTopic();
  const dir = temporaryFolder();
  const options = kafkaOptions(kafka.brokers, topic);
  let spool = await openTestSpool(dir, { ...shipped(topic), segmentBytes: 20_000 });
  await appendEach(spool, 1, 250);
  const first = startTestShipper(spool, shipperOptions(dir, options));
  await first.caughtUp();
  expect(await first.events.until(/topicCreated/)).toBe(`topicCreated ${topic}`);
  await appendEach(spool, 251, 300);
  await first.caughtUp();
  expect(spool.state().unshipped).toEqual({ bytes: 0, ageMs: 0 });
  await first.stop();
  await appendEach(spool, 301, 310);
  await spool.close();

  spool = await openTestSpool(dir, { ...shipped(topic), segmentBytes: 20_000 });
  const second = startTestShipper(spool, shipperOptions(dir, options));
  await appendEach(spool, 311, 320);
  await second.caughtUp();
  expect(second.events.seen.filter((event) => !/^(shipped|connected)/.test(event))).toEqual([]);
  const { numbers, problems, duplicates } = await readPartition(options, PARTITION);
  expect(problems).toEqual([]);
  expect(duplicates).toBe(0);
  expect(numbers).toEqual(range(1, 320));
});
