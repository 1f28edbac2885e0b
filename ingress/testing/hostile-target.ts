/**
 * The node that hostile.integration.test.ts attacks, with the well-behaved client beside it, and what every attack is judged by.
 */
import { readFileSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, vi } from 'vitest';
import { startGuard } from '../../devnet/guard.ts';
import { parseMetrics, sumOf } from '../../devnet/metrics.ts';
import { type NodeProcess, startNodeProcess } from '../../devnet/node-process.ts';
import { freePorts } from '../../devnet/ports.ts';
import { type JsonRpcSink, startJsonRpcSink } from '../../egress/testing/json-rpc-sink.ts';
import { headers, JSON_HEAD } from './attack-requests.ts';
import { Attacker } from './attacker.ts';
import { END_STREAM, getHead, postHead, settings, streamIds } from './http2-frames.ts';
import { type SteadyClient, startSteadyClient } from './steady-client.ts';

/** As in testing/harness.ts. Bounds with a fixed number are each shard's. */
export const SHARDS = Number(process.env.TEST_SHARDS ?? '1');
export const MAX_BODY_BYTES = 30 * 1024 * 1024;
export const MAX_PENDING_BYTES = 128 * 1024 * 1024;
/**
 * 160 MB at rest, twice MAX_PENDING_BYTES of bodies (being read, waiting), 8,192 heads of 8 KiB, 7,500 connections of
 * up to 60 KB, and as much again as a third of all that in garbage that V8 has not yet collected.
 */
const MOST_MEMORY_BYTES = 1.25 * 2 ** 30;
/** What an attack may cost: a p99 ten times that in peace, or half a second more; what hurts costs seconds. */
const WORSE_BY = 10;
const WORSE_BY_MS = 500;
/** Each order takes some six turns of the event loop; each is as late as the client's own timers show the machine to be. */
const TURNS = 6;
/** JSON of 30 MiB holds up everybody else's orders for so long: 45 ns a byte, and twice that for a busy machine. */
export const LONGEST_STALL_MS = 3000;

/** A node to attack. */
export interface Target {
  readonly node: NodeProcess;
  readonly sink: JsonRpcSink;
  readonly steady: SteadyClient;
  /** p99 in peace, milliseconds. */
  readonly quietMs: number;
  readonly userPort: number;
  readonly systemPort: number;
  /** Sum of a metric. */
  metric(name: string, labels?: Record<string, string>): Promise<number>;
  close(): Promise<void>;
}

interface TargetOptions {
  readonly userTls: boolean;
  readonly entry?: string;
}

/** Starts a node with its steady client, and takes the measure of it in peace. */
export async function startTarget({ userTls, entry }: TargetOptions): Promise<Target> {
  const guard = startGuard();
  const directory = await mkdtemp(join(tmpdir(), 'orderflow-hostile-'));
  const sink = await startJsonRpcSink({ record: false });
  const [hubPort] = await freePorts(1);
  const node = await startNodeProcess({
    name: 'node',
    logFile: join(directory, 'log'),
    guard,
    ...(entry === undefined ? {} : { entry }),
    env: {
      USER_LISTEN_ADDR: '127.0.0.1:0',
      SYSTEM_LISTEN_ADDR: '127.0.0.1:0',
      CERT_LISTEN_ADDR: '127.0.0.1:0',
      METRICS_ADDR: '127.0.0.1:0',
      USER_TLS: String(userTls),
      BUILDER_ENDPOINT: sink.url.href,
      BUILDER_READY_ENDPOINT: 'none',
      // Nobody there: the node serves its users all the same.
      BUILDER_CONFIGHUB_ENDPOINT: `http://127.0.0.1:${hubPort}`,
      MAX_PENDING_BYTES: String(MAX_PENDING_BYTES),
      // Node's HTTP/2 at times forgets to send a reset; such a connection lasts until this time is over.
      HTTP_WRITE_TIMEOUT_SEC: '8',
      DATA_DIR: directory,
      SHARDS: String(SHARDS),
    },
  });
  const certificatePem = await (await fetch(`http://${node.addresses.cert}/cert`)).text();
  const userPort = portOf(node.addresses.user);
  const url = `${userTls ? 'https' : 'http'}://127.0.0.1:${userPort}/`;
  const steady = startSteadyClient({ url, certificatePem, seed: 'steady', everyMs: 5 });
  // Once for the compilers on both sides, once to measure: code that runs for the first time takes ten times as long.
  await rehearse(userPort, userTls, steady);
  await steady.report();
  await steady.orders(300);
  const quiet = await steady.report();
  expect(quiet.problems).toEqual([]);
  return {
    node,
    sink,
    steady,
    quietMs: p99(quiet.latencies),
    userPort,
    systemPort: portOf(node.addresses.system),
    async metric(name, labels = {}) {
      const page = await (await fetch(`http://${node.addresses.metrics}/metrics`)).text();
      return sumOf(parseMetrics(page), name, labels);
    },
    async close() {
      await steady.close();
      await node.stop();
      await sink.close();
      await rm(directory, { recursive: true, force: true });
      await guard.close();
    },
  };
}

/** What the attacks use most, three times gently. */
async function rehearse(port: number, tls: boolean, steady: SteadyClient): Promise<void> {
  for (let round = 0; round < 3; round += 1) {
    const attacker = new Attacker();
    const streams = streamIds(100).map((id) =>
      headers(id, END_STREAM, id % 4 === 1 ? postHead() : getHead('/')),
    );
    const requests = tls
      ? Buffer.concat([settings(), ...streams])
      : Buffer.from(
          `${`${JSON_HEAD}Content-Length: 0\r\n\r\n`.repeat(300)}${'GET / HTTP/1.1\r\n\r\n'.repeat(50)}`,
        );
    for (const socket of tls ? await attacker.connectHttp2(port, 10) : await attacker.connect(port, 30)) {
      socket.resume().write(requests);
    }
    await steady.orders(100);
    attacker.end();
  }
}

/** What an attack did to the steady client. */
export interface Endured {
  readonly p99Ms: number;
  readonly longestMs: number;
}

/** Runs an attack and looks at what it did to the client and the node, and that nothing of it is left. */
export async function endure(
  target: Target,
  attack: (attacker: Attacker) => Promise<void>,
): Promise<Endured> {
  const attacker = new Attacker();
  await target.steady.report();
  let report: Awaited<ReturnType<SteadyClient['report']>>;
  try {
    await attack(attacker);
    report = await target.steady.report();
  } finally {
    attacker.end();
  }
  expect(report.problems).toEqual([]);
  const memory = peakMemoryBytes(target.node.pid);
  const endured = { p99Ms: p99(report.latencies), longestMs: Math.max(...report.latencies) };
  if (process.env.HOSTILE_FIGURES !== undefined) {
    const figures = [endured.p99Ms, endured.longestMs, p99(report.lateMs), memory / 2 ** 20];
    console.log(
      expect.getState().currentTestName,
      report.latencies.length,
      figures.map(Math.round).join(' '),
    );
  }
  expect(memory).toBeLessThan(MOST_MEMORY_BYTES);
  await vi.waitFor(
    async () => {
      // The client's own connections are 32 at most.
      expect(await target.metric('orderflow_connections', { server: 'user' })).toBeLessThanOrEqual(32);
      expect(await target.metric('orderflow_reading_bytes')).toBeLessThan(1e6);
      expect(await target.metric('orderflow_waiting_bytes')).toBeLessThan(1e6);
    },
    { timeout: 15_000, interval: 50 },
  );
  const allowedMs = Math.max(WORSE_BY * target.quietMs, target.quietMs + WORSE_BY_MS);
  if (endured.p99Ms > allowedMs) expect(endured.p99Ms).toBeLessThan(allowedMs + TURNS * p99(report.lateMs));
  return endured;
}

function p99(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[Math.floor(sorted.length * 0.99)] ?? 0;
}

export function portOf(address: string): number {
  return Number(address.slice(address.lastIndexOf(':') + 1));
}

/** The most that a process ever had in memory. */
function peakMemoryBytes(pid: number): number {
  const kilobytes = /^VmHWM:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1];
  return Number(kilobytes) * 1024;
}
