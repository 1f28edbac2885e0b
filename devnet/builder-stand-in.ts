/**
 * Stands in for rbuilder: a small JSON-RPC server over plain HTTP that takes every order method, records what
 * came in (when, how long, SHA-256 of the exact bytes) and answers `null` as rbuilder does. Builds nothing.
 *
 * Memory is bounded: the newest `limit` records are kept, older ones are counted only; bodies are kept on
 * request, within the same limit.
 */
import { hash } from 'node:crypto';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { type AddressInfo, isIPv6 } from 'node:net';
import { METHODS } from '../pipeline/order.ts';

export interface BuilderOptions {
  /** host:port; port 0 takes a free one. Default 127.0.0.1:0. */
  readonly listen?: string;
  /** How many records are kept; default 100,000, or 10,000 with bodies. */
  readonly limit?: number;
  /** Keep the bodies too; default false. */
  readonly keepBodies?: boolean;
  /** Called with each order before it is answered. */
  readonly onOrder?: (record: BuilderRecord) => void;
}

/** One request as it came in. */
export interface BuilderRecord {
  /** 1, 2, 3 … in order of arrival. */
  readonly sequence: number;
  /** Unix time in microseconds at which the last byte was read. */
  readonly receivedAtUs: number;
  readonly method: string;
  readonly bytes: number;
  /** Of the exact body, 64 hex digits. */
  readonly sha256: string;
  readonly body?: Buffer;
}

export interface BuilderStandIn {
  readonly url: string;
  readonly port: number;
  /** Requests taken since the start. */
  readonly received: number;
  /** Kept records, oldest first. */
  records(): BuilderRecord[];
  /** What `GET /readyz` answers: 200 when true (the start), else 503. */
  setReady(ready: boolean): void;
  /** Resolves once `count` requests have come in since the start. */
  waitFor(count: number, signal?: AbortSignal): Promise<void>;
  close(): Promise<void>;
}

interface RpcRequest {
  readonly id?: unknown;
  readonly method?: unknown;
}

const KNOWN: ReadonlySet<unknown> = new Set(METHODS);
const DEFAULT_LIMIT = 100_000;
const DEFAULT_LIMIT_WITH_BODIES = 10_000;
const NEWLINE = '\n';

/**
 * Starts one. Besides JSON-RPC on POST it answers `GET /readyz`, and `GET /orders` with the kept records as
 * NDJSON (`{"sequence","receivedAtUs","method","bytes","sha256","body"?}`, the body as text).
 * @throws when the address cannot be bound or is no host:port.
 */
export async function startBuilder(options: BuilderOptions = {}): Promise<BuilderStandIn> {
  const { host, port } = parseListen(options.listen ?? '127.0.0.1:0');
  const limit = options.limit ?? (options.keepBodies === true ? DEFAULT_LIMIT_WITH_BODIES : DEFAULT_LIMIT);
  const ring: BuilderRecord[] = [];
  const waiting = new Set<{ count: number; resolve: () => void }>();
  let received = 0;
  let ready = true;

  function record(body: Buffer, method: string): void {
    const entry: BuilderRecord = {
      sequence: received + 1,
      receivedAtUs: Math.round((performance.timeOrigin + performance.now()) * 1000),
      method,
      bytes: body.length,
      sha256: hash('sha256', body),
      ...(options.keepBodies === true && { body }),
    };
    ring[received % limit] = entry;
    received++;
    options.onOrder?.(entry);
    for (const waiter of waiting) {
      if (received >= waiter.count) waiter.resolve();
    }
  }

  function records(): BuilderRecord[] {
    if (received <= limit) return ring.slice();
    const oldest = received % limit;
    return [...ring.slice(oldest), ...ring.slice(0, oldest)];
  }

  function take(body: Buffer): string {
    const request = parseRequest(body);
    if (request === null) return answer(null, { error: { code: -32700, message: 'Parse error' } });
    if (!KNOWN.has(request.method)) {
      return answer(request.id, { error: { code: -32601, message: 'Method not found' } });
    }
    record(body, String(request.method));
    return answer(request.id, { result: null });
  }

  const server = createServer((request, response) => {
    if (request.method === 'POST') {
      collect(request, (body) => send(response, 200, 'application/json', take(body)));
      return;
    }
    const path = request.url?.split('?', 1)[0];
    if (path === '/readyz' || path === '/livez') {
      const ok = path === '/livez' || ready;
      send(response, ok ? 200 : 503, 'text/plain', ok ? 'OK' : 'not ready');
    } else if (path === '/orders') {
      response.writeHead(200, { 'content-type': 'application/x-ndjson' });
      for (const { body, ...entry } of records()) {
        const line = body === undefined ? entry : { ...entry, body: body.toString() };
        response.write(JSON.stringify(line) + NEWLINE);
      }
      response.end();
    } else {
      send(response, 404, 'text/plain', 'not found');
    }
  });
  // A node keeps its connections open for as long as it runs.
  server.keepAliveTimeout = 0;
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(port, host, resolve);
  });
  const address = server.address() as AddressInfo;

  return {
    url: `http://${isIPv6(host) ? `[${host}]` : host}:${address.port}`,
    port: address.port,
    get received() {
      return received;
    },
    records,
    setReady(value) {
      ready = value;
    },
    async waitFor(count, signal) {
      if (received >= count) return;
      const { promise, resolve, reject } = Promise.withResolvers<void>();
      const waiter = { count, resolve };
      const onAbort = (): void => reject(new Error(`the builder has ${received} of ${count} orders`));
      waiting.add(waiter);
      signal?.addEventListener('abort', onAbort, { once: true });
      if (signal?.aborted === true) onAbort();
      try {
        await promise;
      } finally {
        waiting.delete(waiter);
        signal?.removeEventListener('abort', onAbort);
      }
    },
    async close() {
      const closed = new Promise((resolve) => server.close(resolve));
      server.closeAllConnections();
      await closed;
    },
  };
}

function collect(request: IncomingMessage, done: (body: Buffer) => void): void {
  const chunks: Buffer[] = [];
  request.on('data', (chunk: Buffer) => chunks.push(chunk));
  request.on('end', () => {
    const only = chunks[0];
    done(chunks.length === 1 && only !== undefined ? only : Buffer.concat(chunks));
  });
}

function send(response: ServerResponse, status: number, type: string, text: string): void {
  response.writeHead(status, { 'content-type': type, 'content-length': Buffer.byteLength(text) });
  response.end(text);
}

function parseRequest(body: Buffer): RpcRequest | null {
  try {
    const value: unknown = JSON.parse(body.toString());
    return typeof value === 'object' && value !== null && !Array.isArray(value) ? value : null;
  } catch {
    return null;
  }
}

function answer(id: unknown, outcome: object): string {
  return JSON.stringify({ jsonrpc: '2.0', id: id ?? null, ...outcome });
}

function parseListen(text: string): { host: string; port: number } {
  const match = /^(?:\[([^\]]+)\]|([^:]*)):(\d{1,5})$/.exec(text);
  const port = Number(match?.[3]);
  if (match === null || port > 65_535) throw new RangeError(`listen must be host:port, got ${text}`);
  return { host: match[1] ?? (match[2] === '' || match[2] === undefined ? '0.0.0.0' : match[2]), port };
}
