/** The way of the orders through a node: one shard on the node's own thread, or several on threads of their own. */
import type { Registry } from 'prom-client';
import { freeAddress, type ListenAddress } from '../ingress/listeners.ts';
import { pageOf, snapshotOf } from '../metrics/merge.ts';
import { connectionsGauge } from '../metrics/shard-metrics.ts';
import type { Settings } from '../settings.ts';
import { type ShardParts, startShard } from './shard.ts';
import { type ShardThreadsModules, startShardThreads } from './threads.ts';

export interface OrderWay {
  readonly addresses: { readonly user?: ListenAddress; readonly system?: ListenAddress };
  /** Shards that take orders. */
  readonly listening: number;
  /** Has every shard a connection to the builder, or needs none? */
  readonly builderUp: boolean;
  metricsPage(): Promise<string>;
  /** The archive takes orders again, or refuses them for one more reason. */
  tellGate(): void;
  /** The archive is about to begin a commit: orders that wait for it outside are given to it. */
  gather(): void;
  /** Shard.drain */
  drain(ms: number): Promise<ReadonlyMap<string, number>>;
  close(): Promise<void>;
}

export interface OrderWayOptions {
  readonly settings: Settings;
  /** Of each API. */
  readonly maxConnections: number;
}

/** Until there is one. */
export const NOT_STARTED: OrderWay = {
  addresses: {},
  listening: 0,
  builderUp: false,
  metricsPage: () => Promise.resolve(''),
  tellGate: () => undefined,
  gather: () => undefined,
  drain: () => Promise.resolve(new Map()),
  close: () => Promise.resolve(),
};

/** @throws Error naming the address that cannot be bound */
export async function onThisThread(
  { settings, maxConnections }: OrderWayOptions,
  parts: ShardParts,
): Promise<OrderWay> {
  const { userListenAddr: userListen, systemListenAddr: systemListen } = settings;
  const shard = await startShard({ settings, shards: 1, maxConnections, userListen, systemListen }, parts);
  return {
    addresses: addressesOf(shard.addresses.user, shard.addresses.system),
    listening: 1,
    get builderUp() {
      return shard.builderUp;
    },
    metricsPage: () => parts.registry.metrics(),
    tellGate: () => undefined,
    gather: () => undefined,
    drain: (ms) => shard.drain(ms),
    close: () => shard.close(),
  };
}

/** @throws Error naming the address that cannot be bound, or why a thread could not start */
export async function onThreads(
  { settings, shards, maxConnections }: OrderWayOptions & { readonly shards: number },
  modules: ShardThreadsModules & Pick<ShardParts, 'otherServers'> & { readonly registry: Registry },
): Promise<OrderWay> {
  const { registry, otherServers } = modules;
  connectionsGauge(registry, otherServers);
  const userListen = await freeAddress(settings.userListenAddr);
  const sender = settings.mode === 'sender';
  const systemListen = sender ? settings.systemListenAddr : await freeAddress(settings.systemListenAddr);
  const threads = await startShardThreads(
    { settings, shards, maxConnections: Math.ceil(maxConnections / shards), userListen, systemListen },
    modules,
  );
  return {
    addresses: addressesOf(userListen, sender ? null : systemListen),
    get listening() {
      return threads.listening;
    },
    get builderUp() {
      return threads.builderUp;
    },
    metricsPage: async () => pageOf([await snapshotOf(registry, false), ...(await threads.metrics())]),
    tellGate: () => threads.tellGate(),
    gather: () => threads.gather(),
    drain: (ms) => threads.drain(ms),
    close: () => threads.close(),
  };
}

function addressesOf(user: ListenAddress, system: ListenAddress | null): OrderWay['addresses'] {
  return system === null ? { user } : { user, system };
}
