/** The builder, and with it a target's whole life, over real sockets. */
import { Worker } from 'node:worker_threads';
import { describe, expect, onTestFinished, test } from 'vitest';
import { BUILDER_TARGET, type Builder, type BuilderOptions, createBuilder } from './builder.ts';
import { type JsonRpcSink, type SinkOptions, startJsonRpcSink } from './testing/json-rpc-sink.ts';
import { startRawServer } from './testing/raw-server.ts';
import { orderIds, Recorder, testClock, testOrder } from './testing/recorder.ts';

const FAST = { reconnect: { baseMs: 10, maxMs: 40 }, retry: { baseMs: 10, maxMs: 40 } };
const UNKNOWN_PEER =
  '{"jsonrpc":"2.0","id":0,"error":{"code":-32000,"message":"unknown peers can\'t send to the system address"}}';

function range(count: number, from = 0): number[] {
  return Array.from({ length: count }, (_, i) => from + i);
}

function ascending(ids: readonly number[]): number[] {
  return [...ids].sort((a, b) => a - b);
}

async function startSink(options?: SinkOptions): Promise<JsonRpcSink> {
  const sink = await startJsonRpcSink(options);
  onTestFinished(() => sink.close());
  return sink;
}

/** A builder that is up (unless it cannot be), and what it reports. */
async function connect(
  endpoint: URL,
  options: Partial<BuilderOptions> = {},
): Promise<{ builder: Builder; events: Recorder }> {
  const { builder, events } = start(endpoint, options);
  await events.until(() => builder.up);
  return { builder, events };
}

function start(endpoint: URL, options: Partial<BuilderOptions> = {}): { builder: Builder; events: Recorder } {
  const events = new Recorder();
  const builder = createBuilder({ ...FAST, ...options, endpoint }, { events, now: testClock });
  onTestFinished(() => builder.close(0));
  return { builder, events };
}

describe('an order', () => {
  test('leaves in the same call: the builder has it while our thread has not gone on', async () => {
    const shared = new Int32Array(new SharedArrayBuffer(8));
    const worker = new Worker(
      `const { workerData: shared } = require('node:worker_threads');
       require('node:net').createServer((socket) => socket.on('data', (chunk) => {
         Atomics.add(shared, 1, chunk.length);
         Atomics.notify(shared, 1);
       })).listen(0, '127.0.0.1', function () { require('node:worker_threads').parentPort.postMessage(this.address().port); });`,
      { eval: true, workerData: shared },
    );
    onTestFinished(async () => void (await worker.terminate()));
    const port = await new Promise<number>((resolve) => worker.once('message', resolve));
    const { builder } = await connect(new URL(`http://127.0.0.1:${port}/`));
    const order = testOrder(1, 6_900);
    builder.send(order);
    while (shared[1]! < order.order.canonical.length) {
      if (Atomics.wait(shared, 1, shared[1]!, 5_000) === 'timed-out') break;
    }
    expect(shared[1]).toBeGreaterThan(order.order.canonical.length);
  });

  test('is a POST with four header lines and the canonical bytes', async () => {
    const seen = Promise.withResolvers<string>();
    const server = await startRawServer((socket) => {
      socket.on('data', (chunk) => seen.resolve(chunk.toString()));
    });
    onTestFinished(() => server.close());
    const { builder } = await connect(new URL('rpc?x=1', server.url));
    const order = testOrder(7, 300);
    builder.send(order);
    expect(await seen.promise).toBe(
      `POST /rpc?x=1 HTTP/1.1\r\nHost: 127.0.0.1:${server.port}\r\nContent-Type: application/json\r\n` +
        `Content-Length: 300\r\n\r\n${order.order.canonical.toString()}`,
    );
  });

  test('goes to the connection with the fewest outstanding', async () => {
    const sink = await startSink({ answer: () => ({ delayMs: 200 }) });
    const { builder, events } = await connect(sink.url, { connections: 4 });
    await events.until(() => events.connectedTo.get(BUILDER_TARGET) === 4);
    for (const id of range(4)) builder.send(testOrder(id));
    const requests = await sink.received(4);
    expect(new Set(requests.map((request) => request.connection)).size).toBe(4);
  });

  test('goes past a connection that does not answer, as far as others are less busy', async () => {
    const sink = await startSink({
      answer: (_, index) => (index === 0 ? { never: true } : { delayMs: 100 }),
    });
    const { builder, events } = await connect(sink.url, { connections: 2 });
    await events.until(() => events.connectedTo.get(BUILDER_TARGET) === 2);
    for (const id of range(10)) builder.send(testOrder(id));
    await events.until(() => events.accepted.length === 5);
    const [stuck] = sink.requests;
    const others = sink.requests.filter((request) => request.connection !== stuck?.connection);
    expect(orderIds(others)).toEqual([1, 3, 5, 7, 9]);
  });

  test('does not overtake one that waits', async () => {
    const sink = await startSink({ answer: () => ({ delayMs: 20 }) });
    const { builder, events } = await connect(sink.url, { connections: 1, maxOutstandingBytes: 10_000 });
    builder.send(testOrder(0, 1_000));
    builder.send(testOrder(1, 50_000));
    builder.send(testOrder(2, 1_000));
    await events.until(() => events.accepted.length === 3);
    expect(orderIds(sink.requests)).toEqual([0, 1, 2]);
  });

  test('larger than a connection may have unanswered beside others: one at a time on all of them', async () => {
    const sink = await startSink({ answer: () => ({ delayMs: 20 }) });
    const { builder, events } = await connect(sink.url, { connections: 4, maxOutstandingBytes: 10_000 });
    await events.until(() => events.connectedTo.get(BUILDER_TARGET) === 4);
    for (const id of range(3)) builder.send(testOrder(id, 20_000));
    expect(builder.state()).toMatchObject({ outstanding: 1, queueLength: 2 });
    await events.until(() => events.accepted.length === 3);
    expect(orderIds(sink.requests)).toEqual([0, 1, 2]);
    expect(builder.state()).toMatchObject({ outstanding: 0, queueLength: 0 });
  });

  test('is reported: sent, answered, with times', async () => {
    const sink = await startSink({ answer: () => ({ delayMs: 30 }) });
    const { builder, events } = await connect(sink.url);
    builder.send(testOrder(1));
    await events.until(() => events.accepted.length === 1);
    const [e2e] = events.e2eMs.get(BUILDER_TARGET) ?? [];
    expect(e2e).toBeGreaterThanOrEqual(29);
    expect(e2e).toBeLessThan(5_000);
    expect(events.sentTo.get(BUILDER_TARGET)).toBe(1);
  });
});

describe('a builder that is down', () => {
  test('gets what waited, in order, when it is up', async () => {
    const first = await startSink();
    const { port } = first;
    await first.close();
    const { builder, events } = start(new URL(`http://127.0.0.1:${port}`), { connections: 1 });
    for (const id of range(200)) builder.send(testOrder(id));
    await events.until(() => (events.endCounts(BUILDER_TARGET).connect_failed ?? 0) >= 3);
    expect(builder.up).toBe(false);
    expect(builder.state()).toMatchObject({ queueLength: 200, outstanding: 0, connectionsUp: 0 });
    const sink = await startSink({ port });
    expect(orderIds(await sink.received(200))).toEqual(range(200));
    await events.until(() => events.accepted.length === 200);
    expect(builder.state()).toMatchObject({ queueLength: 0, queueBytes: 0, outstanding: 0, oldestAgeMs: 0 });
  });

  test('is tried with growing pauses, whatever the flow of orders', async () => {
    const server = await startRawServer((socket) => socket.resetAndDestroy());
    onTestFinished(() => server.close());
    const { builder, events } = start(server.url, { reconnect: { baseMs: 20, maxMs: 10_000 } });
    const began = performance.now();
    while (performance.now() - began < 500) {
      builder.send(testOrder(1));
      await new Promise((resolve) => setImmediate(resolve));
    }
    // The first four at once, then waits of at least 10, 20, 40, 80, 160, 320 ms.
    expect(server.sockets.length).toBeLessThanOrEqual(4 + 6);
    expect(events.accepted).toEqual([]);
  });

  test('costs the orders beyond the bound in bytes, the new ones', async () => {
    const { builder, events } = start(new URL('http://127.0.0.1:1'), { queueBytes: 10 * 1_512 });
    for (const id of range(25)) builder.send(testOrder(id, 1_000));
    expect(events.dropCounts(BUILDER_TARGET)).toEqual({ queue_full: 15 });
    expect(orderIds(events.drops.map((drop) => ({ body: drop.admitted.order.canonical })))).toEqual(
      range(15, 10),
    );
    expect(builder.state()).toMatchObject({ queueLength: 10, queueBytes: 10 * 1_512 });
  });

  test('costs the orders that grow too old, without another order coming', async () => {
    const { builder, events } = start(new URL('http://127.0.0.1:1'), { queueAgeMs: 60 });
    for (const id of range(5)) builder.send(testOrder(id));
    await events.until(() => events.drops.length === 5);
    expect(events.dropCounts(BUILDER_TARGET)).toEqual({ expired: 5 });
    expect(builder.state()).toMatchObject({ queueLength: 0, queueBytes: 0 });
  });

  test('comes back on the same port: nothing is lost', async () => {
    const sink = await startSink({ answer: (_, index) => (index === 30 ? { reset: true } : { delayMs: 1 }) });
    const { port } = sink;
    const { builder, events } = await connect(sink.url);
    for (const id of range(100)) builder.send(testOrder(id));
    await sink.received(31);
    await sink.close();
    for (const id of range(100, 100)) builder.send(testOrder(id));
    const again = await startSink({ port });
    await events.until(() => events.accepted.length === 200);
    const seen = new Set([...orderIds(sink.requests), ...orderIds(again.requests)]);
    expect(ascending([...seen])).toEqual(range(200));
    expect(events.drops).toEqual([]);
  });
});

describe('a connection that is lost', () => {
  test('in the middle of a pipeline of 50: every order has one fate, all arrive', async () => {
    const sink = await startSink({ answer: (_, index) => (index === 20 ? { reset: true } : undefined) });
    const { builder, events } = await connect(sink.url, { connections: 1 });
    for (const id of range(50)) builder.send(testOrder(id));
    await events.until(() => events.accepted.length === 50);
    expect(ascending(orderIds(events.accepted.map((each) => ({ body: each.order.canonical }))))).toEqual(
      range(50),
    );
    expect(ascending([...new Set(orderIds(sink.requests))])).toEqual(range(50));
    // The answers to the first twenty may have been overtaken by the reset.
    expect(events.resentTo.get(BUILDER_TARGET)).toBeGreaterThanOrEqual(30);
    expect(events.failureCounts(BUILDER_TARGET).connection_lost).toBe(events.resentTo.get(BUILDER_TARGET));
    // What comes back stands before what waited: the second connection sees the orders in order.
    const second = orderIds(sink.requests.filter((request) => request.connection === 1));
    expect(second).toEqual(ascending(second));
    expect({ drops: events.drops, state: builder.state() }).toMatchObject({
      drops: [],
      state: { queueLength: 0, queueBytes: 0, outstanding: 0 },
    });
  });

  test('with Connection: close after each answer, as long as it lasts', async () => {
    const sink = await startSink({ answer: () => ({ close: true }) });
    const { builder, events } = await connect(sink.url, { connections: 2 });
    for (const id of range(10)) builder.send(testOrder(id));
    await events.until(() => events.accepted.length === 10);
    expect(ascending([...new Set(orderIds(sink.requests))])).toEqual(range(10));
  });

  test('by a server that answers 400 and closes: the order is not tried again, the others are', async () => {
    const sink = await startSink({
      answer: (_, index) => (index === 0 ? { status: 400, close: true } : undefined),
    });
    const { builder, events } = await connect(sink.url, { connections: 1 });
    for (const id of range(5)) builder.send(testOrder(id));
    await events.until(() => events.accepted.length === 4);
    expect(orderIds(events.rejected.map((each) => ({ body: each.order.canonical })))).toEqual([0]);
    expect(events.failureCounts(BUILDER_TARGET).http_4xx).toBe(1);
  });

  test('because nothing is answered: one order at a time asks from then on', async () => {
    const sink = await startSink({ answer: () => ({ never: true }) });
    const { builder, events } = await connect(sink.url, { connections: 2, responseTimeoutMs: 60 });
    for (const id of range(100)) builder.send(testOrder(id));
    await events.until(() => (events.endCounts(BUILDER_TARGET).response_timeout ?? 0) >= 4);
    expect(builder.state().outstanding).toBeLessThanOrEqual(1);
    const resentBefore = events.resentTo.get(BUILDER_TARGET) ?? 0;
    await events.until(() => (events.endCounts(BUILDER_TARGET).response_timeout ?? 0) >= 7);
    expect((events.resentTo.get(BUILDER_TARGET) ?? 0) - resentBefore).toBeLessThanOrEqual(3);
    sink.answer = undefined;
    await events.until(() => events.accepted.length === 100);
    expect(events.drops).toEqual([]);
  });

  test.each([
    ['garbage', 'no HTTP\r\n\r\n'],
    ['half a response', 'HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf'],
  ])('by %s: the orders arrive all the same', async (_name, raw) => {
    const sink = await startSink({ answer: (_, index) => (index === 2 ? { raw, end: true } : undefined) });
    const { builder, events } = await connect(sink.url, { connections: 1 });
    for (const id of range(10)) builder.send(testOrder(id));
    await events.until(() => events.accepted.length + events.rejected.length === 10);
    expect(ascending([...new Set(orderIds(sink.requests))])).toEqual(range(10));
    expect(events.endCounts(BUILDER_TARGET).protocol_error).toBe(1);
  });
});

describe('a target that says "not now"', () => {
  test.each([
    ['503', { status: 503, body: '' }],
    ['429', { status: 429, body: 'slow down' }],
    ['-32005', { body: '{"jsonrpc":"2.0","id":0,"error":{"code":-32005,"message":"overloaded"}}' }],
    ['unknown peers', { body: UNKNOWN_PEER }],
  ])('%s: one order is tried again until it is taken', async (_name, answer) => {
    const sink = await startSink({ answer: (_, index) => (index < 3 ? answer : undefined) });
    const { builder, events } = await connect(sink.url);
    builder.send(testOrder(1));
    await events.until(() => events.accepted.length === 1);
    expect(orderIds(sink.requests)).toEqual([1, 1, 1, 1]);
    expect(events.failures.length).toBe(3);
  });

  test('to everything is asked with one order at a time, and gets all when it relents', async () => {
    const sink = await startSink({ answer: () => ({ body: UNKNOWN_PEER }) });
    const { builder, events } = await connect(sink.url);
    for (const id of range(500)) builder.send(testOrder(id));
    await events.until(() => events.failures.length >= 4 && builder.state().outstanding === 0);
    const before = sink.count;
    await sink.received(before + 6);
    const probes = orderIds(sink.requests.slice(before, before + 6));
    expect(new Set(probes).size, 'another order each time').toBe(6);
    expect(builder.state().queueLength + builder.state().outstanding).toBe(500);
    sink.answer = undefined;
    await events.until(() => events.accepted.length === 500);
    expect({ drops: events.drops, queueBytes: builder.state().queueBytes }).toEqual({
      drops: [],
      queueBytes: 0,
    });
  });

  test('to a handful, with nothing else to send: they are taken when it relents', async () => {
    const sink = await startSink({ answer: () => ({ status: 503 }) });
    const { builder, events } = await connect(sink.url);
    for (const id of range(6)) builder.send(testOrder(id));
    await events.until(() => events.failures.length >= 12);
    sink.answer = undefined;
    await events.until(() => events.accepted.length === 6);
    expect(events.drops).toEqual([]);
  });

  test('and then goes away: what is held back is dropped when it is too old', async () => {
    const sink = await startSink({ answer: () => ({ status: 503 }) });
    const { builder, events } = await connect(sink.url, { queueAgeMs: 150 });
    for (const id of range(6)) builder.send(testOrder(id));
    await events.until(() => events.failures.length >= 6);
    await sink.close();
    await events.until(() => events.drops.length === 6);
    expect(events.dropCounts(BUILDER_TARGET)).toEqual({ expired: 6 });
    expect(builder.state()).toMatchObject({ queueLength: 0, queueBytes: 0, outstanding: 0 });
  });

  test('to one order only: the others flow on, and it is dropped when it is too old', async () => {
    const sink = await startSink({
      answer: (request) => (orderIds([request])[0] === 0 ? { status: 503 } : undefined),
    });
    const { builder, events } = await connect(sink.url, { queueAgeMs: 1000 });
    builder.send(testOrder(0));
    let next = 1;
    while (events.drops.length === 0) {
      builder.send(testOrder(next++));
      await new Promise((resolve) => setImmediate(resolve));
    }
    await events.until(() => events.accepted.length === next - 1);
    expect(events.dropCounts(BUILDER_TARGET)).toEqual({ expired: 1 });
    expect(Math.max(...(events.e2eMs.get(BUILDER_TARGET) ?? []))).toBeLessThan(700);
  });

  test('holds no more than the queue may', async () => {
    const sink = await startSink({ answer: () => ({ status: 503 }) });
    const { builder, events } = await connect(sink.url, {
      queueBytes: 10 * 1_512,
      retry: { baseMs: 1_000, maxMs: 1_000 },
      connections: 1,
    });
    for (const id of range(10)) builder.send(testOrder(id));
    await events.until(() => events.failures.length === 10);
    for (const id of range(10, 10)) builder.send(testOrder(id));
    expect(events.dropCounts(BUILDER_TARGET)).toEqual({ queue_full: 10 });
    expect(builder.state()).toMatchObject({ queueLength: 10, queueBytes: 10 * 1_512 });
  });

  test('another error is final', async () => {
    const body = '{"jsonrpc":"2.0","id":0,"error":{"code":-32000,"message":"invalid version"}}';
    const sink = await startSink({ answer: () => ({ body }) });
    const { builder, events } = await connect(sink.url);
    builder.send(testOrder(1));
    await events.until(() => events.rejected.length === 1);
    expect(events.failureCounts(BUILDER_TARGET)).toEqual({ rpc_error: 1 });
    expect(events.drops).toEqual([]);
  });
});

describe('close', () => {
  test('waits for the answers, then is idle', async () => {
    const sink = await startSink({ answer: () => ({ delayMs: 5 }) });
    const { builder, events } = await connect(sink.url, { connections: 2, maxOutstanding: 4 });
    for (const id of range(30)) builder.send(testOrder(id));
    await builder.close(10_000);
    expect({ accepted: events.accepted.length, drops: events.drops }).toEqual({ accepted: 30, drops: [] });
    builder.send(testOrder(99));
    expect(events.dropCounts(BUILDER_TARGET)).toEqual({ shutdown: 1 });
    expect(builder.up).toBe(false);
  });

  test('drops at the deadline what is left, outstanding, waiting and held back', async () => {
    const sink = await startSink({
      answer: (_, index) => (index === 0 ? { status: 503 } : { never: true }),
    });
    const { builder, events } = await connect(sink.url, {
      connections: 1,
      maxOutstanding: 5,
      retry: { baseMs: 60_000, maxMs: 60_000 },
    });
    for (const id of range(20)) builder.send(testOrder(id));
    await events.until(() => events.failures.length === 1);
    await builder.close(50);
    expect(events.dropCounts(BUILDER_TARGET)).toEqual({ shutdown: 20 });
    expect(builder.state()).toMatchObject({
      queueLength: 0,
      queueBytes: 0,
      outstanding: 0,
      connectionsUp: 0,
    });
  });

  test('waits as long as answers come, not for one that answers nothing', async () => {
    const sink = await startSink({ answer: (_, index) => (index < 10 ? { delayMs: 20 } : { never: true }) });
    const { builder, events } = await connect(sink.url, {
      connections: 1,
      maxOutstanding: 1,
      closeStallMs: 1_500,
    });
    for (const id of range(15)) builder.send(testOrder(id));
    await builder.close(60_000);
    expect({ accepted: events.accepted.length, drops: events.dropCounts(BUILDER_TARGET) }).toEqual({
      accepted: 10,
      drops: { shutdown: 5 },
    });
  });

  test('does not wait for one that is away', async () => {
    const sink = await startSink();
    const { builder, events } = await connect(sink.url, { closeStallMs: 100 });
    await sink.close();
    await events.until(() => !builder.up);
    for (const id of range(5)) builder.send(testOrder(id));
    await builder.close(60_000);
    expect(events.dropCounts(BUILDER_TARGET)).toEqual({ shutdown: 5 });
  });

  test('at once when there is nothing, also while the builder is down', async () => {
    const { builder } = start(new URL('http://127.0.0.1:1'));
    await builder.close(60_000);
    await builder.close(60_000);
    expect(builder.up).toBe(false);
  });
});

test('an endpoint that is not http is refused', () => {
  expect(() => start(new URL('https://127.0.0.1:1'))).toThrow('builder endpoint must be an http:// URL');
});
