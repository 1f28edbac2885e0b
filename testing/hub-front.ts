/**
 * A development hub behind a front that tests can listen at and interfere with: it counts the calls, answers in the
 * hub's place where told, and can go down and come back on the same port.
 *
 * @example
 * const hub = await startHubFront();
 * hub.addBuilder({ name: 'a', dns_name: '127.0.0.1:5544' });
 * await startTestNode(hub, 'a'); // calls hub.urlOf('a')
 * hub.answer = ({ path }) => (isList(path) ? { body: '[]' } : undefined);
 */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { onTestFinished } from 'vitest';
import { type BuilderEntry, startHub } from '../identity/hub/hub.ts';
import type { Address } from '../pipeline/order.ts';

export interface HubCall {
  readonly method: string;
  /** Without `/as/NAME`. */
  readonly path: string;
  /** The NAME of `/as/NAME`; empty for the internal API. */
  readonly caller: string;
}

export interface HubAnswer {
  readonly status?: number;
  readonly body?: string;
}

export interface HubFront {
  readonly url: string;
  readonly calls: readonly HubCall[];
  /** Decides about a call; undefined passes it on to the hub. May be changed at any time. */
  answer: ((call: HubCall) => HubAnswer | undefined | Promise<HubAnswer>) | undefined;
  /** A node's base URL. */
  urlOf(name: string): string;
  /** How often this caller has fetched the list of builders. */
  fetches(caller: string): number;
  addBuilder(entry: BuilderEntry): void;
  /** Registers as a v1 node does: its key as `orderflow_proxy`, the certificate of its HAProxy as `instance`. */
  register(name: string, address: Address, certificatePem: string): Promise<void>;
  /** The hub's list as it is now. */
  builders(): Promise<HubEntry[]>;
  /** Connections are refused until `up`. */
  down(): Promise<void>;
  up(): Promise<void>;
}

/** The parts of an entry that tests look at. */
export interface HubEntry {
  readonly name: string;
  readonly dns_name: string;
  readonly orderflow_proxy?: { readonly ecdsa_pubkey_address: Address; readonly tls_cert?: string };
  readonly instance?: { readonly tls_cert: string };
}

/** Is it the list of builders that is asked for? */
export function isList(path: string): boolean {
  return path.endsWith('/v1/builders');
}

const REGISTER = '/api/l1-builder/v1/register_credentials';

/** Starts both; they end with the test. */
export async function startHubFront(): Promise<HubFront> {
  const hub = await startHub({ listen: '127.0.0.1:0' });
  onTestFinished(() => hub.close());
  const calls: HubCall[] = [];
  let server: Server | null = null;
  let port = 0;

  async function handle(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const chunks: Buffer[] = [];
    for await (const chunk of request) chunks.push(chunk as Buffer);
    const [, caller = '', path = ''] = /^(?:\/as\/([^/]+))?(\/.*)$/.exec(request.url ?? '/') ?? [];
    const call = { method: request.method ?? '', path, caller };
    calls.push(call);
    const own = await front.answer?.(call);
    if (own?.body !== undefined || own?.status !== undefined) {
      response.writeHead(own.status ?? 200, { 'content-type': 'text/plain; charset=utf-8' });
      response.end(own.body ?? '');
      return;
    }
    const passed = await fetch(hub.url + request.url, {
      method: call.method,
      ...(call.method === 'GET' ? {} : { body: Buffer.concat(chunks) }),
    });
    response.writeHead(passed.status, { 'content-type': 'text/plain; charset=utf-8' });
    response.end(await passed.text());
  }

  async function up(): Promise<void> {
    const fresh = createServer((request, response) => {
      // Nodes give up calls when they close.
      handle(request, response).catch(() => response.destroy());
    });
    await new Promise<void>((resolve, reject) => {
      fresh.once('error', reject);
      fresh.listen(port, '127.0.0.1', resolve);
    });
    port = (fresh.address() as AddressInfo).port;
    server = fresh;
  }

  async function down(): Promise<void> {
    const closing = server;
    server = null;
    if (closing === null) return;
    const closed = new Promise((resolve) => closing.close(resolve));
    closing.closeAllConnections();
    await closed;
  }

  await up();
  onTestFinished(down);
  const front: HubFront = {
    url: `http://127.0.0.1:${port}`,
    calls,
    answer: undefined,
    urlOf: (name) => `http://127.0.0.1:${port}/as/${name}`,
    fetches: (caller) => calls.filter((call) => call.caller === caller && isList(call.path)).length,
    addBuilder: (entry) => hub.addBuilder(entry),
    async register(name, address, certificatePem) {
      const services = {
        orderflow_proxy: { ecdsa_pubkey_address: address },
        instance: { tls_cert: certificatePem },
      };
      for (const [service, body] of Object.entries(services)) {
        const url = `${hub.url}/as/${name}${REGISTER}/${service}`;
        const { status } = await fetch(url, { method: 'POST', body: JSON.stringify(body) });
        if (status !== 200) throw new Error(`the hub answers ${status} to ${name}`);
      }
    },
    async builders() {
      const list = await fetch(`${hub.url}/api/internal/l1-builder/v1/builders`);
      return (await list.json()) as HubEntry[];
    },
    up,
    down,
  };
  return front;
}
