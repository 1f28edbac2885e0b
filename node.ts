/**
 * The composition root: one node, from its settings to a handle. Reads from top to bottom like the diagram
 * in the README: who we are, who the others are, where orders go, the pipeline, where orders come from.
 */
import { join } from 'node:path';
import type { Logger } from 'pino';
import { Registry } from 'prom-client';
import { startArchive } from './archive.ts';
import { recentOrders } from './egress/archive/index.ts';
import { createBuilder } from './egress/builder.ts';
import { startBuilderReady } from './egress/builder-ready.ts';
import { createPeers } from './egress/peers.ts';
import { STREAM_PROTOCOL } from './identity/channel/hello.ts';
import { callerOf } from './identity/client-certificate.ts';
import { HubClient } from './identity/hub-client.ts';
import { openIdentity } from './identity/identity.ts';
import { joinNetwork } from './identity/membership.ts';
import { PeerRegistry } from './identity/registry.ts';
import { backend, backendFailure } from './identity/secp256k1.ts';
import { SignatureVerifier } from './identity/signature.ts';
import { BodyReader } from './ingress/body-reader.ts';
import { certificateOf, clientCertificateGuard } from './ingress/client-certificates.ts';
import { FairQueue } from './ingress/fair-queue.ts';
import { type HttpServer, listenHttp } from './ingress/http-server.ts';
import type { ListenAddress } from './ingress/listeners.ts';
import { connectionsWithin, openFilesLimit } from './ingress/open-files.ts';
import { startCertServer, startMetricsServer } from './ingress/plain-servers.ts';
import { type Readiness, rpcListener } from './ingress/rpc-endpoint.ts';
import { createStreamServer } from './ingress/stream/stream-server.ts';
import { type DeliveryMetrics, deliveryMetrics } from './metrics/delivery-metrics.ts';
import { nodeMetrics } from './metrics/node-metrics.ts';
import { pipelineMetrics } from './metrics/pipeline-metrics.ts';
import { streamMetrics } from './metrics/stream-metrics.ts';
import { createClock } from './pipeline/clock.ts';
import type { Side } from './pipeline/order.ts';
import { type Callers, Pipeline } from './pipeline/pipeline.ts';
import { ReplacementNonces } from './pipeline/replacement-nonces.ts';
import type { Arrival } from './pipeline/submission.ts';
import {
  connectionReports,
  hubReports,
  identityReports,
  registryReports,
  shippingReports,
  spoolReports,
  streamReports,
} from './reports.ts';
import { SettingError, type Settings } from './settings.ts';

export type ServerName = 'user' | 'system' | 'cert' | 'metrics';

export interface RunningNode {
  /** Where each server listens; no system API in sender mode. */
  readonly addresses: Readonly<Partial<Record<ServerName, ListenAddress>>>;
  /** The account that signs this node's orders. */
  readonly address: string;
  readiness(): Readiness;
  /**
   * Drains: takes no new requests, answers those in flight, flushes the queues within the bound, closes in
   * reverse order of start.
   */
  close(): Promise<void>;
}

/** What has been started, in order, and how it is ended. */
type Closers = { what: string; close: () => Promise<unknown> }[];

/** Public keys of signers kept, about 300 bytes each. */
const SIGNER_CACHE = 65_536;
/** Listening sockets of each API, so that a thousand new connections get their turns. */
const LISTENERS = 16;
const HEAD_TIMEOUT_MS = 10_000;
/** Most request bodies being read at once on both APIs. */
const MAX_BODIES_READING = 8192;
/** As many as our own nodes pipeline to a peer (egress/target-options.ts). */
const PIPELINING = 64;

/**
 * Starts a node; it serves when this resolves, whatever hub, builder and peers do.
 * @throws SettingError for settings that do not go together; Error naming the address, file or folder in the way
 */
export async function startNode(settings: Settings, log: Logger): Promise<RunningNode> {
  const closers: Closers = [];
  try {
    return await compose(settings, log, closers);
  } catch (error) {
    await closeInReverse(closers, log);
    throw error;
  }
}

async function compose(settings: Settings, log: Logger, closers: Closers): Promise<RunningNode> {
  const sender = settings.mode === 'sender';
  if (sender && settings.orderflowSignerKey === null) {
    throw new SettingError('ORDERFLOW_SIGNER_KEY: is missing; sender mode signs with the key it is given');
  }
  if (settings.maxPendingBytes < settings.maxRequestBodySizeBytes) {
    throw new SettingError(
      'MAX_PENDING_BYTES: is below MAX_REQUEST_BODY_SIZE_BYTES; such a body could never be read',
    );
  }
  if (backend !== 'native') {
    log.error(
      { event: 'slow curve', reason: backendFailure },
      'NO NATIVE libsecp256k1: signatures cost 20 times as much',
    );
  }
  const registry = new Registry();
  const clock = createClock();
  const closing = <T>(what: string, value: T, close: () => Promise<unknown>): T => {
    closers.push({ what, close });
    return value;
  };
  // The states are asked for when Prometheus does, long after everything named here has been started.
  const apis: Partial<Record<ServerName, HttpServer>> = {};
  const metrics = nodeMetrics(registry, {
    ready: () => readiness().ready,
    registered: () => network.state.registered,
    peers: () => peersOfHub.sendable.length,
    pipeline: () => {
      const state = pipeline.state();
      return {
        ...state,
        waiting: state.waiting + queue.length,
        waitingBytes: state.waitingBytes + queue.bytes,
      };
    },
    bodiesReading: () => bodies,
    connections: () =>
      Object.entries(apis).map(([server, handle]) => ({ server, open: handle.connections.size })),
    archive: sender ? null : () => archive?.state() ?? null,
  });

  // Who we are.
  const directory = settings.ephemeral ? undefined : settings.dataDir;
  const identity = await openIdentity(
    {
      directory,
      names: settings.certHosts,
      validityDays: settings.certDurationDays,
      orderflowKey: settings.orderflowSignerKey ?? undefined,
    },
    { events: identityReports(log) },
  );
  const { signer } = identity;

  // Who the others are.
  const hub = new HubClient(
    { url: settings.hubEndpoint.href, list: sender ? 'sender' : 'node' },
    { events: hubReports(log, metrics) },
  );
  const peersOfHub = new PeerRegistry(
    {
      own: () =>
        sender ? undefined : { address: signer.addressLower, fingerprint: identity.current.fingerprint },
      directory,
      pollMs: settings.peerPollSec * 1000,
    },
    { hub, events: registryReports(log, metrics) },
  );

  // Where orders go: the builder, the peers, the archive.
  const counted = deliveryMetrics(registry, () => [
    ...(builder === null ? [] : [builder.state()]),
    ...peers.state(),
  ]);
  /** Orders given up because the node stops, by target: its metrics end with it. */
  const leftBehind = new Map<string, number>();
  const deliveries: DeliveryMetrics = {
    ...counted,
    ...connectionReports(log, counted),
    dropped(target, reason, admitted) {
      counted.dropped(target, reason, admitted);
      if (reason === 'shutdown') leftBehind.set(target, (leftBehind.get(target) ?? 0) + 1);
    },
  };
  const verifier = new SignatureVerifier({ cacheSize: SIGNER_CACHE });
  // Both ends of a stream show a certificate that the hub lists; the sender has none.
  const streaming = settings.peerStream && !sender;
  const streamEvents = streamReports(
    log,
    streamMetrics(registry, { outgoing: () => peers.state(), incoming: () => streams?.state() ?? [] }),
  );
  const builder =
    sender || settings.builderEndpoint === null
      ? null
      : createBuilder(
          {
            endpoint: settings.builderEndpoint,
            connections: settings.builderConnections,
            queueBytes: settings.builderQueueBytes,
            queueAgeMs: settings.builderQueueAgeMs,
          },
          { events: deliveries, now: clock },
        );
  if (builder !== null) closing('builder', builder, () => builder.close(0));
  const builderReady = startBuilderReady(
    { endpoint: sender ? undefined : (settings.builderReadyEndpoint ?? undefined) },
    {
      onChange: (ready, reason) =>
        log.info({ event: 'builder', ready, reason }, ready ? 'builder is ready' : 'builder is not ready'),
    },
  );
  closing('builder readiness', builderReady, () => builderReady.close());
  const peers = createPeers(
    {
      connectionsPerPeer: settings.connPerPeer,
      queueBytes: settings.peerQueueBytes,
      queueAgeMs: settings.peerQueueAgeMs,
    },
    {
      signer,
      // A certificate that no hub lists would close every door: the sender shows none.
      tlsIdentity: () =>
        sender ? undefined : { cert: identity.current.certificatePem, key: identity.current.privateKeyPem },
      events: deliveries,
      onCertificateMismatch: (peer) => {
        log.warn(
          { event: 'certificate mismatch', peer },
          'the peer does not show the certificate that the hub lists',
        );
        void peersOfHub.refresh();
      },
      stream: streaming ? { signer, verifier, clock, events: streamEvents } : undefined,
      now: clock,
    },
  );
  closing('peers', peers, () => peers.close(0));
  const archiveDir = settings.archiveDir === '' ? join(settings.dataDir, 'archive') : settings.archiveDir;
  const archive = sender
    ? null
    : await startArchive(
        { dir: archiveDir, settings },
        { signer, clock, registry, events: spoolReports(log, metrics), shipping: shippingReports(log) },
      );
  if (archive !== null) closing('archive', archive, () => archive.close(0));

  // The pipeline.
  const callers: Callers = {
    identify: (address, shown) => callerOf(address, shown, peersOfHub, settings.flashbotsSigner),
    refresh: () => peersOfHub.refresh(),
  };
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
      dedupeKeys: settings.dedupeKeys,
      dedupeWindowUs: settings.dedupeSec * 1e6,
      maxUserRps: settings.maxUserRps,
      intakeBytes: settings.maxPendingBytes,
      maxWaitingForRefresh: 1024,
    },
    {
      verifySignature: (header, body) => verifier.verify(header, body),
      callers,
      nonces: new ReplacementNonces(),
      builder,
      peers,
      archive,
      clock,
      events: counters,
    },
  );
  if (archive !== null) {
    for await (const order of recentOrders(archiveDir, clock() - settings.dedupeSec * 1e6)) {
      pipeline.remember(order, order.receivedAtUs);
    }
  }

  // Where orders come from: the user API and the system API.
  const bodies = new BodyReader({
    maxBodyBytes: settings.maxRequestBodySizeBytes,
    maxTotalBytes: settings.maxPendingBytes,
    maxBodies: MAX_BODIES_READING,
    timeoutMs: settings.httpReadTimeoutSec * 1000,
  });
  closing('body reader', bodies, async () => bodies.close());
  const queue = new FairQueue<Arrival>(
    { maxBytes: settings.maxPendingBytes },
    { submit: (arrival) => pipeline.submit(arrival) },
  );
  const maxConnections = connectionsWithin(openFilesLimit(), settings.maxConnections);
  if (maxConnections < settings.maxConnections) {
    log.info(
      { event: 'few open files', wanted: settings.maxConnections, maxConnections },
      'the limit of open files (ulimit -n) allows fewer connections than MAX_CONNECTIONS',
    );
  }
  const streams = streaming
    ? createStreamServer(
        { windowBytes: settings.streamWindowBytes, maxOrderBytes: settings.maxRequestBodySizeBytes },
        {
          signer,
          verifier,
          clock,
          peers: peersOfHub,
          offer: (stream, arrival, bytes) => queue.offer(stream, arrival, bytes),
          events: streamEvents,
        },
      )
    : null;
  let draining = false;
  const readiness = (): Readiness => {
    const reasons: string[] = [];
    if (draining) reasons.push('shutting down');
    if (!builderReady.ready) reasons.push(builderReady.reason);
    if (builder !== null && !builder.up) reasons.push('no connection to the builder');
    if (!network.state.registered) reasons.push('not registered at BuilderHub');
    if (archive !== null && !archive.accepting) reasons.push(archive.refusal);
    return { ready: reasons.length === 0, reasons };
  };
  const tls = () => ({ certificate: identity.current.certificatePem, key: identity.current.privateKeyPem });
  const serve = async (side: Side, listen: ListenAddress, secure: boolean): Promise<HttpServer> => {
    const server: HttpServer = await listenHttp(
      {
        listen,
        listeners: LISTENERS,
        tls: secure ? tls() : null,
        requestClientCertificate: side === 'system',
        headTimeoutMs: Math.min(HEAD_TIMEOUT_MS, settings.httpReadTimeoutSec * 1000),
        requestTimeoutMs: settings.httpReadTimeoutSec * 1000,
        writeTimeoutMs: settings.httpWriteTimeoutSec * 1000,
        idleTimeoutMs: settings.httpIdleTimeoutSec * 1000,
        maxConnections,
        pipelining: PIPELINING,
      },
      {
        onRequest: rpcListener(
          {
            side,
            maxBodyBytes: settings.maxRequestBodySizeBytes,
            readyText: sender || settings.builderReadyEndpoint === null ? 'ready' : 'OK',
          },
          {
            bodies,
            clock,
            queue,
            readiness: side === 'system' ? null : readiness,
            certificateOf,
            rejected: (api, kind) => counters.rejectedBeforePipeline(api, kind),
          },
        ),
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
    identity.onChange(() => server.setTls(tls()));
    return closing(`${side} API`, server, () => server.close());
  };

  // Joined before serving: the peers of the last run are there when the first order comes.
  peersOfHub.changes.subscribe(({ removed }) => {
    peers.update(peersOfHub.sendable);
    streams?.update();
    for (const { name } of removed) {
      deliveries.forget(name);
      streamEvents.forget(name);
    }
  });
  const network = await joinNetwork(
    { registers: !sender, region: settings.region === '' ? undefined : settings.region },
    { identity, hub, registry: peersOfHub },
  );
  closing('network', network, () => network.close());
  const metricsServer = await startMetricsServer(settings.metricsAddr, {
    contentType: registry.contentType,
    text: () => registry.metrics(),
  });
  // The last to go, so that a drain can be watched.
  closers.unshift({ what: 'metrics server', close: () => metricsServer.close() });
  apis.metrics = metricsServer;
  if (!sender) {
    const certServer = await startCertServer(settings.certListenAddr, () => identity.current.certificatePem);
    apis.cert = closing('cert server', certServer, () => certServer.close());
  }
  apis.user = await serve(sender ? 'sender' : 'user', settings.userListenAddr, settings.userTls);
  if (!sender) apis.system = await serve('system', settings.systemListenAddr, true);
  if (streams !== null) closing('streams', streams, async () => streams.close());
  for (const [server, { address }] of Object.entries(apis)) {
    log.info({ event: 'listening', server, address: formatAddress(address) }, `${server} API listens`);
  }
  log.info({ event: 'started', mode: settings.mode, address: signer.address }, 'the node runs');

  let closed: Promise<void> | null = null;
  function close(): Promise<void> {
    closed ??= drain();
    return closed;
  }

  async function drain(): Promise<void> {
    draining = true;
    const deadline = Date.now() + settings.drainTimeoutSec * 1000;
    const left = () => Math.max(0, deadline - Date.now());
    for (const api of [apis.user, apis.system]) api?.stopAccepting();
    streams?.stopAccepting();
    await within(left(), queue.drain());
    await within(left(), pipeline.drain());
    await Promise.all([builder?.close(left()), peers.close(left())]);
    if (leftBehind.size > 0) {
      const orders = Object.fromEntries(leftBehind);
      log.warn({ event: 'left behind', orders }, 'targets that did not take all their orders before the end');
    }
    await archive?.close(left());
    await closeInReverse(closers, log);
    log.info({ event: 'stopped' }, 'the node has stopped');
  }

  const addresses: Partial<Record<ServerName, ListenAddress>> = {};
  for (const [server, handle] of Object.entries(apis)) addresses[server as ServerName] = handle.address;
  return { addresses, address: signer.address, readiness, close };
}

/** One that fails to close does not keep the others open. */
async function closeInReverse(closers: Closers, log: Logger): Promise<void> {
  for (const { what, close } of closers.toReversed()) {
    await close().catch((error: unknown) =>
      log.error({ event: 'close failed', what, reason: String(error) }, 'close failed'),
    );
  }
}

function formatAddress({ host, port }: ListenAddress): string {
  return host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`;
}

/** Waits for `work`, but no longer than `ms`. */
async function within(ms: number, work: Promise<unknown>): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>();
  const timer = setTimeout(resolve, ms);
  await Promise.race([work, promise]);
  clearTimeout(timer);
}
