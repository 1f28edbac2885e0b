import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { describe, expect, onTestFinished, test } from 'vitest';
import { createOrderSource } from '../devnet/orders.ts';
import { createCredentials } from '../identity/certificate.ts';
import { latencyFigures } from './latency.ts';
import { httpRequest, type LoadGenerator, type LoadTarget, startLoadGenerator } from './load-generator.ts';
import { type Sink, startSink } from './sink.ts';

const COUNT = 200;

function prepared(count: number): Buffer[] {
  const source = createOrderSource({ seed: 'load test', methods: 'bundles', bodyBytes: 1_000 });
  return Array.from({ length: count }, () => {
    const { body, signature } = source.next();
    return httpRequest('test', body, signature);
  });
}

async function sink(tls?: { key: string; cert: string }): Promise<Sink> {
  const started = await startSink({ orders: COUNT, ...(tls !== undefined && { tls }) });
  onTestFinished(() => started.close());
  return started;
}

async function generator(target: LoadTarget, connections: number, count = COUNT): Promise<LoadGenerator> {
  const started = await startLoadGenerator(target, connections, prepared(count));
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
    const result = await load.runClosed(0, COUNT);
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
    await load.runClosed(0, COUNT);
    expect(tls.distinct).toBe(COUNT);
  });

  test('counts refusals by their text, and does not take them for answers', async () => {
    const target = await server((index, answer) =>
      index % 2 === 0 ? answer(200, OK) : answer(429, '{"error":"slow down"}'),
    );
    const load = await generator(target, 1);
    const result = await load.runClosed(0, 10);
    expect(result.refused).toEqual({ '429 {"error":"slow down"}': 5 });
    expect(latencyFigures(result.dueUs, result.answeredUs)).toMatchObject({ count: 5, lost: 5 });
  });

  test('goes on after lost connections and counts what was under way on them', async () => {
    const target = await server((index, answer) => answer(index === 3 ? DROP : 200, OK));
    const load = await generator(target, 1);
    const result = await load.runClosed(0, 10);
    expect(result.refused).toEqual({ 'connection lost': 1 });
    expect(latencyFigures(result.dueUs, result.answeredUs)).toMatchObject({ count: 9, lost: 1 });
  });
});

describe('the open loop', () => {
  test('keeps its rate, and runs follow one another', async () => {
    const target = await sink();
    const load = await generator({ host: '127.0.0.1', port: target.port }, 4);
    for (const from of [0, 100]) {
      const { dueUs, sentUs, answeredUs } = await load.runOpen(from, 100, 1_000);
      expect((dueUs[99]! - dueUs[0]!) / 1000).toBeCloseTo(99, 3);
      // Never early; how late depends on the machine and is part of every latency.
      for (let i = 0; i < 100; i++) expect(sentUs[i]!).toBeGreaterThanOrEqual(dueUs[i]!);
      expect(latencyFigures(dueUs, answeredUs).lost).toBe(0);
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
    const { dueUs, sentUs, answeredUs } = await load.runOpen(0, 20, 100);
    // The second was due 10 ms after the first and could be sent only once that was answered.
    expect((sentUs[1]! - dueUs[1]!) / 1000).toBeGreaterThan(STALL_MS - 30);
    const figures = latencyFigures(dueUs, answeredUs);
    expect(figures.p50!).toBeGreaterThan(STALL_MS - 10 * 12);
    expect(latencyFigures(sentUs, answeredUs).p50!).toBeLessThan(STALL_MS / 4);
  });
});
