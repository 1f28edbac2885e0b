/** The shipper against a real broker: what README's table of failures says, row by row. */
import { randomBytes } from 'node:crypto';
import { copyFileSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, onTestFinished, test, vi } from 'vitest';
import { createSigner } from '../../../identity/signature.ts';
import { namedBrokers, SCRAM_USER, startKafka, type TestKafka } from '../testing/kafka.ts';
import { createTopic, plainClient } from '../testing/kafka-client.ts';
import { limitReading } from '../testing/kafka-quota.ts';
import { order, range } from '../testing/orders.ts';
import {
  kafkaOptions,
  readPartition,
  shipperOptions,
  startFlow,
  startTestShipper,
} from '../testing/shipping.ts';
import { append, appendEach, openTestSpool, temporaryFolder } from '../testing/spool.ts';

/** To be killed, led through a proxy, logged in at. */
let kafka: TestKafka;
/** For what any broker does. */
let brokers: readonly string[];
beforeAll(async () => {
  kafka = await startKafka({ proxied: true });
  brokers = namedBrokers() ?? kafka.brokers;
}, 120_000);
afterAll(() => kafka.close());

function newTopic(): string {
  return `archive-${crypto.randomUUID()}`;
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
  const options = kafkaOptions(brokers, topic);
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

const WATERMARK = 'shipped.json';

test.each([
  ['gone', (file: string) => rmSync(file)],
  ['cut off', (file: string) => writeFileSync(file, readFileSync(file, 'utf8').slice(0, 30))],
])('the watermark is %s: nothing is sent twice', async (_state, harm) => {
  const topic = newTopic();
  const dir = temporaryFolder();
  const options = kafkaOptions(brokers, topic);
  const spool = await openTestSpool(dir, shipped(topic));
  await appendEach(spool, 1, 120);
  const first = startTestShipper(spool, shipperOptions(dir, options));
  await first.caughtUp();
  await first.stop();
  harm(join(dir, WATERMARK));
  await appendEach(spool, 121, 130);
  const second = startTestShipper(spool, shipperOptions(dir, options));
  await second.caughtUp();
  expect(await second.events.until(/skipped/)).toBe('skipped 121 (121)');
  expect(await readPartition(options, PARTITION)).toMatchObject({
    numbers: range(1, 130),
    duplicates: 0,
    problems: [],
  });
});

test('a watermark from before the crash: what the brokers have is skipped', async () => {
  const topic = newTopic();
  const dir = temporaryFolder();
  const options = kafkaOptions(brokers, topic);
  const spool = await openTestSpool(dir, shipped(topic));
  await appendEach(spool, 1, 20);
  const first = startTestShipper(spool, shipperOptions(dir, options));
  await first.caughtUp();
  await first.stop();
  copyFileSync(join(dir, WATERMARK), join(dir, 'copy'));
  await appendEach(spool, 21, 50);
  const second = startTestShipper(spool, shipperOptions(dir, options));
  await second.caughtUp();
  await second.stop();
  copyFileSync(join(dir, 'copy'), join(dir, WATERMARK));
  await appendEach(spool, 51, 60);
  const third = startTestShipper(spool, shipperOptions(dir, options));
  await third.caughtUp();
  expect(await third.events.until(/skipped/)).toBe('skipped 51 (30)');
  expect(await readPartition(options, PARTITION)).toMatchObject({
    numbers: range(1, 60),
    duplicates: 0,
    problems: [],
  });
});

test('a disk that does not take the watermark costs a later start some reading, no more', async () => {
  const topic = newTopic();
  const dir = temporaryFolder();
  const options = kafkaOptions(brokers, topic);
  const spool = await openTestSpool(dir, shipped(topic));
  await appendEach(spool, 1, 30);
  mkdirSync(join(dir, `${WATERMARK}.new`));
  const first = startTestShipper(spool, shipperOptions(dir, options));
  await first.caughtUp();
  expect(await first.events.until(/trouble disk/)).toMatch(/^trouble disk EISDIR/);
  await first.stop();
  const second = startTestShipper(spool, shipperOptions(dir, options));
  await second.caughtUp();
  expect(await second.events.until(/skipped/)).toBe('skipped 31 (31)');
  expect(await readPartition(options, PARTITION)).toMatchObject({
    numbers: range(1, 30),
    duplicates: 0,
    problems: [],
  });
});

test('brokers that are added later get everything that is retained, epoch by epoch', async () => {
  const topic = newTopic();
  const dir = temporaryFolder();
  const options = kafkaOptions(brokers, topic);
  const before = await openTestSpool(dir, { nodeId: 'node-before', partition: 1, segmentBytes: 20_000 });
  await appendEach(before, 1, 150);
  await before.close();
  // Another key, so another epoch, and another partition.
  const spool = await openTestSpool(dir, shipped(topic));
  await appendEach(spool, 151, 200);
  const shipper = startTestShipper(spool, shipperOptions(dir, options));
  await shipper.events.until(/shipped 51 /);
  expect((await readPartition(options, 1)).numbers).toEqual(range(1, 150));
  const { numbers, records } = await readPartition(options, PARTITION);
  expect(numbers).toEqual(range(151, 200));
  expect(JSON.parse(records[0]!.value.toString())).toMatchObject({ previous: { n: 'node-before', s: 151 } });
});

describe('on the way', () => {
  test('answers and requests that are swallowed: nothing is lost, nothing is doubled', async () => {
    const topic = newTopic();
    const dir = temporaryFolder();
    const options = kafkaOptions(kafka.brokers, topic);
    const spool = await openTestSpool(dir, shipped(topic));
    const shipper = startTestShipper(spool, shipperOptions(dir, options));
    const flow = startFlow(spool);
    await shipper.events.until(/shipped/);
    const proxy = kafka.node(1).proxy!;
    for (const direction of ['answers', 'requests', 'answers', 'requests', 'answers', 'answers'] as const) {
      const before = proxy.swallowedBytes;
      const stop = proxy.swallow(direction);
      await vi.waitFor(() => expect(proxy.swallowedBytes).toBeGreaterThan(before), { timeout: 10_000 });
      stop();
      proxy.reset();
      const sequence = spool.durable.sequence;
      await vi.waitFor(() => expect(spool.durable.sequence).toBeGreaterThan(sequence + 20));
      await shipper.caughtUp();
    }
    await flow.stop();
    await shipper.caughtUp();
    expect(flow.acknowledged.length).toBeGreaterThan(100);
    const content = await readPartition(options, PARTITION);
    expect(content.problems).toEqual([]);
    expect(content.numbers).toEqual(flow.acknowledged);
    expect(content.duplicates).toBe(0);
  });

  test('no answer at all: another connection, which finds what had arrived', async () => {
    const topic = newTopic();
    const dir = temporaryFolder();
    const options = kafkaOptions(kafka.brokers, topic, { sendTimeoutMs: 700 });
    const spool = await openTestSpool(dir, shipped(topic));
    const shipper = startTestShipper(spool, shipperOptions(dir, options));
    await appendEach(spool, 1, 5);
    await shipper.caughtUp();
    const proxy = kafka.node(1).proxy!;
    const stop = proxy.swallow('answers');
    await appendEach(spool, 6, 8);
    await shipper.events.until(/trouble stalled/);
    stop();
    await shipper.caughtUp();
    await shipper.events.until(/skipped/);
    expect(await readPartition(options, PARTITION)).toMatchObject({
      numbers: range(1, 8),
      duplicates: 0,
      problems: [],
    });
  });

  test('the broker is killed and comes back while orders come', async () => {
    const topic = newTopic();
    const dir = temporaryFolder();
    const options = kafkaOptions(kafka.brokers, topic);
    const spool = await openTestSpool(dir, shipped(topic));
    const shipper = startTestShipper(spool, shipperOptions(dir, options));
    const flow = startFlow(spool);
    await shipper.events.until(/shipped/);
    await kafka.node(1).kill();
    await shipper.events.until(/trouble unreachable/);
    await kafka.node(1).restart();
    await flow.stop();
    await shipper.caughtUp();
    const content = await readPartition(options, PARTITION);
    expect(content.problems).toEqual([]);
    expect(content.numbers).toEqual(flow.acknowledged);
  });
});

describe('the topic', () => {
  test('that is gone is not made anew in silence; one that is empty gets what is retained', async () => {
    const topic = newTopic();
    const dir = temporaryFolder();
    const options = kafkaOptions(brokers, topic);
    const spool = await openTestSpool(dir, shipped(topic));
    await appendEach(spool, 1, 10);
    const shipper = startTestShipper(spool, shipperOptions(dir, options));
    await shipper.caughtUp();
    const admin = plainClient(brokers).admin();
    await admin.connect();
    await admin.deleteTopics({ topics: [topic] });
    await appendEach(spool, 11, 12);
    await shipper.events.until(/trouble topic_missing the topic .* is gone/);
    expect(await admin.listTopics()).not.toContain(topic);
    await admin.disconnect();
    await createTopic(brokers, topic, 3);
    await shipper.events.until(/^lost/);
    await shipper.events.until(/shipped 13 /);
    expect(await readPartition(options, PARTITION)).toMatchObject({ numbers: range(1, 12), problems: [] });
  });

  test('that differs is used as it is, and that is said', async () => {
    const topic = newTopic();
    await createTopic(brokers, topic, 4, { 'retention.ms': '1000000', 'max.message.bytes': '3000000' });
    const dir = temporaryFolder();
    const options = kafkaOptions(brokers, topic);
    const spool = await openTestSpool(dir, shipped(topic));
    await appendEach(spool, 1, 3);
    const shipper = startTestShipper(spool, shipperOptions(dir, options));
    await shipper.caughtUp();
    expect(await shipper.events.until(/topicDiffers/)).toBe(
      'topicDiffers it has 4 partitions, not 3; its retention.ms is 1000000, not 3600000; ' +
        'its message.timestamp.type is CreateTime, not LogAppendTime',
    );
  });

  test.each([
    ['is compacted', 3, { 'cleanup.policy': 'compact' }, /topic_unfit .*its cleanup.policy is compact/],
    ['has too few partitions', 1, {}, /topic_unfit .*it has 1 partitions, and .* partition 2/],
  ])('that %s gets nothing', async (_name, partitions, settings, message) => {
    const topic = newTopic();
    await createTopic(brokers, topic, partitions, settings);
    const dir = temporaryFolder();
    const spool = await openTestSpool(dir, shipped(topic));
    await appendEach(spool, 1, 3);
    const shipper = startTestShipper(spool, shipperOptions(dir, kafkaOptions(brokers, topic)));
    await shipper.events.until(message);
    expect(shipper.events.seen.filter((event) => event.startsWith('shipped'))).toEqual([]);
  });
});

test('an order that the brokers refuse as too large: a dead letter, its place is kept, the others arrive', async () => {
  const topic = newTopic();
  await createTopic(brokers, topic, 3, { 'max.message.bytes': '20000' });
  const dir = temporaryFolder();
  const options = kafkaOptions(brokers, topic);
  const spool = await openTestSpool(dir, shipped(topic));
  await appendEach(spool, 1, 5);
  const large = {
    ...order(6),
    value: Buffer.from(`{"params":["0x${randomBytes(40_000).toString('hex')}"]}`),
  };
  expect(await append(spool, large)).toBe(null);
  await appendEach(spool, 7, 40);
  const shipper = startTestShipper(spool, shipperOptions(dir, options));
  await shipper.caughtUp();
  expect(shipper.events.seen.filter((event) => event.startsWith('deadLetter'))).toEqual([
    `deadLetter 7 ${large.value.length}`,
  ]);
  const { records, numbers, problems } = await readPartition(options, PARTITION);
  expect(problems).toEqual([]);
  expect(numbers).toEqual([...range(1, 5), ...range(7, 40)]);
  expect(records[6]).toMatchObject({ sequence: 7, control: 'withheld' });
  const [letter] = readFileSync(join(dir, 'dead-letters.ndjson'), 'utf8').trimEnd().split('\n');
  expect(JSON.parse(letter!)).toMatchObject({ s: 7, h: records[6]!.chain, method: large.method });
  expect(letter).toContain(large.value.toString());
});

test('a dead letter that the disk does not take: nothing stands for the order until it has', async () => {
  const topic = newTopic();
  await createTopic(brokers, topic, 3, { 'max.message.bytes': '20000' });
  const dir = temporaryFolder();
  const options = kafkaOptions(brokers, topic, { compression: 'none' });
  const spool = await openTestSpool(dir, shipped(topic));
  await append(spool, order(1));
  await append(spool, order(2, 20_000));
  const letters = join(dir, 'dead-letters.ndjson');
  mkdirSync(letters);
  const shipper = startTestShipper(spool, shipperOptions(dir, options));
  await shipper.events.until(/trouble disk EISDIR/);
  const { records } = await readPartition(options, PARTITION);
  expect(records.map(({ control }) => control)).not.toContain('withheld');
  rmSync(letters, { recursive: true });
  await shipper.caughtUp();
  expect((await readPartition(options, PARTITION)).records.at(-1)).toMatchObject({ control: 'withheld' });
  expect(JSON.parse(readFileSync(letters, 'utf8'))).toMatchObject({ s: 3 });
});

test('a large order over a slow line: it may take longer, to be sent and to be found again', async () => {
  const topic = newTopic();
  await createTopic(kafka.brokers, topic, 3, { 'max.message.bytes': '30000000' });
  const dir = temporaryFolder();
  const options = kafkaOptions(kafka.brokers, topic, { compression: 'none', sendTimeoutMs: 6000 });
  const spool = await openTestSpool(dir, shipped(topic));
  const proxy = kafka.node(1).proxy!;
  onTestFinished(() => {
    proxy.slow('requests', Number.POSITIVE_INFINITY);
    proxy.slow('answers', Number.POSITIVE_INFINITY);
  });
  // 7 s each way: a batch of no size has 6 s, this one 20 s; any other request has 5 s.
  proxy.slow('requests', 2e6);
  proxy.slow('answers', 2e6);
  const first = startTestShipper(spool, shipperOptions(dir, options));
  await append(spool, order(1, 7e6));
  await first.caughtUp();
  await first.stop();
  const second = startTestShipper(spool, shipperOptions(dir, options));
  await append(spool, order(2));
  await second.caughtUp();
  const seen = [...first.events.seen, ...second.events.seen];
  expect(seen.filter((event) => /^(trouble|skipped|lost|deadLetter)/.test(event))).toEqual([]);
});

test('brokers that slow this client down: what is there is found all the same', async () => {
  const topic = newTopic();
  const dir = temporaryFolder();
  const options = kafkaOptions(kafka.brokers, topic, { compression: 'none' });
  const spool = await openTestSpool(dir, shipped(topic));
  const first = startTestShipper(spool, shipperOptions(dir, options));
  // A batch each: one that is larger than the quota's window would never come through.
  for (let n = 1; n <= 40; n += 1) {
    await append(spool, order(n, 5000));
    await first.caughtUp();
  }
  await first.stop();
  rmSync(join(dir, WATERMARK));
  await limitReading(kafka.node(1).address, 'slowed', 25_000);
  const slowed = startTestShipper(spool, shipperOptions(dir, { ...options, clientId: 'slowed' }));
  await slowed.caughtUp();
  expect(slowed.events.seen.filter((event) => /^(lost|shipped)/.test(event))).toEqual([]);
  expect(await readPartition(options, PARTITION)).toMatchObject({
    numbers: range(1, 40),
    duplicates: 0,
    problems: [],
  });
});

test('authorization refused: orders wait, and go when it is given', async () => {
  const topic = newTopic();
  await createTopic(kafka.brokers, topic, 3);
  const admin = plainClient(kafka.brokers).admin();
  await admin.connect();
  // Of kafkajs's enumerations: topic, literal, write, deny.
  const rule = {
    resourceType: 2,
    resourceName: topic,
    resourcePatternType: 3,
    principal: `User:${SCRAM_USER.username}`,
    host: '*',
    operation: 4,
    permissionType: 2,
  };
  await admin.createAcls({ acl: [rule] });
  const dir = temporaryFolder();
  const spool = await openTestSpool(dir, shipped(topic));
  await appendEach(spool, 1, 3);
  const options = kafkaOptions(kafka.saslBrokers, topic, {
    tls: { ca: [kafka.ca], cert: null, key: null },
    sasl: { mechanism: 'scram-sha-512', ...SCRAM_USER },
  });
  const shipper = startTestShipper(spool, shipperOptions(dir, options));
  await shipper.events.until(/trouble authorization TOPIC_AUTHORIZATION_FAILED/);
  await admin.deleteAcls({ filters: [rule] });
  await admin.disconnect();
  await shipper.caughtUp();
  expect((await readPartition(kafkaOptions(kafka.brokers, topic), PARTITION)).numbers).toEqual(range(1, 3));
});

test.each(['gzip', 'none', 'zstd'] as const)(
  'with a client certificate, compressed with %s',
  async (compression) => {
    const topic = newTopic();
    const dir = temporaryFolder();
    const options = kafkaOptions(kafka.tlsBrokers, topic, {
      compression,
      tls: { ca: [kafka.ca], cert: kafka.client.certificate, key: kafka.client.key },
    });
    const spool = await openTestSpool(dir, shipped(topic));
    await appendEach(spool, 1, 30);
    const shipper = startTestShipper(spool, shipperOptions(dir, options));
    await shipper.caughtUp();
    expect((await readPartition(options, PARTITION)).numbers).toEqual(range(1, 30));
  },
);

test('a broker whose certificate nobody vouches for gets nothing', async () => {
  const topic = newTopic();
  const dir = temporaryFolder();
  const spool = await openTestSpool(dir, shipped(topic));
  const options = kafkaOptions(kafka.saslBrokers, topic, {
    tls: { ca: [], cert: null, key: null },
    sasl: { mechanism: 'scram-sha-512', ...SCRAM_USER },
  });
  const shipper = startTestShipper(spool, shipperOptions(dir, options));
  expect(await shipper.events.until(/trouble/)).toMatch(/unreachable .*certificate/);
});

test('a clock that jumps: times are the orders\u2019 own, and nothing is refused or lost', async () => {
  const topic = newTopic();
  const dir = temporaryFolder();
  const options = kafkaOptions(brokers, topic);
  const spool = await openTestSpool(dir, shipped(topic));
  const times = [1, 4_102_444_800_000_000, 1_750_000_000_000_000, 0];
  for (const [at, receivedAtUs] of times.entries()) {
    expect(await append(spool, { ...order(at + 1), receivedAtUs })).toBe(null);
  }
  const shipper = startTestShipper(spool, shipperOptions(dir, options));
  await shipper.caughtUp();
  const { records, problems } = await readPartition(options, PARTITION);
  expect(problems).toEqual([]);
  expect(records.slice(1).map(({ receivedAtUs }) => receivedAtUs)).toEqual(times);
});

test('a folder that is older than what was shipped from it: nothing more is shipped', async () => {
  const topic = newTopic();
  const dir = temporaryFolder();
  const options = kafkaOptions(brokers, topic);
  let spool = await openTestSpool(dir, shipped(topic));
  const { segment } = spool.durable;
  await appendEach(spool, 1, 5);
  const copy = readFileSync(join(dir, segment));
  await appendEach(spool, 6, 9);
  const first = startTestShipper(spool, shipperOptions(dir, options));
  await first.caughtUp();
  await first.stop();
  await spool.close();
  writeFileSync(join(dir, segment), copy);
  spool = await openTestSpool(dir, shipped(topic));
  const behind = startTestShipper(spool, shipperOptions(dir, options));
  await behind.events.until(/trouble diverged .*has not reached/);
  await behind.stop();
  for (let n = 20; n < 30; n += 1) await append(spool, order(n));
  const other = startTestShipper(spool, shipperOptions(dir, options));
  await other.events.until(/trouble diverged .*holds otherwise/);
  expect((await readPartition(options, PARTITION)).numbers).toEqual(range(1, 9));
});

test('checkpoints travel with the orders', async () => {
  const topic = newTopic();
  const dir = temporaryFolder();
  const options = kafkaOptions(brokers, topic);
  const signer = createSigner(Buffer.alloc(32, 3));
  const spool = await openTestSpool(dir, { ...shipped(topic), nodeId: signer.addressLower });
  await appendEach(spool, 1, 3);
  await new Promise((resolve) =>
    spool.checkpoint((text) => signer.sign(text), 1_750_000_000_000_000, resolve),
  );
  const shipper = startTestShipper(spool, shipperOptions(dir, options));
  await shipper.caughtUp();
  const { records, problems } = await readPartition(options, PARTITION);
  expect(problems).toEqual([]);
  expect(records.map(({ control }) => control)).toEqual(['epoch', null, null, null, 'checkpoint']);
});
