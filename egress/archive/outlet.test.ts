import { expect, test } from 'vitest';
import type { AdmittedOrder } from '../../pipeline/order.ts';
import { spoolArchive } from './outlet.ts';
import { order } from './testing/orders.ts';
import { openTestSpool, readFolder, temporaryFolder } from './testing/spool.ts';

const { value, receivedAtUs, signer, hash } = order(1);

const admitted: AdmittedOrder = {
  order: {
    method: 'eth_sendRawTransaction',
    canonical: value,
    hash,
    key: null,
    signer,
  },
  side: 'user',
  caller: 'user',
  receivedAtUs,
};

test('an admitted order is archived with its canonical bytes, signer, hash and time', async () => {
  const dir = temporaryFolder();
  const archive = spoolArchive(await openTestSpool(dir));
  expect([archive.accepting, archive.refusal]).toEqual([true, '']);
  expect(await new Promise((resolve) => archive.append(admitted, resolve))).toBe(null);
  await archive.close();
  const { records } = await readFolder(dir);
  expect(records[1]).toMatchObject({ ...order(1), sequence: 2 });
});

test('a closed archive says why it refuses', async () => {
  const archive = spoolArchive(await openTestSpool(temporaryFolder()));
  await archive.close();
  expect([archive.accepting, archive.refusal]).toEqual([false, 'the archive is shutting down']);
  const error = await new Promise((resolve) => archive.append(admitted, resolve));
  expect(error).toMatchObject({ reason: 'closing', message: 'the archive is shutting down' });
});
