/** Readers while their brokers are killed, cut off and back: they go on by themselves, and nothing is lost. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, onTestFinished, test, vi } from 'vitest';
import { verifyCommand } from '../commands/verify.ts';
import type { ArchiveRecord } from '../record.ts';
import { connectReader } from '../shipping/kafka-reader.ts';
import { runCommand } from '../testing/command-run.ts';
import { Journal, produce } from '../testing/journal.ts';
import { SCRAM_USER, startKafka, type TestKafka } from '../testing/kafka.ts';
import { createTopic, plainClient } from '../testing/kafka-client.ts';
import { orderNumber, range } from '../testing/orders.ts';
import { temporaryFolder } from '../testing/spool.ts';
import type { TcpProxy } from '../testing/tcp-proxy.ts';
import { consumeArchive } from './consumer.ts';
import { KafkaSource, rangesSince } from './kafka-source.ts';
import type { SourceFinding } from './source.ts';

let kafka: TestKafka;
beforeAll(async () => {
  kafka = await startKafka({ proxied: true, properties: { 'group.min.session.timeout.ms': '1000' } });
});
afterAll(() => kafka.close());

async function topicOf(records: readonly ArchiveRecord[]) {
  const topic = `outage-${crypto.randomUUID()}`;
  await createTopic(kafka.brokers, topic);
  await produce(kafka.brokers, topic, records);
  return { brokers: kafka.brokers, topic, clientId: 'tests', tls: null, sasl: null };
}

/** Cuts the brokers off until the client has tried so often that it must have given up what it was asking. */
async function outageOf(proxy: TcpProxy): Promise<void> {
  const before = proxy.refused;
  proxy.cut();
  await vi.waitFor(() => expect(proxy.refused).toBeGreaterThan(before + 15), { timeout: 60_000 });
  proxy.mend();
}

const outages = [
  ['killed and started again', () => kafka.node(1).kill(), () => kafka.node(1).restart()],
  ['cut off and back', () => kafka.node(1).proxy?.cut(), () => kafka.node(1).proxy?.mend()],
] as const;

test.each(outages)('a group’s member, brokers %s', async (_name, begin, end) => {
  const journal = new Journal();
  const access = await topicOf([journal.opening(), ...journal.orders(1, 50)]);
  const consumer = await consumeArchive({
    ...access,
    groupId: access.topic,
    inspect: false,
    sessionTimeoutMs: 3000,
  });
  const seen: (number | null)[] = [];
  for await (const order of consumer.orders()) {
    const number = orderNumber(order);
    // At least once: what was not committed when the brokers went comes again.
    if (!seen.includes(number)) seen.push(number);
    if (number === 50 && seen.length === 50) {
      await begin();
      await end();
      await produce(kafka.brokers, access.topic, journal.orders(51, 80));
    }
    if (number === 80) break;
  }
  expect(seen).toEqual(range(1, 80));
});

test('a group’s member, brokers cut off just when it asks where to begin', async () => {
  const journal = new Journal();
  const access = await topicOf([journal.opening(), ...journal.orders(1, 10)]);
  const { proxy } = kafka.node(1);
  if (proxy === null) throw new Error('no proxy');
  onTestFinished(() => proxy.mend());
  let stored: string | null = null;
  const outage: Promise<void>[] = [];
  const load = () => {
    // Asked next, as nothing is stored: the brokers.
    if (outage.length === 0) outage.push(outageOf(proxy));
    return stored;
  };
  const consumer = await consumeArchive({
    ...access,
    groupId: access.topic,
    inspect: false,
    sessionTimeoutMs: 3000,
    positions: { load },
  });
  const seen: (number | null)[] = [];
  for await (const { orders, position } of consumer.batches()) {
    seen.push(...orders.map(orderNumber));
    stored = position;
    if (seen.length >= 10) break;
  }
  await Promise.all(outage);
  expect(seen).toEqual(range(1, 10));
});

test.each(outages)('a follower without a group, brokers %s', async (_name, begin, end) => {
  const journal = new Journal();
  const access = await topicOf([journal.opening(), ...journal.orders(1, 5)]);
  const reader = await connectReader(access);
  const findings: SourceFinding[] = [];
  const source = new KafkaSource(reader, await rangesSince(reader, 0), null);
  const stop = new AbortController();
  const seen: (number | null)[] = [];
  for await (const record of source.records((finding) => findings.push(finding), stop.signal)) {
    seen.push(orderNumber(record));
  }
  const following = (async () => {
    for await (const record of source.follow((finding) => findings.push(finding), stop.signal)) {
      seen.push(orderNumber(record));
      if (seen.at(-1) === 6) {
        await begin();
        await end();
        await produce(kafka.brokers, access.topic, journal.orders(7, 20));
      }
      if (seen.at(-1) === 20) stop.abort();
    }
  })();
  await produce(kafka.brokers, access.topic, journal.orders(6, 6));
  await following;
  await source.close();
  expect(seen).toEqual([null, ...range(1, 20)]);
  expect(findings.filter(({ kind }) => kind === 'problem')).toEqual([]);
});

test('a topic that is deleted, made anew and filled again: told, and nothing comes twice', async () => {
  const journal = new Journal();
  const records = [journal.opening(), ...journal.orders(1, 30)];
  const access = await topicOf(records);
  const codes: string[] = [];
  const consumer = await consumeArchive({
    ...access,
    groupId: access.topic,
    inspect: false,
    onFinding({ kind, code }) {
      if (kind === 'problem') codes.push(code);
      return 'continue';
    },
  });
  const seen: (number | null)[] = [];
  for await (const order of consumer.orders()) {
    seen.push(orderNumber(order));
    if (seen.length === 30) {
      const admin = plainClient(kafka.brokers).admin();
      await admin.connect();
      await admin.deleteTopics({ topics: [access.topic] });
      await admin.disconnect();
      await createTopic(kafka.brokers, access.topic);
      await produce(kafka.brokers, access.topic, [...records.slice(15), ...journal.orders(31, 35)]);
    }
    if (seen.length === 35) break;
  }
  expect(seen).toEqual(range(1, 35));
  expect(codes).toEqual(['rewound']);
});

test('the commands log in with a certificate, or with SCRAM, by the node’s settings', async () => {
  const journal = new Journal();
  const { topic } = await topicOf([journal.opening(), ...journal.orders(1, 7)]);
  const folder = temporaryFolder();
  const file = (name: string, text: string) => {
    writeFileSync(join(folder, name), text, { mode: 0o600 });
    return join(folder, name);
  };
  const common = { KAFKA_TOPIC: topic, KAFKA_CA_FILE: file('ca.pem', kafka.ca) };
  const certificate = {
    KAFKA_BROKERS: kafka.tlsBrokers.join(),
    KAFKA_CERT_FILE: file('cert.pem', kafka.client.certificate),
    KAFKA_KEY_FILE: file('key.pem', kafka.client.key),
  };
  const scram = {
    KAFKA_BROKERS: kafka.saslBrokers.join(),
    KAFKA_SASL: 'scram-sha-256',
    KAFKA_USERNAME: SCRAM_USER.username,
    KAFKA_PASSWORD: SCRAM_USER.password,
  };
  const verify = (env: Readonly<Record<string, string>>) =>
    runCommand(verifyCommand, ['--no-inspect'], { env: { ...common, ...env } });
  for (const env of [certificate, scram]) {
    const { code, lines } = await verify(env);
    expect([code, lines.at(-2)]).toEqual([0, expect.stringMatching(/^7 orders, 1 partition, /)]);
  }
  const stranger = { ...scram, KAFKA_PASSWORD: 'wrong' };
  await expect(verify(stranger)).rejects.toMatchObject({ name: 'KafkaTrouble', kind: 'authentication' });
  await expect(verify({ KAFKA_BROKERS: 'b:1', KAFKA_SASL: 'plain' })).rejects.toThrow(
    'KAFKA_SASL: none, scram',
  );
  await expect(verify({ KAFKA_BROKERS: 'b:1', KAFKA_TLS: 'no' })).rejects.toThrow('KAFKA_TLS: true or false');
  await expect(verify({ KAFKA_BROKERS: 'b:1', KAFKA_KEY_FILE: common.KAFKA_CA_FILE })).rejects.toThrow(
    'both or neither',
  );
  await expect(verify({ KAFKA_BROKERS: 'b:1', KAFKA_CERT_FILE: '/nowhere' })).rejects.toThrow(
    'KAFKA_CERT_FILE: ENOENT',
  );
});
