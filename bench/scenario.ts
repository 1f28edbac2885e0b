/**
 * One node under load: a fresh node process with a hub, a builder sink and a number of v1-like peers, warmed up,
 * then measured in a closed and in an open loop.
 *
 * CPU is counted until the sinks have every order, so that work a node does after its answers is not left out.
 */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { ChildGuard } from '../devnet/guard.ts';
import { connectionsOf, parseMetrics } from '../devnet/metrics.ts';
import { type NodeProcess, startNodeProcess } from '../devnet/node-process.ts';
import { type Credentials, createCredentials } from '../identity/certificate.ts';
import { type DevelopmentHub, startHub } from '../identity/hub/hub.ts';
import { createSigner } from '../identity/signature.ts';
import type { Child } from './child.ts';
import { latencyFigures } from './latency.ts';
import type { LoadCalls } from './load.ts';
import type { RunResult } from './load-generator.ts';
import { processFigures } from './process-figures.ts';
import type { RunFigures, Scenario } from './report.ts';
import type { SinksCalls } from './sinks.ts';

export interface Processes {
  readonly load: Child<LoadCalls>;
  readonly sinks: Child<SinksCalls>;
  readonly guard: ChildGuard;
}

export interface ScenarioOptions {
  readonly peers: number;
  readonly connections: number;
  /** Orders per second of the open loop. */
  readonly rate: number;
  /** How many orders each part takes, in this order from the prepared ones. */
  readonly warmUp: number;
  readonly closed: number;
  readonly open: number;
  /** HTTPS on the user API. */
  readonly tls: boolean;
  /** Settings for the node by environment name, over the bench's own. */
  readonly env: Readonly<Record<string, string>>;
  /** The node's program; the project's main.ts unless set. */
  readonly entry?: string;
  /** Directory for a CPU profile of the node's main thread, warm-up included; none unless set. */
  readonly profileDirectory?: string;
}

const NODE_NAME = 'node';
const CONNECT_TIMEOUT_MS = 30_000;
const LOOK_MS = 100;

/** Runs one; starts and stops everything but the processes it is given. */
export async function runScenario(processes: Processes, options: ScenarioOptions): Promise<Scenario> {
  const { load, sinks } = processes;
  const total = options.warmUp + options.closed + options.open;
  const directory = await mkdtemp(join(tmpdir(), 'orderflow-bench-'));
  const hub = await startHub({ listen: '127.0.0.1:0' });
  let node: NodeProcess | null = null;
  try {
    const credentials = await Promise.all(
      Array.from({ length: options.peers }, () =>
        createCredentials({ names: ['127.0.0.1'], validityDays: 1, now: Date.now() }),
      ),
    );
    const [builderPort = 0, ...peerPorts] = await sinks.call(
      'start',
      total,
      credentials.map(({ privateKeyPem, certificatePem }) => ({ key: privateKeyPem, cert: certificatePem })),
    );
    hub.addBuilder({ name: NODE_NAME, dns_name: '127.0.0.1' });
    await Promise.all(peerPorts.map((port, index) => registerPeer(hub, index, port, credentials[index])));
    node = await startNode(processes.guard, hub, directory, builderPort, options);
    await peersConnected(node, options.peers);
    await load.call('connect', await targetOf(node, options.tls), options.connections);

    const measure = async (from: number, count: number, rate: number | null): Promise<RunFigures> => {
      await sinks.call('reset');
      const before = await processFigures(node?.pid ?? 0);
      const result = await load.call('run', from, count, rate);
      await sinks.call('settled', count);
      const after = await processFigures(node?.pid ?? 0);
      return figuresOf(result, await receivedOf(sinks, from, count), (after.cpuUs - before.cpuUs) / count);
    };
    await measure(0, options.warmUp, null);
    const closed = await measure(options.warmUp, options.closed, null);
    const open = await measure(options.warmUp + options.closed, options.open, options.rate);
    const { peakRssBytes } = await processFigures(node.pid);
    return { peers: options.peers, closed, open, peakRssBytes };
  } finally {
    await load.call('disconnect');
    await node?.stop();
    await sinks.call('stop');
    await hub.close();
    await rm(directory, { recursive: true, force: true });
  }
}

interface ReceivedOfRun {
  readonly builder: Float64Array;
  readonly peers: readonly Float64Array[];
  readonly duplicates: number;
}

async function receivedOf(sinks: Child<SinksCalls>, from: number, count: number): Promise<ReceivedOfRun> {
  const { receivedUs, duplicates } = await sinks.call('received');
  const [builder, ...peers] = receivedUs.map((times) => times.subarray(from, from + count));
  if (builder === undefined) throw new Error('the sinks have no builder');
  return { builder, peers, duplicates };
}

/** Puts a run's times together. */
export function figuresOf(result: RunResult, received: ReceivedOfRun, cpuUsPerOrder: number): RunFigures {
  const { dueUs, sentUs, answeredUs, refused } = result;
  const toAnswer = latencyFigures(dueUs, answeredUs);
  const lastAnswerUs = answeredUs.reduce((last, time) => (time > last ? time : last), 0);
  const tookUs = lastAnswerUs - (sentUs[0] ?? 0);
  return {
    orders: dueUs.length,
    ordersPerSec: tookUs > 0 ? (toAnswer.count / tookUs) * 1e6 : 0,
    cpuUsPerOrder,
    toBuilder: latencyFigures(dueUs, received.builder),
    toAnswer,
    toPeers: received.peers.map((times) => latencyFigures(dueUs, times)),
    duplicates: received.duplicates,
    refused,
  };
}

async function startNode(
  guard: ChildGuard,
  hub: DevelopmentHub,
  directory: string,
  builderPort: number,
  options: ScenarioOptions,
): Promise<NodeProcess> {
  const any = '127.0.0.1:0';
  const builder = `http://127.0.0.1:${builderPort}`;
  return startNodeProcess({
    name: NODE_NAME,
    guard,
    logFile: join(directory, 'node.log'),
    ...(options.entry !== undefined && { entry: options.entry }),
    ...(options.profileDirectory !== undefined && {
      execArgv: ['--cpu-prof', `--cpu-prof-dir=${options.profileDirectory}`],
    }),
    env: {
      USER_LISTEN_ADDR: any,
      SYSTEM_LISTEN_ADDR: any,
      CERT_LISTEN_ADDR: any,
      METRICS_ADDR: any,
      USER_TLS: options.tls ? 'on' : 'off',
      BUILDER_ENDPOINT: builder,
      BUILDER_READY_ENDPOINT: builder,
      BUILDER_CONFIGHUB_ENDPOINT: `${hub.url}/as/${NODE_NAME}`,
      PEER_POLL_SEC: '1',
      DATA_DIR: join(directory, 'data'),
      ...options.env,
    },
  });
}

/** Registers a peer at the hub as a v1 node does: an address and a certificate. */
async function registerPeer(
  hub: DevelopmentHub,
  index: number,
  port: number,
  credentials: Credentials | undefined,
): Promise<void> {
  const name = `peer-${index + 1}`;
  hub.addBuilder({ name, dns_name: `127.0.0.1:${port}` });
  const { address } = createSigner(Buffer.alloc(32, index + 1));
  const response = await fetch(
    `${hub.url}/as/${name}/api/l1-builder/v1/register_credentials/orderflow_proxy`,
    {
      method: 'POST',
      body: JSON.stringify({ ecdsa_pubkey_address: address, tls_cert: credentials?.certificatePem }),
    },
  );
  if (!response.ok)
    throw new Error(`the hub does not take ${name}: ${response.status} ${await response.text()}`);
}

async function peersConnected(node: NodeProcess, count: number): Promise<void> {
  const deadline = performance.now() + CONNECT_TIMEOUT_MS;
  for (;;) {
    const page = await (await fetch(`http://${node.addresses.metrics}/metrics`)).text();
    const connected = connectionsOf(parseMetrics(page)).filter(({ connections }) => connections > 0).length;
    if (connected >= count) return;
    if (performance.now() > deadline)
      throw new Error(`the node is connected to ${connected} of ${count} peers`);
    await new Promise((resolve) => setTimeout(resolve, LOOK_MS));
  }
}

async function targetOf(
  node: NodeProcess,
  tls: boolean,
): Promise<{ host: string; port: number; certificate?: string }> {
  const url = new URL(`http://${node.addresses.user}`);
  const target = { host: url.hostname, port: Number(url.port) };
  if (!tls) return target;
  return { ...target, certificate: await (await fetch(`http://${node.addresses.cert}/cert`)).text() };
}
