/** The examples as they stand, against a real broker; effectively once with members killed at random. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { DatabaseSync } from 'node:sqlite';
import { afterAll, beforeAll, expect, onTestFinished, test } from 'vitest';
import { SeededSource } from '../devnet/seeded.ts';
import { Journal, produce, signedOrders } from '../egress/archive/testing/journal.ts';
import { namedBrokers, someKafka } from '../egress/archive/testing/kafka.ts';
import { createTopic } from '../egress/archive/testing/kafka-client.ts';
import { append, openTestSpool, temporaryFolder } from '../egress/archive/testing/spool.ts';

/** The least that brokers take unless told otherwise is 6 s. */
const SESSION_MS = namedBrokers() === null ? 2000 : 6000;

let kafka: Awaited<ReturnType<typeof someKafka>>;
beforeAll(async () => {
  // A broker takes no session below 6 s by default, which a killed member would hold its partitions for.
  kafka = await someKafka({ properties: { 'group.min.session.timeout.ms': String(SESSION_MS) } });
});
afterAll(() => kafka.close());

interface Running {
  readonly child: ChildProcess;
  readonly ended: Promise<unknown>;
  /** Resolves with the next `count` lines of its output; fewer when it ends. */
  lines(count: number): Promise<string[]>;
  /** Its standard error, without the warning that kafkajs's timers are worth to Node once. */
  readonly complaints: () => string;
}

/** Starts an example; it is killed after the test at the latest. */
function start(
  name: string,
  topic: string,
  env: Readonly<Record<string, string>> = {},
  args: readonly string[] = [],
): Running {
  const child = spawn(process.execPath, [join(import.meta.dirname, name), ...args], {
    env: {
      ...process.env,
      KAFKA_BROKERS: kafka.brokers.join(),
      KAFKA_TLS: 'false',
      KAFKA_TOPIC: topic,
      GROUP: topic,
      ...env,
    },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  onTestFinished(() => void child.kill('SIGKILL'));
  const ended = once(child, 'exit');
  let complaints = '';
  child.stderr.on('data', (chunk) => {
    complaints += chunk;
  });
  const output = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  return {
    child,
    ended,
    complaints: () => complaints,
    async lines(count) {
      const found: string[] = [];
      while (found.length < count) {
        const { value, done } = await output.next();
        if (done === true) break;
        found.push(value);
      }
      return found;
    },
  };
}

/** A topic with this many orders per partition, a node each. */
async function topicOf(partitions: number, orders: number): Promise<string> {
  const topic = `examples-${crypto.randomUUID()}`;
  await createTopic(kafka.brokers, topic, partitions);
  for (let partition = 0; partition < partitions; partition += 1) {
    const journal = new Journal(partition + 1);
    const records = [
      journal.opening(),
      ...signedOrders(orders, `seed ${partition}`).map((order) => journal.add(order)),
    ];
    // Every record twice somewhere: what a shipper that dies at a bad moment may do.
    const repeated = records.flatMap((_record, index) =>
      index % 40 === 39 ? records.slice(index - 39, index + 1) : [],
    );
    const doubled = [...records.slice(0, 40), ...repeated, ...records.slice(40)];
    await produce(kafka.brokers, topic, partition % 2 === 0 ? records : doubled, partition);
  }
  return topic;
}

test('at least once: prints each order, stops in order', async () => {
  const topic = await topicOf(1, 25);
  const example = start('at-least-once.ts', topic);
  const lines = await example.lines(25);
  expect(lines[0]).toMatch(/^2 (?:eth|mev)_\w+ of 0x[0-9a-f]{40}, \d+ bytes$/);
  expect(lines.map((line) => Number.parseInt(line, 10))).toEqual(
    Array.from({ length: 25 }, (_, index) => index + 2),
  );
  example.child.kill('SIGINT');
  expect(await once(example.child, 'exit')).toEqual([0, null]);
  expect(example.complaints()).toMatch(
    /^note: epoch \d+ of node 0x\w+ opens; nothing is known of an epoch before\n/,
  );
});

test('the Observable counts by method', async () => {
  const topic = await topicOf(1, 60);
  const example = start('observable.ts', topic);
  const [line] = await example.lines(1);
  expect(line).toMatch(/eth_sendBundle: \d+/);
  example.child.kill('SIGINT');
  expect(await once(example.child, 'exit')).toEqual([0, null]);
});

test('read once: a topic, and a spool folder', async () => {
  const topic = await topicOf(2, 10);
  const ofTopic = await start('read-once.ts', topic).lines(100);
  expect(ofTopic.at(-1)).toBe('2 partitions, 0 problems');
  const dir = temporaryFolder();
  const spool = await openTestSpool(dir);
  for (const order of signedOrders(10)) await append(spool, { ...order, receivedAtUs: Date.now() * 1000 });
  await spool.close();
  const ofFolder = await start('read-once.ts', topic, {}, [dir]).lines(100);
  expect(ofFolder.at(-1)).toBe('1 segment, 0 problems');
  expect(ofFolder.length).toBeGreaterThan(1);
});

test('effectively once: three members killed and started again at random, no order lost, none counted twice', async () => {
  const partitions = 4;
  const orders = 700;
  const topic = await topicOf(partitions, orders);
  const path = join(temporaryFolder(), 'orders.sqlite');
  const env = { DATABASE: path, SESSION_TIMEOUT_MS: String(SESSION_MS) };
  let progress = Promise.withResolvers<void>();
  const member = () => {
    const running = start('effectively-once.ts', topic, env);
    running.child.stdout?.on('data', () => progress.resolve());
    return running;
  };
  const members = [member(), member(), member()];
  const random = new SeededSource('kills');
  await progress.promise;

  const database = new DatabaseSync(path, { timeout: 10_000 });
  onTestFinished(() => database.close());
  const counted = database.prepare('SELECT COUNT(*) AS orders FROM orders');
  const total = () => Number(counted.get()?.orders);
  let kills = 0;
  while (total() < partitions * orders) {
    progress = Promise.withResolvers();
    if (kills < 3 && total() > (kills * partitions * orders) / 4) {
      kills += 1;
      const victim = random.below(members.length);
      members[victim]!.child.kill('SIGKILL');
      members[victim] = member();
    }
    // A member prints a line after each transaction.
    await progress.promise;
  }
  expect(kills).toBe(3);
  for (const { child } of members) child.kill('SIGTERM');
  await Promise.all(members.map(({ ended }) => ended));

  const found = database
    .prepare('SELECT node, epoch, sequence, COUNT(*) AS times FROM orders GROUP BY 1, 2, 3')
    .all();
  expect(found.filter(({ times }) => times !== 1)).toEqual([]);
  expect(found).toHaveLength(partitions * orders);
  expect(total()).toBe(partitions * orders);
  expect(members.map(({ complaints }) => complaints())).toEqual(['', '', '']);
});
