/**
 * The development hub: a stand-in for BuilderHub on a private network, for tests, `npm start` and `npm run hub`.
 *
 * Limits: who calls is taken on trust (see caller.ts), so it listens on the loopback interface unless told
 * otherwise, and it is nothing for a network that strangers can reach.
 */
import { once } from 'node:events';
import { createServer } from 'node:http';
import { isIPv4 } from 'node:net';
import { getRequestListener } from '@hono/node-server';
import { formatHostAndPort, parseHostAndPort } from '../host.ts';
import { createHubApp, type NodeTrust } from './app.ts';
import { type AttestedHubOptions, startAttestedHub } from './attested.ts';
import { HubState } from './state.ts';

/** A builder of the network, active from the start. */
export interface BuilderEntry {
  readonly name: string;
  /** 127.0.0.1 unless set. */
  readonly ip?: string | undefined;
  /** What peers connect to, free text such as `host:port`; none unless set. */
  readonly dns_name?: string | undefined;
  /** `production` unless set. */
  readonly network?: string | undefined;
}

export interface HubOptions {
  /** `host:port`; port 0 takes a free one. */
  readonly listen: string;
  /** Where the state is kept; undefined keeps it in memory. */
  readonly stateFile?: string | undefined;
  /** Take an address that other machines can reach. */
  readonly allowRemote?: boolean | undefined;
  /** Basic auth `admin:PASSWORD` on the admin API; without it only this machine may use that API. */
  readonly adminPassword?: string | undefined;
  readonly builders?: readonly BuilderEntry[] | undefined;
  /** How nodes are known on `listen`; `trusting` unless set. */
  readonly nodes?: NodeTrust | undefined;
  /** A second listener, where nodes attest themselves. */
  readonly attested?: AttestedHubOptions | undefined;
}

export interface DevelopmentHub {
  /** Base URL without a path. A builder's own base URL is `${url}/as/NAME`. */
  readonly url: string;
  readonly port: number;
  /** Base URL of the listener where nodes attest themselves. */
  readonly attestedUrl: string | undefined;
  /** Adds a builder, or changes where it is; what it registered stays. */
  addBuilder(entry: BuilderEntry): void;
  /** Ends open connections and stores the state. */
  close(): Promise<void>;
}

/**
 * @throws Error when the address is none, is not a loopback one (without `allowRemote`) or is taken, or when the
 *   state file is damaged
 */
export async function startHub(options: HubOptions): Promise<DevelopmentHub> {
  const { host, port } = readListenAddress(options);
  const state = await HubState.open(options.stateFile);
  const { adminPassword, nodes } = options;
  const app = createHubApp(state, { adminPassword, nodes });
  const answer = getRequestListener(app.fetch, { overrideGlobalObjects: false });
  const server = createServer((request, response) => void answer(request, response));
  server.listen(port, host);
  await once(server, 'listening');
  const address = server.address();
  const actualPort = typeof address === 'object' && address !== null ? address.port : port;

  const addBuilder = ({ name, ip, dns_name, network }: BuilderEntry): void => {
    const known = state.builders.get(name);
    state.builders.set(name, {
      name,
      ip: ip ?? '127.0.0.1',
      dns_name: dns_name ?? '',
      network: network ?? 'production',
      active: true,
      credentials: known?.credentials ?? new Map(),
      configuration: known?.configuration,
      secrets: known?.secrets,
    });
    // close() writes once more and tells when that fails.
    state.save().catch(() => undefined);
  };
  for (const entry of options.builders ?? []) addBuilder(entry);
  await state.save();
  const attested =
    options.attested === undefined ? undefined : await startAttestedHub(state, options.attested);

  return {
    attestedUrl: attested?.url,
    url: `http://${formatHostAndPort(host, actualPort)}`,
    port: actualPort,
    addBuilder,
    async close() {
      await attested?.close();
      await new Promise<void>((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      });
      await state.save();
    },
  };
}

/** Where BuilderHub's clients look for it unless told otherwise (protocol section 1). */
const DEFAULT_PORT = 14_892;

function readListenAddress({ listen, allowRemote }: Pick<HubOptions, 'listen' | 'allowRemote'>): {
  host: string;
  port: number;
} {
  const anyPort = listen.endsWith(':0');
  const address = parseHostAndPort(anyPort ? listen.slice(0, -2) : listen, anyPort ? 0 : DEFAULT_PORT);
  if (address === undefined)
    throw new Error(`the hub cannot listen on ${JSON.stringify(listen)}: no host:port`);
  const { name: host, port } = address;
  if (allowRemote !== true && !isLoopback(host)) {
    throw new Error(
      `the development hub does not listen on ${host}, which other machines may reach, unless --allow-remote is set`,
    );
  }
  return { host, port };
}

function isLoopback(host: string): boolean {
  return host === 'localhost' || host === '::1' || (isIPv4(host) && host.startsWith('127.'));
}
