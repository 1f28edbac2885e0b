/**
 * Nobody waits for a neighbour: ten peers, five of them dead or hostile, each in its own way. The good ones
 * get every order as fast as without the bad ones; what the bad ones hold is bounded, and every order they
 * lose is counted.
 */
import { expect, onTestFinished, test } from 'vitest';
import { createCredentials } from '../identity/certificate.ts';
import { createPeers, type PeerTarget } from './peers.ts';
import { type JsonRpcSink, type SinkOptions, startJsonRpcSink } from './testing/json-rpc-sink.ts';
import { startRawServer } from './testing/raw-server.ts';
import { orderIds, Recorder, testClock, testOrder } from './testing/recorder.ts';

const QUEUE_BYTES = 400_000;
const QUEUE_AGE_MS = 1_500;
/** Orders before and with the bad ones; of 3 KB, at 500 per second. */
const ORDERS = 1_000;
const ORDER_BYTES = 3_000;
const INTERVAL_MS = 2;

const CREDENTIALS = await createCredentials({ names: ['127.0.0.1'], validityDays: 1, now: Date.now() });

function describePeer(name: string, port: number): PeerTarget {
  return {
    name,
    address: `0x${'2'.repeat(40)}`,
    host: '127.0.0.1',
    port,
    servername: undefined,
    certificate: CREDENTIALS.certificateDer,
    fingerprint: CREDENTIALS.fingerprint,
  };
}

async function startSink(options: SinkOptions = {}): Promise<JsonRpcSink> {
  const tls = { cert: CREDENTIALS.certificatePem, key: CREDENTIALS.privateKeyPem };
  const sink = await startJsonRpcSink({ ...options, tls });
  onTestFinished(() => sink.close());
  return sink;
}

function quantile(sorted: readonly number[], q: number): number {
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * q))] ?? Number.NaN;
}

test('ten peers, five of them bad', async () => {
  const good = await Promise.all(['good-1', 'good-2', 'good-3', 'good-4', 'good-5'].map(() => startSink()));
  const goodNames = good.map((_, i) => `good-${i + 1}`);
  const goodPeers = good.map((sink, i) => describePeer(`good-${i + 1}`, sink.port));

  const blackHole = await startRawServer((socket) => socket.resume());
  const silent = await startSink({ answer: () => ({ never: true }) });
  const slow = await startSink({ bytesPerSecond: 1 });
  const resets = await startSink({ answer: () => ({ reset: true }) });
  const refusing = await startRawServer(() => {});
  await refusing.close();
  onTestFinished(() => blackHole.close());
  const bad = [
    describePeer('black-hole', blackHole.port),
    describePeer('silent', silent.port),
    describePeer('slow', slow.port),
    describePeer('resets', resets.port),
    describePeer('refuses', refusing.port),
  ];

  const events = new Recorder();
  const peers = createPeers(
    {
      queueBytes: QUEUE_BYTES,
      queueAgeMs: QUEUE_AGE_MS,
      connectTimeoutMs: 500,
      responseTimeoutMs: 500,
      maxOutstandingBytes: 100_000,
      reconnect: { baseMs: 50, maxMs: 500 },
    },
    {
      events,
      signer: { signHash: (hash) => `0xsigner:0x${hash}` },
      tlsIdentity: () => ({ cert: CREDENTIALS.certificatePem, key: CREDENTIALS.privateKeyPem }),
      now: testClock,
    },
  );
  onTestFinished(() => peers.close(0));

  /** Sends orders at a steady rate, whatever becomes of them. @returns latencies at the good peers, sorted */
  async function measure(from: number): Promise<number[]> {
    for (const name of goodNames) events.e2eMs.set(name, []);
    const first = performance.now();
    let sent = 0;
    await new Promise<void>((resolve) => {
      const timer = setInterval(() => {
        while (sent < ORDERS && performance.now() - first >= sent * INTERVAL_MS) {
          peers.send(testOrder(from + sent++, ORDER_BYTES));
          for (const state of peers.state())
            expect(state.queueBytes).toBeLessThanOrEqual(QUEUE_BYTES + 1_000_000);
        }
        if (sent === ORDERS) {
          clearInterval(timer);
          resolve();
        }
      }, 1);
    });
    await events.until(() => goodNames.every((name) => events.e2eMs.get(name)?.length === ORDERS));
    return goodNames.flatMap((name) => events.e2eMs.get(name) ?? []).sort((a, b) => a - b);
  }

  peers.update(goodPeers);
  await events.until(() => goodNames.every((name) => events.connectedTo.get(name) === 1));
  await measure(0);
  const without = await measure(ORDERS);
  peers.update([...bad, ...goodPeers]);
  const beside = await measure(2 * ORDERS);

  const figures = {
    p50: [quantile(without, 0.5), quantile(beside, 0.5)],
    p99: [quantile(without, 0.99), quantile(beside, 0.99)],
  };
  console.log(`latency without and beside five bad peers, ms: ${JSON.stringify(figures)}`);
  expect(figures.p50[1]).toBeLessThan(5 + 10 * (figures.p50[0] ?? 0));
  expect(figures.p99[1]).toBeLessThan(25 + 10 * (figures.p99[0] ?? 0));

  const all = Array.from({ length: 3 * ORDERS }, (_, i) => i);
  for (const sink of good) expect(orderIds(sink.requests).sort((x, y) => x - y)).toEqual(all);

  // What the bad ones were sent is lost within the age bound, and each loss has its peer and its reason.
  const lost = (name: string): number => {
    const { queue_full = 0, expired = 0, shutdown = 0 } = events.dropCounts(name);
    return queue_full + expired + shutdown;
  };
  const losers = bad.map((peer) => peer.name);
  const isBad = (name: string): boolean => losers.includes(name);
  await events.until(() => losers.every((name) => lost(name) === ORDERS));
  expect(events.drops.every((drop) => isBad(drop.target))).toBe(true);
  for (const name of ['black-hole', 'refuses']) expect(events.dropCounts(name).queue_full).toBeGreaterThan(0);
  for (const state of peers.state())
    expect(state).toMatchObject({ queueLength: 0, queueBytes: 0, outstanding: 0 });

  expect(events.endCounts('black-hole').connect_timeout).toBeGreaterThan(1);
  expect(events.endCounts('silent').response_timeout).toBeGreaterThan(1);
  expect(events.endCounts('slow').response_timeout).toBeGreaterThan(1);
  expect(events.endCounts('resets').connection_lost).toBeGreaterThan(1);
  expect(events.endCounts('refuses').connect_failed).toBeGreaterThan(1);
  expect(events.acceptedBy.get('slow') ?? 0).toBe(0);
});
