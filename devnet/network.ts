/**
 * A whole network on one machine: a development hub, N nodes as real processes with their own keys, certificates
 * and archives, and a builder stand-in for each, all on loopback. Nothing outlives it: see guard.ts.
 *
 * Directory: ports.json, and for each node NAME/ (its keys and archive), NAME.log and NAME.pem (its certificate).
 * A directory that is used again gives the same nodes again; the hub forgets, as every node registers when it starts.
 */
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type DevelopmentHub, startHub } from '../identity/hub/hub.ts';
import { type BuilderStandIn, startBuilder } from './builder-stand-in.ts';
import { createUserClient, type UserClient } from './client.ts';
import { type ChildGuard, startGuard } from './guard.ts';
import { figuresOf, type NodeFigures, parseMetrics } from './metrics.ts';
import { type NodeProcess, startNodeProcess } from './node-process.ts';
import { freePorts, isFree } from './ports.ts';

export interface NetworkOptions {
  /** At least 1. */
  readonly nodes: number;
  /** Made if it is not there. */
  readonly directory: string;
  /** Settings for every node, by environment name, over the network's own. */
  readonly env?: Readonly<Record<string, string>>;
}

export interface NetworkNode {
  readonly name: string;
  readonly userUrl: string;
  readonly metricsUrl: string;
  readonly directory: string;
  /** PEM file of the certificate that the node shows. */
  readonly certificateFile: string;
  readonly logFile: string;
  readonly process: NodeProcess;
  readonly builder: BuilderStandIn;
  readonly client: UserClient;
  /** What its metrics say now; null when it does not answer. */
  figures(): Promise<NodeFigures | null>;
}

export interface Network {
  readonly hubUrl: string;
  readonly nodes: readonly NetworkNode[];
  /** Resolves when every node is ready and connected to every other. @throws after `timeoutMs`, saying who is not. */
  connected(timeoutMs: number): Promise<void>;
  /** Drains and stops all nodes; hub and builders go on, so that what they saw can still be asked for. */
  stopNodes(): Promise<void>;
  /** Stops everything in order. */
  close(): Promise<void>;
  /** Ends all processes at once. */
  kill(): void;
}

export const PORTS_PER_NODE = 4;
/** Place of the system API's port among them. */
export const SYSTEM_PORT = 1;
/** Peers of a fresh network find one another within a second or two instead of 30. */
const PEER_POLL_SEC = '1';
const LOOK_MS = 100;
const METRICS_TIMEOUT_MS = 2_000;

/**
 * Starts it and resolves when every node listens; see `connected` for when they know each other.
 * @throws when a node does not start; everything is stopped then.
 */
export async function startNetwork(options: NetworkOptions): Promise<Network> {
  const { directory } = options;
  await mkdir(directory, { recursive: true, mode: 0o700 });
  const guard = startGuard();
  const undo: (() => unknown)[] = [() => guard.close()];
  try {
    const hub = await startHub({ listen: '127.0.0.1:0' });
    undo.push(() => hub.close());
    const names = Array.from({ length: options.nodes }, (_, index) => `node-${index + 1}`);
    const ports = await keptPorts(join(directory, 'ports.json'), names.length * PORTS_PER_NODE);
    const nodes = await Promise.all(
      names.map(async (name, index) => {
        const builder = await startBuilder();
        undo.push(() => builder.close());
        const own = ports.slice(index * PORTS_PER_NODE, (index + 1) * PORTS_PER_NODE);
        const node = await startNode({
          name,
          ports: own,
          hub,
          builder,
          guard,
          directory,
          env: options.env ?? {},
        });
        undo.push(() => node.client.close());
        return node;
      }),
    );
    return handle(hub, nodes, undo);
  } catch (error) {
    // The guard, last to go, stops nodes that did start.
    for (const step of undo.toReversed()) await step();
    throw error;
  }
}

function handle(hub: DevelopmentHub, nodes: NetworkNode[], undo: (() => unknown)[]): Network {
  async function stopNodes(): Promise<void> {
    await Promise.all(nodes.map((node) => node.process.stop()));
  }
  return {
    hubUrl: hub.url,
    nodes,
    async connected(timeoutMs) {
      const deadline = performance.now() + timeoutMs;
      for (;;) {
        const missing = (
          await Promise.all(nodes.map((node) => whatIsMissing(node, nodes.length - 1)))
        ).filter((reason) => reason !== null);
        if (missing.length === 0) return;
        if (performance.now() > deadline) throw new Error(`the network is not ready: ${missing.join('; ')}`);
        await new Promise((resolve) => setTimeout(resolve, LOOK_MS));
      }
    },
    stopNodes,
    async close() {
      await stopNodes();
      for (const step of undo.toReversed()) await step();
    },
    kill() {
      for (const node of nodes) node.process.kill();
    },
  };
}

interface NodeStart {
  readonly name: string;
  readonly ports: readonly number[];
  readonly hub: DevelopmentHub;
  readonly builder: BuilderStandIn;
  readonly guard: ChildGuard;
  readonly directory: string;
  readonly env: Readonly<Record<string, string>>;
}

async function startNode(start: NodeStart): Promise<NetworkNode> {
  const { name, hub, builder, guard, directory } = start;
  // An address with its port, as the public network lists nodes off the standard port.
  hub.addBuilder({ name, dns_name: `127.0.0.1:${start.ports[SYSTEM_PORT]}` });
  const dataDir = join(directory, name);
  const logFile = join(directory, `${name}.log`);
  const process = await startNodeProcess({
    name,
    guard,
    logFile,
    env: {
      ...nodeEnvironment({ name, ports: start.ports, hubUrl: hub.url, builderUrl: builder.url, dataDir }),
      ...start.env,
    },
  });
  const certificate = await (await fetch(`http://${process.addresses.cert}/cert`)).text();
  const certificateFile = join(directory, `${name}.pem`);
  await writeFile(certificateFile, certificate);
  const userUrl = `https://${process.addresses.user}`;
  const metricsUrl = `http://${process.addresses.metrics}/metrics`;
  return {
    name,
    userUrl,
    metricsUrl,
    directory: dataDir,
    certificateFile,
    logFile,
    process,
    builder,
    client: createUserClient(userUrl, certificate),
    figures: () => readFigures(metricsUrl),
  };
}

/** A node's place in a network on loopback. */
export interface NodePlace {
  readonly name: string;
  /** Of its user, system, cert and metrics servers. */
  readonly ports: readonly number[];
  readonly hubUrl: string;
  readonly builderUrl: string;
  readonly dataDir: string;
}

/** @returns its settings by environment name. */
export function nodeEnvironment(place: NodePlace): Record<string, string> {
  const [user, system, cert, metrics] = place.ports.map((port) => `127.0.0.1:${port}`);
  if (user === undefined || system === undefined || cert === undefined || metrics === undefined) {
    throw new RangeError(`a node needs ${PORTS_PER_NODE} ports`);
  }
  return {
    USER_LISTEN_ADDR: user,
    SYSTEM_LISTEN_ADDR: system,
    CERT_LISTEN_ADDR: cert,
    METRICS_ADDR: metrics,
    BUILDER_ENDPOINT: place.builderUrl,
    BUILDER_READY_ENDPOINT: place.builderUrl,
    BUILDER_CONFIGHUB_ENDPOINT: `${place.hubUrl}/as/${place.name}`,
    DATA_DIR: place.dataDir,
    CERT_HOSTS: '127.0.0.1,localhost',
    PEER_POLL_SEC,
    // All nodes of the network have one machine.
    SHARDS: '1',
  };
}

/** @returns what the node's metrics say now; null when it does not answer. */
export async function readFigures(metricsUrl: string): Promise<NodeFigures | null> {
  try {
    const page = await fetch(metricsUrl, { signal: AbortSignal.timeout(METRICS_TIMEOUT_MS) });
    return figuresOf(parseMetrics(await page.text()));
  } catch {
    return null;
  }
}

/** @returns null when the node is ready and has a connection to `others` peers, else a sentence about it. */
export async function whatIsMissing(
  node: Pick<NetworkNode, 'name' | 'logFile' | 'client' | 'figures'> & {
    readonly process: { readonly running: boolean };
  },
  others: number,
): Promise<string | null> {
  if (!node.process.running) return `${node.name} has ended (${node.logFile})`;
  const status = await node.client.status('/readyz').catch(() => 0);
  if (status !== 200) return `${node.name} answers readiness with ${status}`;
  const peers = (await node.figures())?.peers.filter((peer) => peer.connections > 0).length ?? 0;
  return peers >= others ? null : `${node.name} is connected to ${peers} of ${others} peers`;
}

/** The ports of the last run in this directory if all are free, else new ones. */
async function keptPorts(file: string, count: number): Promise<number[]> {
  const kept = await readFile(file, 'utf8').then(
    (text) => JSON.parse(text) as number[],
    () => [],
  );
  const usable = kept.length === count && (await Promise.all(kept.map(isFree))).every(Boolean);
  const ports = usable ? kept : await freePorts(count);
  await writeFile(file, JSON.stringify(ports));
  return ports;
}
