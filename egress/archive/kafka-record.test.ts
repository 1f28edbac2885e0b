/** The Kafka form of the records: fixed in testdata/kafka-records.json, the same records as in segment.hex. */
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import * as fc from 'fast-check';
import { expect, test } from 'vitest';
import { createSigner, SignatureVerifier } from '../../identity/signature.ts';
import { checkpointText, decodeCheckpoint, encodeCheckpoint, isSignedByNode } from './checkpoint.ts';
import { fromKafka, toKafka, withheldInPlaceOf } from './kafka-record.ts';
import { type ArchiveRecord, chainAfter } from './record.ts';
import { SegmentScan } from './scan.ts';
import { HeaderProblem, listSegments } from './segment.ts';
import { order } from './testing/orders.ts';
import { append, appendEach, openTestSpool, readFolder, temporaryFolder } from './testing/spool.ts';
import { decodeWithheld } from './withheld.ts';

const SEED = 20_260_401;

interface Vectors {
  readonly records: readonly { key: string; headers: Record<string, string>; value: string }[];
  readonly withheld: {
    readonly inPlaceOf: number;
    key: string;
    headers: Record<string, string>;
    value: string;
  };
  readonly checkpoint: { privateKey: string; text: string; value: string };
}

const read = (name: string) => readFileSync(join(import.meta.dirname, 'testdata', name), 'utf8');
const VECTORS: Vectors = JSON.parse(read('kafka-records.json'));

async function fixedRecords(): Promise<ArchiveRecord[]> {
  const path = join(temporaryFolder(), 'vector');
  writeFileSync(path, Buffer.from(read('segment.hex').replace(/#.*|\s/g, ''), 'hex'));
  const scan = await SegmentScan.open(path);
  if (scan instanceof HeaderProblem) throw new Error(scan.message);
  const records: ArchiveRecord[] = [];
  for (let item = await scan.next(); item !== null; item = await scan.next()) {
    records.push({ ...item.record, value: Buffer.from(item.record.value) });
  }
  await scan.close();
  return records;
}

const shown = (record: ArchiveRecord) => {
  const { key, headers, value } = toKafka(record);
  return { key, headers, value: value.toString() };
};

test('the fixed records in Kafka form', async () => {
  const records = await fixedRecords();
  expect(records.map(shown)).toEqual(VECTORS.records);
  const { inPlaceOf, ...withheld } = VECTORS.withheld;
  expect(shown(withheldInPlaceOf(records[inPlaceOf]!))).toEqual(withheld);
});

test('what is encoded is decoded again, whatever the order of its headers and whatever stands beside them', async () => {
  const records = await fixedRecords();
  for (const record of records) {
    const { key, headers, value } = toKafka(record);
    const bytes = Object.entries(headers).map(([name, text]) => [name, Buffer.from(text)] as const);
    const turned = Object.fromEntries([
      ['traceparent', [Buffer.from('a'), 'b']] as const,
      ...bytes.toReversed(),
    ]);
    expect(fromKafka({ key: Buffer.from(key), headers: turned, value })).toEqual(record);
  }
});

test.each([
  ['no value', { value: null }, 'the record has no value'],
  ['another key', { key: 'node-2' }, 'the key is not the node id'],
  ['no key', { key: null }, 'the key is not the node id'],
  ['a header twice', { s: ['2', '3'] }, 'header s is doubled or not printable ASCII'],
  [
    'a line break in a header',
    { method: 'eth_sendBundle\nsigner=0x' },
    'header method is doubled or not printable ASCII',
  ],
  ['no header n', { n: undefined }, 'the headers are malformed'],
  ['a sequence beyond 2^53', { s: '9999999999999999' }, 'a number is out of range'],
  ['a newer schema', { v: '2' }, 'schema version 2 is unknown to this reader'],
  ['very long headers', { other: 'x'.repeat(4096) }, 'the headers are too long'],
])('%s is refused', async (_name, change, problem) => {
  const { key, headers, value } = toKafka((await fixedRecords())[1]!);
  const {
    key: otherKey,
    value: otherValue,
    ...otherHeaders
  } = { key, value, ...change } as {
    key: string | null;
    value: Buffer | null;
  };
  expect(fromKafka({ key: otherKey, headers: { ...headers, ...otherHeaders }, value: otherValue })).toBe(
    problem,
  );
});

test(`headers of any kind never make the decoder throw (fast-check seed ${SEED})`, () => {
  const header = fc.oneof(
    fc.string(),
    fc.uint8Array().map((bytes) => Buffer.from(bytes)),
    fc.array(fc.string()),
  );
  const names = fc.constantFrom('v', 'n', 'e', 's', 'h', 't', 'method', 'control', 'signer', 'hash', 'x');
  fc.assert(
    fc.property(fc.option(fc.string()), fc.dictionary(names, header), (key, headers) => {
      expect(fromKafka({ key, headers, value: Buffer.from('{}') })).toBeTypeOf('string');
    }),
    { seed: SEED, numRuns: 500 },
  );
});

test('a checkpoint is signed as the vector says, and every change of it is noticed', () => {
  const { privateKey, text, value } = VECTORS.checkpoint;
  const signer = createSigner(Buffer.from(privateKey, 'hex'));
  const verifier = new SignatureVerifier({ cacheSize: 16 });
  const verify = (signature: string, signed: Buffer) => verifier.verify(signature, signed);
  const checkpoint = decodeCheckpoint(Buffer.from(value))!;
  expect(checkpoint.n).toBe(signer.addressLower);
  expect(checkpointText(checkpoint)).toBe(text);
  expect(encodeCheckpoint(checkpoint, (signed) => signer.sign(signed)).toString()).toBe(value);
  expect(isSignedByNode(checkpoint, verify)).toBe(true);
  const other = createSigner(Buffer.alloc(32, 9));
  for (const change of [
    { s: checkpoint.s + 1 },
    { e: checkpoint.e + 1 },
    { t: checkpoint.t + 1 },
    { h: 'ab'.repeat(16) },
    { n: other.addressLower },
    { signature: other.sign(text) },
    { signature: '' },
  ]) {
    expect(isSignedByNode({ ...checkpoint, ...change }, verify)).toBe(false);
  }
});

test.each(['', 'null', '[]', '{}', '{"n":1}', '{"n":"a","e":1,"s":1,"h":"b","t":0.5,"signature":"c"}'])(
  'no checkpoint, nothing withheld: %s',
  (text) => {
    expect(decodeCheckpoint(Buffer.from(text))).toBe(null);
    expect(decodeWithheld(Buffer.from(text))).toBe(null);
  },
);

test('a checkpoint in the spool states the record before it', async () => {
  const dir = temporaryFolder();
  const signer = createSigner(Buffer.alloc(32, 7));
  const spool = await openTestSpool(dir, { nodeId: signer.addressLower, partition: 5 });
  await appendEach(spool, 1, 3);
  const atUs = 1_750_000_000_000_000;
  const error = await new Promise((resolve) => spool.checkpoint((text) => signer.sign(text), atUs, resolve));
  expect(error).toBe(null);
  await appendEach(spool, 4, 5);
  const { records, problems, numbers } = await readFolder(dir);
  expect(problems).toEqual([]);
  expect(numbers).toEqual([1, 2, 3, 4, 5]);
  const [before, at] = [records[3]!, records[4]!];
  expect(at.control).toBe('checkpoint');
  const checkpoint = decodeCheckpoint(at.value)!;
  const { nodeId: n, epoch: e } = at;
  expect(checkpoint).toMatchObject({ n, e, s: before.sequence, h: before.chain, t: atUs });
  expect(at.chain).toBe(chainAfter(before.chain, 5, at.value));
});

test('the partition of an epoch stays as it was opened, through restarts and new segments', async () => {
  const dir = temporaryFolder();
  const first = await openTestSpool(dir, { partition: 7 });
  await first.close();
  const second = await openTestSpool(dir, { partition: 2, segmentBytes: 2048 });
  for (let n = 1; n < 20; n += 1) expect(await append(second, order(n))).toBe(null);
  await second.close();
  const segments = await listSegments(dir);
  expect(segments.length).toBeGreaterThan(1);
  for (const { path } of segments) {
    const scan = await SegmentScan.open(path);
    if (scan instanceof HeaderProblem) throw new Error(scan.message);
    expect(scan.header.partition).toBe(7);
    await scan.close();
  }
});
