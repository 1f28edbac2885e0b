/**
 * `npm run bench -- network`: orders between two network namespaces over a link that loses, delays and reorders real
 * packets (network-link.ts), once as v1's requests and once as a stream. Times are one-way: from an order's being handed
 * to the egress to its last byte's being read at the other end, by one clock. Linux and root only.
 */
import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { parseArgs } from 'node:util';
import { createCredentials } from '../../identity/certificate.ts';
import { createSigner } from '../../identity/signature.ts';
import { type Child, startChild } from '../child.ts';
import { type LatencyFigures, latencyFigures } from '../latency.ts';
import type { Conditions, LinkCalls } from '../network-link.ts';
import { surroundings, surroundingsLine } from '../report.ts';
import type { SinksCalls } from '../sinks.ts';
import type { PeerAddress, StreamSenderCalls } from '../stream-sender.ts';

export const name = 'network';

export const help = `Usage: npm run bench -- network [options]
The order stream and requests over a link that loses, delays and reorders packets.

  --rate R      orders per second (default 200)
  --seconds S   length of each run (default 20)
  --only TEXT   conditions whose name has this in it
  --large BYTES one order in 50 is of this size; the times are those of the others

Needs root, ip (iproute2) and /dev/net/tun.
`;

interface Case {
  readonly name: string;
  readonly conditions: Conditions;
  /** Once, after a quarter of the run. */
  readonly blackoutMs: number;
}

const NOTHING: Conditions = { delayMs: 0, jitterMs: 0, loss: 0, reorder: 0 };
const FAR: Conditions = { ...NOTHING, delayMs: 44 };
const CASES: readonly Case[] = [
  { name: 'nothing', conditions: NOTHING, blackoutMs: 0 },
  { name: 'delay 44 ms', conditions: FAR, blackoutMs: 0 },
  { name: 'delay 44 ms, jitter 4 ms', conditions: { ...FAR, jitterMs: 4 }, blackoutMs: 0 },
  { name: 'delay 44 ms, reordering 2 %', conditions: { ...FAR, reorder: 0.02 }, blackoutMs: 0 },
  { name: 'delay 44 ms, loss 2 %', conditions: { ...FAR, loss: 0.02 }, blackoutMs: 0 },
  { name: 'delay 44 ms, blackout 1 s', conditions: FAR, blackoutMs: 1_000 },
  {
    name: 'all of it',
    conditions: { delayMs: 44, jitterMs: 4, loss: 0.02, reorder: 0.02 },
    blackoutMs: 1_000,
  },
];

const LARGE_EVERY = 50;

const NEAR = 'orderflow-near';
const FAR_SIDE = 'orderflow-far';
const DEVICES = ['ofnear', 'offar'] as const;
const ADDRESSES = ['10.219.0.1', '10.219.0.2'] as const;

interface Network {
  readonly link: Child<LinkCalls>;
  readonly sender: Child<StreamSenderCalls>;
  readonly sinks: Child<SinksCalls>;
  /** Whether some orders are large; their times are left out. */
  readonly large: boolean;
}

interface Row {
  readonly name: string;
  readonly way: string;
  readonly figures: LatencyFigures;
  readonly duplicates: number;
}

/** @returns the exit code: 1 when an order did not arrive. */
export async function run(args: readonly string[]): Promise<number> {
  const { values } = parseArgs({
    args: [...args],
    options: {
      rate: { type: 'string', default: '200' },
      seconds: { type: 'string', default: '20' },
      only: { type: 'string', default: '' },
      large: { type: 'string', default: '0' },
    },
  });
  const rate = Number(values.rate);
  const count = rate * Number(values.seconds);
  const large = Number(values.large);
  const link = startChild<LinkCalls>(new URL('../network-link.ts', import.meta.url));
  const children: Child<never>[] = [];
  try {
    await link.call('open', ...DEVICES);
    putUp();
    const sender = startInNamespace<StreamSenderCalls>(NEAR, '../stream-sender.ts');
    const sinks = startInNamespace<SinksCalls>(FAR_SIDE, '../sinks.ts');
    children.push(sender, sinks);
    const settings = {
      seed: 'network',
      bodyBytes: 'field',
      methods: 'bundles',
      ...(large > 0 && { large: { every: LARGE_EVERY, bytes: large } }),
    } as const;
    const { meanBytes } = await sender.call('prepare', settings, count);
    const rows: Row[] = [];
    for (const one of CASES.filter(({ name }) => name.includes(values.only))) {
      for (const way of ['requests', 'stream']) {
        process.stderr.write(`${one.name}, ${way}\n`);
        rows.push(await measure({ link, sender, sinks, large: large > 0 }, one, way, count, rate));
      }
    }
    process.stdout.write(`\n${render(rows, count, rate, meanBytes).join('\n')}\n`);
    return rows.some(({ figures }) => figures.missing > 0) ? 1 : 0;
  } finally {
    await Promise.all(children.map((child) => child.close()));
    for (const namespace of [NEAR, FAR_SIDE]) takeDown(namespace);
    await link.close();
  }
}

function ip(...args: string[]): void {
  execFileSync('ip', args, { stdio: ['ignore', 'ignore', 'pipe'] });
}

function putUp(): void {
  for (const [i, namespace] of [NEAR, FAR_SIDE].entries()) {
    const device = DEVICES[i] ?? '';
    takeDown(namespace);
    ip('netns', 'add', namespace);
    ip('link', 'set', device, 'netns', namespace);
    const inside = ['-n', namespace];
    ip(...inside, 'addr', 'add', `${ADDRESSES[i]}/24`, 'dev', device);
    ip(...inside, 'link', 'set', device, 'up');
    ip(...inside, 'link', 'set', 'lo', 'up');
  }
}

function takeDown(namespace: string): void {
  try {
    ip('netns', 'del', namespace);
  } catch {
    // There was none.
  }
}

function startInNamespace<C extends Record<string, (...args: never[]) => unknown>>(
  namespace: string,
  module: string,
): Child<C> {
  const inside = ['netns', 'exec', namespace, process.execPath];
  return startChild<C>(new URL(module, import.meta.url), inside, 'ip');
}

async function measure(network: Network, one: Case, way: string, count: number, rate: number): Promise<Row> {
  const { link, sender, sinks } = network;
  const names = [...ADDRESSES];
  const [own, far] = await Promise.all([
    createCredentials({ names, validityDays: 1, now: Date.now() }),
    createCredentials({ names, validityDays: 1, now: Date.now() }),
  ]);
  const [key, farKey] = [randomBytes(32), randomBytes(32)];
  const stream = way === 'stream';
  const sink = {
    orders: count,
    tls: { key: far.privateKeyPem, cert: far.certificatePem },
    host: ADDRESSES[1],
    ...(stream && { streamKey: farKey }),
  };
  const [port = 0] = await sinks.call('start', [sink]);
  const target: PeerAddress = {
    name: 'far',
    address: createSigner(farKey).addressLower,
    host: ADDRESSES[1],
    port,
    servername: undefined,
    certificate: far.certificateDer,
    fingerprint: far.fingerprint,
  };
  const identity = { key, certificatePem: own.certificatePem, privateKeyPem: own.privateKeyPem };
  try {
    await link.call('set', NOTHING);
    await sender.call('connect', identity, [target], stream);
    await link.call('set', one.conditions);
    const sending = sender.call('run', 0, count, rate);
    if (one.blackoutMs > 0) {
      await new Promise((resolve) => setTimeout(resolve, ((count / rate) * 1000) / 4));
      await link.call('blackout', one.blackoutMs);
    }
    const { sentUs } = await sending;
    const { receivedUs, duplicates } = await sinks.call('received', 0, count);
    const arrivedUs = receivedUs[0] ?? new Float64Array(count);
    const ofInterest = (_: number, i: number) => !network.large || i % LARGE_EVERY !== 0;
    const figures = latencyFigures(sentUs.filter(ofInterest), arrivedUs.filter(ofInterest));
    return { name: one.name, way, figures, duplicates };
  } finally {
    await link.call('set', NOTHING);
    await sender.call('disconnect');
    await sinks.call('stop');
  }
}

function render(rows: readonly Row[], count: number, rate: number, meanBytes: number): string[] {
  const ms = (value: number | null) => (value === null ? '-' : value.toFixed(1));
  const cells = [
    ['each direction', 'way', 'p50 ms', 'p90', 'p99', 'max', 'lost', 'came again'],
    ...rows.map(({ name, way, figures, duplicates }) => [
      name,
      way,
      ...[figures.p50, figures.p90, figures.p99, figures.max].map(ms),
      String(figures.missing),
      String(duplicates),
    ]),
  ];
  const widths =
    cells[0]?.map((_, column) => Math.max(...cells.map((row) => row[column]?.length ?? 0))) ?? [];
  return [
    surroundingsLine(surroundings('network')),
    `${count} orders of ${Math.round(meanBytes)} bytes on average at ${rate}/s, one way`,
    '',
    ...cells.map((row) =>
      row
        .map((cell, column) =>
          column < 2 ? cell.padEnd(widths[column] ?? 0) : cell.padStart(widths[column] ?? 0),
        )
        .join('  '),
    ),
  ];
}
