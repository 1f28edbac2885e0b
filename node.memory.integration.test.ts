/**
 * A node with a ceiling for its memory, while everything that its settings bound is filled at the same time: seven thousand
 * connections, bodies of 30 MiB on more of them than may be read, and a builder that takes nothing.
 */
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { type AddressInfo, createServer } from 'node:net';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import type { RpcAnswer } from './devnet/client.ts';
import { startGuard } from './devnet/guard.ts';
import { parseMetrics, sumOf } from './devnet/metrics.ts';
import { startNodeProcess } from './devnet/node-process.ts';
import { answerProblem } from './devnet/once.ts';
import { createOrderSource, type GeneratedOrder } from './devnet/orders.ts';
import { freePorts } from './devnet/ports.ts';
import { openFilesLimit } from './ingress/open-files.ts';
import { Attacker } from './ingress/testing/attacker.ts';
import { memoryShares } from './memory-bound.ts';
import { readSettings } from './settings.ts';
import { temporaryDirectory } from './testing/directory.ts';
import { SHARDS } from './testing/harness.ts';

const MIB = 2 ** 20;
const PENDING_BYTES = 64 * MIB;
const BUILDER_BYTES = 128 * MIB;
const BIG_ORDER_BYTES = 30_000_000;
const CONNECTIONS = 7_000;

test('what is allowed adds up to the ceiling, and the node stays below it with all of it full', async () => {
  const stuck = createServer((socket) => socket.pause().on('error', () => undefined));
  stuck.listen(0, '127.0.0.1');
  await once(stuck, 'listening');
  onTestFinished(() => void stuck.close());
  const guard = startGuard();
  onTestFinished(() => guard.close());
  const directory = await temporaryDirectory();
  const [hubPort] = await freePorts(1);
  const env: Record<string, string> = {
    USER_LISTEN_ADDR: '127.0.0.1:0',
    SYSTEM_LISTEN_ADDR: '127.0.0.1:0',
    CERT_LISTEN_ADDR: '127.0.0.1:0',
    METRICS_ADDR: '127.0.0.1:0',
    USER_TLS: 'false',
    BUILDER_ENDPOINT: `http://127.0.0.1:${(stuck.address() as AddressInfo).port}`,
    BUILDER_READY_ENDPOINT: 'none',
    // Nobody there: the node serves its users all the same.
    BUILDER_CONFIGHUB_ENDPOINT: `http://127.0.0.1:${hubPort}`,
    DATA_DIR: directory,
    DRAIN_TIMEOUT_SEC: '1',
    // Transactions of several MB are none that a chain takes.
    TX_VALIDATION: 'off',
    MAX_PENDING_BYTES: String(PENDING_BYTES),
    BUILDER_QUEUE_BYTES: String(BUILDER_BYTES),
    BUILDER_QUEUE_AGE_MS: '600000',
    PEERS_QUEUE_BYTES: '1048576',
    DEDUPE_KEYS: '16384',
    SHARDS: String(SHARDS),
  };
  const shares = memoryShares(readSettings([], env), SHARDS, openFilesLimit());
  const ceiling = Math.ceil(shares.reduce((sum, { bytes }) => sum + bytes, 0));
  const start = (bytes: number) =>
    startNodeProcess({
      name: 'node',
      logFile: join(directory, 'log'),
      guard,
      env: { ...env, MEMORY_CEILING_BYTES: String(bytes) },
    });
  await expect(start(ceiling - 1)).rejects.toThrow('MEMORY_CEILING_BYTES: is');
  const node = await start(ceiling);
  onTestFinished(() => node.stop());
  const metric = async (name: string) =>
    sumOf(parseMetrics(await (await fetch(`http://${node.addresses.metrics}/metrics`)).text()), name, {});

  // The queue for the builder, until that of one shard takes no more: beside what waits, each has one order under way.
  const source = createOrderSource({ seed: 'memory', methods: 'bundles', bodyBytes: BIG_ORDER_BYTES });
  for (let sent = 0; sent <= SHARDS + BUILDER_BYTES / BIG_ORDER_BYTES; sent++) {
    const order = source.next();
    expect(answerProblem(order, await send(node.addresses.user, order))).toBeNull();
  }
  expect(await metric('orderflow_delivery_dropped_total')).toBeGreaterThan(0);

  // Connections, and on some of them bodies that never end.
  const attacker = new Attacker();
  onTestFinished(() => attacker.end());
  const port = Number(new URL(`http://${node.addresses.user}`).port);
  await attacker.connect(port, Math.min(CONNECTIONS, openFilesLimit() - 500));
  const head = `POST / HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: ${BIG_ORDER_BYTES}\r\n\r\n`;
  const bodies = await attacker.connect(port, 60);
  for (const socket of bodies) socket.resume().write(head);
  attacker.flood(bodies, Buffer.alloc(65_536, ' '));
  // More than may be read is refused, the oldest first, until what is left fills the bound.
  await attacker.closed(bodies, 50);

  const status = readFileSync(`/proc/${node.pid}/status`, 'utf8');
  const peak = Number(/^VmHWM:\s+(\d+)/m.exec(status)?.[1]) * 1024;
  console.log(`peak ${Math.round(peak / MIB)} MiB of ${Math.round(ceiling / MIB)} MiB`);
  expect(peak).toBeLessThan(ceiling);
  // It was full: what the queue and the bodies alone hold is there.
  expect(peak).toBeGreaterThan(BUILDER_BYTES + PENDING_BYTES);
  expect(await metric('orderflow_connections')).toBeGreaterThan(CONNECTIONS / 2);
  expect(await metric('orderflow_reading_bytes')).toBeLessThanOrEqual(PENDING_BYTES);
});

async function send(address: string, { body, signature }: GeneratedOrder): Promise<RpcAnswer> {
  const response = await fetch(`http://${address}`, {
    method: 'POST',
    headers: { 'content-type': 'application/json', 'x-flashbots-signature': signature },
    body: new Uint8Array(body),
  });
  return { status: response.status, ...((await response.json()) as Omit<RpcAnswer, 'status'>) };
}
