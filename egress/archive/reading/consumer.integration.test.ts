/** The consumer against a real broker: what a group's members are given, commit, and take over from each other. */
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest';
import type { ArchiveRecord } from '../record.ts';
import { Journal, produce, signedOrders } from '../testing/journal.ts';
import { someKafka } from '../testing/kafka.ts';
import { createTopic, plainClient } from '../testing/kafka-client.ts';
import { orderNumber, range } from '../testing/orders.ts';
import { type ArchiveConsumerOptions, type ArchivedOrder, consumeArchive } from './consumer.ts';
import { type ArchiveFinding, ArchiveProblem } from './findings.ts';

let kafka: Awaited<ReturnType<typeof someKafka>>;
beforeAll(async () => {
  kafka = await someKafka();
});
afterAll(() => kafka.close());

/** A new topic with these records in partition 0, and a consumer's options for it. */
async function archiveOf(records: readonly ArchiveRecord[], partitions = 1) {
  const topic = `archive-${crypto.randomUUID()}`;
  await createTopic(kafka.brokers, topic, partitions);
  await produce(kafka.brokers, topic, records);
  const options: ArchiveConsumerOptions = {
    brokers: kafka.brokers,
    topic,
    clientId: 'tests',
    tls: null,
    sasl: null,
    groupId: topic,
    inspect: false,
  };
  return options;
}

/** Reads `count` orders, and closes the consumer while the last is being processed. @returns their numbers. */
async function take(options: ArchiveConsumerOptions, count: number): Promise<(number | null)[]> {
  const consumer = await consumeArchive(options);
  const numbers: (number | null)[] = [];
  let closed: Promise<void> | undefined;
  for await (const order of consumer.orders()) {
    numbers.push(numberOf(order));
    if (numbers.length === count) closed = consumer.close();
  }
  await closed;
  return numbers;
}

const numberOf = (order: ArchivedOrder) => orderNumber(order);

async function committed(options: ArchiveConsumerOptions) {
  const admin = plainClient(kafka.brokers).admin();
  await admin.connect();
  const [found] = await admin.fetchOffsets({ groupId: options.groupId, topics: [options.topic] });
  await admin.disconnect();
  return found!.partitions.map(({ offset, metadata }) => ({ offset: Number(offset), metadata }));
}

test('every order once, in order, whole; duplicates are dropped', async () => {
  const journal = new Journal();
  const records = [
    journal.opening(),
    ...journal.orders(1, 40),
    journal.checkpoint(),
    ...journal.orders(41, 60),
  ];
  const options = await archiveOf([...records.slice(0, 30), ...records.slice(10)]);
  const consumer = await consumeArchive(options);
  const orders: ArchivedOrder[] = [];
  for await (const order of consumer.orders()) {
    orders.push(order);
    if (orders.length === 60) break;
  }
  expect(orders.map(numberOf)).toEqual(range(1, 60));
  expect(consumer.duplicates).toBe(20);
  const { value, receivedAtUs, signer, hash, method, sequence, chain } = records[1]!;
  expect(orders[0]).toMatchObject({
    value,
    receivedAtUs,
    signer,
    hash,
    method,
    sequence,
    chain,
    partition: 0,
    offset: 1,
  });
});

describe('at least once', () => {
  test('what was processed is committed with what the next member must know', async () => {
    const journal = new Journal();
    const options = await archiveOf([journal.opening(), ...journal.orders(1, 30)]);
    expect(await take(options, 10)).toEqual(range(1, 10));
    const [position] = await committed(options);
    expect(position!.offset).toBe(11);
    expect(position!.metadata).toContain(journal.nodeId);
    expect(await take(options, 20)).toEqual(range(11, 30));
  });

  test('what was not processed to its end is read again', async () => {
    const journal = new Journal();
    const options = await archiveOf([journal.opening(), ...journal.orders(1, 5)]);
    const consumer = await consumeArchive(options);
    const failing = async () => {
      for await (const { orders } of consumer.batches(2)) {
        if (orders.some((order) => numberOf(order) === 3)) throw new Error('the database is away');
      }
    };
    await expect(failing()).rejects.toThrow('the database is away');
    const again = await take(options, 1);
    expect(again[0]).toBeLessThanOrEqual(3);
  });

  test('a duplicate that comes after a restart is dropped, a gap across it is found', async () => {
    const journal = new Journal();
    const records = [journal.opening(), ...journal.orders(1, 12)];
    const options = await archiveOf(records.slice(0, 6));
    expect(await take(options, 5)).toEqual(range(1, 5));
    expect((await committed(options))[0]!.offset).toBe(6);
    await produce(kafka.brokers, options.topic, [...records.slice(4, 8), ...records.slice(10)]);
    const findings: ArchiveFinding[] = [];
    const onFinding = (finding: ArchiveFinding) => {
      findings.push(finding);
      return 'continue' as const;
    };
    expect(await take({ ...options, onFinding }, 4)).toEqual([6, 7, 10, 11]);
    expect(findings).toMatchObject([
      { kind: 'problem', code: 'gap', partition: 0, offset: 10, sequence: 11 },
    ]);
  });
});

test('a second member joins: orders in hand are waited for, the rest goes on behind them, each once', async () => {
  const journal = new Journal();
  const options = await archiveOf([journal.opening(), ...journal.orders(1, 40)]);
  const admin = plainClient(kafka.brokers).admin();
  await admin.connect();
  onTestFinished(() => admin.disconnect());
  const isDealtOut = async () => {
    const { groups } = await admin.describeGroups([options.groupId]);
    return groups[0]?.state === 'Stable' && groups[0].members.length === 2;
  };
  const seen: (number | null)[] = [];
  let dealtOutAt = 0;
  let second: Promise<void> | null = null;
  const read = async () => {
    const consumer = await consumeArchive(options);
    onTestFinished(() => consumer.close());
    for await (const order of consumer.orders()) {
      const number = numberOf(order);
      seen.push(number);
      if (number === 10) second ??= read();
      if (second === null) continue;
      // In hand for a while, until the first member has noticed that there is a second one.
      const until = performance.now() + 1000;
      while (dealtOutAt === 0 && performance.now() < until) {
        if (await isDealtOut()) dealtOutAt = seen.length;
      }
      if (number === 40) ended.resolve();
    }
  };
  const ended = Promise.withResolvers<void>();
  const first = read();
  await Promise.race([ended.promise, first]);
  expect(seen).toEqual(range(1, 40));
  expect(dealtOutAt).toBeGreaterThan(10);
  expect(dealtOutAt).toBeLessThan(40);
});

describe('effectively once', () => {
  /** Reads `count` orders, storing positions as an application would. @returns their numbers. */
  async function process(options: ArchiveConsumerOptions, stored: Map<number, string>, count: number) {
    const positions = { load: (partition: number) => stored.get(partition) ?? null };
    const consumer = await consumeArchive({ ...options, positions });
    const numbers: (number | null)[] = [];
    for await (const batch of consumer.batches(4)) {
      expect(stored.get(batch.partition) ?? null).toBe(batch.previous);
      stored.set(batch.partition, batch.position);
      numbers.push(...batch.orders.map(numberOf));
      if (numbers.length >= count) break;
    }
    return numbers;
  }

  test('goes on exactly where the application stood, whatever the group has committed', async () => {
    const journal = new Journal();
    const options = await archiveOf([journal.opening(), ...journal.orders(1, 20)]);
    const stored = new Map<number, string>();
    expect(await process(options, stored, 8)).toEqual(range(1, 8));
    expect(await process(options, stored, 12)).toEqual(range(9, 20));
    expect(await process(options, new Map(), 20)).toEqual(range(1, 20));
  });

  test('a batch that is rejected comes again from what is stored then', async () => {
    const journal = new Journal();
    const options = await archiveOf([journal.opening(), ...journal.orders(1, 20)]);
    const stored = new Map<number, string>();
    await process(options, stored, 8);
    let loads = 0;
    const elsewhere = new Map(stored);
    const load = (partition: number) => {
      loads += 1;
      // Read just before another member, which had the partition until now, stored its last.
      return loads === 1 ? null : (elsewhere.get(partition) ?? null);
    };
    const consumer = await consumeArchive({ ...options, positions: { load } });
    const numbers: (number | null)[] = [];
    for await (const batch of consumer.batches(6)) {
      if ((elsewhere.get(batch.partition) ?? null) !== batch.previous) {
        batch.reject();
        continue;
      }
      elsewhere.set(batch.partition, batch.position);
      numbers.push(...batch.orders.map(numberOf));
      if (numbers.length === 12) break;
    }
    expect(numbers).toEqual(range(9, 20));
    expect(loads).toBe(2);
  });

  test('a position that cannot be read ends it', async () => {
    const options = await archiveOf([new Journal().opening()]);
    const reading = process(options, new Map([[0, 'nonsense']]), 1);
    await expect(reading).rejects.toThrow('the position stored for partition 0 cannot be read');
  });

  test('orders() has no position to tell', async () => {
    const consumer = await consumeArchive({ ...(await archiveOf([])), positions: { load: () => null } });
    await expect(consumer.orders().next()).rejects.toThrow('effectively once');
    await consumer.close();
  });
});

describe('a problem', () => {
  test('ends reading by default, before its record, again and again', async () => {
    const journal = new Journal();
    const records = [journal.opening(), ...journal.orders(1, 9)];
    const forged = { ...records[5]!, value: records[6]!.value };
    const options = await archiveOf(records.with(5, forged));
    for (const expected of [range(1, 4), []]) {
      const consumer = await consumeArchive(options);
      const seen: (number | null)[] = [];
      const reading = (async () => {
        for await (const order of consumer.orders()) seen.push(numberOf(order));
      })();
      const problem = await reading.catch((error: unknown) => error);
      expect(problem).toBeInstanceOf(ArchiveProblem);
      expect(problem).toMatchObject({ finding: { code: 'altered', offset: 5, sequence: 6 } });
      expect(seen).toEqual(expected);
    }
  });

  test('orders and checkpoints that were forged with their chain', async () => {
    const journal = new Journal();
    const orders = signedOrders(20);
    const bundle = orders.find(({ method }) => method === 'eth_sendBundle')!;
    const records = [
      journal.opening(),
      ...orders.map((order) => journal.add(order)),
      journal.add({ ...bundle, signer: `0x${'9'.repeat(40)}` }),
      journal.checkpoint((text) => new Journal(7).signer.sign(text)),
      ...signedOrders(1).map((order) => journal.add(order)),
    ];
    const options = await archiveOf(records);
    const findings: string[] = [];
    const onFinding = ({ kind, code }: ArchiveFinding) => {
      if (kind === 'problem') findings.push(code);
      return 'continue' as const;
    };
    const consumer = await consumeArchive({ ...options, inspect: true, onFinding });
    let count = 0;
    for await (const { orders: some } of consumer.batches(7)) {
      count += some.length;
      if (count === 22) break;
    }
    expect(findings).toEqual(['order', 'checkpoint']);
  });
});

test('as an Observable, one after another', async () => {
  const journal = new Journal();
  const options = await archiveOf([journal.opening(), ...journal.orders(1, 50)]);
  const consumer = await consumeArchive(options);
  let running = 0;
  const sizes: number[] = [];
  await new Promise<void>((resolve, reject) => {
    const subscription = consumer
      .observe(async ({ orders }) => {
        running += 1;
        await new Promise((turn) => setImmediate(turn));
        expect(running).toBe(1);
        running -= 1;
        return orders.map(numberOf);
      }, 8)
      .subscribe({
        next: (numbers) => {
          sizes.push(...numbers.map(Number));
          if (sizes.length < 50) return;
          subscription.unsubscribe();
          resolve();
        },
        error: reject,
      });
  });
  expect(sizes).toEqual(range(1, 50));
  await consumer.close();
});

test('a topic that is not there ends it with its name for it', async () => {
  const options = await archiveOf([]);
  await expect(consumeArchive({ ...options, topic: 'no-such-topic' })).rejects.toMatchObject({
    kind: 'topic_missing',
  });
});
