/**
 * What every order passes, put together from its parts: APIs and peers' streams, the pipeline, the builder, the peers.
 * A node has one of these on its own thread or several on threads of their own (threads.ts); what there is once in a
 * node (identity, hub, archive, metrics page) comes as parts. Reads like the diagram in the README.
 */
import type { Logger } from 'pino';
import type { Registry } from 'prom-client';
import type { Observable } from 'rxjs';
import { type Builder, createBuilder } from '../egress/builder.ts';
import { createPeers, type PeerTarget } from '../egress/peers.ts';
import type { Credentials } from '../identity/certificate.ts';
import { STREAM_PROTOCOL } from '../identity/channel/hello.ts';
import { callerOf } from '../identity/client-certificate.ts';
import type { PeerChanges, PeerLookup } from '../identity/peer-table.ts';
import { SignatureVerifier, type Signer } from '../identity/signature.ts';
import { BodyReader } from '../ingress/body-reader.ts';
import { certificateOf, clientCertificateGuard } from '../ingress/client-certificates.ts';
import { FairQueue } from '../ingress/fair-queue.ts';
import { type HttpServer, listenHttp } from '../ingress/http-server.ts';
import type { ListenAddress } from '../ingress/listeners.ts';
import {
  plainEndpoint,
  type Readiness,
  type RpcEndpointModules,
  type RpcEndpointOptions,
  rpcListener,
} from '../ingress/rpc-endpoint.ts';
import { createStreamServer } from '../ingress/stream/stream-server.ts';
import { type DeliveryMetrics, deliveryMetrics } from '../metrics/delivery-metrics.ts';
import { pipelineMetrics } from '../metrics/pipeline-metrics.ts';
import { connectionsGauge, shardMetrics } from '../metrics/shard-metrics.ts';
import { streamMetrics } from '../metrics/stream-metrics.ts';
import type { Clock } from '../pipeline/clock.ts';
import type { OrderWindow } from '../pipeline/dedupe.ts';
import type { Side } from '../pipeline/order.ts';
import { type ArchiveOutlet, Pipeline } from '../pipeline/pipeline.ts';
import type { Limiter } from '../pipeline/rate-limit.ts';
import type { NonceSource } from '../pipeline/replacement-nonces.ts';
import type { Arrival } from '../pipeline/submission.ts';
import { connectionReports, streamReports } from '../reports.ts';
import type { Settings } from '../settings.ts';
import { type Closers, closeInReverse, within } from './closers.ts';

/** A node's own certificate and key, and their changes. */
export interface OwnCredentials {
  readonly current: Pick<Credentials, 'certificatePem' | 'privateKeyPem'>;
  onChange(listener: () => void): void;
}

/** The peers of the hub's list, and their changes. */
export interface KnownPeers extends PeerLookup {
  readonly sendable: readonly PeerTarget[];
  readonly changes: Observable<PeerChanges>;
  refresh(): Promise<void>;
}

export interface ShardParts {
  readonly log: Logger;
  readonly registry: Registry;
  /** Receive times: unix µs, strictly increasing over all shards of the node. */
  readonly clock: Clock;
  /** The same clock for durations and ages, where a time may come twice. */
  readonly now: Clock;
  readonly signer: Signer;
  readonly credentials: OwnCredentials;
  readonly peersOfHub: KnownPeers;
  /** Null in sender mode. */
  readonly archive: ArchiveOutlet | null;
  readonly window: OrderWindow;
  readonly nonces: NonceSource;
  readonly limiter: Limiter;
  /** Of the node. */
  readonly readiness: () => Readiness;
  /** Servers of the node whose connections are counted with the shard's. */
  readonly otherServers: () => readonly { server: string; open: number }[];
  readonly onBuilder: (up: boolean) => void;
}

export interface ShardOptions {
  readonly settings: Settings;
  /** How many shards share the node's bounds. */
  readonly shards: number;
  /** Most connections of each API of this shard. */
  readonly maxConnections: number;
  readonly userListen: ListenAddress;
  readonly systemListen: ListenAddress;
}

export interface Shard {
  readonly addresses: { readonly user: ListenAddress; readonly system: ListenAddress | null };
  /** Is a connection to the builder open, or none wanted? */
  readonly builderUp: boolean;
  /**
   * Takes no new requests, answers those in flight and flushes the queues within the bound.
   * @returns orders given up, by target
   */
  drain(ms: number): Promise<ReadonlyMap<string, number>>;
  close(): Promise<void>;
}

/** Public keys of signers kept, about 300 bytes each. */
const SIGNER_CACHE = 65_536;
/** Listening sockets of each API, so that a thousand new connections get their turns. */
const LISTENERS = 32;
const LEAST_LISTENERS = 4;
const HEAD_TIMEOUT_MS = 10_000;
/** Most request bodies being read at once on both APIs. */
const MAX_BODIES_READING = 8192;
const MAX_WAITING_FOR_REFRESH = 1024;
/** As many as our own nodes pipeline to a peer (egress/target-options.ts). */
const PIPELINING = 64;
/** Connections for small orders of the stream to one peer. */
const STREAM_CONNECTIONS = 8;

/** @throws Error naming the address that cannot be bound */
export async function startShard(options: ShardOptions, parts: ShardParts): Promise<Shard> {
  const closers: Closers = [];
  try {
    return await compose(options, parts, closers);
  } catch (error) {
    await closeInReverse(closers, parts.log);
    throw error;
  }
}

async function compose(options: ShardOptions, parts: ShardParts, closers: Closers): Promise<Shard> {
  const { settings, shards } = options;
  const { log, registry, clock, now, signer, credentials, peersOfHub, archive, readiness } = parts;
  const sender = settings.mode === 'sender';
  /** This shard's part of what the node may have; of bytes, enough for the largest order. */
  const share = (whole: number, least = 1) => Math.max(least, Math.ceil(whole / shards));
  const shareOfBytes = (whole: number) => share(whole, Math.min(whole, settings.maxRequestBodySizeBytes));
  const closing = <T>(what: string, value: T, close: () => Promise<unknown>): T => {
    closers.push({ what, close });
    return value;
  };
  // The states are asked for when Prometheus does, long after everything named here has been started.
  const apis: Partial<Record<'user' | 'system', HttpServer>> = {};
  const metrics = shardMetrics(registry, {
    pipeline: () => {
      const state = pipeline.state();
      return {
        ...state,
        waiting: state.waiting + queue.length,
        waitingBytes: state.waitingBytes + queue.bytes,
        waitMs: queue.waitMs,
      };
    },
    bodiesReading: () => bodies,
  });
  connectionsGauge(registry, () => [
    ...Object.entries(apis).map(([server, { connections }]) => ({ server, open: connections.size })),
    ...parts.otherServers(),
  ]);

  // Where orders go: the builder and the peers.
  const counted = deliveryMetrics(registry, () => [
    ...(builder === null ? [] : [builder.state()]),
    ...peers.state(),
  ]);
  /** Orders given up because the node stops, by target: its metrics end with it. */
  const leftBehind = new Map<string, number>();
  const connections = connectionReports(log, counted);
  const tellBuilder = () => parts.onBuilder(builderUp());
  const deliveries: DeliveryMetrics = {
    ...counted,
    connected(target) {
      connections.connected(target);
      queueMicrotask(tellBuilder);
    },
    disconnected(target, reason) {
      connections.disconnected(target, reason);
      queueMicrotask(tellBuilder);
    },
    dropped(target, reason, admitted) {
      counted.dropped(target, reason, admitted);
      if (reason === 'shutdown') leftBehind.set(target, (leftBehind.get(target) ?? 0) + 1);
    },
  };
  const verifier = new SignatureVerifier({ cacheSize: share(SIGNER_CACHE) });
  // Both ends of a stream show a certificate that the hub lists; the sender has none.
  const streaming = settings.peerStream && !sender;
  const streamEvents = streamReports(
    log,
    streamMetrics(registry, { outgoing: () => peers.state(), incoming: () => streams?.state() ?? [] }),
  );
  const builder: Builder | null =
    sender || settings.builderEndpoint === null
      ? null
      : createBuilder(
          {
            endpoint: settings.builderEndpoint,
            connections: share(settings.builderConnections),
            queueBytes: shareOfBytes(settings.builderQueueBytes),
            queueAgeMs: settings.builderQueueAgeMs,
          },
          { events: deliveries, now },
        );
  if (builder !== null) closing('builder', builder, () => builder.close(0));
  const builderUp = () => builder === null || builder.up;
  const peers = createPeers(
    {
      connectionsPerPeer: share(settings.connPerPeer),
      streamConnections: share(STREAM_CONNECTIONS),
      queueBytes: shareOfBytes(settings.peerQueueBytes),
      queuesBytes: shareOfBytes(settings.peersQueueBytes),
      queueAgeMs: settings.peerQueueAgeMs,
    },
    {
      signer,
      // A certificate that no hub lists would close every door: the sender shows none.
      tlsIdentity: () =>
        sender
          ? undefined
          : { cert: credentials.current.certificatePem, key: credentials.current.privateKeyPem },
      events: deliveries,
      onCertificateMismatch: (peer) => {
        log.warn(
          { event: 'certificate mismatch', peer },
          'the peer does not show the certificate that the hub lists',
        );
        void peersOfHub.refresh();
      },
      stream: streaming ? { signer, verifier, clock, events: streamEvents } : undefined,
      now,
    },
  );
  closing('peers', peers, () => peers.close(0));

  // The pipeline.
  const counters = pipelineMetrics(registry, (error) =>
    log.error(
      { event: 'fault', reason: error instanceof Error ? error.stack : String(error) },
      'a defect of the node',
    ),
  );
  const pipeline = new Pipeline(
    {
      validation: {
        user: settings.txValidation,
        system: settings.systemTxValidation,
        sender: settings.systemTxValidation,
      },
      chainId: BigInt(settings.chainId),
      flashbotsSigner: settings.flashbotsSigner,
      intakeBytes: shareOfBytes(settings.maxPendingBytes),
      maxWaitingForRefresh: share(MAX_WAITING_FOR_REFRESH),
    },
    {
      verifySignature: (header, body) => verifier.verify(header, body),
      callers: {
        identify: (address, shown) => callerOf(address, shown, peersOfHub, settings.flashbotsSigner),
        refresh: () => peersOfHub.refresh(),
      },
      nonces: parts.nonces,
      window: parts.window,
      limiter: parts.limiter,
      builder,
      peers,
      archive,
      clock: now,
      events: counters,
    },
  );

  // Where orders come from: the user API and the system API.
  const bodies = new BodyReader({
    maxBodyBytes: settings.maxRequestBodySizeBytes,
    maxTotalBytes: shareOfBytes(settings.maxPendingBytes),
    maxBodies: share(MAX_BODIES_READING),
    timeoutMs: settings.httpReadTimeoutSec * 1000,
  });
  closing('body reader', bodies, async () => bodies.close());
  const queue = new FairQueue<Arrival>(
    {
      maxBytes: shareOfBytes(settings.maxPendingBytes),
      maxWaitMs: settings.maxWaitMs,
      maxBurstWaitMs: settings.maxBurstWaitMs,
    },
    { submit: (arrival) => pipeline.submit(arrival) },
  );
  const streams = streaming
    ? createStreamServer(
        {
          windowBytes: settings.streamWindowBytes,
          maxOrderBytes: settings.maxRequestBodySizeBytes,
          maxGatheredBytes: shareOfBytes(settings.maxPendingBytes),
        },
        {
          signer,
          verifier,
          clock,
          peers: peersOfHub,
          offer: (stream, arrival, bytes) => queue.offer(stream, 'peers', arrival, bytes) === null,
          events: streamEvents,
        },
      )
    : null;
  const tls = () => ({
    certificate: credentials.current.certificatePem,
    key: credentials.current.privateKeyPem,
  });
  const serve = async (side: Side, listen: ListenAddress, secure: boolean): Promise<HttpServer> => {
    const rpc: RpcEndpointOptions = {
      side,
      maxBodyBytes: settings.maxRequestBodySizeBytes,
      readyText: sender || settings.builderReadyEndpoint === null ? 'ready' : 'OK',
    };
    const rpcModules: RpcEndpointModules = {
      bodies,
      clock,
      queue,
      readiness: side === 'system' ? null : readiness,
      certificateOf,
      rejected: (api, kind) => counters.rejectedBeforePipeline(api, kind),
    };
    const server: HttpServer = await listenHttp(
      {
        listen,
        listeners: share(LISTENERS, LEAST_LISTENERS),
        shared: shards > 1,
        tls: secure ? tls() : null,
        requestClientCertificate: side === 'system',
        headTimeoutMs: Math.min(HEAD_TIMEOUT_MS, settings.httpReadTimeoutSec * 1000),
        requestTimeoutMs: settings.httpReadTimeoutSec * 1000,
        writeTimeoutMs: settings.httpWriteTimeoutSec * 1000,
        idleTimeoutMs: settings.httpIdleTimeoutSec * 1000,
        maxConnections: options.maxConnections,
        pipelining: PIPELINING,
      },
      {
        onRequest: rpcListener(rpc, rpcModules),
        plain: plainEndpoint(rpc, bodies, rpcModules),
        onSecureConnection:
          side === 'system'
            ? clientCertificateGuard(settings.systemClientCert, {
                peers: peersOfHub,
                refused: (reason) => metrics.clientCertificateRefused(reason),
              })
            : undefined,
        onEvicted: () => metrics.connectionEvicted(side),
        stream:
          side === 'system' && streams !== null
            ? { protocol: STREAM_PROTOCOL, accept: (stream) => streams.accept(stream) }
            : undefined,
      },
    );
    credentials.onChange(() => server.setTls(tls()));
    return closing(`${side} API`, server, () => server.close());
  };

  peersOfHub.changes.subscribe(({ removed }) => {
    peers.update(peersOfHub.sendable);
    streams?.update();
    for (const { name } of removed) {
      deliveries.forget(name);
      streamEvents.forget(name);
    }
  });
  // Before serving: the peers of the last run are there when the first order comes.
  peers.update(peersOfHub.sendable);
  const user = await serve(sender ? 'sender' : 'user', options.userListen, settings.userTls);
  apis.user = user;
  if (!sender) apis.system = await serve('system', options.systemListen, true);
  if (streams !== null) closing('streams', streams, async () => streams.close());

  return {
    addresses: { user: user.address, system: apis.system?.address ?? null },
    get builderUp() {
      return builderUp();
    },
    async drain(ms) {
      const deadline = Date.now() + ms;
      const left = () => Math.max(0, deadline - Date.now());
      for (const api of [apis.user, apis.system]) api?.stopAccepting();
      streams?.stopAccepting();
      await within(left(), queue.drain());
      await within(left(), pipeline.drain());
      await Promise.all([builder?.close(left()), peers.close(left())]);
      return leftBehind;
    },
    close: () => closeInReverse(closers, log),
  };
}
