/**
 * The network that chaos is made in: hub, builders and nodes, each a process of its own on loopback that keeps its
 * port and its files when it is started again. Nothing outlives it (devnet/guard.ts).
 *
 * Directory: hub.json, and for each node NAME/ (keys, archive), NAME.log, NAME-builder.log and NAME-builder.ndjson
 * (what its builder has taken).
 */
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { startChildProcess } from '../devnet/child-process.ts';
import { createUserClient, type UserClient } from '../devnet/client.ts';
import { startGuard } from '../devnet/guard.ts';
import {
  nodeEnvironment,
  PORTS_PER_NODE,
  readFigures,
  SYSTEM_PORT,
  whatIsMissing,
} from '../devnet/network.ts';
import { startNodeProcess } from '../devnet/node-process.ts';
import { freePorts } from '../devnet/ports.ts';
import { ChaosProcess, delay } from './chaos-process.ts';

export interface ChaosNode {
  readonly name: string;
  readonly node: ChaosProcess;
  readonly builder: ChaosProcess;
  readonly client: UserClient;
  readonly archiveDir: string;
  readonly logFile: string;
  /** See readBuilderJournal. */
  readonly journalFile: string;
  readonly builderLogFile: string;
}

export interface ChaosNetwork {
  readonly hub: ChaosProcess;
  readonly hubLogFile: string;
  readonly nodes: readonly ChaosNode[];
  /** Every process: hub, nodes, builders. */
  readonly processes: readonly ChaosProcess[];
  /** Resolves when every node is ready and connected to every other. @throws after `timeoutMs`, saying who is not. */
  connected(timeoutMs: number): Promise<void>;
  /** Drains and stops all nodes at once, then builders and hub. */
  stop(): Promise<void>;
  /** Ends whatever is left. */
  close(): Promise<void>;
}

export interface ChaosNetworkOptions {
  readonly nodes: number;
  /** Made if it is not there; an empty one. */
  readonly directory: string;
  /** Settings for every node, by environment name. */
  readonly env?: Readonly<Record<string, string>>;
}

const ROOT = join(import.meta.dirname, '..');
const LOOK_MS = 50;

/** @throws when a process does not become ready; everything is stopped then. */
export async function startChaosNetwork(options: ChaosNetworkOptions): Promise<ChaosNetwork> {
  const { directory } = options;
  await mkdir(directory, { recursive: true, mode: 0o700 });
  const guard = startGuard();
  const names = Array.from({ length: options.nodes }, (_, index) => `node-${index + 1}`);
  const ports = await freePorts(1 + names.length * (PORTS_PER_NODE + 1));
  const hubPort = ports.pop();
  const hubUrl = `http://127.0.0.1:${hubPort}`;
  const hubLogFile = join(directory, 'hub.log');
  const places = names.map((name) => ({
    name,
    builderPort: ports.pop(),
    ports: ports.splice(-PORTS_PER_NODE),
  }));

  const hub = new ChaosProcess('hub', () =>
    startChildProcess({
      name: 'hub',
      guard,
      logFile: hubLogFile,
      entry: join(ROOT, 'identity/hub/main.ts'),
      args: [
        '--listen',
        `127.0.0.1:${hubPort}`,
        '--state',
        join(directory, 'hub.json'),
        ...places.flatMap((place) => [
          '--builder',
          `name=${place.name},address=127.0.0.1:${place.ports[SYSTEM_PORT]}`,
        ]),
      ],
      isReady: (line) => line.startsWith('development hub on'),
    }),
  );

  async function startOne(place: (typeof places)[number]): Promise<ChaosNode> {
    const { name } = place;
    const dataDir = join(directory, name);
    const logFile = join(directory, `${name}.log`);
    const builderLogFile = join(directory, `${name}-builder.log`);
    const journalFile = join(directory, `${name}-builder.ndjson`);
    const builder = new ChaosProcess(`${name}-builder`, () =>
      startChildProcess({
        name: `${name}-builder`,
        guard,
        logFile: builderLogFile,
        entry: join(ROOT, 'devnet/builder-main.ts'),
        args: ['--listen', `127.0.0.1:${place.builderPort}`, '--journal', journalFile],
        isReady: (line) => line.includes('"listening"'),
      }),
    );
    const builderUrl = `http://127.0.0.1:${place.builderPort}`;
    const env = {
      ...nodeEnvironment({ name, ports: place.ports, hubUrl, builderUrl, dataDir }),
      ...options.env,
    };
    const node = new ChaosProcess(name, () => startNodeProcess({ name, guard, logFile, env }));
    await builder.start();
    await node.start();
    const certificate = await (await fetch(`http://${env.CERT_LISTEN_ADDR}/cert`)).text();
    const client = createUserClient(`https://${env.USER_LISTEN_ADDR}`, certificate);
    const archiveDir = join(dataDir, 'archive');
    return { name, node, builder, client, archiveDir, logFile, journalFile, builderLogFile };
  }

  let nodes: ChaosNode[];
  try {
    await hub.start();
    nodes = await Promise.all(places.map(startOne));
  } catch (error) {
    // The guard stops what did start.
    await guard.close();
    throw error;
  }

  const metricsUrls = new Map(
    places.map(({ name, ports: [, , , port] }) => [name, `http://127.0.0.1:${port}/metrics`]),
  );
  async function missingOf({ name, node, client, logFile }: ChaosNode): Promise<string | null> {
    const figures = () => readFigures(metricsUrls.get(name) ?? '');
    return whatIsMissing({ name, process: node.process, logFile, client, figures }, nodes.length - 1);
  }

  return {
    hub,
    hubLogFile,
    nodes,
    processes: [hub, ...nodes.flatMap(({ node, builder }) => [node, builder])],
    async connected(timeoutMs) {
      const deadline = performance.now() + timeoutMs;
      for (;;) {
        const missing = (await Promise.all(nodes.map(missingOf))).filter((reason) => reason !== null);
        if (missing.length === 0) return;
        if (performance.now() > deadline) throw new Error(`the network is not ready: ${missing.join('; ')}`);
        await delay(LOOK_MS);
      }
    },
    async stop() {
      await Promise.all(nodes.map(({ node }) => node.stop()));
      await Promise.all([hub.stop(), ...nodes.map(({ builder }) => builder.stop())]);
    },
    async close() {
      for (const { client } of nodes) client.close();
      await guard.close();
    },
  };
}
