/** The format is fixed: testdata/segment.hex is what FORMAT.md describes, byte for byte, and stays readable. */
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { CHAIN_START } from './record.ts';
import { SegmentScan } from './scan.ts';
import { decodeSegmentHeader, HeaderProblem } from './segment.ts';
import { append, openTestSpool, temporaryFolder } from './testing/spool.ts';

const VECTOR = Buffer.from(
  readFileSync(join(import.meta.dirname, 'testdata/segment.hex'), 'utf8').replace(/#.*|\s/g, ''),
  'hex',
);

const RECORDS = [
  {
    method: 'eth_sendRawTransaction',
    value: Buffer.from('{"method":"eth_sendRawTransaction","params":["0x02"],"id":0,"jsonrpc":"2.0"}'),
    receivedAtUs: 1_750_000_000_000_100,
    signer: `0x${'ab'.repeat(20)}`,
    hash: `0x${'cd'.repeat(32)}`,
  },
  {
    method: 'eth_cancelBundle',
    value: Buffer.from(
      `{"method":"eth_cancelBundle","params":[{"replacementUuid":"1e5a0a54-2a3b-4b5c-8d6e-7f8091a2b3c4","signingAddress":"0x${'ab'.repeat(20)}"}],"id":0,"jsonrpc":"2.0"}`,
    ),
    receivedAtUs: 1_750_000_000_000_250,
    signer: `0x${'ab'.repeat(20)}`,
    hash: null,
  },
] as const;

test('the fixed segment is written byte for byte', async () => {
  const dir = temporaryFolder();
  const clock = { now: () => 1_750_000_000_000, monotonic: () => 0 };
  const spool = await openTestSpool(dir, { nodeId: 'node-1' }, { clock });
  // One commit.
  await Promise.all(RECORDS.map((record) => append(spool, record)));
  await spool.close();
  const name = readdirSync(dir).find((file) => file.endsWith('.segment'))!;
  expect(name).toBe('00001750000000000000-00000000000000000001.segment');
  expect(readFileSync(join(dir, name)).toString('hex')).toBe(VECTOR.toString('hex'));
});

test('the fixed segment is read', async () => {
  expect(decodeSegmentHeader(VECTOR)).toEqual({
    nodeId: 'node-1',
    epoch: 1_750_000_000_000_000,
    firstSequence: 1,
    chainBefore: CHAIN_START,
    openedAtUs: 1_750_000_000_000_000,
    partition: 0,
  });
  const dir = temporaryFolder();
  const path = join(dir, 'vector');
  writeFileSync(path, VECTOR);
  const scan = await SegmentScan.open(path);
  if (scan instanceof HeaderProblem) throw new Error(scan.message);
  const items = [];
  for (let item = await scan.next(); item !== null; item = await scan.next()) {
    items.push({ ...item, record: { ...item.record, value: Buffer.from(item.record.value) } });
  }
  await scan.close();
  expect(scan.problem).toBe(null);
  const shared = { nodeId: 'node-1', epoch: 1_750_000_000_000_000 };
  expect(items.map(({ record, index }) => ({ record, index }))).toEqual([
    {
      index: 0,
      record: {
        ...shared,
        sequence: 1,
        chain: '9c1922e6c36aeafb58c55538d5fe4f78',
        receivedAtUs: 1_750_000_000_000_000,
        method: null,
        control: 'epoch',
        signer: null,
        hash: null,
        value: Buffer.from('{"n":"node-1","e":1750000000000000,"previous":"unknown"}'),
      },
    },
    {
      index: 0,
      record: {
        ...shared,
        sequence: 2,
        chain: '6004fe5970823138fb32d92c32dd9ef2',
        control: null,
        ...RECORDS[0],
      },
    },
    {
      index: 1,
      record: {
        ...shared,
        sequence: 3,
        chain: '5dede4eb62bb7b80c1295537e37998ad',
        control: null,
        ...RECORDS[1],
      },
    },
  ]);
});
