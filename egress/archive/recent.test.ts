import { expect, test } from 'vitest';
import { recentOrders } from './recent.ts';
import { order, orderNumber, range } from './testing/orders.ts';
import { appendEach, openTestSpool, temporaryFolder } from './testing/spool.ts';

test('gives the orders received since a time, over all segments, oldest first', async () => {
  const dir = temporaryFolder('memory');
  const spool = await openTestSpool(dir, { segmentBytes: 1_000 });
  await appendEach(spool, 1, 30);
  await spool.close();

  const recent = await Array.fromAsync(recentOrders(dir, order(12).receivedAtUs), (found) => ({
    ...found,
    number: orderNumber({ method: found.method, value: Buffer.from(found.canonical) }),
  }));
  expect(recent.map(({ number }) => number)).toEqual(range(12, 30));
  const { method, signer, receivedAtUs } = order(12);
  expect(recent[0]).toMatchObject({ method, signer, receivedAtUs });
});

test('gives nothing of a new folder', async () => {
  const dir = temporaryFolder('memory');
  await openTestSpool(dir);
  expect(await Array.fromAsync(recentOrders(dir, 0))).toEqual([]);
});
