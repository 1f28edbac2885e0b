import { readdirSync, truncateSync } from 'node:fs';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { follow } from './follow.ts';
import { failingFiles } from './testing/failing-files.ts';
import { order, orderNumber, range } from './testing/orders.ts';
import { append, appendEach, openTestSpool, temporaryFolder } from './testing/spool.ts';

/** A follower of a folder from its beginning, and what it reports. */
function following(dir: string, wait = true) {
  const stop = new AbortController();
  onTestFinished(() => stop.abort());
  const reports: string[] = [];
  const records = follow(dir, null, wait, stop.signal, (message) => reports.push(message));
  /** The numbers of the next `count` orders. */
  const take = async (count: number) => {
    const numbers: number[] = [];
    while (numbers.length < count) {
      const { value, done } = await records.next();
      if (done === true) break;
      const number = orderNumber(value.record);
      if (number !== null) numbers.push(number);
    }
    return numbers;
  };
  return { take, reports, stop, records };
}

test('orders are delivered as they are archived, across segments', async () => {
  const dir = temporaryFolder();
  const { take, reports } = following(dir);
  const spool = await openTestSpool(dir, { segmentBytes: 4096 });
  for (const round of range(0, 4)) {
    const numbers = range(round * 20 + 1, round * 20 + 20);
    const [delivered] = await Promise.all([take(20), ...numbers.map((n) => append(spool, order(n)))]);
    expect(delivered).toEqual(numbers);
  }
  expect(readdirSync(dir).length).toBeGreaterThan(4);
  expect(reports).toEqual([]);
});

test('a new epoch is followed', async () => {
  const dir = temporaryFolder();
  const { take } = following(dir);
  const spool = await openTestSpool(dir);
  await appendEach(spool, 1, 2);
  expect(await take(2)).toEqual([1, 2]);
  await spool.close();
  const next = await openTestSpool(dir, { nodeId: 'node-2' });
  await appendEach(next, 3, 3);
  expect(await take(1)).toEqual([3]);
});

test('without waiting it ends where the folder ends', async () => {
  const dir = temporaryFolder();
  const spool = await openTestSpool(dir);
  await appendEach(spool, 1, 3);
  expect(await following(dir, false).take(10)).toEqual([1, 2, 3]);
});

test('stopping ends a wait', async () => {
  const { take, stop } = following(temporaryFolder());
  const taken = take(1);
  stop.abort();
  expect(await taken).toEqual([]);
});

test('records that a full disk takes back are reported, and what replaces them is delivered', async () => {
  const dir = temporaryFolder();
  const spool = await openTestSpool(dir, {}, { files: failingFiles() });
  await appendEach(spool, 1, 4);
  const { take, reports } = following(dir);
  expect(await take(4)).toEqual([1, 2, 3, 4]);
  await spool.close();

  // What the writer does when a write has failed half-way: it cuts back to the last durable record.
  const path = join(dir, readdirSync(dir).find((name) => name.endsWith('.segment'))!);
  const waiting = take(1);
  truncateSync(path, 309);
  const again = await openTestSpool(dir);
  await appendEach(again, 9, 9);
  expect(await waiting).toEqual([9]);
  expect(reports).toEqual([expect.stringContaining('taken back')]);
});
