import { createServer, type Server } from 'node:http';
import { createSecureServer, type ServerHttp2Stream } from 'node:http2';
import type { AddressInfo } from 'node:net';
import { describe, expect, onTestFinished, test } from 'vitest';
import { createOrderSource } from '../devnet/orders.ts';
import { createCredentials } from '../identity/certificate.ts';
import { latencyFigures } from './latency.ts';
import { type LoadTarget, type PreparedOrder, prepareOrder } from './load-connection.ts';
import {
  joined,
  type LoadGenerator,
  type RunResult,
  runBurst,
  startLoadGenerator,
} from './load-generator.ts';
import { type Sink, startSink } from './sink.ts';

const COUNT = 200;

function prepared(count: number): PreparedOrder[] {
  const source = createOrderSource({ seed: 'load test', methods: 'bundles', bodyBytes: 1_000 });
  return Array.from({ length: count }, () => {
    const { body, signature } = source.next();
    return prepareOrder('test', body, signature);
  });
}

const ORDERS = prepared(COUNT);

async function sink(tls?: { key: string; cert: string }): Promise<Sink> {
  const started = await startSink({ orders: COUNT, ...(tls !== undefined && { tls }) });
  onTestFinished(() => started.close());
  return started;
}

async function generator(target: LoadTarget, connections: number, inFlight = 1): Promise<LoadGenerator> {
  const started = await startLoadGenerator(target, { connections, inFlight });
  onTestFinished(() => started.close());
  return started;
}

/** A server whose answers a test decides about. */
async function server(
  onOrder: (index: number, answer: (status: number, body: string) => void) => void,
): Promise<LoadTarget> {
  let index = 0;
  const http: Server = createServer((request, response) => {
    const mine = index++;
    request.resume().once('end', () =>
      onOrder(mine, (status, body) => {
        if (status === DROP) {
          request.socket.destroy();
          return;
        }
        response.writeHead(status, { 'content-type': 'application/json' });
        response.end(body);
      }),
    );
  });
  await new Promise<void>((resolve) => http.listen(0, '127.0.0.1', resolve));
  onTestFinished(async () => {
    http.closeAllConnections();
    await new Promise((resolve) => http.close(resolve));
  });
  return { host: '127.0.0.1', port: (http.address() as AddressInfo).port };
}

/** Instead of a status: the connection is closed without an answer. */
const DROP = 0;
const OK = '{"jsonrpc":"2.0","id":0,"result":null}';

describe('the closed loop', () => {
  test('sends every order once and notes its times in order', async () => {
    const target = await sink();
    const { receivedUs } = target;
    const load = await generator({ host: '127.0.0.1', port: target.port }, 4);
    const result = await load.runClosed(ORDERS);
    expect(receivedUs.every((time) => !Number.isNaN(time))).toBe(true);
    expect(target.duplicates).toBe(0);
    expect(result.refused).toEqual({});
    for (let i = 0; i < COUNT; i++) {
      expect(result.dueUs[i]).toBe(result.sentUs[i]);
      expect(receivedUs[i]!).toBeGreaterThan(result.sentUs[i]!);
      expect(result.answeredUs[i]!).toBeGreaterThan(receivedUs[i]!);
    }
  });

  test('speaks TLS to a certificate it is given', async () => {
    const made = await createCredentials({ names: ['127.0.0.1'], validityDays: 1, now: Date.now() });
    const tls = await sink({ key: made.privateKeyPem, cert: made.certificatePem });
    const load = await generator({ host: '127.0.0.1', port: tls.port, certificate: made.certificatePem }, 2);
    await load.runClosed(ORDERS);
    expect(tls.distinct).toBe(COUNT);
  });

  test('counts refusals by their text without the id, and does not take them for answers', async () => {
    const target = await server((index, answer) =>
      index % 2 === 0 ? answer(200, OK) : answer(429, `{"id":${index},"error":"slow down"}`),
    );
    const load = await generator(target, 1);
    const result = await load.runClosed(ORDERS.slice(0, 10));
    expect(result.refused).toEqual({ '429 {"error":"slow down"}': 5 });
    expect(latencyFigures(result.dueUs, result.answeredUs)).toMatchObject({ count: 5, missing: 5 });
  });

  test('goes on after lost connections and counts what was under way on them', async () => {
    const target = await server((index, answer) => answer(index === 3 ? DROP : 200, OK));
    const load = await generator(target, 1);
    const result = await load.runClosed(ORDERS.slice(0, 10));
    expect(result.refused).toEqual({ 'connection lost': 1 });
    expect(latencyFigures(result.dueUs, result.answeredUs)).toMatchObject({ count: 9, missing: 1 });
  });
});

describe('the open loop', () => {
  test('keeps its rate, and runs follow one another', async () => {
    const target = await sink();
    const load = await generator({ host: '127.0.0.1', port: target.port }, 4);
    for (const from of [0, 100]) {
      const { dueUs, sentUs, answeredUs } = await load.runOpen(ORDERS.slice(from, from + 100), {
        rate: 1_000,
      });
      expect((dueUs[99]! - dueUs[0]!) / 1000).toBeCloseTo(99, 3);
      // Never early; how late depends on the machine and is part of every latency.
      for (let i = 0; i < 100; i++) expect(sentUs[i]!).toBeGreaterThanOrEqual(dueUs[i]!);
      expect(latencyFigures(dueUs, answeredUs).missing).toBe(0);
    }
    expect(target.distinct).toBe(200);
  });

  test('an order that waits behind a stalled one counts from when it was due', async () => {
    const STALL_MS = 300;
    const target = await server((index, answer) => {
      if (index === 0) setTimeout(() => answer(200, OK), STALL_MS);
      else answer(200, OK);
    });
    const load = await generator(target, 1);
    const { dueUs, sentUs, answeredUs } = await load.runOpen(ORDERS.slice(0, 20), { rate: 100 });
    // The second was due 10 ms after the first and could be sent only once that was answered.
    expect((sentUs[1]! - dueUs[1]!) / 1000).toBeGreaterThan(STALL_MS - 30);
    const figures = latencyFigures(dueUs, answeredUs);
    expect(figures.p50!).toBeGreaterThan(STALL_MS - 10 * 12);
    expect(latencyFigures(sentUs, answeredUs).p50!).toBeLessThan(STALL_MS / 4);
  });

  test('stops when the last order was due, if told so, and says what was not sent', async () => {
    const answers: (() => void)[] = [];
    const target = await server((index, answer) => {
      if (index === 0) answers.push(() => answer(200, OK));
      else answer(200, OK);
      // The first is answered once the schedule is through: the others had no connection all the time.
      if (index === 0) setTimeout(() => answers[0]?.(), 1_500);
    });
    const load = await generator(target, 1);
    const { sentUs, answeredUs } = await load.runOpen(ORDERS.slice(0, 10), { rate: 100, stopWhenDue: true });
    expect(sentUs.filter((time) => !Number.isNaN(time))).toHaveLength(1);
    expect(latencyFigures(sentUs, answeredUs)).toMatchObject({ count: 1, missing: 9 });
  });
});

describe('several orders under way on one connection', () => {
  test('HTTP/1.1 pipelines them, and answers belong to their orders', async () => {
    let waiting: (() => void)[] = [];
    let most = 0;
    const target = await server((index, answer) => {
      waiting.push(() => (index % 2 === 0 ? answer(200, OK) : answer(429, `{"error":${index}}`)));
      most = Math.max(most, waiting.length);
      const batch = waiting;
      waiting = [];
      setImmediate(() => {
        for (const settle of batch) settle();
      });
    });
    const load = await generator(target, 1, 8);
    const result = await load.runClosed(ORDERS.slice(0, 8));
    expect([...result.answeredUs].map((time) => Number.isNaN(time))).toEqual(
      [0, 1, 2, 3, 4, 5, 6, 7].map((index) => index % 2 === 1),
    );
    expect(Object.keys(result.refused)).toHaveLength(4);
  });

  test('HTTP/2 has a stream for each', async () => {
    const made = await createCredentials({ names: ['127.0.0.1'], validityDays: 1, now: Date.now() });
    const got: string[] = [];
    const h2 = createSecureServer({ key: made.privateKeyPem, cert: made.certificatePem });
    h2.on('stream', (stream: ServerHttp2Stream, headers) => {
      const chunks: Buffer[] = [];
      stream.on('data', (chunk: Buffer) => chunks.push(chunk));
      stream.once('end', () => {
        const body = Buffer.concat(chunks);
        got.push(String(headers['x-flashbots-signature']));
        const index = ORDERS.findIndex((order) => order.body.equals(body));
        stream.respond({ ':status': index === 3 ? 429 : 200, 'content-type': 'application/json' });
        stream.end(index === 3 ? '{"error":"slow down"}' : OK);
      });
    });
    await new Promise<void>((resolve) => h2.listen(0, '127.0.0.1', resolve));
    onTestFinished(() => new Promise((resolve) => void h2.close(() => resolve())));
    const { port } = h2.address() as AddressInfo;
    const load = await generator(
      { host: '127.0.0.1', port, certificate: made.certificatePem, protocol: 'h2' },
      2,
      8,
    );
    const result = await load.runClosed(ORDERS.slice(0, 50));
    expect(result.refused).toEqual({ '429 {"error":"slow down"}': 1 });
    expect(result.answeredUs.findIndex((time) => Number.isNaN(time))).toBe(3);
    expect(new Set(got)).toEqual(new Set(ORDERS.slice(0, 50).map(({ signature }) => signature)));
    load.close();
  });
});

describe('a burst', () => {
  test('opens all connections at once; each sends its own orders, the first due when the burst begins', async () => {
    const target = await sink();
    const { receivedUs } = target;
    const result = await runBurst(
      { host: '127.0.0.1', port: target.port },
      { connections: 50, each: 4 },
      ORDERS,
    );
    expect(target.distinct).toBe(COUNT);
    expect(latencyFigures(result.dueUs, result.answeredUs).missing).toBe(0);
    const firsts = [...result.dueUs].filter((_, index) => index % 4 === 0);
    expect(new Set(firsts).size).toBe(1);
    // One after the other on each connection.
    for (let i = 0; i < COUNT; i++) {
      expect(receivedUs[i]!).toBeGreaterThanOrEqual(result.sentUs[i]!);
      if (i % 4 !== 0) expect(result.sentUs[i]!).toBeGreaterThanOrEqual(result.answeredUs[i - 1]!);
    }
  });

  test('tells of connections that nobody takes', async () => {
    const target = await sink();
    const { port } = target;
    await target.close();
    const result = await runBurst({ host: '127.0.0.1', port }, { connections: 3, each: 2 }, ORDERS);
    expect(Object.values(result.refused)).toEqual([6]);
    expect(Object.keys(result.refused)[0]).toContain('not connected');
  });

  test('two runs become one, the first one first', () => {
    const times = (...values: number[]) => Float64Array.from(values);
    const one = (value: number, text: string): RunResult => ({
      dueUs: times(value),
      sentUs: times(value),
      answeredUs: times(value),
      refusedUs: times(value),
      refused: { [text]: 1, both: 1 },
    });
    expect(joined(one(1, 'a'), one(2, 'b'))).toEqual({
      dueUs: times(1, 2),
      sentUs: times(1, 2),
      answeredUs: times(1, 2),
      refusedUs: times(1, 2),
      refused: { a: 1, b: 1, both: 2 },
    });
  });
});
