/** The same bytes to Node's HTTP server and to what takes plain requests past it: the same requests must come out. */
import { once } from 'node:events';
import type { ServerResponse } from 'node:http';
import { connect, type Socket } from 'node:net';
import { connect as connectTls } from 'node:tls';
import { gzipSync } from 'node:zlib';
import fc from 'fast-check';
import { describe, expect, onTestFinished, test, vi } from 'vitest';
import { createCredentials } from '../identity/certificate.ts';
import { Rejection } from '../pipeline/errors.ts';
import { encodeResult } from '../pipeline/json-rpc.ts';
import type { Arrival } from '../pipeline/submission.ts';
import { BodyReader } from './body-reader.ts';
import { type Connection, connectionOf } from './connection.ts';
import { type HttpServerModules, type HttpServerOptions, listenHttp } from './http-server.ts';
import type { PlainEndpoint } from './plain-request.ts';
import { plainEndpoint, type RpcEndpointModules, rpcListener } from './rpc-endpoint.ts';
import { SERVER_OPTIONS } from './testing/server-options.ts';

const credentials = await createCredentials({ names: ['127.0.0.1'], validityDays: 1, now: Date.now() });
const TLS = { tls: { certificate: credentials.certificatePem, key: credentials.privateKeyPem } };

const BODIES = { maxBodyBytes: 100_000, maxTotalBytes: 1_000_000, maxBodies: 100, timeoutMs: 60_000 };

async function listen(
  modules: Pick<HttpServerModules, 'onRequest' | 'plain'>,
  options: Partial<HttpServerOptions> = {},
) {
  const evictions: number[] = [];
  const server = await listenHttp(
    { ...SERVER_OPTIONS, ...options },
    { ...modules, onEvicted: () => void evictions.push(1) },
  );
  onTestFinished(() => server.close());
  return { server, evictions, port: server.address.port };
}

interface Setup {
  readonly options?: Partial<HttpServerOptions>;
  readonly submit?: (arrival: Arrival) => void;
  readonly refusal?: PlainEndpoint['refusal'];
}

/** The node's endpoint, whose pipeline answers with the length of the body unless the test takes its place. */
async function serveOver(tls: boolean, { options, submit, refusal }: Setup) {
  const arrivals: Arrival[] = [];
  const bodies = new BodyReader(BODIES);
  onTestFinished(() => bodies.close());
  const rpc = { side: 'user', maxBodyBytes: BODIES.maxBodyBytes, readyText: 'OK' } as const;
  const modules: RpcEndpointModules = {
    bodies,
    clock: () => 1,
    queue: {
      refusal: () => null,
      offer(_sender, _party, arrival) {
        arrivals.push(arrival);
        if (submit === undefined) arrival.respond(200, encodeResult('1', String(arrival.body.length)), false);
        else submit(arrival);
        return null;
      },
    },
    readiness: null,
    certificateOf: () => undefined,
    rejected: () => undefined,
  };
  const endpoint = plainEndpoint(rpc, bodies, modules);
  const listening = await listen(
    {
      onRequest: rpcListener(rpc, modules),
      plain: { ...endpoint, refusal: refusal ?? endpoint.refusal },
    },
    tls ? { ...TLS, ...options } : options,
  );
  return { ...listening, bodies, arrivals };
}

/** @returns a connection as soon as bytes may be written to it: with TLS, while the handshake is under way. */
function dial(port: number, tls: boolean): Socket {
  const socket = tls
    ? connectTls({ port, host: '127.0.0.1', ca: credentials.certificatePem }).setNoDelay()
    : connect({ port, host: '127.0.0.1', noDelay: true });
  socket.on('error', () => undefined);
  return socket;
}

async function openOver(tls: boolean, port: number): Promise<Socket> {
  const socket = dial(port, tls);
  onTestFinished(() => void socket.destroy());
  await once(socket, tls ? 'secureConnect' : 'connect');
  return socket;
}

/** What a connection says until it has said so many of these. */
function until(socket: Socket, count: number, pattern = /HTTP\/1\.1 \d+/g): Promise<string> {
  const { promise, resolve } = Promise.withResolvers<string>();
  let text = '';
  const onData = (chunk: Buffer) => {
    text += chunk.toString();
    if ((text.match(pattern) ?? []).length < count) return;
    socket.pause();
    socket.removeListener('data', onData);
    resolve(text);
  };
  socket.on('data', onData);
  socket.resume();
  return promise;
}

function closed(socket: Socket): Promise<unknown> {
  socket.resume();
  return socket.destroyed ? Promise.resolve() : new Promise((resolve) => void socket.once('close', resolve));
}

const HEAD = 'POST / HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n';
const post = (body: string, fields = '') => `${HEAD}${fields}Content-Length: ${body.length}\r\n\r\n${body}`;
const signed = (signature: string, body: string) => post(body, `X-Flashbots-Signature: ${signature}\r\n`);

/** A server that answers every request it finds at once, and keeps what it was. */
async function framing(plain: boolean, tls: boolean) {
  const found: string[] = [];
  const bodies = new BodyReader(BODIES);
  onTestFinished(() => bodies.close());
  const keep = (signature: unknown, body: Buffer | string) => {
    if (typeof body !== 'string') found.push(`${String(signature)} ${body.toString('latin1')}`);
  };
  const endpoint: PlainEndpoint = {
    bodies,
    refusal: () => null,
    refuse: () => undefined,
    arrived(request, body) {
      keep(request.signature, body);
      request.send(200, 'text/plain', '', false);
    },
  };
  const { port } = await listen(
    {
      onRequest(request, response) {
        const { headers } = request;
        bodies.read(request, connectionOf(request.socket) as Connection, (body) => {
          keep(headers['x-buildernet-signature'] ?? headers['x-flashbots-signature'], body);
          (response as ServerResponse).end();
        });
      },
      plain: plain ? endpoint : undefined,
    },
    tls ? TLS : {},
  );
  return { port, tls, found };
}

/** Sends the pieces, and no more. @returns signature and body of each request that was found in them. */
async function foundIn(
  pieces: readonly Buffer[],
  { port, tls, found }: Awaited<ReturnType<typeof framing>>,
): Promise<string[]> {
  found.length = 0;
  const socket = dial(port, tls);
  socket.resume();
  if (!tls) await once(socket, 'connect');
  const gone = new Promise((resolve) => void socket.once('close', resolve));
  for (const piece of pieces) {
    if (socket.writable) await new Promise((resolve) => void socket.write(piece, resolve));
    // The server's turn: most pieces are read by themselves.
    await new Promise((resolve) => void setImmediate(resolve));
  }
  socket.end();
  await gone;
  return [...found];
}

const body = fc.stringMatching(/^[a-z{}":,\r\n]{0,40}$/);
/** What heads are made of: right, unusual, and wrong. */
const field = fc.constantFrom(
  'Host: x',
  'host:y',
  'Content-Type: application/json',
  'content-type:application/json; charset=utf-8',
  'X-Flashbots-Signature: 0xaa:0xbb',
  'x-flashbots-signature:\t 0xcc:0xdd \t',
  'X-BuilderNet-Signature: 0xee:0xff',
  'Connection: keep-alive',
  'connection: Keep-Alive',
  'Connection: close',
  'Connection: keep-alive, close',
  'Connection: Upgrade',
  'Upgrade: h2c',
  'Proxy-Connection: close',
  'Transfer-Encoding: chunked',
  'Transfer-Encoding : chunked',
  'Transfer-Encoding:\r\n chunked',
  'Transfer-Encoding: identity',
  'Transfer-Encoding: xchunked',
  'TE: trailers',
  'Expect: 100-continue',
  'Content-Encoding: identity',
  'Content-Length: 0',
  'Content-Length: 5',
  'Content-Length: 05',
  'Content-Length: +5',
  'Content-Length: -1',
  'Content-Length: 5, 5',
  'Content-Length: 5 5',
  'Content-Length: 0x5',
  'Content-Length: 5 ',
  'Content-Length:',
  'Content-Length: 18446744073709551617',
  'Content_Length: 5',
  'X: y\rZ: w',
  'X: y\nZ: w',
  'X: y\n',
  'X: a\0b',
  'X: \x7f',
  'X: \xe9',
  'X:',
  ':',
  'X y: z',
  ' X: folded',
  '\tX: folded',
  'Xé: y',
  'X-Long: '.padEnd(300, 'y'),
);
const requestLine = fc.oneof(
  { weight: 6, arbitrary: fc.constantFrom('POST / HTTP/1.1', 'POST /a/b?c=d HTTP/1.1') },
  {
    weight: 1,
    arbitrary: fc.constantFrom(
      'GET /livez HTTP/1.1',
      'POST / HTTP/1.0',
      'POST / HTTP/1.2',
      'POST / HTTP/2.0',
      'POST  / HTTP/1.1',
      'POST /  HTTP/1.1',
      'POST /\t HTTP/1.1',
      'POST /\x7f HTTP/1.1',
      'POST /# HTTP/1.1',
      'post / HTTP/1.1',
      'POST * HTTP/1.1',
      'POST http://x/ HTTP/1.1',
      'POSTER / HTTP/1.1',
      ' POST / HTTP/1.1',
      '\r\nPOST / HTTP/1.1',
      '\nPOST / HTTP/1.1',
      'POST / HTTP/1.1 ',
      'POST /',
      '',
    ),
  },
);
const plainRequest = fc
  .tuple(fc.stringMatching(/^[a-f0-9:]{1,20}$/), body)
  .map(([signature, text]) => signed(signature, text));
const anyRequest = fc
  .tuple(
    requestLine,
    fc.array(field, { maxLength: 4 }),
    fc.constantFrom('\r\n', '\r\n', '\r\n', '\r\n', '\n', '\r'),
    fc.boolean(),
    body,
  )
  .map(([line, fields, lineEnd, rightLength, text]) => {
    const length = rightLength ? [`Content-Length: ${text.length}`] : [];
    return `${[line, 'Host: x', 'Content-Type: application/json', ...fields, ...length].join(lineEnd)}${lineEnd}${lineEnd}${text}`;
  });
const chunkedRequest = body.map(
  (text) => `${HEAD}Transfer-Encoding: chunked\r\n\r\n${text.length.toString(16)}\r\n${text}\r\n0\r\n\r\n`,
);
const mutation = fc.record({
  at: fc.nat(),
  drop: fc.nat(2),
  insert: fc.constantFrom('', '\r', '\n', '\r\n', ' ', '\t', ':', '0', '5', '\0', 'POST / HTTP/1.1\r\n'),
});
const stream = fc
  .tuple(
    fc.array(
      fc.oneof(
        { weight: 5, arbitrary: plainRequest },
        { weight: 5, arbitrary: anyRequest },
        { weight: 1, arbitrary: chunkedRequest },
      ),
      { minLength: 1, maxLength: 6 },
    ),
    fc.array(mutation, { maxLength: 2 }),
    fc.array(fc.nat(), { maxLength: 12 }),
  )
  .map(([requests, mutations, cuts]) => {
    let text = requests.join('');
    for (const { at, drop, insert } of mutations) {
      const where = at % (text.length + 1);
      text = text.slice(0, where) + insert + text.slice(where + drop);
    }
    const places = [...new Set(cuts.map((cut) => cut % (text.length + 1)))].sort((a, b) => a - b);
    return [0, ...places].map((place, i) => Buffer.from(text.slice(place, places[i]), 'latin1'));
  })
  .map((pieces) => pieces.filter(({ length }) => length > 0));

const RUNS = Number(process.env.PLAIN_HTTP_RUNS ?? '600');

test.each([
  ['', false, RUNS],
  [', over TLS', true, RUNS / 4],
])('no bytes, however cut, mean other requests than to Node%s', async (_name, tls, numRuns) => {
  const [node, plain] = [await framing(false, tls), await framing(true, tls)];
  let requests = 0;
  await fc.assert(
    fc.asyncProperty(stream, async (pieces) => {
      const expected = await foundIn(pieces, node);
      expect(await foundIn(pieces, plain)).toEqual(expected);
      requests += expected.length;
    }),
    { seed: 20_261_123, numRuns },
  );
  expect(requests).toBeGreaterThan(numRuns / 2);
});

describe.each([
  ['plain TCP', false],
  ['TLS', true],
])('a connection of %s', (_name, tls) => {
  const serve = (setup: Setup = {}) => serveOver(tls, setup);

  const open = (port: number) => openOver(tls, port);

  test('what follows while answers are still on their way is answered too', async () => {
    const large = 'x'.repeat(16 << 20);
    const { arrivals, port, server } = await serve({
      submit: (arrival) => arrival.respond(200, arrival.signature === '0xaa' ? large : 'small', false),
    });
    const socket = await open(port);
    socket.pause();
    socket.write(signed('0xaa', '1'));
    await vi.waitFor(() => expect(arrivals).toHaveLength(1));
    socket.write(signed('0xbb', '2') + signed('0xcc', '3'));
    await vi.waitFor(() => expect(arrivals).toHaveLength(3));
    const answers = await until(socket, 2, /small/g);
    expect(answers.match(/HTTP\/1\.1 \d+/g)).toEqual(['HTTP/1.1 200', 'HTTP/1.1 200', 'HTTP/1.1 200']);
    await vi.waitFor(() => expect(server.connections.inFlight).toBe(0));
  });

  test('requests cut anywhere, one behind the other, and answers as Node gives them', async () => {
    const { arrivals, port } = await serve();
    const socket = await open(port);
    const text = signed('0xaa', '{"a":1}') + signed('0xbb', '') + signed('0xcc', 'x'.repeat(70_000));
    const cuts = [0, 40, 150, 158, 300, 20_000];
    for (const [i, at] of cuts.entries()) {
      socket.write(text.slice(at, cuts[i + 1]));
      await new Promise((resolve) => void setImmediate(resolve));
    }
    const answers = await until(socket, 3);
    expect(arrivals.map(({ signature, body }) => [signature, body.length])).toEqual([
      ['0xaa', 7],
      ['0xbb', 0],
      ['0xcc', 70_000],
    ]);
    const [head, first] = answers.split('\r\n\r\n');
    expect(head?.split('\r\n')).toEqual([
      'HTTP/1.1 200 OK',
      'Content-Type: application/json',
      'Content-Length: 35',
      expect.stringMatching(/^Date: \w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT$/),
      'Connection: keep-alive',
      'Keep-Alive: timeout=60',
    ]);
    expect(first).toContain('"result":7}HTTP/1.1 200 OK');
  });

  test('answers leave in the order of the requests, characters beyond ASCII in UTF-8', async () => {
    const waiting: Arrival[] = [];
    const { port } = await serve({ submit: (arrival) => void waiting.push(arrival) });
    const socket = await open(port);
    socket.write(post('1') + post('2') + post('3'));
    await vi.waitFor(() => expect(waiting).toHaveLength(3));
    for (const arrival of waiting.toReversed()) arrival.respond(200, `„${String(arrival.body)}“`, false);
    const answers = await until(socket, 3, /“/g);
    expect(answers.match(/„\d“/g)).toEqual(['„1“', '„2“', '„3“']);
    expect(answers).toContain('Content-Length: 7\r\n');
  });

  test('what is not plain is for Node, from there on, after the answers before it', async () => {
    const waiting: Arrival[] = [];
    const { arrivals, port, server } = await serve({ submit: (arrival) => void waiting.push(arrival) });
    const socket = await open(port);
    socket.write(
      `${post('1')}GET /livez HTTP/1.1\r\nHost: x\r\n\r\nPUT / HTTP/1.1\r\nHost: x\r\n\r\n${post('2')}`,
    );
    await vi.waitFor(() => expect(waiting).toHaveLength(1));
    waiting[0]?.respond(200, 'first', false);
    const answers = await until(socket, 3);
    expect(answers.match(/HTTP\/1\.1 \d+/g)).toEqual(['HTTP/1.1 200', 'HTTP/1.1 200', 'HTTP/1.1 405']);
    expect(answers).toContain('first');
    await vi.waitFor(() => expect(arrivals.map(({ body }) => String(body))).toEqual(['1', '2']));
    waiting[1]?.respond(200, 'second', false);
    expect(await until(socket, 1)).toContain('second');
    expect([server.connections.size, server.connections.inFlight]).toEqual([1, 0]);
  });

  test('with so many requests in flight nothing more is looked at until half of them are answered', async () => {
    const waiting: Arrival[] = [];
    const { port, evictions } = await serve({
      options: { pipelining: 4 },
      submit: (arrival) => void waiting.push(arrival),
    });
    const socket = await open(port);
    const other = await open(port);
    socket.write(Array.from({ length: 12 }, (_, i) => post(String(i))).join(''));
    await vi.waitFor(() => expect(waiting).toHaveLength(4));
    other.write(post('other'));
    await vi.waitFor(() => expect(waiting).toHaveLength(5));
    waiting.splice(4, 1);
    for (let i = 0; i < 12; i += 1) {
      await vi.waitFor(() => expect(waiting.length).toBeGreaterThan(i));
      expect(waiting.length - i).toBeLessThanOrEqual(4);
      waiting[i]?.respond(200, `answer ${i}.`, false);
      await until(socket, 1, new RegExp(`answer ${i}\\.`, 'g'));
    }
    expect(evictions).toEqual([]);
  });

  test('what is refused by its head is skipped, whatever its length, and the connection goes on', async () => {
    let refusing = true;
    const reason = new Rejection('overloaded', 'too much');
    const { arrivals, bodies, port } = await serve({ refusal: () => (refusing ? reason : null) });
    const socket = await open(port);
    socket.write(post('x'.repeat(200_000)) + post('') + post('y'));
    const refused = await until(socket, 3, /too much/g);
    expect(refused.match(/HTTP\/1\.1 \d+/g)).toEqual(['HTTP/1.1 429', 'HTTP/1.1 429', 'HTTP/1.1 429']);
    expect(refused).toContain('"id":null');
    expect(refused).toContain('"code":-32005');
    expect(refused).toContain('Retry-After: 1\r\n');
    expect(refused).toContain('Connection: keep-alive\r\n');
    expect([bodies.reading, bodies.bytes, arrivals.length]).toEqual([0, 0, 0]);
    refusing = false;
    socket.write(post('{}'));
    expect(await until(socket, 1)).toContain('"result":2');
  });

  test('a body that is too big is refused, and its sender hears so while it sends on', async () => {
    const { port } = await serve();
    const socket = await open(port);
    socket.write(`${HEAD}Content-Length: 50000000\r\n\r\n${'x'.repeat(10_000)}`);
    const answer = await until(socket, 1);
    expect(answer).toContain('request body is too big');
    expect(answer).toContain('Connection: close\r\n');
    await closed(socket);
  });

  test('a compressed body, whole and in pieces', async () => {
    const { arrivals, port } = await serve();
    const socket = await open(port);
    const body = gzipSync('{"a":1}');
    const head = `${HEAD}Content-Encoding: gzip\r\nContent-Length: ${body.length}\r\n\r\n`;
    socket.write(Buffer.concat([Buffer.from(head), body, Buffer.from(head), body.subarray(0, 5)]));
    await until(socket, 1);
    socket.write(body.subarray(5));
    await until(socket, 1);
    expect(arrivals.map((arrival) => String(arrival.body))).toEqual(['{"a":1}', '{"a":1}']);
  });

  test('a client that goes leaves nothing behind', async () => {
    const waiting: Arrival[] = [];
    const { bodies, port, server } = await serve({ submit: (arrival) => void waiting.push(arrival) });
    const socket = await open(port);
    socket.write(post('1') + post('x'.repeat(1000)).slice(0, -1));
    await vi.waitFor(() => expect([waiting.length, bodies.reading, bodies.bytes > 0]).toEqual([1, 1, true]));
    // With a reset where that can be had.
    if (tls) socket.destroy();
    else socket.resetAndDestroy();
    await vi.waitFor(() => expect([bodies.reading, bodies.bytes]).toEqual([0, 0]));
    await vi.waitFor(() => expect([server.connections.size, server.connections.inFlight]).toEqual([0, 0]));
    waiting[0]?.respond(200, 'too late', false);
  });

  test.each([
    ['nothing', '', { headTimeoutMs: 100 }],
    ['a head that does not end', HEAD, { headTimeoutMs: 100 }],
    ['a body that does not end', post('12').slice(0, -1), { headTimeoutMs: 100, requestTimeoutMs: 100 }],
    ['nothing more', post('1'), { idleTimeoutMs: 100 }],
  ])('%s: closed when its time is over', async (_name, text, options) => {
    const { port, bodies, server } = await serve({ options });
    const socket = await open(port);
    socket.write(text);
    await closed(socket);
    await vi.waitFor(() => expect([bodies.reading, server.connections.size]).toEqual([0, 0]));
  });

  test('when the node stops, what is in flight is answered with the end of the connection', async () => {
    const waiting: Arrival[] = [];
    const { port, server } = await serve({ submit: (arrival) => void waiting.push(arrival) });
    const [busy, idle] = [await open(port), await open(port)];
    busy.write(post('1') + post('2'));
    await vi.waitFor(() => expect(waiting).toHaveLength(2));
    server.stopAccepting();
    await closed(idle);
    for (const arrival of waiting) arrival.respond(200, 'last', false);
    const answers = await until(busy, 2);
    expect(answers.match(/Connection: [a-z-]+/g)).toEqual(['Connection: keep-alive', 'Connection: close']);
    await closed(busy);
  });
});

/** Over TLS, Node ends its side with the client's. */
test('a client that sends no more gets the answers due; one that stops in a request gets none', async () => {
  const waiting: Arrival[] = [];
  const { port, server } = await serveOver(false, { submit: (arrival) => void waiting.push(arrival) });
  const [done, inHead, inBody] = [
    await openOver(false, port),
    await openOver(false, port),
    await openOver(false, port),
  ];
  done.end(post('1'));
  inHead.end(post('2') + HEAD);
  inBody.end(post('3') + post('45').slice(0, -1));
  await vi.waitFor(() => expect(waiting).toHaveLength(3));
  await Promise.all([closed(inHead), closed(inBody)]);
  for (const arrival of waiting) arrival.respond(200, 'late', false);
  expect(await until(done, 1)).toContain('late');
  await closed(done);
  await vi.waitFor(() => expect([server.connections.size, server.connections.inFlight]).toEqual([0, 0]));
});
