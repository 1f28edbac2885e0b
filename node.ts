/**
 * The composition root: one node, from its settings to a handle. Reads from top to bottom like the diagram
 * in the README: who we are, who the others are, where orders go, the pipeline, where orders come from.
 */
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import type { Logger } from 'pino';
import { Registry } from 'prom-client';
import { startArchive } from './archive.ts';
import { recentOrders } from './egress/archive/index.ts';
import { startBuilderReady } from './egress/builder-ready.ts';
import { HubClient } from './identity/hub-client.ts';
import { openIdentity } from './identity/identity.ts';
import { joinNetwork } from './identity/membership.ts';
import { PeerRegistry } from './identity/registry.ts';
import { backend, backendFailure } from './identity/secp256k1.ts';
import type { HttpServer } from './ingress/http-server.ts';
import { canShareAPort, type ListenAddress } from './ingress/listeners.ts';
import { connectionsWithin, openFilesLimit } from './ingress/open-files.ts';
import { startCertServer, startMetricsServer } from './ingress/plain-servers.ts';
import type { Readiness } from './ingress/rpc-endpoint.ts';
import { memoryProblem } from './memory-bound.ts';
import { nodeMetrics } from './metrics/node-metrics.ts';
import { type Clock, createClock } from './pipeline/clock.ts';
import { DedupeWindow, type OrderWindow } from './pipeline/dedupe.ts';
import { RateLimiter } from './pipeline/rate-limit.ts';
import { rememberOrder } from './pipeline/remember.ts';
import { ReplacementNonces } from './pipeline/replacement-nonces.ts';
import { createSharedClock } from './pipeline/shared/clock.ts';
import { SharedWindow } from './pipeline/shared/window.ts';
import { hubReports, identityReports, registryReports, shippingReports, spoolReports } from './reports.ts';
import { SettingError, type Settings } from './settings.ts';
import { type Closers, closeInReverse } from './shards/closers.ts';
import { shardCount } from './shards/count.ts';
import { sharedMemory, TRUNK_OWNER } from './shards/messages.ts';
import { NOT_STARTED, type OrderWay, onThisThread, onThreads } from './shards/order-way.ts';

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
  const openFiles = openFilesLimit();
  const sharesPorts = canShareAPort();
  const shards = shardCount(settings, { cores: availableParallelism(), sharesPorts, openFiles });
  if (shards > 1 && !sharesPorts) {
    throw new SettingError('SHARDS: needs Linux, where threads can listen on one port');
  }
  const tooMuch = memoryProblem(settings, shards, openFiles);
  if (tooMuch !== null) throw new SettingError(tooMuch);
  if (backend === 'prebuilt') {
    log.info(
      { event: 'old curve', reason: backendFailure },
      'libsecp256k1 is not compiled here: signatures cost 1.7 times as much',
    );
  } else if (backend === 'noble') {
    log.error(
      { event: 'slow curve', reason: backendFailure },
      'NO NATIVE libsecp256k1: signatures cost 20 times as much',
    );
  }
  const registry = new Registry();
  const memory = shards > 1 ? sharedMemory(settings) : null;
  const clock: Clock = memory === null ? createClock() : createSharedClock(memory.clock).read;
  const closing = <T>(what: string, value: T, close: () => Promise<unknown>): T => {
    closers.push({ what, close });
    return value;
  };
  // The states are asked for when Prometheus does, long after everything named here has been started.
  const metrics = nodeMetrics(registry, {
    ready: () => readiness().ready,
    registered: () => network.state.registered,
    peers: () => peersOfHub.sendable.length,
    shards: () => orders.listening,
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
  const builderReady = startBuilderReady(
    { endpoint: sender ? undefined : (settings.builderReadyEndpoint ?? undefined) },
    {
      onChange: (ready, reason) =>
        log.info({ event: 'builder', ready, reason }, ready ? 'builder is ready' : 'builder is not ready'),
    },
  );
  closing('builder readiness', builderReady, () => builderReady.close());

  // The archive, and what of it concerns this run.
  const archiveDir = settings.archiveDir === '' ? join(settings.dataDir, 'archive') : settings.archiveDir;
  let orders: OrderWay = NOT_STARTED;
  const archive = sender
    ? null
    : await startArchive(
        { dir: archiveDir, settings },
        {
          signer,
          clock,
          registry,
          events: spoolReports(log, metrics, () => orders.tellGate()),
          beforeCommit: () => orders.gather(),
          shipping: shippingReports(log),
        },
      );
  if (archive !== null) closing('archive', archive, () => archive.close(0));
  const windowUs = settings.dedupeSec * 1e6;
  const window: OrderWindow =
    memory === null
      ? new DedupeWindow({ maxKeys: settings.dedupeKeys, windowUs })
      : new SharedWindow({ memory: memory.window, owner: TRUNK_OWNER, windowUs, clock });
  if (archive !== null) {
    for await (const order of recentOrders(archiveDir, clock() - windowUs)) {
      rememberOrder(window, order, order.receivedAtUs);
    }
  }

  let draining = false;
  const readiness = (): Readiness => {
    const reasons: string[] = [];
    if (draining) reasons.push('shutting down');
    if (!builderReady.ready) reasons.push(builderReady.reason);
    if (!orders.builderUp) reasons.push('no connection to the builder');
    if (orders.listening === 0) reasons.push('takes no orders');
    if (!network.state.registered) reasons.push('not registered at BuilderHub');
    if (archive !== null && !archive.accepting) reasons.push(archive.refusal);
    return { ready: reasons.length === 0, reasons };
  };

  // Joined before serving: the peers of the last run are there when the first order comes.
  const network = await joinNetwork(
    { registers: !sender, region: settings.region === '' ? undefined : settings.region },
    { identity, hub, registry: peersOfHub },
  );
  closing('network', network, () => network.close());
  const metricsServer = await startMetricsServer(settings.metricsAddr, {
    contentType: registry.contentType,
    text: () => orders.metricsPage(),
  });
  // The last to go, so that a drain can be watched.
  closers.unshift({ what: 'metrics server', close: () => metricsServer.close() });
  const servers: Partial<Record<ServerName, HttpServer>> = { metrics: metricsServer };
  if (!sender) {
    const certServer = await startCertServer(settings.certListenAddr, () => identity.current.certificatePem);
    servers.cert = closing('cert server', certServer, () => certServer.close());
  }
  const openConnections = () =>
    Object.entries(servers).map(([server, { connections }]) => ({ server, open: connections.size }));

  // The way of the orders.
  const maxConnections = connectionsWithin(openFiles, settings.maxConnections);
  if (maxConnections < settings.maxConnections) {
    log.info(
      { event: 'few open files', wanted: settings.maxConnections, maxConnections },
      'the limit of open files (ulimit -n) allows fewer connections than MAX_CONNECTIONS',
    );
  }
  if (memory === null) {
    orders = await onThisThread(
      { settings, maxConnections },
      {
        log,
        registry,
        clock,
        now: clock,
        signer,
        credentials: identity,
        peersOfHub,
        archive,
        window,
        nonces: new ReplacementNonces(),
        limiter: new RateLimiter(settings.maxUserRps),
        readiness,
        otherServers: openConnections,
        onBuilder: () => undefined,
      },
    );
  } else {
    orders = await onThreads(
      { settings, shards, maxConnections },
      {
        log,
        registry,
        clock,
        identity,
        peersOfHub,
        archive,
        memory,
        readiness,
        restarted: () => metrics.shardRestarted(),
        otherServers: openConnections,
      },
    );
  }
  closing('orders', orders, () => orders.close());
  const addresses: Partial<Record<ServerName, ListenAddress>> = { ...orders.addresses };
  for (const [server, handle] of Object.entries(servers)) addresses[server as ServerName] = handle.address;
  for (const [server, address] of Object.entries(addresses)) {
    log.info({ event: 'listening', server, address: formatAddress(address) }, `${server} API listens`);
  }
  log.info({ event: 'started', mode: settings.mode, shards, address: signer.address }, 'the node runs');

  let closed: Promise<void> | null = null;
  function close(): Promise<void> {
    closed ??= drain();
    return closed;
  }

  async function drain(): Promise<void> {
    draining = true;
    const deadline = Date.now() + settings.drainTimeoutSec * 1000;
    const left = () => Math.max(0, deadline - Date.now());
    const leftBehind = await orders.drain(left());
    if (leftBehind.size > 0) {
      log.warn(
        { event: 'left behind', orders: Object.fromEntries(leftBehind) },
        'targets that did not take all their orders before the end',
      );
    }
    await archive?.close(left());
    await closeInReverse(closers, log);
    log.info({ event: 'stopped' }, 'the node has stopped');
  }

  return { addresses, address: signer.address, readiness, close };
}

function formatAddress({ host, port }: ListenAddress): string {
  return host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`;
}
