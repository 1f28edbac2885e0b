/** Bodies in both directions, both versions of HTTP, and what is refused for being too much or something else. */
import { once } from 'node:events';
import { request } from 'node:http';
import { type ClientHttp2Session, connect as connectHttp2 } from 'node:http2';
import { connect } from 'node:net';
import { connect as connectTls } from 'node:tls';
import { expect, onTestFinished, test, vi } from 'vitest';
import { mockAppraiser, mockSide } from '../identity/attestation/testing/mock-world.ts';
import { PROXY_BOUNDS, type ProxyBounds } from './bounds.ts';
import { ask, startTarget, startTestClient, startTestServer, type TestTarget } from './testing/pair.ts';

async function startPair(target: TestTarget, bounds: Partial<ProxyBounds> = {}) {
  const side = await mockSide('a');
  const server = await startTestServer(
    target.url,
    { certificates: side.certificates, appraiser: undefined },
    bounds,
  );
  const appraiser = await mockAppraiser(side.machine, 'a');
  const client = await startTestClient(server.address, {
    trust: { by: 'attestation', appraiser },
    own: undefined,
  });
  return { server, client };
}

test('both bodies stream: each piece arrives before the next is sent', async () => {
  const target = await startTarget((incoming, response) => {
    incoming.on('data', (chunk: Buffer) => response.write(`echo ${chunk.toString()}`));
    incoming.on('end', () => response.end('end'));
  });
  const { client } = await startPair(target);
  const outgoing = request({ ...client.address, method: 'POST', path: '/' });
  outgoing.write('one');
  const [response] = (await once(outgoing, 'response')) as [import('node:http').IncomingMessage];
  const pieces: string[] = [];
  response.on('data', (chunk: Buffer) => {
    pieces.push(chunk.toString());
    if (pieces.length === 1) outgoing.write('two');
    if (pieces.length === 2) outgoing.end();
  });
  await once(response, 'end');
  expect(pieces).toEqual(['echo one', 'echo two', 'end']);
});

test('eight megabytes each way come through whole', async () => {
  const target = await startTarget((incoming, response) => void incoming.pipe(response));
  const { client } = await startPair(target);
  const body = Buffer.alloc(8 << 20, 'orderflow');
  const answer = await ask(client, '/', { method: 'POST', body });
  expect(answer.body.length).toBe(body.length);
  expect(answer.body === body.toString()).toBe(true);
});

async function http2Get(session: ClientHttp2Session, path: string, body?: string): Promise<[number, string]> {
  const stream = session.request({
    ':path': path,
    ':method': body === undefined ? 'GET' : 'POST',
    'x-own': '1',
  });
  stream.end(body);
  const [headers] = (await once(stream, 'response')) as [{ ':status': number }];
  let text = '';
  for await (const chunk of stream) text += String(chunk);
  return [headers[':status'], text];
}

test('HTTP/2 at both proxies: over TLS, and with prior knowledge', async () => {
  const target = await startTarget();
  const { server, client } = await startPair(target);
  for (const session of [
    connectHttp2(`https://127.0.0.1:${server.address.port}`, { rejectUnauthorized: false }),
    connectHttp2(`http://127.0.0.1:${client.address.port}`),
  ]) {
    onTestFinished(() => session.destroy());
    const answers = await Promise.all(Array.from({ length: 20 }, (_, i) => http2Get(session, `/${i}`)));
    expect(answers).toEqual(answers.map(() => [200, 'target']));
    expect(await http2Get(session, '/post', 'body')).toEqual([200, 'target']);
  }
  expect(target.seen).toHaveLength(42);
  const { headers, body } = target.seen.findLast(({ url }) => url === '/post')!;
  expect([headers.host, headers['x-own'], body]).toEqual([target.url.host, '1', 'body']);
  expect(Object.keys(headers).some((name) => name.startsWith(':'))).toBe(false);
});

test.each([
  'GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n',
  'CONNECT x:1 HTTP/1.1\r\nHost: x:1\r\n\r\n',
])('tunnels are refused: %j', async (head) => {
  const target = await startTarget();
  const { server, client } = await startPair(target);
  for (const socket of [
    connect(client.address),
    connectTls({ ...server.address, rejectUnauthorized: false }),
  ]) {
    socket.write(head);
    const [answer] = (await once(socket, 'data')) as [Buffer];
    expect(answer.toString()).toMatch(/^HTTP\/1\.1 501 /u);
    socket.destroy();
  }
  expect(target.seen).toEqual([]);
});

test('a body that is too long: 413, told or found out; the target never gets it whole', async () => {
  const target = await startTarget((incoming, response) => {
    incoming.on('end', () => response.end());
    incoming.resume();
  });
  const { server } = await startPair(target, { maxBodyBytes: 1_000 });
  const post = async (headers: string, body: string): Promise<string> => {
    const socket = connectTls({ ...server.address, rejectUnauthorized: false });
    socket.write(`POST / HTTP/1.1\r\nHost: x\r\n${headers}\r\n\r\n${body}`);
    const [answer] = (await once(socket, 'data')) as [Buffer];
    socket.destroy();
    return answer.toString().slice(0, 12);
  };
  expect(await post('Content-Length: 1001', 'x'.repeat(1_001))).toBe('HTTP/1.1 413');
  expect(await post('Transfer-Encoding: chunked', `7d0\r\n${'x'.repeat(2_000)}\r\n`)).toBe('HTTP/1.1 413');
  expect(await post('Content-Length: 1000', 'x'.repeat(1_000))).toBe('HTTP/1.1 200');
  expect(target.seen).toHaveLength(1);
});

test('an answer that breaks off does not look whole; a target that is down is 502', async () => {
  const target = await startTarget((_, response) => {
    response.writeHead(200);
    response.write('half', () => response.destroy());
  });
  const { server, client } = await startPair(target);
  await expect(ask(client, '/')).rejects.toThrow();
  await vi.waitFor(
    () => expect([server.failures, client.failures].map(({ length }) => length)).toEqual([1, 1]),
    15_000,
  );
  // What is expected of targets is no defect of the proxies.
  expect([...server.failures, ...client.failures].filter((one) => one.startsWith('fault'))).toEqual([]);
  const side = await mockSide('a');
  const down = await startTestServer(new URL('http://127.0.0.1:1'), {
    certificates: side.certificates,
    appraiser: undefined,
  });
  const appraiser = await mockAppraiser(side.machine, 'a');
  const before = await startTestClient(down.address, {
    trust: { by: 'attestation', appraiser },
    own: undefined,
  });
  expect(await ask(before, '/')).toMatchObject({ status: 502, body: '' });
});

test('a burst of requests has no more connections to the target than allowed', async () => {
  const target = await startTarget();
  const side = await mockSide('a');
  const server = await startTestServer(target.url, {
    certificates: side.certificates,
    appraiser: undefined,
  });
  const trust = { by: 'attestation', appraiser: await mockAppraiser(side.machine, 'a') } as const;
  const client = await startTestClient(server.address, { trust, own: undefined }, { maxUpstream: 2 });
  const before = side.asked.length;
  const answers = await Promise.all(Array.from({ length: 20 }, (_, i) => ask(client, `/${i}`)));
  expect(answers.map(({ status }) => status)).toEqual(answers.map(() => 200));
  // One quote for each connection, and one for the standing certificate.
  expect(side.asked.length - before).toBe(3);
});

test('a target that says nothing is given up', async () => {
  const target = await startTarget(() => undefined);
  const side = await mockSide('a');
  const server = await startTestServer(
    target.url,
    { certificates: side.certificates, appraiser: undefined },
    { idleTimeoutMs: 100 },
  );
  const socket = connectTls({ ...server.address, rejectUnauthorized: false });
  socket.write('GET / HTTP/1.1\r\nHost: x\r\n\r\n');
  const [answer] = (await once(socket, 'data')) as [Buffer];
  expect(answer.toString()).toMatch(/^HTTP\/1\.1 502 /u);
  socket.destroy();
  expect(server.failures).toEqual(['the target is silent']);
  expect(PROXY_BOUNDS.idleTimeoutMs).toBeGreaterThan(60_000);
});

test.each([
  ['nothing at all', '', 'HTTP/1.1 408', 200],
  ['a head that does not end', 'GET / HTTP/1.1\r\nHo', 'HTTP/1.1 408', 200],
  // The head must have come by then, also on a busy machine.
  ['a body that does not end', 'POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nab', '', 3_000],
])('a caller that sends %s does not hold its connection', async (_, bytes, answer, timeMs) => {
  const target = await startTarget((incoming) => void incoming.resume());
  const times = { headTimeoutMs: timeMs, requestTimeoutMs: timeMs, idleTimeoutMs: 60_000 };
  const { server } = await startPair(target, times);
  const socket = connectTls({ ...server.address, rejectUnauthorized: false });
  socket.on('error', () => undefined);
  let text = '';
  socket.on('data', (chunk: Buffer) => {
    text += chunk.toString();
  });
  socket.write(bytes);
  await once(socket, 'close');
  expect(text.slice(0, 12)).toBe(answer);
});

test('bytes that are no HTTP', async () => {
  const { client } = await startPair(await startTarget());
  const socket = connect(client.address);
  socket.write('no HTTP at all\r\n\r\n');
  const [answer] = (await once(socket, 'data')) as [Buffer];
  expect(answer.toString().slice(0, 12)).toBe('HTTP/1.1 400');
  socket.destroy();
});

test('a stop waits for the answer that is under way', async () => {
  let answer = (): void => undefined;
  const target = await startTarget((_, response) => {
    answer = () => response.end('late');
  });
  const { server, client } = await startPair(target);
  const asked = ask(client, '/');
  await vi.waitFor(() => expect(target.seen).toHaveLength(1), 10_000);
  const closed = Promise.all([client.close(), server.close()]);
  answer();
  expect(await asked).toMatchObject({ status: 200, body: 'late' });
  await closed;
  await expect(ask(client, '/')).rejects.toThrow('ECONNREFUSED');
});
