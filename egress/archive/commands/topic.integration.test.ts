/** The commands on a Kafka topic: what they tell of it is what they tell of the spool folder that it came from. */
import { execFile } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { PassThrough } from 'node:stream';
import { promisify } from 'node:util';
import { zstdDecompressSync } from 'node:zlib';
import { parquetReadObjects } from 'hyparquet';
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest';
import { startBuilder } from '../../../devnet/builder-stand-in.ts';
import { withheldInPlaceOf } from '../kafka-record.ts';
import type { ArchiveRecord } from '../record.ts';
import { collector, runCommand } from '../testing/command-run.ts';
import { Journal, produce, signedOrders } from '../testing/journal.ts';
import { someKafka } from '../testing/kafka.ts';
import { createTopic, plainClient } from '../testing/kafka-client.ts';
import { kafkaTools } from '../testing/kafka-jars.ts';
import { kafkaOptions, shipperOptions, startTestShipper } from '../testing/shipping.ts';
import { append, openTestSpool, temporaryFolder } from '../testing/spool.ts';
import { UsageError } from './command.ts';
import { exportCommand } from './export.ts';
import { replayCommand } from './replay.ts';
import { statsCommand } from './stats.ts';
import { tailCommand } from './tail.ts';
import { verifyCommand } from './verify.ts';

let kafka: Awaited<ReturnType<typeof someKafka>>;
beforeAll(async () => {
  kafka = await someKafka();
});
afterAll(() => kafka.close());

const env = { KAFKA_TLS: 'false' };

/** A new topic of two partitions with these records. @returns the options that name it. */
async function topicOf(...partitions: readonly (readonly ArchiveRecord[])[]) {
  const topic = `commands-${crypto.randomUUID()}`;
  await createTopic(kafka.brokers, topic, Math.max(2, partitions.length));
  for (const [partition, records] of partitions.entries())
    await produce(kafka.brokers, topic, records, partition);
  return { topic, where: ['--brokers', kafka.brokers.join(), '--topic', topic] };
}

/** Records of a node with really signed orders, a checkpoint after every tenth. */
function nodeRecords(node: number, count: number, seed: string): ArchiveRecord[] {
  const journal = new Journal(node);
  const records = [journal.opening()];
  for (const [index, order] of signedOrders(count, seed).entries()) {
    records.push(journal.add({ ...order, receivedAtUs: order.receivedAtUs + node }));
    if (index % 10 === 9) records.push(journal.checkpoint());
  }
  return records;
}

test('where no archive is, nothing is well', async () => {
  const { topic, where } = await topicOf();
  for (const command of [verifyCommand, exportCommand, statsCommand]) {
    await expect(runCommand(command, where, { env })).rejects.toThrow(
      new UsageError(`--topic: no archive in topic ${topic}, it is empty`),
    );
  }
  const elsewhere = [...where.slice(0, -1), `${topic}-not`];
  await expect(runCommand(verifyCommand, elsewhere, { env })).rejects.toThrow(
    new UsageError(`--topic: these brokers have no topic ${topic}-not`),
  );
});

test('a topic and the folder that was shipped to it tell the same', async () => {
  const dir = temporaryFolder();
  const topic = `commands-${crypto.randomUUID()}`;
  const where = ['--brokers', kafka.brokers.join(), '--topic', topic];
  const spool = await openTestSpool(dir, {
    shipping: { topic, maxBytes: 1e9, lowBytes: 5e8, maxMs: 60_000, lowMs: 30_000 },
  });
  const shipper = startTestShipper(spool, shipperOptions(dir, kafkaOptions(kafka.brokers, topic)));
  for (const order of signedOrders(60)) await append(spool, order);
  await shipper.caughtUp();
  await shipper.stop();
  await spool.close();

  for (const [command, args] of [
    [exportCommand, []],
    [exportCommand, ['--method', 'eth_sendRawTransaction', '--method', 'eth_cancelBundle']],
    [exportCommand, ['--until', '2025-06-15T15:06:40.020Z']],
    [tailCommand, ['--no-follow', '-n', '7']],
    [tailCommand, ['--no-follow', '--since', '2025-06-15']],
    [statsCommand, ['--json']],
  ] as const) {
    const ofFolder = await runCommand(command, ['--dir', dir, ...args], { env });
    const ofTopic = await runCommand(command, [...where, ...args], { env });
    expect(ofTopic, args.join(' ')).toEqual(ofFolder);
    expect([ofTopic.code, ofTopic.err]).toEqual([0, '']);
    expect(ofTopic.lines.length).toBeGreaterThan(0);
  }
  const verified = await runCommand(verifyCommand, where, { env });
  expect(verified.code).toBe(0);
  expect(verified.lines.at(-2)).toMatch(
    /^60 orders, 3 partitions, 1 epoch, 61 records, received from 2025-06-15/,
  );
  expect(verified.lines.at(-1)).toBe('all is well');
});

test('an order that the brokers refused as too large is told, and where it is', async () => {
  const journal = new Journal();
  const records = [journal.opening(), ...signedOrders(3).map((order) => journal.add(order))];
  const { where } = await topicOf(records.with(2, withheldInPlaceOf(records[2]!)));
  const { code, lines } = await runCommand(verifyCommand, where, { env });
  expect(code).toBe(1);
  expect(lines.filter((line) => line.startsWith('PROBLEM'))).toEqual([
    expect.stringMatching(
      /^PROBLEM {2}partition 0 at 2: the order at sequence 3 of .* was too large for the brokers; its node has it$/,
    ),
  ]);
  expect(lines.at(-2)).toMatch(/^2 orders, /);
});

test('several nodes are merged by time; one can be picked', async () => {
  const { where } = await topicOf(nodeRecords(1, 30, 'a'), nodeRecords(2, 30, 'b'));
  const { lines } = await runCommand(exportCommand, where, { env });
  const times = lines.map((line) => JSON.parse(line).t as number);
  expect(times).toEqual(times.toSorted((a, b) => a - b));
  expect(lines).toHaveLength(60);
  const second = new Journal(2).nodeId;
  const picked = await runCommand(exportCommand, [...where, '--node', second], { env });
  expect(picked.lines).toEqual(lines.filter((line) => JSON.parse(line).n === second));
  expect(picked.lines).toHaveLength(30);
});

describe('verify', () => {
  test('gaps, duplicates, altered and forged records, each with its place', async () => {
    const records = nodeRecords(1, 40, 'c');
    const forged = { ...records[30]!, signer: `0x${'9'.repeat(40)}` as const };
    const partition = [
      ...records.slice(0, 10),
      ...records.slice(5, 12),
      ...records.slice(15, 20),
      { ...records[20]!, value: records[21]!.value },
      ...records.slice(21, 30),
      forged,
      ...records.slice(31),
    ];
    const { where } = await topicOf(partition);
    const { code, lines } = await runCommand(verifyCommand, where, { env });
    expect(code).toBe(1);
    expect(lines.filter((line) => line.startsWith('PROBLEM'))).toEqual([
      expect.stringMatching(
        /^PROBLEM {2}partition 0 at 17: sequences 13 to 15 of epoch \d+ of node 0x\w+ are missing$/,
      ),
      expect.stringMatching(
        /partition 0 at 22: sequence 21 of epoch .* is not what was written: the hash chain breaks$/,
      ),
      expect.stringMatching(/partition 0 at 32: sequence 31 of epoch .*: the order names another signer/),
    ]);
    expect(lines.at(-2)).toMatch(/, 5 duplicates left out, /);
    expect(lines.at(-1)).toBe('3 problems found');
  });

  test('what is no record of the archive', async () => {
    const { topic, where } = await topicOf(nodeRecords(1, 3, 'd'));
    const producer = plainClient(kafka.brokers).producer();
    await producer.connect();
    await producer.send({ topic, messages: [{ value: 'hello', partition: 0 }] });
    await producer.disconnect();
    const { code, out } = await runCommand(verifyCommand, where, { env });
    expect(code).toBe(1);
    expect(out).toMatch(/PROBLEM {2}partition 0 at 4: no record of the archive: the headers are malformed\n/);
  });
});

test('tail follows a topic as records arrive', async () => {
  const records = nodeRecords(1, 25, 'e');
  const { topic, where } = await topicOf(records.slice(0, 12));
  const stop = new AbortController();
  onTestFinished(() => stop.abort());
  const stdout = new PassThrough();
  const stderr = collector();
  const done = tailCommand.run([...where, '-n', '2'], {
    stdout,
    stderr,
    env,
    signal: stop.signal,
    now: () => Date.now(),
  });
  const seen: number[] = [];
  for await (const line of createInterface({ input: stdout })) {
    seen.push(JSON.parse(line).s);
    if (seen.length === 2) await produce(kafka.brokers, topic, records.slice(12));
    if (seen.at(-1) === records.findLast(({ method }) => method !== null)!.sequence) break;
  }
  stop.abort();
  expect(await done).toBe(0);
  const orders = records.filter(({ method }) => method !== null).map(({ sequence }) => sequence);
  expect(seen).toEqual(orders.slice(orders.indexOf(seen[0]!)));
  expect(seen[0]).toBe(10);
  expect(stderr.text()).toBe('');
});

describe('export to Parquet', () => {
  test('every order is a row, read back by another library', async () => {
    const records = nodeRecords(1, 50, 'f');
    const { where } = await topicOf(records);
    const path = join(temporaryFolder(), 'orders.parquet');
    const { code, err } = await runCommand(exportCommand, [...where, '-o', path], { env });
    expect([code, err]).toEqual([0, '50 orders written, 0 problems found\n']);
    const file = readFileSync(path);
    const rows = await parquetReadObjects({
      file: file.buffer.slice(file.byteOffset, file.byteOffset + file.length),
      compressors: { ZSTD: (bytes) => new Uint8Array(zstdDecompressSync(bytes)) },
    });
    expect(rows).toEqual(
      records
        .filter(({ method }) => method !== null)
        .map((record) => ({
          node: record.nodeId,
          epoch: BigInt(record.epoch),
          sequence: BigInt(record.sequence),
          chain: record.chain,
          received_at: new Date(record.receivedAtUs / 1000),
          method: record.method,
          signer: record.signer,
          hash: record.hash,
          order: record.value.toString(),
        })),
    );
  });

  test('needs a file', async () => {
    await expect(runCommand(exportCommand, ['--format', 'parquet'])).rejects.toThrow(
      'parquet needs --output',
    );
    await expect(runCommand(exportCommand, ['--format', 'csv'])).rejects.toThrow(
      'neither ndjson nor parquet',
    );
  });
});

describe('replay', () => {
  test('the builder gets the same bytes in the same order, at the pace asked for', async () => {
    const builder = await startBuilder({ keepBodies: true });
    onTestFinished(() => builder.close());
    const records = nodeRecords(1, 40, 'g');
    const { where } = await topicOf(records);
    const replay = (...args: string[]) =>
      runCommand(replayCommand, [...where, '--to', builder.url, ...args], { env });
    // 40 orders, 1 ms apart: 39 ms as received.
    const startedAt = performance.now();
    const { code, err } = await replay('--speed', '0.1', '--connections', '1');
    expect(performance.now() - startedAt).toBeGreaterThan(390);
    expect([code, err]).toEqual([0, '40 orders sent, 0 failed, 0 problems found\n']);
    const sent = records.filter(({ method }) => method !== null).map(({ value }) => value.toString());
    expect(builder.records().map(({ body }) => body?.toString())).toEqual(sent);
    expect(await replay('--speed', 'max')).toMatchObject({ code: 0 });
    expect(builder.received).toBe(80);
  });

  test('a builder that is not there: each order counts as failed', async () => {
    const { where } = await topicOf(nodeRecords(1, 12, 'h'));
    const { code, err } = await runCommand(
      replayCommand,
      [...where, '--to', 'http://127.0.0.1:1', '--speed', 'max'],
      { env },
    );
    expect(code).toBe(1);
    expect(
      err.match(/^FAILED {2}sequence \d+ of epoch \d+ of node 0x\w+: connect ECONNREFUSED/gm),
    ).toHaveLength(10);
    expect(err).toMatch(/\n0 orders sent, 12 failed, 0 problems found\n$/);
  });

  test('wrong usage is named', async () => {
    const refused = (...args: string[]) => expect(runCommand(replayCommand, args)).rejects;
    await refused().toThrow('--to: the URL of a builder is missing');
    await refused('--to', 'builder').toThrow("--to: 'builder' is no http:// or https:// URL");
    await refused('--to', 'http://b', '--speed', '0').toThrow("--speed: '0' is neither");
    await refused('--to', 'http://b', '--connections', '0').toThrow("--connections: '0' is no number");
    await refused('--to', 'http://b', '--brokers', 'b').toThrow("KAFKA_BROKERS: 'b' is not HOST:PORT");
    await refused('--to', 'http://b', '--dir', 'd', '--topic', 't').toThrow('--dir: not together with');
    await refused('--to', 'http://b', '--topic', 't').toThrow('--topic: needs --brokers');
  });
});

test('stats name what they count', async () => {
  const { where } = await topicOf(nodeRecords(1, 30, 'k'), nodeRecords(2, 20, 'l'));
  const { code, lines } = await runCommand(statsCommand, [...where, '--top', '1'], { env });
  expect(code).toBe(0);
  expect(lines[0]).toMatch(/^50 orders, \d+ bytes$/);
  expect(lines).toContainEqual(expect.stringMatching(new RegExp(`^${new Journal(2).nodeId} +20 +\\d+$`)));
  expect(lines.slice(lines.findIndex((line) => line.startsWith('signer ('))).length).toBe(2);
  const json = JSON.parse(
    (await runCommand(statsCommand, [...where, '--json', '--node', new Journal(1).nodeId], { env })).out,
  );
  expect(json).toMatchObject({
    orders: 30,
    nodes: [{ name: new Journal(1).nodeId, orders: 30 }],
    problems: 0,
  });
  expect(json.orderBytes.p50).toBeLessThan(json.orderBytes.p99);
  await expect(runCommand(statsCommand, ['--top', 'x'])).rejects.toThrow("--top: 'x' is no number");
});

test('a plain tool sees headers as text and orders as lines of JSON', async () => {
  const records = nodeRecords(1, 5, 'j');
  const { topic } = await topicOf(records);
  const { java, classPath } = await kafkaTools();
  const tool = `-XX:TieredStopAtLevel=1 -cp ${classPath} org.apache.kafka.tools.consumer.ConsoleConsumer`;
  const what = `--bootstrap-server ${kafka.brokers.join()} --topic ${topic} --partition 0 --offset earliest`;
  const how = `--max-messages ${records.length} --formatter-property print.headers=true --formatter-property print.key=true`;
  const { stdout } = await promisify(execFile)(java, `${tool} ${what} ${how}`.split(' '));
  const expected = records.map((record) => {
    const { nodeId, epoch, sequence, chain, receivedAtUs, method, control, signer, hash, value } = record;
    const fields = {
      v: 1,
      n: nodeId,
      e: epoch,
      s: sequence,
      h: chain,
      t: receivedAtUs,
      method,
      control,
      signer,
      hash,
    };
    const headers = Object.entries(fields).flatMap(([name, text]) =>
      text === null ? [] : [`${name}:${text}`],
    );
    return `${headers.join()}\t${nodeId}\t${value.toString()}`;
  });
  expect(stdout.trimEnd().split('\n')).toEqual(expected);
});

test('a terminal sees the progress in records', async () => {
  const { where } = await topicOf(nodeRecords(1, 20, 'i'));
  const { err } = await runCommand(verifyCommand, where, { env, isTTY: true });
  expect(err).toMatch(/^\r\[[#.]{30}\] +\d+ % {2}\d+ of 23 records/);
  expect(err.endsWith('\r\u001b[K')).toBe(true);
});
