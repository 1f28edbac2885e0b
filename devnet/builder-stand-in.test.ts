import { createHash } from 'node:crypto';
import { expect, onTestFinished, test } from 'vitest';
import { type BuilderOptions, type BuilderStandIn, startBuilder } from './builder-stand-in.ts';

async function started(options: BuilderOptions = {}): Promise<BuilderStandIn> {
  const builder = await startBuilder(options);
  onTestFinished(() => builder.close());
  return builder;
}

async function post(builder: BuilderStandIn, body: string): Promise<unknown> {
  const response = await fetch(builder.url, { method: 'POST', body });
  expect(response.headers.get('content-type')).toBe('application/json');
  return response.json();
}

const ORDER = '{"method":"eth_sendBundle","params":[{"txs":null,"blockNumber":null}],"id":0,"jsonrpc":"2.0"}';

test('records the exact bytes of an order and answers null', async () => {
  const builder = await started({ keepBodies: true });
  const before = Date.now() * 1000;
  expect(await post(builder, ORDER)).toEqual({ jsonrpc: '2.0', id: 0, result: null });
  const [record] = builder.records();
  expect(record).toMatchObject({ sequence: 1, method: 'eth_sendBundle', bytes: ORDER.length });
  expect(record?.sha256).toBe(createHash('sha256').update(ORDER).digest('hex'));
  expect(record?.body?.toString()).toBe(ORDER);
  expect(record?.receivedAtUs).toBeGreaterThanOrEqual(before - 1000);
});

test('refuses what is no order and records nothing of it', async () => {
  const builder = await started();
  expect(await post(builder, '{"id":7,"method":"eth_chainId"}')).toMatchObject({
    id: 7,
    error: { code: -32601 },
  });
  expect(await post(builder, 'nonsense')).toMatchObject({ id: null, error: { code: -32700 } });
  expect(await post(builder, '[]')).toMatchObject({ id: null, error: { code: -32700 } });
  expect(builder.received).toBe(0);
});

test('keeps the newest records alone when the limit is reached, oldest first', async () => {
  const builder = await started({ limit: 3 });
  for (let i = 0; i < 5; i++) await post(builder, ORDER);
  expect(builder.received).toBe(5);
  expect(builder.records().map((record) => record.sequence)).toEqual([3, 4, 5]);
  expect(builder.records()[0]).not.toHaveProperty('body');
});

test('hands its records out as NDJSON', async () => {
  const builder = await started({ keepBodies: true });
  await post(builder, ORDER);
  await post(builder, ORDER);
  const lines = (await (await fetch(`${builder.url}/orders`)).text()).trimEnd().split('\n');
  expect(lines.map((line) => JSON.parse(line) as object)).toEqual([
    expect.objectContaining({ sequence: 1, body: ORDER }),
    expect.objectContaining({ sequence: 2, body: ORDER }),
  ]);
});

test('answers readiness as told', async () => {
  const builder = await started();
  expect((await fetch(`${builder.url}/readyz`)).status).toBe(200);
  builder.setReady(false);
  expect((await fetch(`${builder.url}/readyz`)).status).toBe(503);
});

test('waits for a number of orders, or for the signal', async () => {
  const builder = await started();
  const two = builder.waitFor(2);
  await post(builder, ORDER);
  await post(builder, ORDER);
  await two;
  await builder.waitFor(2);
  const abort = new AbortController();
  const three = builder.waitFor(3, abort.signal);
  abort.abort();
  await expect(three).rejects.toThrow('the builder has 2 of 3 orders');
});

test('says which listen address it does not take', async () => {
  await expect(startBuilder({ listen: 'nonsense' })).rejects.toThrow('listen must be host:port');
  await expect(startBuilder({ listen: '127.0.0.1:99999' })).rejects.toThrow('listen must be host:port');
});
