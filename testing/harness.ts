/**
 * Whole nodes for the integration tests: started in this process through `startNode`, with settings read from the
 * flags that an operator would give, each with a builder that records, a directory of its own and a log that is kept.
 * Everything ends with the test.
 *
 * Each node is searched for leaks when it closes: no transaction, signature, order hash or private key of the test
 * may stand in its log (at debug level) or on its metrics page.
 */
import { hash, randomBytes } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { pino } from 'pino';
import { expect, onTestFinished, vi } from 'vitest';
import { readArchivedOrders } from '../devnet/archive-reader.ts';
import { createUserClient, type RpcAnswer, type SignedRequest } from '../devnet/client.ts';
import { parseMetrics, type Sample, sumOf } from '../devnet/metrics.ts';
import { answerProblem } from '../devnet/once.ts';
import type { GeneratedOrder, OrderSource } from '../devnet/orders.ts';
import { freePorts } from '../devnet/ports.ts';
import { type JsonRpcSink, type SinkOptions, startJsonRpcSink } from '../egress/testing/json-rpc-sink.ts';
import { type Credentials, createCredentials } from '../identity/certificate.ts';
import { createSigner, type Signer } from '../identity/signature.ts';
import { type RunningNode, startNode } from '../node.ts';
import { METHODS } from '../pipeline/order.ts';
import { readSettings } from '../settings.ts';
import { get, requestsSent } from './clients.ts';
import { temporaryDirectory } from './directory.ts';
import type { HubFront } from './hub-front.ts';

export interface TestNodeOptions {
  /** Flags over the harness's own. */
  readonly flags?: readonly string[];
  /** Of an earlier node, to start it again. */
  readonly directory?: string;
  readonly systemPort?: number;
  /** The builder it gets its orders to; a new one unless set. */
  readonly builder?: JsonRpcSink;
}

export interface LogLine {
  readonly level: number;
  readonly event?: string;
  readonly [field: string]: unknown;
}

export interface TestNode {
  readonly name: string;
  readonly handle: RunningNode;
  readonly builder: JsonRpcSink;
  readonly directory: string;
  readonly systemPort: number;
  readonly userUrl: string;
  readonly log: readonly LogLine[];
  /** What `GET /cert` serves. */
  certificate(): Promise<string>;
  /** Sends a user order over a kept-alive HTTP/1.1 connection. @throws when no whole answer comes */
  send(order: SignedRequest): Promise<RpcAnswer>;
  /** Sends orders one after another; each must get the answer that the protocol promises. */
  sendAll(orders: readonly GeneratedOrder[]): Promise<void>;
  readyz(): Promise<{ status: number; missing: string }>;
  samples(): Promise<Sample[]>;
  /** Sum of a metric over the labels not given. */
  metric(name: string, labels?: Record<string, string>): Promise<number>;
  /** Resolves when orders can be sent to all of these targets. */
  connectedTo(...targets: string[]): Promise<void>;
  /** Digests of the orders in its archive, sorted. */
  archived(): Promise<string[]>;
  /** Drains and stops it, then looks for leaks. */
  close(): Promise<void>;
}

/** Of each node, unless a test says otherwise. */
export const SHARDS = Number(process.env.TEST_SHARDS ?? '1');

const ORDERFLOW_KEY_FILE = 'orderflow.key';
const TLS_FILE = 'tls.pem';
const USER_METHODS = METHODS.filter((method) => method !== 'bid_subsidiseBlock');

/** Starts a node under its name in the hub. */
export async function startTestNode(
  hub: HubFront,
  name: string,
  options: TestNodeOptions = {},
): Promise<TestNode> {
  const systemPort = options.systemPort ?? (await freePort());
  hub.addBuilder({ name, dns_name: `127.0.0.1:${systemPort}` });
  return startTestNodeAt(hub.urlOf(name), name, { ...options, systemPort });
}

/** Starts a node that calls its hub at the given URL. */
export async function startTestNodeAt(
  hubUrl: string,
  name: string,
  options: TestNodeOptions = {},
): Promise<TestNode> {
  const directory = options.directory ?? (await temporaryDirectory());
  const builder = options.builder ?? (await startSink());
  const systemPort = options.systemPort ?? (await freePort());
  forgetRequestsAfterTest();
  const lines: string[] = [];
  const log = pino({ level: 'debug', base: { service: name } }, { write: (line) => void lines.push(line) });
  const flags = {
    '--user-listen-addr': '127.0.0.1:0',
    '--system-listen-addr': `127.0.0.1:${systemPort}`,
    '--cert-listen-addr': '127.0.0.1:0',
    '--metrics-addr': '127.0.0.1:0',
    '--builder-endpoint': builder.url.href,
    '--builder-ready-endpoint': builder.url.href,
    '--builder-confighub-endpoint': hubUrl,
    '--data-dir': directory,
    '--peer-poll-sec': '1',
    '--drain-timeout-sec': '1',
    '--shards': String(SHARDS),
  };
  const settings = readSettings([...Object.entries(flags).flat(), ...(options.flags ?? [])], {});
  const handle = await startNode(settings, log);
  const { user, cert, metrics } = handle.addresses;
  const userUrl = `https://127.0.0.1:${user?.port}`;
  const certificate = async (): Promise<string> =>
    cert === undefined
      ? certificateIn(await readFile(join(directory, TLS_FILE), 'utf8'))
      : (await fetch(`http://127.0.0.1:${cert.port}/cert`)).text();
  const page = async (): Promise<string> => (await fetch(`http://127.0.0.1:${metrics?.port}/metrics`)).text();
  const client = createUserClient(userUrl, await certificate());

  async function send(order: SignedRequest): Promise<RpcAnswer> {
    requestsSent.add(order);
    return client.send(order);
  }

  async function samples(): Promise<Sample[]> {
    return parseMetrics(await page());
  }

  let closing: Promise<void> | null = null;
  async function close(): Promise<void> {
    const lastPage = await page().catch(() => '');
    await handle.close();
    client.close();
    expect(await leaksIn(`${lines.join('')}${lastPage}`, directory)).toEqual([]);
  }

  const node: TestNode = {
    name,
    handle,
    builder,
    directory,
    systemPort,
    userUrl,
    get log() {
      return lines.map((line) => JSON.parse(line) as LogLine);
    },
    certificate,
    send,
    async sendAll(orders) {
      for (const order of orders) expect(answerProblem(order, await send(order))).toBeNull();
    },
    async readyz() {
      const { status, headers } = await get(new URL('/readyz', userUrl), await certificate());
      return { status, missing: String(headers['x-not-ready'] ?? '') };
    },
    samples,
    metric: async (metric, labels = {}) => sumOf(await samples(), metric, labels),
    connectedTo: (...targets) =>
      eventually(async () => {
        const now = await samples();
        for (const target of targets) {
          expect(sumOf(now, 'orderflow_delivery_connections', { target }), target).toBeGreaterThan(0);
        }
      }),
    archived: async () => digestsOf(await readArchivedOrders(join(directory, 'archive'))),
    close: () => {
      closing ??= close();
      return closing;
    },
  };
  onTestFinished(() => node.close());
  return node;
}

/** A peer that is no node: a key, a certificate, and a server that records what it gets. */
export interface TestPeer {
  readonly name: string;
  readonly signer: Signer;
  readonly credentials: Credentials;
  readonly sink: JsonRpcSink;
}

/** Starts one and lists it in the hub. */
export async function startTestPeer(
  hub: HubFront,
  name: string,
  options: SinkOptions = {},
): Promise<TestPeer> {
  const credentials = await testCredentials();
  const signer = createSigner(randomKey());
  const sink = await startSink({
    ...options,
    tls: { cert: credentials.certificatePem, key: credentials.privateKeyPem },
  });
  hub.addBuilder({ name, dns_name: `127.0.0.1:${sink.port}` });
  await hub.register(name, signer.addressLower, credentials.certificatePem);
  return { name, signer, credentials, sink };
}

/** A recording server that ends with the test. */
export async function startSink(options: SinkOptions = {}): Promise<JsonRpcSink> {
  const sink = await startJsonRpcSink(options);
  onTestFinished(() => sink.close());
  return sink;
}

/** A certificate for 127.0.0.1. */
export function testCredentials(): Promise<Credentials> {
  return createCredentials({ names: ['127.0.0.1'], validityDays: 1, now: Date.now() });
}

/** A key that nobody lists. */
export function randomKey(): Buffer {
  return randomBytes(32);
}

/** What a server got, as digests of the exact bytes, sorted: short enough to be shown when they differ. */
export function bodiesOf(sink: JsonRpcSink): string[] {
  return digestsOf(sink.requests.map(({ body }) => body));
}

/** The same of the bytes that every receiver of these orders must get. */
export function canonicalOf(orders: readonly GeneratedOrder[]): string[] {
  return digestsOf(orders.map(({ canonical }) => canonical));
}

export function digestsOf(bodies: readonly Uint8Array[]): string[] {
  return bodies.map(digest).sort();
}

/** Short and of the exact bytes. */
function digest(bytes: Uint8Array): string {
  return hash('sha256', bytes).slice(0, 16);
}

/** The next orders of a source, so many of each method that a wallet may call. */
export function ordersOfEachMethod(source: OrderSource, count: number): GeneratedOrder[] {
  const missing = new Map<string, number>(USER_METHODS.map((method) => [method, count]));
  const orders: GeneratedOrder[] = [];
  while (orders.length < count * USER_METHODS.length) {
    const order = source.next();
    const left = missing.get(order.method) ?? 0;
    if (left === 0) continue;
    missing.set(order.method, left - 1);
    orders.push(order);
  }
  return orders;
}

/** Looks again and again until the assertions hold. */
export function eventually(assertions: () => void | Promise<void>): Promise<void> {
  return vi.waitFor(assertions, { timeout: 15_000, interval: 20 });
}

export async function freePort(): Promise<number> {
  const [port] = await freePorts(1);
  if (port === undefined) throw new Error('no free port');
  return port;
}

/** What of an order must not leave the way of the orders: transactions, hashes, the signature; in lower case. */
function secretsOf(request: SignedRequest & { readonly hash?: string | null }): string[] {
  const { body, signature, hash = null } = request;
  const hex = `${body.toString()} ${hash ?? ''} ${signature}`.toLowerCase().matchAll(/0x([0-9a-f]{64,})/g);
  return [...hex].map(([, digits]) => digits ?? '');
}

/** @returns what of this test's requests, and of the keys in a node's directory, stands in a text. */
export async function leaksIn(text: string, directory: string): Promise<string[]> {
  const searched = text.toLowerCase();
  const secrets = [...[...requestsSent].flatMap(secretsOf), ...(await keysIn(directory))];
  return secrets.filter((secret) => searched.includes(secret));
}

let forgetting = false;

/** Registered before anything of a test's first node, it runs after every node has been searched. */
function forgetRequestsAfterTest(): void {
  if (forgetting) return;
  forgetting = true;
  onTestFinished(() => {
    forgetting = false;
    requestsSent.clear();
  });
}

/** The private keys that a node keeps, as they stand in its files, in lower case. */
async function keysIn(directory: string): Promise<string[]> {
  const orderflow = await readFile(join(directory, ORDERFLOW_KEY_FILE), 'utf8').catch(() => '');
  const tls = await readFile(join(directory, TLS_FILE), 'utf8').catch(() => '');
  const pem = /-----BEGIN PRIVATE KEY-----\n([^-]+)\n-----END/.exec(tls)?.[1]?.split('\n') ?? [];
  return [orderflow.trim().replace(/^0x/, ''), ...pem.filter((line) => line.length === 64)]
    .filter((secret) => secret !== '')
    .map((secret) => secret.toLowerCase());
}

function certificateIn(pem: string): string {
  return pem.slice(pem.indexOf('-----BEGIN CERTIFICATE-----'));
}
