import { crc32 } from 'node:zlib';
import { expect, onTestFinished, test } from 'vitest';
import { createOrderSource } from '../devnet/orders.ts';
import { startSink } from './sink.ts';

test('notes the first time of each order, counts it again as a duplicate, and forgets on reset', async () => {
  const sink = await startSink({ orders: 2 });
  onTestFinished(() => sink.close());
  const url = `http://127.0.0.1:${sink.port}`;
  const source = createOrderSource({ seed: 'sink test', methods: 'bundles', bodyBytes: 500 });
  const orders = [source.next(), source.next(), source.next()];
  for (const index of [0, 1, 0, 2]) {
    const answer = await fetch(url, { method: 'POST', body: new Uint8Array(orders[index]!.canonical) });
    expect(await answer.json()).toEqual({ jsonrpc: '2.0', id: 0, result: null });
  }
  // The third is beyond what the sink was told there would be.
  expect([sink.distinct, sink.duplicates]).toEqual([2, 1]);
  expect([...sink.checksums]).toEqual([crc32(orders[0]!.canonical), 0]);
  expect(sink.receivedUs[1]!).toBeGreaterThan(sink.receivedUs[0]!);
  sink.reset();
  expect([sink.distinct, sink.duplicates, ...sink.receivedUs]).toEqual([0, 0, Number.NaN, Number.NaN]);
});

test('answers readiness, as a builder does', async () => {
  const sink = await startSink({ orders: 1 });
  onTestFinished(() => sink.close());
  expect(await (await fetch(`http://127.0.0.1:${sink.port}/readyz`)).text()).toBe('OK');
});
