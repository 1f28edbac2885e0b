import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { listSegments, SEGMENT_HEADER_BYTES } from '../segment.ts';
import type { Spool } from '../spool.ts';
import { failingFiles } from '../testing/failing-files.ts';
import { order, orderNumber, range } from '../testing/orders.ts';
import { append, appendEach, openTestSpool, temporaryFolder } from '../testing/spool.ts';
import { SpoolReader } from './spool-reader.ts';

async function open(
  dir: string,
  spool: Pick<Spool, 'durable'>,
  after: { epoch: number; sequence: number } | null = null,
) {
  const damage: string[] = [];
  const opened = await SpoolReader.open(dir, after, spool.durable, (_segment, offset, message) =>
    damage.push(`${offset} ${message}`),
  );
  onTestFinished(() => opened.reader.close());
  /** Everything that is durable and has not been read. */
  const rest = async (most = 3) => {
    const numbers: (number | null)[] = [];
    for (;;) {
      const batch = await opened.reader.batch(most, 1e6, spool.durable);
      if (batch === null) return numbers;
      expect(batch.records.length).toBeLessThanOrEqual(most);
      expect(batch.end.sequence).toBe(batch.records.at(-1)!.sequence);
      numbers.push(...batch.records.map(orderNumber).filter((number) => number !== null));
    }
  };
  return { ...opened, rest, damage };
}

test('reads across segments, and what comes later', async () => {
  const dir = temporaryFolder();
  const spool = await openTestSpool(dir, { segmentBytes: 2000 });
  await appendEach(spool, 1, 30);
  const { rest, damage } = await open(dir, spool);
  expect(await rest()).toEqual(range(1, 30));
  expect(await rest()).toEqual([]);
  await appendEach(spool, 31, 60);
  expect(await rest()).toEqual(range(31, 60));
  expect(damage).toEqual([]);
});

test.each([0, 1, 4, 5, 6, 29, 31])('goes on behind sequence %i', async (sequence) => {
  const dir = temporaryFolder();
  const spool = await openTestSpool(dir, { segmentBytes: 2000 });
  await appendEach(spool, 1, 30);
  const { epoch } = spool.durable;
  const { rest, chain, position } = await open(dir, spool, { epoch, sequence });
  // Sequence 1 is the opening record: order n has sequence n + 1.
  expect(await rest()).toEqual(range(Math.max(1, sequence), 30));
  expect(chain).toMatch(/^[0-9a-f]{32}$/);
  expect(position).toMatchObject({ epoch, sequence });
});

test('a sequence that the folder has not reached', async () => {
  const dir = temporaryFolder();
  const spool = await openTestSpool(dir);
  await appendEach(spool, 1, 3);
  const { chain } = await open(dir, spool, { epoch: spool.durable.epoch, sequence: 40 });
  expect(chain).toBe(null);
});

test('what a full disk makes the writer take back is never read, even if it had been there', async () => {
  const dir = temporaryFolder();
  const files = failingFiles();
  const spool = await openTestSpool(dir, { probeMs: 5 }, { files });
  await appendEach(spool, 1, 2);
  const { rest } = await open(dir, spool);
  expect(await rest()).toEqual([1, 2]);
  const before = spool.durable;
  files.fail('sync', 'EIO');
  const release = files.holdSyncs();
  const answer = append(spool, order(3));
  // Written, not synced: on the way to be taken back.
  while (readFileSync(join(dir, before.segment)).length === before.end) await new Promise(setImmediate);
  expect(await rest()).toEqual([]);
  release();
  expect((await answer)?.message).toContain('failed');
  expect(spool.durable).toEqual(before);
  expect(await rest()).toEqual([]);
});

test.each([
  ['the one before was read to its end', false],
  ['the one before cannot be read', true],
])('a segment that the writer has begun since it last told: %s', async (_name, spoiled) => {
  const dir = temporaryFolder();
  const files = failingFiles();
  const spool = await openTestSpool(dir, { segmentBytes: 2000 }, { files });
  await appendEach(spool, 1, 2);
  const told = { durable: spool.durable };
  const { segment, epoch, sequence } = told.durable;
  const release = files.holdSyncs();
  onTestFinished(release);
  const answer = append(spool, order(3, 5000));
  // Written to the next segment, not synced.
  const isWritten = async () =>
    (await listSegments(dir)).some(({ name, bytes }) => name > segment && bytes > SEGMENT_HEADER_BYTES);
  while (!(await isWritten())) await new Promise(setImmediate);
  if (spoiled) writeFileSync(join(dir, segment), Buffer.alloc(SEGMENT_HEADER_BYTES));
  const { rest, damage } = await open(dir, told, spoiled ? null : { epoch, sequence });
  expect(await rest()).toEqual([]);
  expect(damage).toHaveLength(spoiled ? 1 : 0);
  release();
  expect(await answer).toBe(null);
  told.durable = spool.durable;
  expect(await rest()).toEqual([3]);
});

test('damage is told, and reading goes on behind it', async () => {
  const dir = temporaryFolder();
  const spool = await openTestSpool(dir, { segmentBytes: 2000 });
  await appendEach(spool, 1, 20);
  const [first] = await listSegments(dir);
  const bytes = readFileSync(first!.path);
  bytes[bytes.indexOf('"id"', 800)]! ^= 1;
  writeFileSync(first!.path, bytes);
  const { rest, damage } = await open(dir, spool);
  const numbers = await rest();
  expect(damage).toEqual([expect.stringContaining('the record does not match its checksum')]);
  expect(numbers).toHaveLength(19);
  expect(numbers.at(-1)).toBe(20);
});
