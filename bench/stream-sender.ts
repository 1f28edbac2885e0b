/**
 * The sending side of the stream bench: a node's egress to its peers and nothing else, in a process of its own, so
 * that its CPU is the sending's.
 */

import { Registry } from 'prom-client';
import { createOrderSource, type OrderSettings } from '../devnet/orders.ts';
import { createPeers, type Peers, type PeerTarget } from '../egress/peers.ts';
import { createSigner, SignatureVerifier } from '../identity/signature.ts';
import { deliveryMetrics } from '../metrics/delivery-metrics.ts';
import { createClock } from '../pipeline/clock.ts';
import type { AdmittedOrder, Order } from '../pipeline/order.ts';
import { serveParent } from './child.ts';
import { nowUs } from './clock.ts';

export interface SenderIdentity {
  /** 32 bytes. */
  readonly key: Uint8Array;
  readonly certificatePem: string;
  readonly privateKeyPem: string;
}

/** A peer as it crosses from the parent: bytes arrive as plain arrays. */
export type PeerAddress = Omit<PeerTarget, 'certificate'> & { readonly certificate: Uint8Array };

export interface Sent {
  /** When each order was handed over, microseconds of clock.ts. */
  readonly sentUs: Float64Array;
  /** From an order's being handed over to its last answer, ms: p50 and p99. */
  readonly p50Ms: number;
  readonly p99Ms: number;
  readonly dropped: number;
}

const TICK_MS = 1;
/** Orders handed over in one go when there is no rate: what the pipeline works off in a slice. */
const SLICE = 8;
/** Answers owed beyond which a run without a rate waits. */
const MAX_OWED = 512;

const clock = createClock();
const registry = new Registry();
let orders: Order[] = [];
let peers: Peers | null = null;
let connected = 0;
let streams = 0;
let owed = 0;
let dropped = 0;
let latenciesMs: number[] = [];
let onAnswer: () => void = () => undefined;

const metrics = deliveryMetrics(registry, () => peers?.state() ?? []);
const events = {
  ...metrics,
  connected(target: string) {
    connected++;
    metrics.connected(target);
  },
  answered(...args: Parameters<typeof metrics.answered>) {
    metrics.answered(...args);
    owed--;
    latenciesMs.push(args[5]);
    onAnswer();
  },
  dropped(...args: Parameters<typeof metrics.dropped>) {
    metrics.dropped(...args);
    owed--;
    dropped++;
    onAnswer();
  },
};

const calls = {
  prepare(settings: OrderSettings, count: number): { meanBytes: number } {
    const source = createOrderSource(settings);
    let bytes = 0;
    orders = Array.from({ length: count }, () => {
      const { method, canonical, signer, hash } = source.next();
      bytes += canonical.length;
      return { method, canonical, hash, key: null, signer };
    });
    return { meanBytes: bytes / count };
  },
  /** Connects as a node that sends this way. Resolves when every peer has a connection of the kind. */
  async connect(identity: SenderIdentity, targets: readonly PeerAddress[], stream: boolean): Promise<void> {
    connected = 0;
    streams = 0;
    const signer = createSigner(identity.key);
    peers = createPeers(
      {},
      {
        signer,
        tlsIdentity: () => ({ cert: identity.certificatePem, key: identity.privateKeyPem }),
        events,
        now: clock,
        stream: stream
          ? {
              signer,
              verifier: new SignatureVerifier({ cacheSize: 1024 }),
              clock,
              events: {
                opened: () => void streams++,
                closed: () => undefined,
                oneWay: () => undefined,
                orders: () => undefined,
              },
            }
          : undefined,
      },
    );
    peers.update(targets.map((target) => ({ ...target, certificate: Buffer.from(target.certificate) })));
    const wanted = stream ? 2 * targets.length : 0;
    const ready = () => connected >= targets.length && streams >= wanted;
    while (!ready()) await new Promise((resolve) => setTimeout(resolve, 20));
  },
  /** Sends orders `from` … `from + count - 1`, and waits until every peer has answered all. @param rate null: as fast as they are answered */
  async run(from: number, count: number, rate: number | null): Promise<Sent> {
    const targets = peers?.state().length ?? 0;
    latenciesMs = [];
    dropped = 0;
    const done = Promise.withResolvers<void>();
    let sent = 0;
    const sentUs = new Float64Array(count);
    const send = (): void => {
      const order = orders[from + sent];
      if (order === undefined) throw new RangeError('not so many orders were made');
      sentUs[sent++] = nowUs();
      owed += targets;
      const admitted: AdmittedOrder = { order, side: 'user', caller: 'user', receivedAtUs: clock() };
      peers?.send(admitted);
    };
    const look = (): void => {
      if (sent === count && owed === 0) done.resolve();
    };
    onAnswer = look;
    const startMs = performance.now();
    const timer =
      rate === null
        ? null
        : setInterval(() => {
            const due = Math.min(count, Math.floor(((performance.now() - startMs) / 1000) * rate));
            for (let left = due - sent; left > 0; left--) send();
            look();
          }, TICK_MS);
    if (rate === null) {
      const more = (): void => {
        const room = targets === 0 ? SLICE : Math.ceil(MAX_OWED - owed / targets);
        for (let left = Math.min(SLICE, count - sent, room); left > 0; left--) send();
        look();
        if (sent < count) setImmediate(more);
      };
      more();
    }
    await done.promise;
    if (timer !== null) clearInterval(timer);
    const sorted = Float64Array.from(latenciesMs).sort();
    const quantile = (q: number) => sorted[Math.floor(q * (sorted.length - 1))] ?? 0;
    return { sentUs, p50Ms: quantile(0.5), p99Ms: quantile(0.99), dropped };
  },
  async disconnect(): Promise<void> {
    await peers?.close(0);
    peers = null;
  },
};
export type StreamSenderCalls = typeof calls;

serveParent(calls);
