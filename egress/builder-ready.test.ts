/** The readiness poll against a server that changes its mind. */
import { expect, onTestFinished, test } from 'vitest';
import { startBuilderReady } from './builder-ready.ts';
import { startJsonRpcSink } from './testing/json-rpc-sink.ts';
import { startRawServer } from './testing/raw-server.ts';

/** Collects changes; `next` gives them one by one. */
function changes(): {
  onChange: (ready: boolean, reason: string) => void;
  next: () => Promise<[boolean, string]>;
} {
  const seen: [boolean, string][] = [];
  const waiting: ((change: [boolean, string]) => void)[] = [];
  return {
    onChange: (ready, reason) => {
      const waiter = waiting.shift();
      if (waiter === undefined) seen.push([ready, reason]);
      else waiter([ready, reason]);
    },
    next: () => {
      const change = seen.shift();
      return change === undefined ? new Promise((resolve) => waiting.push(resolve)) : Promise.resolve(change);
    },
  };
}

test('is always ready without an endpoint', async () => {
  const ready = startBuilderReady({ endpoint: undefined });
  expect(ready.ready).toBe(true);
  await ready.close();
});

test('follows the endpoint: ready, not ready, gone, back', async () => {
  const sink = await startJsonRpcSink();
  const { port } = sink;
  const { onChange, next } = changes();
  const ready = startBuilderReady({ endpoint: new URL('/base/', sink.url), intervalMs: 10 }, { onChange });
  onTestFinished(() => ready.close());
  expect({ ready: ready.ready, reason: ready.reason }).toEqual({ ready: false, reason: 'not asked yet' });
  expect(await next()).toEqual([true, 'OK']);
  sink.readyStatus = 503;
  expect(await next()).toEqual([false, 'builder answers 503']);
  sink.readyStatus = 200;
  expect(await next()).toEqual([true, 'OK']);
  await sink.close();
  expect(await next()).toEqual([false, 'builder is down']);
  const again = await startJsonRpcSink({ port });
  onTestFinished(() => again.close());
  expect(await next()).toEqual([true, 'OK']);
  expect({ ready: ready.ready, reason: ready.reason }).toEqual({ ready: true, reason: 'OK' });
});

test('is not ready while the endpoint accepts and does not answer', async () => {
  let answers = true;
  const server = await startRawServer((socket) => {
    socket.on('data', () => {
      if (answers) socket.end('HTTP/1.1 200 OK\r\n\r\n');
    });
  });
  onTestFinished(() => server.close());
  const { onChange, next } = changes();
  const ready = startBuilderReady({ endpoint: server.url, intervalMs: 10, timeoutMs: 50 }, { onChange });
  onTestFinished(() => ready.close());
  expect(await next()).toEqual([true, 'OK']);
  answers = false;
  expect(await next()).toEqual([false, 'builder does not answer']);
});
