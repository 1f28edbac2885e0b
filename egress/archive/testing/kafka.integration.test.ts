import type { KafkaConfig } from 'kafkajs';
import { afterAll, beforeAll, describe, expect, onTestFinished, test, vi } from 'vitest';
import { SCRAM_USER, someKafka, startKafka, type TestKafka } from './kafka.ts';
import { createTopic, plainClient } from './kafka-client.ts';

/** Sends the values and reads the whole topic back. */
async function roundTrip(
  brokers: readonly string[],
  topic: string,
  more: Partial<KafkaConfig>,
  values: string[],
) {
  const client = plainClient(brokers, more);
  const producer = client.producer();
  await producer.connect();
  await producer.send({ topic, acks: -1, messages: values.map((value) => ({ value, partition: 0 })) });
  await producer.disconnect();
}

async function read(brokers: readonly string[], topic: string, count: number): Promise<string[]> {
  const consumer = plainClient(brokers).consumer({ groupId: `${topic}-${Math.random()}` });
  onTestFinished(() => consumer.disconnect());
  await consumer.connect();
  await consumer.subscribe({ topic, fromBeginning: true });
  const seen: string[] = [];
  await new Promise<void>((resolve, reject) => {
    consumer
      .run({
        eachMessage: async ({ message }) => {
          seen.push(message.value?.toString() ?? '');
          if (seen.length === count) resolve();
        },
      })
      .catch(reject);
  });
  return seen;
}

describe('one broker', () => {
  let kafka: TestKafka;
  beforeAll(async () => {
    kafka = await startKafka({ proxied: true });
  });
  afterAll(() => kafka.close());

  test('plain, TLS with a client certificate, and SCRAM; through a kill', async () => {
    await createTopic(kafka.brokers, 'listeners');
    const { ca, client } = kafka;
    await roundTrip(kafka.brokers, 'listeners', {}, ['plain']);
    await roundTrip(
      kafka.tlsBrokers,
      'listeners',
      { ssl: { ca: [ca], cert: client.certificate, key: client.key } },
      ['tls'],
    );
    await roundTrip(
      kafka.saslBrokers,
      'listeners',
      { ssl: { ca: [ca] }, sasl: { mechanism: 'scram-sha-512', ...SCRAM_USER } },
      ['scram'],
    );
    await kafka.node(1).kill();
    await kafka.node(1).restart();
    expect(await read(kafka.brokers, 'listeners', 3)).toEqual(['plain', 'tls', 'scram']);
  });

  test('a client without a certificate, and one with a wrong password, are refused', async () => {
    const retry = { retries: 0 };
    const bare = plainClient(kafka.tlsBrokers, { ssl: { ca: [kafka.ca] }, retry }).admin();
    await expect(bare.connect()).rejects.toThrow();
    const wrong = plainClient(kafka.saslBrokers, {
      ssl: { ca: [kafka.ca] },
      sasl: { mechanism: 'scram-sha-256', username: SCRAM_USER.username, password: 'wrong' },
      retry,
    }).admin();
    await expect(wrong.connect()).rejects.toThrow(/SASL/);
  });

  test('the proxy swallows an answer: the record is there, its sender is not told', async () => {
    await createTopic(kafka.brokers, 'swallowed');
    const { proxy } = kafka.node(1);
    const producer = plainClient(kafka.brokers, { requestTimeout: 500, retry: { retries: 0 } }).producer();
    onTestFinished(() => producer.disconnect());
    await producer.connect();
    const send = (value: string) =>
      producer.send({ topic: 'swallowed', acks: -1, messages: [{ value, partition: 0 }] });
    await send('first');
    const stop = proxy!.swallow('answers');
    await expect(send('second')).rejects.toThrow();
    stop();
    proxy!.reset();
    expect(await read(kafka.brokers, 'swallowed', 2)).toEqual(['first', 'second']);
  });
});

test('brokers that the environment names are used instead of own ones', async () => {
  vi.stubEnv('KAFKA_BROKERS', 'kafka-1:9092, kafka-2:9092');
  onTestFinished(() => void vi.unstubAllEnvs());
  expect((await someKafka()).brokers).toEqual(['kafka-1:9092', 'kafka-2:9092']);
});
