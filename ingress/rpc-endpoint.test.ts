import { once } from 'node:events';
import { connect as connectH2, type IncomingHttpHeaders } from 'node:http2';
import { connect, type Socket } from 'node:net';
import { connect as connectTls } from 'node:tls';
import { gzipSync } from 'node:zlib';
import { describe, expect, onTestFinished, test, vi } from 'vitest';
import { createCredentials } from '../identity/certificate.ts';
import { encodeResult } from '../pipeline/json-rpc.ts';
import type { Arrival } from '../pipeline/submission.ts';
import { BodyReader } from './body-reader.ts';
import { certificateOf, clientCertificateGuard } from './client-certificates.ts';
import { FairQueue } from './fair-queue.ts';
import { type HttpServer, listenHttp } from './http-server.ts';
import type { PlainEndpoint } from './plain-request.ts';
import { plainEndpoint, type Readiness, type RpcEndpointModules, rpcListener } from './rpc-endpoint.ts';

const MAX_BODY = 100_000;

type RpcBodies = RpcEndpointModules['bodies'] & PlainEndpoint['bodies'];

interface Setup {
  readonly tls?: boolean;
  readonly submit?: (arrival: Arrival) => void;
  readonly readiness?: (() => Readiness) | null;
  readonly readyText?: 'OK' | 'ready';
  readonly writeTimeoutMs?: number;
  readonly maxConnections?: number;
  /** Asks for client certificates and looks at what is shown. */
  readonly guard?: (socket: Socket, certificate: Buffer | null) => void;
  /** Called when a body has been read, with what hands it over: as if it took long to decompress. */
  readonly hold?: (handOver: () => void) => void;
}

/** Whatever has been read of a body, it takes its time until it is there. */
function held(bodies: BodyReader, hold: (handOver: () => void) => void): RpcBodies {
  return {
    read: (request, connection, done) => bodies.read(request, connection, (body) => hold(() => done(body))),
    whole: () => null,
    begin: (head, connection, sinceMs, done) =>
      bodies.begin(head, connection, sinceMs, (body) => hold(() => done(body))),
    take: (read, chunk, borrowed) => bodies.take(read, chunk, borrowed),
    complete: (read) => bodies.complete(read),
    finish: (read, outcome) => bodies.finish(read, outcome),
  };
}

/** An endpoint whose pipeline answers with the length of the body, unless the test takes its place. */
async function serve({
  tls = false,
  submit,
  readiness = () => ({ ready: true, reasons: [] }),
  readyText = 'OK',
  writeTimeoutMs = 30_000,
  maxConnections = 1000,
  guard,
  hold,
}: Setup = {}) {
  const arrivals: Arrival[] = [];
  const refused: string[] = [];
  const bodies = new BodyReader({
    maxBodyBytes: MAX_BODY,
    maxTotalBytes: 10_000_000,
    maxBodies: 1000,
    timeoutMs: 60_000,
  });
  const reader = hold === undefined ? bodies : held(bodies, hold);
  let now = 0;
  const options = { side: 'user', maxBodyBytes: MAX_BODY, readyText } as const;
  const modules: RpcEndpointModules = {
    bodies: reader,
    clock: () => {
      now += 1;
      return now;
    },
    queue: new FairQueue(
      { maxBytes: 10_000_000, maxWaitMs: 60_000, maxBurstWaitMs: 60_000 },
      {
        submit: (arrival: Arrival) => {
          arrivals.push(arrival);
          if (submit === undefined)
            arrival.respond(200, encodeResult('1', String(arrival.body.length)), false);
          else submit(arrival);
        },
      },
    ),
    readiness,
    certificateOf,
    rejected: (_side, kind) => void refused.push(kind),
  };
  const server: HttpServer = await listenHttp(
    {
      listen: { host: '127.0.0.1', port: 0 },
      listeners: 1,
      tls: tls ? await identity() : null,
      requestClientCertificate: guard !== undefined,
      headTimeoutMs: 10_000,
      requestTimeoutMs: 60_000,
      writeTimeoutMs,
      idleTimeoutMs: 60_000,
      maxConnections,
      pipelining: 64,
    },
    {
      onRequest: rpcListener(options, modules),
      plain: plainEndpoint(options, reader, modules),
      onSecureConnection: guard,
      onEvicted: () => undefined,
    },
  );
  onTestFinished(async () => {
    bodies.close();
    await server.close();
  });
  const url = `http://127.0.0.1:${server.address.port}`;
  const post = (body: string | Uint8Array, headers: Record<string, string> = {}, path = '/') =>
    fetch(url + path, {
      method: 'POST',
      body: typeof body === 'string' ? body : new Uint8Array(body),
      headers: { 'content-type': 'application/json', ...headers },
    });
  return { server, arrivals, refused, url, post, port: server.address.port };
}

async function identity() {
  const credentials = await createCredentials({ names: ['127.0.0.1'], validityDays: 1, now: Date.now() });
  return { certificate: credentials.certificatePem, key: credentials.privateKeyPem };
}

function open(port: number): Socket {
  const socket = connect(port, '127.0.0.1');
  socket.on('error', () => undefined);
  onTestFinished(() => void socket.destroy());
  return socket;
}

describe('the table of protocol section 2', () => {
  test('GET /livez is 200 and empty', async () => {
    const { url } = await serve();
    const response = await fetch(`${url}/livez`);
    expect([response.status, await response.text()]).toEqual([200, '']);
  });

  test('GET /readyz is 200 OK or 503 not ready, with what is missing in a header', async () => {
    let state: Readiness = { ready: true, reasons: [] };
    const { url } = await serve({ readiness: () => state });
    const ready = await fetch(`${url}/readyz`);
    expect([ready.status, await ready.text()]).toEqual([200, 'OK']);
    state = { ready: false, reasons: ['builder: no answer', 'hub: not registered'] };
    const not = await fetch(`${url}/readyz`);
    expect([not.status, await not.text()]).toEqual([503, 'not ready']);
    expect(not.headers.get('x-not-ready')).toBe('builder: no answer; hub: not registered');
  });

  test('GET /readyz says ready where no builder is asked', async () => {
    const { url } = await serve({ readyText: 'ready' });
    const response = await fetch(`${url}/readyz`);
    expect([response.status, await response.text()]).toEqual([200, 'ready']);
  });

  test.each(['GET', 'PUT', 'DELETE', 'OPTIONS'])('%s is 405, without CORS', async (method) => {
    const { url, refused } = await serve({ readiness: null });
    const response = await fetch(`${url}/readyz`, { method, headers: { origin: 'https://evil.example' } });
    expect([response.status, await response.text()]).toEqual([405, 'only POST method is allowed']);
    expect(response.headers.get('access-control-allow-origin')).toBeNull();
    expect(refused).toEqual(['method_not_allowed']);
  });

  test.each([
    'application/json',
    'application/json; charset=utf-8',
    'Application/JSON',
    'application/json ;x=y',
  ])('content type %s is taken', async (type) => {
    const { post } = await serve();
    expect(await (await post('{}', { 'content-type': type })).json()).toMatchObject({ result: 2 });
  });

  test.each(['text/plain', 'application/jsonp', 'text/json', ''])('content type %j is 415', async (type) => {
    const { port } = await serve();
    const socket = open(port);
    const header = type === '' ? '' : `Content-Type: ${type}\r\n`;
    socket.write(`POST / HTTP/1.1\r\nHost: x\r\n${header}Content-Length: 2\r\n\r\n{}`);
    const answer = String((await once(socket, 'data'))[0]);
    expect(answer).toContain('HTTP/1.1 415');
    expect(answer).toContain('header Content-Type must be application/json');
  });

  test('a body over the limit is -32600, compressed or not; the limit itself passes', async () => {
    const { post, refused } = await serve();
    expect(await (await post(Buffer.alloc(MAX_BODY))).json()).toMatchObject({ result: MAX_BODY });
    const error = { code: -32600, message: `request body is too big, max size: ${MAX_BODY}` };
    const tooBig = await post(Buffer.alloc(MAX_BODY + 1));
    expect([tooBig.status, await tooBig.json()]).toEqual([200, { jsonrpc: '2.0', id: null, error }]);
    const bomb = await post(gzipSync(Buffer.alloc(1_000_000)), { 'content-encoding': 'gzip' });
    expect(await bomb.json()).toMatchObject({ error });
    expect(refused).toEqual(['body_too_big', 'body_too_big']);
  });

  test('gzip bodies reach the pipeline decompressed; a damaged one is named', async () => {
    const { post, arrivals } = await serve();
    await post(gzipSync('{"a":1}'), { 'content-encoding': 'gzip' });
    await post(gzipSync('{"a":2}'), { 'content-encoding': 'GZIP' });
    expect(arrivals.map(({ body }) => body.toString())).toEqual(['{"a":1}', '{"a":2}']);
    const damaged = await post('x', { 'content-encoding': 'gzip' });
    expect(await damaged.json()).toMatchObject({
      error: { code: -32700, message: 'request body is not valid gzip' },
    });
    expect((await post('x', { 'content-encoding': 'br' })).status).toBe(415);
  });
});

test('the signature header of v2 wins over that of v1; any path will do', async () => {
  const { post, arrivals } = await serve();
  await post('{}', { 'x-flashbots-signature': 'one' });
  await post('{}', { 'x-flashbots-signature': 'one', 'x-buildernet-signature': 'two' }, '/some/path?x=1');
  await post('{}');
  expect(arrivals.map(({ signature }) => signature)).toEqual(['one', 'two', undefined]);
  expect(arrivals.map(({ side, certificate }) => [side, certificate])).toEqual(
    Array.from({ length: 3 }, () => ['user', undefined]),
  );
});

test('a refusal for overload carries its status and a hint when to retry', async () => {
  const { post } = await serve({ submit: (arrival) => arrival.respond(429, '{}', false) });
  const response = await post('{}');
  expect([response.status, response.headers.get('retry-after')]).toEqual([429, '1']);
});

test('pipelined requests are answered in order, whatever order their answers come in', async () => {
  const waiting: Arrival[] = [];
  const all = Promise.withResolvers<void>();
  const { port } = await serve({
    submit: (arrival) => {
      if (waiting.push(arrival) === 3) all.resolve();
    },
  });
  const socket = open(port);
  const request = (body: string) =>
    `POST / HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: ${body.length}\r\n\r\n${body}`;
  socket.write(['"a"', '"b"', '"c"'].map(request).join(''));
  await all.promise;
  for (const arrival of waiting.toReversed()) arrival.respond(200, arrival.body.toString(), false);
  let text = '';
  while (!text.includes('"c"')) text += String((await once(socket, 'data'))[0]);
  expect(text.match(/"[abc]"/g)).toEqual(['"a"', '"b"', '"c"']);
});

test('more pipelined requests than a connection may have at once wait, and all are answered in order', async () => {
  const { port, arrivals } = await serve({
    submit: (arrival) => void setImmediate(() => arrival.respond(200, arrival.body.toString(), false)),
  });
  const socket = open(port);
  const request = (body: string) =>
    `POST / HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: ${body.length}\r\n\r\n${body}`;
  const bodies = Array.from({ length: 1000 }, (_, i) => `"${i}${' '.repeat(500)}"`);
  socket.write(bodies.map(request).join(''));
  let text = '';
  while (!text.includes('"999 ')) text += String((await once(socket, 'data'))[0]);
  expect(arrivals).toHaveLength(1000);
  expect([...text.matchAll(/"(\d+) /g)].map(([, number]) => Number(number))).toEqual(
    Array.from({ length: 1000 }, (_, i) => i),
  );
});

test('with 16,384 requests in flight each connection may have eight; its ninth is refused, which is its last', async () => {
  const held: Arrival[] = [];
  const { port, server, refused } = await serve({ submit: (arrival) => void held.push(arrival) });
  const one = 'POST / HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}';
  const crowd = Array.from({ length: 256 }, () => open(port));
  for (const socket of crowd) socket.write(one.repeat(64));
  await vi.waitFor(() => expect(held).toHaveLength(16_384), { timeout: 10_000 });
  const late = open(port);
  const closed = once(late, 'close');
  let text = '';
  late.on('data', (chunk) => {
    text += String(chunk);
  });
  late.write(one.repeat(10));
  await vi.waitFor(() => expect(held).toHaveLength(16_384 + 8));
  expect(refused).toEqual(['overloaded']);
  for (const arrival of held.slice(-8)) arrival.respond(200, '{"ok":1}', false);
  await closed;
  expect(text.match(/"ok"|-32005/g)).toEqual([...Array.from({ length: 8 }, () => '"ok"'), '-32005']);
  expect(server.connections.size).toBe(256);
});

test('at the bound of connections one whose body is still coming goes, one that waits for its answer stays', async () => {
  const held: Arrival[] = [];
  const { server, port, post } = await serve({
    maxConnections: 4,
    submit: (arrival) => {
      if (arrival.body.length === 2) arrival.respond(200, '{}', false);
      else held.push(arrival);
    },
  });
  const head = (length: number) =>
    `POST / HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: ${length}\r\n\r\n`;
  const waiting = open(port);
  waiting.write(`${head(3)}{ }`);
  await vi.waitFor(() => expect(held).toHaveLength(1));
  const slow = [open(port), open(port), open(port)];
  for (const socket of slow) socket.write(`${head(100)}{`);
  await vi.waitFor(() => expect(server.connections.inFlight).toBe(4));
  expect((await post('{}')).status).toBe(200);
  await vi.waitFor(() => expect(slow.filter((socket) => socket.closed)).toHaveLength(1));
  held[0]?.respond(200, '{"late":1}', false);
  expect(String((await once(waiting, 'data'))[0])).toContain('"late":1');
});

test('a client that leaves before its answer does no harm', async () => {
  const { promise, resolve } = Promise.withResolvers<Arrival>();
  const { port, post } = await serve({
    submit: (arrival) => {
      if (arrival.signature === 'leaver') resolve(arrival);
      else arrival.respond(200, '{}', false);
    },
  });
  const socket = open(port);
  socket.write(
    'POST / HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nX-Flashbots-Signature: leaver\r\nContent-Length: 2\r\n\r\n{}',
  );
  const arrival = await promise;
  socket.destroy();
  await once(socket, 'close');
  await post('{}');
  expect(() => arrival.respond(200, '{}', true)).not.toThrow();
  expect((await post('{}')).status).toBe(200);
});

test('a client that does not read its answers is closed after its time, one that reads is not', async () => {
  const answer = 'x'.repeat(8_000_000);
  const { server, port, post } = await serve({
    writeTimeoutMs: 100,
    submit: (arrival) => arrival.respond(200, answer, false),
  });
  const deaf = open(port).pause();
  deaf.write('POST / HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}');
  expect((await (await post('{}')).text()).length).toBe(answer.length);
  expect(server.connections.size).toBe(2);
  await vi.waitFor(() => expect(server.connections.size).toBe(1), { timeout: 5000 });
  expect((await (await post('{}')).text()).length).toBe(answer.length);
});

test('a refusal that closes ends the connection after its answer', async () => {
  const { port } = await serve({ submit: (arrival) => arrival.respond(200, '{"bye":1}', true) });
  const socket = open(port);
  socket.write('POST / HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}');
  let text = '';
  for await (const chunk of socket) text += String(chunk);
  expect(text).toContain('Connection: close');
  expect(text).toContain('{"bye":1}');
});

test('HTTP/2: many requests on one connection, the same answers', async () => {
  const { port, arrivals } = await serve({ tls: true });
  const session = connectH2(`https://127.0.0.1:${port}`, { rejectUnauthorized: false });
  onTestFinished(() => session.destroy());
  const post = async (body: string, headers: Record<string, string> = {}) => {
    const stream = session.request({
      ':method': 'POST',
      ':path': '/',
      'content-type': 'application/json',
      ...headers,
    });
    stream.end(body);
    const [head] = (await once(stream, 'response')) as [IncomingHttpHeaders];
    let text = '';
    for await (const chunk of stream) text += String(chunk);
    return { status: head[':status'], text };
  };
  const answers = await Promise.all(Array.from({ length: 100 }, (_, i) => post('x'.repeat(i + 1))));
  expect(answers.map(({ text }) => (JSON.parse(text) as { result: number }).result)).toEqual(
    Array.from({ length: 100 }, (_, i) => i + 1),
  );
  expect((await post('x'.repeat(MAX_BODY + 1))).text).toContain('request body is too big');
  expect(arrivals).toHaveLength(100);
});

test('HTTP/2: a client that resets its stream does no harm', async () => {
  const { promise, resolve } = Promise.withResolvers<Arrival>();
  const { port } = await serve({ tls: true, submit: resolve });
  const session = connectH2(`https://127.0.0.1:${port}`, { rejectUnauthorized: false });
  onTestFinished(() => session.destroy());
  const stream = session.request({ ':method': 'POST', ':path': '/', 'content-type': 'application/json' });
  stream.on('error', () => undefined);
  stream.end('{}');
  const arrival = await promise;
  stream.close(8);
  await once(stream, 'close');
  const ping = Promise.withResolvers<void>();
  session.ping(() => ping.resolve());
  await ping.promise;
  expect(() => arrival.respond(200, '{}', false)).not.toThrow();
});

test.each(['h2', 'http/1.1'])(
  '%s: what a connection has shown counts when it has closed too',
  async (protocol) => {
    const { promise: read, resolve: hold } = Promise.withResolvers<() => void>();
    const left = Promise.withResolvers<void>();
    const look = clientCertificateGuard('require', {
      peers: { byAddress: () => [], byFingerprint: () => [], refresh: () => new Promise(() => {}) },
      refused: () => undefined,
    });
    const { arrivals, port } = await serve({
      tls: true,
      guard(socket, certificate) {
        look(socket, certificate);
        socket.once('close', () => left.resolve());
      },
      hold,
    });
    const own = await createCredentials({ names: ['127.0.0.1'], validityDays: 1, now: Date.now() });
    const shown = { cert: own.certificatePem, key: own.privateKeyPem, rejectUnauthorized: false };
    const socket = connectTls({ host: '127.0.0.1', port, ALPNProtocols: [protocol], ...shown });
    socket.on('error', () => undefined);
    onTestFinished(() => void socket.destroy());
    const post = protocol === 'h2' ? postOverH2 : postOverH1;
    post(socket, '{}');
    const handOver = await read;
    socket.destroy();
    await left.promise;
    handOver();
    expect(arrivals[0]?.certificate).toEqual({ fingerprint: own.fingerprint, owners: [] });
  },
);

function postOverH2(socket: Socket, body: string): void {
  const session = connectH2('https://127.0.0.1', { createConnection: () => socket });
  session.on('error', () => undefined);
  const stream = session.request({ ':method': 'POST', 'content-type': 'application/json' });
  stream.on('error', () => undefined);
  stream.end(body);
}

function postOverH1(socket: Socket, body: string): void {
  const head = `Host: a\r\nContent-Type: application/json\r\nContent-Length: ${body.length}`;
  socket.write(`POST / HTTP/1.1\r\n${head}\r\n\r\n${body}`);
}
