import { once } from 'node:events';
import type { IncomingMessage } from 'node:http';
import { connect as connectH2, type IncomingHttpHeaders } from 'node:http2';
import { Agent, get as httpsGet } from 'node:https';
import { connect, type Socket } from 'node:net';
import { type ConnectionOptions, connect as connectTls, type TLSSocket } from 'node:tls';
import { describe, expect, onTestFinished, test, vi } from 'vitest';
import { type Credentials, createCredentials } from '../identity/certificate.ts';
import type { Peer } from '../identity/peer.ts';
import { certificateOf, clientCertificateGuard } from './client-certificates.ts';
import { type HttpServerModules, type HttpServerOptions, listenHttp } from './http-server.ts';
import { SERVER_OPTIONS } from './testing/server-options.ts';

const newIdentity = () =>
  createCredentials({ names: ['127.0.0.1', 'localhost'], validityDays: 1, now: Date.now() });
const tlsOf = (credentials: Credentials) => ({
  certificate: credentials.certificatePem,
  key: credentials.privateKeyPem,
});

/** A hub entry; only the name and the address are looked at here. */
const OWNER: Peer = {
  name: 'peer',
  address: '0x1111111111111111111111111111111111111111',
  sendable: false,
  reason: '',
  host: undefined,
  port: undefined,
  servername: undefined,
  certificate: undefined,
  fingerprint: undefined,
};

async function serve(options: Partial<HttpServerOptions> = {}, modules: Partial<HttpServerModules> = {}) {
  const evictions: number[] = [];
  const server = await listenHttp(
    { ...SERVER_OPTIONS, listeners: 4, maxConnections: 100, ...options },
    {
      onRequest: (request, response) => {
        request.resume();
        request.on('end', () => {
          (response as { writeHead: (status: number) => void }).writeHead(200);
          (response as { end: (body: string) => void }).end(`served ${request.httpVersion}`);
        });
      },
      onEvicted: () => void evictions.push(evictions.length),
      ...modules,
    },
  );
  onTestFinished(() => server.close());
  return { server, evictions, port: server.address.port };
}

function track<T extends Socket>(socket: T): T {
  socket.on('error', () => undefined);
  onTestFinished(() => void socket.destroy());
  return socket;
}

async function open(port: number): Promise<Socket> {
  const socket = track(connect(port, '127.0.0.1'));
  await once(socket, 'connect');
  return socket;
}

const closed = (socket: Socket) => (socket.closed ? Promise.resolve([]) : once(socket, 'close'));

/** Sends a request on a kept-alive connection and waits for its answer's body. */
async function ask(socket: Socket): Promise<string> {
  socket.write('GET / HTTP/1.1\r\nHost: x\r\n\r\n');
  let text = '';
  while (!text.includes('served')) text += String((await once(socket, 'data'))[0]);
  return text;
}

describe('plain HTTP', () => {
  test('a head that does not come to its end closes the connection', async () => {
    const { port } = await serve({ headTimeoutMs: 200, requestTimeoutMs: 400 });
    const slow = await open(port);
    slow.resume();
    slow.write('POST / HTTP/1.1\r\nHost: x\r\nX-Slow: ');
    const other = await open(port);
    expect(await ask(other)).toContain('served 1.1');
    await closed(slow);
  });

  test('at the bound the connection idle longest goes, and one with a request under way stays', async () => {
    const { promise: release, resolve } = Promise.withResolvers<void>();
    const started = Promise.withResolvers<void>();
    const { evictions, port } = await serve(
      { maxConnections: 3 },
      {
        onRequest: async (request, response) => {
          if (request.url === '/slow') {
            started.resolve();
            await release;
          }
          (response as { end: (body: string) => void }).end('served');
        },
      },
    );
    const busy = await open(port);
    busy.write('GET /slow HTTP/1.1\r\nHost: x\r\n\r\n');
    await started.promise;
    const idle = await open(port);
    const active = await open(port);
    await ask(active);
    const newcomer = await open(port);
    await closed(idle);
    expect(await ask(newcomer)).toContain('served');
    expect(await ask(active)).toContain('served');
    resolve();
    expect(String((await once(busy, 'data'))[0])).toContain('served');
    expect(evictions).toHaveLength(1);
  });

  test('connections that never asked for anything go first', async () => {
    const { evictions, port } = await serve({ maxConnections: 8 });
    const used = await open(port);
    await ask(used);
    const idle: Socket[] = [];
    for (let i = 0; i < 20; i += 1) idle.push(await open(port));
    await Promise.all(idle.slice(0, 13).map(closed));
    expect(evictions).toHaveLength(13);
    expect(await ask(used)).toContain('served');
  });

  test.each([
    ['requests', 'POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n'],
    ['mistakes', 'GET / HTTP/1.1\r\nHost: x\r\n\r\n'],
  ])('a connection with more %s in flight than any honest one is cut off', async (_name, request) => {
    const { server, evictions, port } = await serve({}, { onRequest: () => undefined });
    const flooder = await open(port);
    const other = await open(port);
    flooder.write(request.repeat(1000));
    await closed(flooder);
    expect(evictions).toHaveLength(1);
    await vi.waitFor(() => expect(server.connections.size).toBe(1));
    other.write('POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n');
    await vi.waitFor(() => expect(server.connections.inFlight).toBe(1));
  });

  test('what goes on after its answer ends the connection; a short rest does not', async () => {
    const { port } = await serve(
      {},
      { onRequest: (_request, response) => (response as { end: (body: string) => void }).end('served') },
    );
    const short = await open(port);
    short.write('POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n');
    expect(String((await once(short, 'data'))[0])).toContain('served');
    short.write('x'.repeat(10));
    expect(await ask(short)).toContain('served');
    const long = await open(port);
    long.write('POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n');
    expect(String((await once(long, 'data'))[0])).toContain('served');
    await closed(long);
  });

  test('HTTP/1.1 without a host is 400, HTTP/1.0 may leave it out', async () => {
    const { port } = await serve();
    const without = await open(port);
    without.write('GET / HTTP/1.1\r\n\r\n');
    expect(String((await once(without, 'data'))[0])).toContain('HTTP/1.1 400');
    await closed(without);
    const old = await open(port);
    old.write('GET / HTTP/1.0\r\n\r\n');
    expect(String((await once(old, 'data'))[0])).toContain('HTTP/1.1 200');
  });

  test('thousands of idle connections leave room for one more', async () => {
    const { server, evictions, port } = await serve({ maxConnections: 500 });
    for (let i = 0; i < 2000; i += 100) await Promise.all(Array.from({ length: 100 }, () => open(port)));
    expect(await ask(await open(port))).toContain('served');
    expect(server.connections.size).toBeLessThanOrEqual(500);
    // One connection is accepted per listening socket and turn: some may still wait for it.
    await vi.waitFor(() => expect(evictions.length).toBeGreaterThanOrEqual(1500));
    expect(server.connections.size).toBeLessThanOrEqual(500);
  });

  test('stopAccepting answers what is in flight and takes no new connections', async () => {
    const { promise: release, resolve } = Promise.withResolvers<void>();
    const started = Promise.withResolvers<void>();
    const { server, port } = await serve(
      {},
      {
        onRequest: async (_request, response) => {
          started.resolve();
          await release;
          (response as { end: (body: string) => void }).end('served');
        },
      },
    );
    const socket = await open(port);
    socket.write('GET / HTTP/1.1\r\nHost: x\r\n\r\n');
    await started.promise;
    server.stopAccepting();
    const late = track(connect(port, '127.0.0.1'));
    const [error] = (await once(late, 'error')) as [NodeJS.ErrnoException];
    expect(error.code).toBe('ECONNREFUSED');
    resolve();
    expect(String((await once(socket, 'data'))[0])).toContain('served');
  });

  test('an address in use is named', async () => {
    const { port } = await serve();
    await expect(serve({ listen: { host: '127.0.0.1', port } })).rejects.toThrow(
      `cannot listen on 127.0.0.1:${port}`,
    );
  });
});

async function openTls(port: number, options: ConnectionOptions = {}): Promise<TLSSocket> {
  const socket = track(connectTls({ port, host: '127.0.0.1', rejectUnauthorized: false, ...options }));
  await once(socket, 'secureConnect');
  return socket;
}

async function askH2(port: number): Promise<{ headers: IncomingHttpHeaders; body: string }> {
  const session = connectH2(`https://127.0.0.1:${port}`, { rejectUnauthorized: false });
  onTestFinished(() => session.destroy());
  session.on('error', () => undefined);
  const stream = session.request({ ':path': '/' });
  const [headers] = (await once(stream, 'response')) as [IncomingHttpHeaders];
  let body = '';
  for await (const chunk of stream) body += String(chunk);
  return { headers, body };
}

describe('TLS', () => {
  test('HTTP/1.1 and HTTP/2 by ALPN on one port, counted as connections', async () => {
    const { server, port } = await serve({ tls: tlsOf(await newIdentity()) });
    expect(await ask(await openTls(port, { ALPNProtocols: ['http/1.1'] }))).toContain('served 1.1');
    expect((await askH2(port)).body).toBe('served 2.0');
    expect(server.connections.size).toBe(2);
  });

  test('a new identity serves new handshakes and leaves open connections alone', async () => {
    const [first, second] = [await newIdentity(), await newIdentity()];
    const { server, port } = await serve({ tls: tlsOf(first) });
    const old = await openTls(port);
    server.setTls(tlsOf(second));
    const fresh = await openTls(port);
    expect(old.getPeerX509Certificate()?.raw.equals(first.certificateDer)).toBe(true);
    expect(fresh.getPeerX509Certificate()?.raw.equals(second.certificateDer)).toBe(true);
    expect(await ask(old)).toContain('served');
  });

  test('HTTP/2: an answer that the client does not let out has its time', async () => {
    const { server, port } = await serve({ tls: tlsOf(await newIdentity()), writeTimeoutMs: 100 });
    const session = connectH2(`https://127.0.0.1:${port}`, {
      rejectUnauthorized: false,
      settings: { initialWindowSize: 0 },
    });
    session.on('error', () => undefined);
    onTestFinished(() => session.destroy());
    const stream = session.request({ ':path': '/' });
    stream.on('error', () => undefined);
    await once(stream, 'response');
    expect(server.connections.inFlight).toBe(1);
    await once(session, 'close');
    await vi.waitFor(() => expect([server.connections.inFlight, server.connections.size]).toEqual([0, 0]));
  });

  test('close ends with clients that keep their connections, and forgets every connection', async () => {
    const { server, port } = await serve({ tls: tlsOf(await newIdentity()) });
    const agent = new Agent({ keepAlive: true, rejectUnauthorized: false, maxSockets: 8 });
    onTestFinished(() => agent.destroy());
    const get = async () => {
      const request = httpsGet({ port, host: '127.0.0.1', agent });
      const [response] = (await once(request, 'response')) as [IncomingMessage];
      await response.resume().toArray();
    };
    await Promise.all(Array.from({ length: 40 }, get));
    await askH2(port);
    server.stopAccepting();
    await server.close();
    await vi.waitFor(() => expect(server.connections.size).toBe(0));
  });

  test('a handshake that does not happen does not keep the connection for ever', async () => {
    const { server, port } = await serve({ tls: tlsOf(await newIdentity()), maxConnections: 1 });
    const mute = await open(port);
    await openTls(port).then(ask);
    await closed(mute);
    expect(server.connections.size).toBe(1);
  });

  describe('client certificates', () => {
    async function guarded(
      mode: 'request' | 'require',
      listed: Set<string>,
      onRefresh: () => void = () => undefined,
    ) {
      const refused: string[] = [];
      const seen: (string | undefined)[] = [];
      const { port } = await serve(
        { tls: tlsOf(await newIdentity()), requestClientCertificate: true },
        {
          onSecureConnection: clientCertificateGuard(mode, {
            peers: {
              byAddress: () => [],
              byFingerprint: (fingerprint) => (listed.has(fingerprint) ? [OWNER] : []),
              refresh: () => {
                onRefresh();
                return Promise.resolve();
              },
            },
            refused: (reason) => void refused.push(reason),
          }),
          onRequest: (request, response) => {
            seen.push(certificateOf(request.socket)?.fingerprint);
            (response as { end: (body: string) => void }).end('served');
          },
        },
      );
      return { port, refused, seen };
    }
    const shown = (credentials: Credentials) => ({
      cert: credentials.certificatePem,
      key: credentials.privateKeyPem,
    });

    test('a listed one is known with each request, none is fine when only asked for', async () => {
      const client = await newIdentity();
      const { port, seen } = await guarded('request', new Set([client.fingerprint]));
      await openTls(port, shown(client)).then(ask);
      await openTls(port).then(ask);
      expect(seen).toEqual([client.fingerprint, undefined]);
    });

    test('one that is not listed is refused after one look at a fresh list', async () => {
      const [stranger, newcomer] = [await newIdentity(), await newIdentity()];
      const listed = new Set<string>();
      const { port, refused } = await guarded('request', listed, () => listed.add(newcomer.fingerprint));
      const socket = await openTls(port, shown(newcomer));
      expect(await ask(socket)).toContain('served');
      await closed(await openTls(port, shown(stranger)));
      expect(refused).toEqual(['not listed']);
    });

    test('none is refused when one is demanded', async () => {
      const { port, refused } = await guarded('require', new Set());
      await closed(await openTls(port));
      expect(refused).toEqual(['missing']);
    });
  });
});
