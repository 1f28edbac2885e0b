/** A target, a server proxy and a client proxy on this machine, each part replaceable. Everything ends with the test. */
import {
  createServer,
  type IncomingHttpHeaders,
  type IncomingMessage,
  request,
  type ServerResponse,
} from 'node:http';
import type { AddressInfo } from 'node:net';
import { onTestFinished } from 'vitest';
import type { RunningProxy } from '../bounds.ts';
import { PROXY_BOUNDS, type ProxyBounds } from '../bounds.ts';
import { type ClientProxyModules, startClientProxy } from '../proxy-client.ts';
import { type ServerProxyModules, startServerProxy } from '../proxy-server.ts';

const ANY = { host: '127.0.0.1', port: 0 };

export interface SeenRequest {
  readonly method: string;
  readonly url: string;
  readonly headers: IncomingHttpHeaders;
  readonly body: string;
}

export interface TestTarget {
  readonly url: URL;
  readonly seen: SeenRequest[];
}

/** Records what it gets and answers 200 "target", or as told. */
export async function startTarget(
  respond: (request: IncomingMessage, response: ServerResponse) => void = (_, response) =>
    response.end('target'),
): Promise<TestTarget> {
  const seen: SeenRequest[] = [];
  const server = createServer((incoming, response) => {
    const chunks: Buffer[] = [];
    incoming.on('data', (chunk: Buffer) => chunks.push(chunk));
    incoming.on('end', () => {
      const { method = '', url = '', headers } = incoming;
      seen.push({ method, url, headers, body: Buffer.concat(chunks).toString() });
    });
    respond(incoming, response);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  onTestFinished(() => {
    server.closeAllConnections();
    server.close();
  });
  const { port } = server.address() as AddressInfo;
  return { url: new URL(`http://127.0.0.1:${port}`), seen };
}

export interface Refusals {
  readonly refused: string[];
  readonly failures: string[];
}

export async function startTestServer(
  target: URL,
  modules: Omit<ServerProxyModules, 'events'>,
  bounds: Partial<ProxyBounds> = {},
): Promise<RunningProxy & Refusals> {
  const refused: string[] = [];
  const failures: string[] = [];
  const proxy = await startServerProxy(
    { listen: ANY, target, bounds: { ...PROXY_BOUNDS, ...bounds } },
    {
      ...modules,
      events: {
        refused: ({ refused: check, reason }) => refused.push(`${check}: ${reason}`),
        request: (_status, _ms, failure) => failure !== undefined && failures.push(failure),
        fault: (error) => failures.push(`fault: ${String(error)}`),
      },
    },
  );
  onTestFinished(() => proxy.close());
  return { ...proxy, refused, failures };
}

export async function startTestClient(
  target: { readonly host: string; readonly port: number },
  modules: Omit<ClientProxyModules, 'events'>,
  bounds: Partial<ProxyBounds> = {},
): Promise<RunningProxy & Refusals> {
  const refused: string[] = [];
  const failures: string[] = [];
  const proxy = await startClientProxy(
    {
      listen: ANY,
      target: new URL(`https://${target.host}:${target.port}`),
      bounds: { ...PROXY_BOUNDS, ...bounds },
    },
    {
      ...modules,
      events: {
        connectFailed: (_check, reason) => refused.push(reason),
        request: (_status, _ms, failure) => failure !== undefined && failures.push(failure),
        fault: (error) => failures.push(`fault: ${String(error)}`),
      },
    },
  );
  onTestFinished(() => proxy.close());
  return { ...proxy, refused, failures };
}

export interface TestAnswer {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  readonly body: string;
}

/** One request over a connection of its own. */
export function ask(
  { address }: RunningProxy,
  path: string,
  options: { method?: string; headers?: Record<string, string>; body?: string | Buffer } = {},
): Promise<TestAnswer> {
  return new Promise((resolve, reject) => {
    const { host, port } = address;
    const { method = 'GET', headers = {} } = options;
    const outgoing = request({ host, port, path, method, headers, agent: false }, (response) => {
      const chunks: Buffer[] = [];
      response.on('data', (chunk: Buffer) => chunks.push(chunk));
      response.on('error', reject);
      response.on('end', () =>
        resolve({
          status: response.statusCode ?? 0,
          headers: response.headers,
          body: Buffer.concat(chunks).toString(),
        }),
      );
    });
    outgoing.on('error', reject);
    outgoing.end(options.body);
  });
}
