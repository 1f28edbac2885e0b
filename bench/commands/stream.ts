/**
 * `npm run bench -- stream`: what the order stream costs beside v1's requests, with the same orders of the sizes
 * seen in the field. A node's egress, in a process of its own, sends to a whole node and to sinks.
 *
 * Sender: CPU of the egress process with N peers less that with none, per order and peer. Receiver: CPU of the
 * node's process per order, with its builder's share or (`--no-builder`) without. What both use without orders is taken
 * off. Wire: TCP payload of all
 * connections between the two, both directions, handshakes left out, as `ss` counts it. CPU is schedstat's; Linux only.
 */
import { execFileSync } from 'node:child_process';
import { randomBytes, X509Certificate } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { type ChildGuard, startGuard } from '../../devnet/guard.ts';
import { parseMetrics, sumOf } from '../../devnet/metrics.ts';
import { type NodeProcess, startNodeProcess } from '../../devnet/node-process.ts';
import { freePorts } from '../../devnet/ports.ts';
import { type Credentials, createCredentials } from '../../identity/certificate.ts';
import { type DevelopmentHub, startHub } from '../../identity/hub/hub.ts';
import { createSigner } from '../../identity/signature.ts';
import type { Address } from '../../pipeline/order.ts';
import { type Child, startChild } from '../child.ts';
import { processFigures } from '../process-figures.ts';
import { surroundings, surroundingsLine } from '../report.ts';
import type { SinksCalls } from '../sinks.ts';
import type { PeerAddress, Sent, StreamSenderCalls } from '../stream-sender.ts';

export const name = 'stream';

export const help = `Usage: npm run bench -- stream [options]
What the order stream costs beside requests: bytes and CPU on each side.

  --peers LIST   numbers of peers (default 1,3,10)
  --rate R       orders per second; 0 = as fast as they are answered (default 500)
  --orders N     orders of each measured run (default 6000)
  --rounds N     how often each is measured, in turn; the table shows the medians (default 1)
  --size BYTES   size of a request body, or "field" for the sizes seen in the field (default field)
  --no-builder   the receiving node has no builder: what the way alone costs
  --seed TEXT    seed of the orders (default "bench")
`;

type Way = 'requests' | 'stream';

interface Run extends Omit<Sent, 'sentUs'> {
  readonly way: Way;
  readonly peers: number;
  /** CPU of the sending process per order, µs. */
  readonly senderUs: number;
  /** CPU of the receiving node's process per order, µs. */
  readonly receiverUs: number;
  /** Bytes between the two per order. */
  readonly wireBytes: number;
  /** Orders that did not come once to the receiving node. */
  readonly faults: number;
}

interface Bench {
  readonly sender: Child<StreamSenderCalls>;
  readonly sinks: Child<SinksCalls>;
  readonly guard: ChildGuard;
  readonly warmUp: number;
  readonly orders: number;
  readonly rate: number | null;
  readonly builder: boolean;
  readonly seed: string;
}

const SETTLE_MS = 200;
/** How long each run looks at what the processes use without orders, which is taken off. */
const IDLE_MS = 2_000;
const SENDER = 'sender';
const RECEIVER = 'receiver';

/** @returns the exit code: 1 when an order was lost or came twice. */
export async function run(args: readonly string[]): Promise<number> {
  const { values } = parseArgs({
    args: [...args],
    options: {
      peers: { type: 'string', default: '1,3,10' },
      rate: { type: 'string', default: '500' },
      orders: { type: 'string', default: '6000' },
      rounds: { type: 'string', default: '1' },
      size: { type: 'string', default: 'field' },
      'no-builder': { type: 'boolean', default: false },
      seed: { type: 'string', default: 'bench' },
    },
  });
  const orders = Number(values.orders);
  const rate = Number(values.rate);
  const warmUp = Math.min(10_000, orders);
  const guard = startGuard();
  const sender = startChild<StreamSenderCalls>(new URL('../stream-sender.ts', import.meta.url));
  const sinks = startChild<SinksCalls>(new URL('../sinks.ts', import.meta.url));
  try {
    say(`making ${warmUp + orders} orders`);
    const bodyBytes = values.size === 'field' ? 'field' : Number(values.size);
    const settings = { seed: values.seed, bodyBytes, methods: 'bundles' } as const;
    const { meanBytes } = await sender.call('prepare', settings, warmUp + orders);
    const bench: Bench = {
      sender,
      sinks,
      guard,
      warmUp,
      orders,
      rate: rate === 0 ? null : rate,
      builder: !values['no-builder'],
      seed: values.seed,
    };
    const all: Run[] = [];
    for (let round = 1; round <= Number(values.rounds); round++) {
      for (const peers of [0, ...values.peers.split(',').map(Number)]) {
        for (const way of peers === 0 ? (['requests'] as const) : (['requests', 'stream'] as const)) {
          say(`round ${round}: ${peers} peers, ${way}`);
          all.push(await measure(bench, way, peers));
        }
      }
    }
    const [alone, ...runs] = medians(all);
    if (alone === undefined) throw new RangeError('--rounds must be 1 at least');
    process.stdout.write(`\n${render(runs, alone, meanBytes, bench).join('\n')}\n`);
    return all.some(({ faults }) => faults > 0) ? 1 : 0;
  } finally {
    await Promise.all([sender.close(), sinks.close()]);
    await guard.close();
  }
}

/** One of each way and number of peers, every figure the median of the rounds'; faults are added up. */
function medians(all: readonly Run[]): Run[] {
  const groups = Map.groupBy(all, ({ way, peers }) => `${peers} ${way}`);
  return [...groups.values()].flatMap((group) => {
    const [first] = group;
    if (first === undefined) return [];
    const median = (pick: (run: Run) => number) =>
      group.map(pick).sort((a, b) => a - b)[Math.floor(group.length / 2)] ?? 0;
    return [
      {
        way: first.way,
        peers: first.peers,
        senderUs: median(({ senderUs }) => senderUs),
        receiverUs: median(({ receiverUs }) => receiverUs),
        wireBytes: median(({ wireBytes }) => wireBytes),
        p50Ms: median(({ p50Ms }) => p50Ms),
        p99Ms: median(({ p99Ms }) => p99Ms),
        faults: group.reduce((sum, { faults }) => sum + faults, 0),
        dropped: group.reduce((sum, { dropped }) => sum + dropped, 0),
      },
    ];
  });
}

/** One run with a fresh receiving node and fresh sinks; with no peers there are none. */
async function measure(bench: Bench, way: Way, peers: number): Promise<Run> {
  const { sender, sinks, warmUp, orders, rate } = bench;
  const directory = await mkdtemp(join(tmpdir(), 'orderflow-bench-'));
  const hub = await startHub({ listen: '127.0.0.1:0' });
  let node: NodeProcess | null = null;
  try {
    const identity = await makeIdentity();
    await register(hub, SENDER, 0, identity.address, identity.credentials.certificatePem);
    const sinkIdentities = await Promise.all(Array.from({ length: Math.max(0, peers - 1) }, makeIdentity));
    const [builderPort = 0, ...sinkPorts] = await sinks.call('start', [
      { orders: warmUp + orders },
      ...sinkIdentities.map(({ key, credentials }) => ({
        orders: warmUp + orders,
        tls: { key: credentials.privateKeyPem, cert: credentials.certificatePem },
        ...(way === 'stream' && { streamKey: key }),
      })),
    ]);
    const targets: PeerAddress[] = sinkIdentities.map(({ address, credentials }, i) =>
      targetOf(`sink-${i + 1}`, address, sinkPorts[i] ?? 0, credentials),
    );
    const [port = 0] = await freePorts(1);
    if (peers > 0) {
      hub.addBuilder({ name: RECEIVER, dns_name: `127.0.0.1:${port}` });
      node = await startNode(bench, hub, directory, builderPort, port);
      targets.push(await receiverOf(hub, port));
    }
    const { key, credentials } = identity;
    const { certificatePem, privateKeyPem } = credentials;
    await sender.call('connect', { key, certificatePem, privateKeyPem }, targets, way === 'stream');
    await sender.call('run', 0, warmUp, rate);
    const idle = await figures(sender, node, port);
    await new Promise((resolve) => setTimeout(resolve, IDLE_MS));
    const before = await figures(sender, node, port);
    const startMs = performance.now();
    const sent = await sender.call('run', warmUp, orders, rate);
    const idles = (performance.now() - startMs) / IDLE_MS;
    const after = await figures(sender, node, port);
    return {
      ...sent,
      way,
      peers,
      senderUs: (after.senderUs - before.senderUs - idles * (before.senderUs - idle.senderUs)) / orders,
      receiverUs:
        (after.receiverUs - before.receiverUs - idles * (before.receiverUs - idle.receiverUs)) / orders,
      wireBytes: (after.wireBytes - before.wireBytes) / orders,
      faults: node === null ? 0 : Math.abs(after.received - before.received - orders),
    };
  } finally {
    await sender.call('disconnect');
    await node?.stop();
    await sinks.call('stop');
    await hub.close();
    await rm(directory, { recursive: true, force: true });
  }
}

interface Identity {
  readonly key: Uint8Array;
  readonly address: Address;
  readonly credentials: Credentials;
}

async function makeIdentity(): Promise<Identity> {
  const key = randomBytes(32);
  const credentials = await createCredentials({ names: ['127.0.0.1'], validityDays: 1, now: Date.now() });
  return { key, address: createSigner(key).addressLower, credentials };
}

function targetOf(
  name: string,
  address: Address,
  port: number,
  { certificateDer, fingerprint }: Pick<Credentials, 'certificateDer' | 'fingerprint'>,
): PeerAddress {
  const host = '127.0.0.1';
  return { name, address, host, port, servername: undefined, certificate: certificateDer, fingerprint };
}

interface Figures {
  readonly senderUs: number;
  readonly receiverUs: number;
  readonly wireBytes: number;
  /** Orders that the receiving node has taken from peers, duplicates not. */
  readonly received: number;
}

async function figures(
  sender: Child<StreamSenderCalls>,
  node: NodeProcess | null,
  port: number,
): Promise<Figures> {
  // What is still under way when the last answer is there belongs to the orders.
  await new Promise((resolve) => setTimeout(resolve, SETTLE_MS));
  const { cpuUs } = await processFigures(sender.pid);
  if (node === null) return { senderUs: cpuUs, receiverUs: 0, wireBytes: 0, received: 0 };
  const receiver = await processFigures(node.pid);
  const wireBytes = payloadOf(port);
  const samples = parseMetrics(await (await fetch(`http://${node.addresses.metrics}/metrics`)).text());
  const received =
    sumOf(samples, 'orderflow_orders_total', { side: 'system' }) -
    sumOf(samples, 'orderflow_duplicates_total', { side: 'system' });
  return { senderUs: cpuUs, receiverUs: receiver.cpuUs, wireBytes, received };
}

/** TCP payload of a port's connections so far, both directions. */
function payloadOf(port: number): number {
  const text = execFileSync('ss', ['-tinH', 'sport', '=', `:${port}`], { encoding: 'utf8' });
  return [...text.matchAll(/ bytes_(?:sent|received):(\d+)/g)].reduce((sum, [, n]) => sum + Number(n), 0);
}

async function register(
  hub: DevelopmentHub,
  name: string,
  port: number,
  address: Address,
  certificate: string,
): Promise<void> {
  hub.addBuilder({ name, dns_name: `127.0.0.1:${port}` });
  const url = `${hub.url}/as/${name}/api/l1-builder/v1/register_credentials/orderflow_proxy`;
  const body = JSON.stringify({ ecdsa_pubkey_address: address, tls_cert: certificate });
  const { status } = await fetch(url, { method: 'POST', body });
  if (status !== 200) throw new Error(`the hub answers ${status} to ${name}`);
}

interface HubEntry {
  readonly name: string;
  readonly orderflow_proxy?: { readonly ecdsa_pubkey_address: Address; readonly tls_cert?: string };
}

/** The receiving node as the hub lists it, once it has registered. */
async function receiverOf(hub: DevelopmentHub, port: number): Promise<PeerAddress> {
  for (;;) {
    const list = (await (await fetch(`${hub.url}/api/internal/l1-builder/v1/builders`)).json()) as HubEntry[];
    const entry = list.find(({ name }) => name === RECEIVER)?.orderflow_proxy;
    if (entry?.tls_cert !== undefined) {
      const { raw, fingerprint256 } = new X509Certificate(entry.tls_cert);
      const fingerprint = fingerprint256.replaceAll(':', '').toLowerCase();
      return targetOf(RECEIVER, entry.ecdsa_pubkey_address.toLowerCase() as Address, port, {
        certificateDer: raw,
        fingerprint,
      });
    }
    await new Promise((resolve) => setTimeout(resolve, SETTLE_MS));
  }
}

function startNode(
  { guard, builder }: Bench,
  hub: DevelopmentHub,
  directory: string,
  builderPort: number,
  systemPort: number,
): Promise<NodeProcess> {
  const any = '127.0.0.1:0';
  const url = `http://127.0.0.1:${builderPort}`;
  return startNodeProcess({
    name: RECEIVER,
    guard,
    logFile: join(directory, `${RECEIVER}.log`),
    env: {
      USER_LISTEN_ADDR: any,
      SYSTEM_LISTEN_ADDR: `127.0.0.1:${systemPort}`,
      CERT_LISTEN_ADDR: any,
      METRICS_ADDR: any,
      USER_TLS: 'off',
      BUILDER_ENDPOINT: builder ? url : 'none',
      BUILDER_READY_ENDPOINT: url,
      BUILDER_CONFIGHUB_ENDPOINT: `${hub.url}/as/${RECEIVER}`,
      PEER_POLL_SEC: '1',
      DATA_DIR: join(directory, RECEIVER),
    },
  });
}

function render(
  runs: readonly Run[],
  alone: Run,
  meanBytes: number,
  { orders, rate, builder, seed }: Bench,
): string[] {
  const head = [
    'peers',
    'way',
    'sender µs',
    'ratio',
    'receiver µs',
    'ratio',
    'wire bytes',
    'ratio',
    'p50 ms',
    'p99',
  ];
  const rows = [
    head,
    ...runs.map((one) => {
      const other = runs.find(({ peers, way }) => peers === one.peers && way === 'requests') ?? one;
      const perPeer = ({ senderUs, peers }: Run) => (senderUs - alone.senderUs) / peers;
      const cells = (own: number, base: number, digits: number) => [
        own.toFixed(digits),
        one === other ? '' : (own / base).toFixed(2),
      ];
      return [
        String(one.peers),
        one.way,
        ...cells(perPeer(one), perPeer(other), 1),
        ...cells(one.receiverUs, other.receiverUs, 1),
        ...cells(one.wireBytes, other.wireBytes, 0),
        one.p50Ms.toFixed(2),
        one.p99Ms.toFixed(2),
      ];
    }),
  ];
  const widths = head.map((_, column) => Math.max(...rows.map((row) => row[column]?.length ?? 0)));
  return [
    surroundingsLine(surroundings(seed)),
    `${orders} orders of ${Math.round(meanBytes)} bytes on average, ${rate === null ? 'as fast as they are answered' : `${rate}/s`}`,
    `CPU of the sender per order and peer (${alone.senderUs.toFixed(1)} with none taken off), of the receiver per order ${builder ? 'with' : 'without'} its builder;`,
    'bytes per order, both directions; times from handing over to the answer, which over the stream waits up to 10 ms for others',
    '',
    ...rows.map((row) => row.map((cell, column) => cell.padStart(widths[column] ?? 0)).join('  ')),
    ...[alone, ...runs]
      .filter(({ faults, dropped }) => faults + dropped > 0)
      .map(
        ({ peers, way, faults, dropped }) =>
          `${peers} peers, ${way}: ${faults} orders not once there, ${dropped} dropped`,
      ),
  ];
}

function say(text: string): void {
  process.stderr.write(`${text}\n`);
}
