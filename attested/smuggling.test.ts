/** What reaches the target, byte by byte, of callers who try to put a request or a header of their own before it. */
import { once } from 'node:events';
import { connect as connectHttp2 } from 'node:http2';
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';
import { connect as connectTls } from 'node:tls';
import { expect, onTestFinished, test } from 'vitest';
import { mockAppraiser, mockSide } from '../identity/attestation/testing/mock-world.ts';
import type { ProxyBounds } from './bounds.ts';
import { startTarget, startTestClient, startTestServer } from './testing/pair.ts';

const FORGED = 'GET /forged HTTP/1.1\r\nX-Flashbots-Measurement: {}\r\n\r\n';

/** Keeps what it gets, and answers each piece that ends as it is told to with 200. */
async function rawTarget(end: string): Promise<{ url: URL; text: () => string }> {
  let text = '';
  const server = createServer((socket) => {
    socket.on('error', () => undefined);
    socket.on('data', (piece) => {
      text += piece.toString('latin1');
      if (text.endsWith(end)) socket.write('HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok');
    });
    onTestFinished(() => void socket.destroy());
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  onTestFinished(() => void server.close());
  const { port } = server.address() as AddressInfo;
  return { url: new URL(`http://127.0.0.1:${port}`), text: () => text };
}

async function serverBefore(target: URL, bounds: Partial<ProxyBounds> = {}) {
  const { certificates } = await mockSide('a');
  return startTestServer(target, { certificates, appraiser: undefined }, bounds);
}

function dial({ address }: { address: { host: string; port: number } }): Socket {
  const socket = connectTls({ ...address, rejectUnauthorized: false });
  socket.on('error', () => undefined);
  onTestFinished(() => void socket.destroy());
  return socket;
}

/** @returns the first line of the first answer; '' when the connection ends without one */
async function firstLine(socket: Socket): Promise<string> {
  const [piece] = (await Promise.race([once(socket, 'data'), once(socket, 'close')])) as [unknown];
  return Buffer.isBuffer(piece) ? (piece.toString('latin1').split('\r\n')[0] ?? '') : '';
}

const chunk = `${FORGED.length.toString(16)}\r\n${FORGED}\r\n0\r\n\r\n`;

test.each([
  ['GET, in chunks', `GET / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n${chunk}`, chunk],
  ['DELETE, in chunks', `DELETE / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n${chunk}`, chunk],
  [
    'GET, whose length Connection names',
    `GET / HTTP/1.1\r\nHost: x\r\nConnection: content-length\r\nContent-Length: ${FORGED.length}\r\n\r\n${FORGED}`,
    FORGED,
  ],
  [
    'GET, whose length Connection names in another spelling',
    `GET / HTTP/1.1\r\nHost: x\r\nConnection: Content_Length\r\nContent-Length: ${FORGED.length}\r\n\r\n${FORGED}`,
    FORGED,
  ],
])('a body that looks like a request stays a body: %s', async (_, bytes, body) => {
  const target = await rawTarget(body);
  const proxy = await serverBefore(target.url);
  const socket = dial(proxy);
  socket.write(bytes);
  expect(await firstLine(socket)).toBe('HTTP/1.1 200 OK');
  const [head = ''] = target.text().split('\r\n\r\n', 1);
  const framing = body === chunk ? 'Transfer-Encoding: chunked' : `Content-Length: ${FORGED.length}`;
  expect(head.split('\r\n').filter((line) => /^(?:transfer-encoding|content-length):/iu.test(line))).toEqual([
    framing,
  ]);
  expect(target.text()).toBe(`${head}\r\n\r\n${body}`);
});

test.each(['GET', 'DELETE', 'POST'])('the same over HTTP/2: %s', async (method) => {
  const target = await rawTarget('0\r\n\r\n');
  const { address } = await serverBefore(target.url);
  const session = connectHttp2(`https://127.0.0.1:${address.port}`, { rejectUnauthorized: false });
  onTestFinished(() => session.destroy());
  const stream = session.request({ ':method': method, ':path': '/' }, { endStream: false });
  stream.end(FORGED);
  const [headers] = (await once(stream, 'response')) as [{ ':status': number }];
  expect(headers[':status']).toBe(200);
  const [head = ''] = target.text().split('\r\n\r\n', 1);
  expect(head).toContain('\r\nTransfer-Encoding: chunked');
  expect(target.text()).toBe(`${head}\r\n\r\n${chunk}`);
});

test.each([
  [
    'length and chunks',
    'POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n',
  ],
  ['chunks and then something', 'POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked, identity\r\n\r\n'],
  ['two lengths', 'POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\nabc'],
  ['a folded header', 'GET / HTTP/1.1\r\nHost: x\r\nX-A: a\r\n X-Flashbots-Measurement: b\r\n\r\n'],
  ['a space before the colon', 'GET / HTTP/1.1\r\nHost: x\r\nX-Flashbots-Measurement : b\r\n\r\n'],
  ['line feeds alone', 'GET / HTTP/1.1\nHost: x\n\n'],
])('heads that two readers could understand differently are refused: %s', async (_, bytes) => {
  const target = await startTarget();
  const socket = dial(await serverBefore(target.url));
  socket.write(bytes);
  expect(await firstLine(socket)).toBe('HTTP/1.1 400 Bad Request');
  expect(target.seen).toEqual([]);
});

test.each([
  'X-Flashbots-Measurement',
  'x-flashbots-MEASUREMENT',
  'X_Flashbots_Measurement',
  'x-flashbots_measurement',
  'X-Flashbots-Attestation-Type',
  'X_FLASHBOTS_ATTESTATION_TYPE',
])('%s is refused in every spelling, whatever Connection says of it', async (name) => {
  const target = await startTarget();
  const proxy = await serverBefore(target.url);
  for (const connection of ['keep-alive', name]) {
    const socket = dial(proxy);
    socket.write(`GET / HTTP/1.1\r\nHost: x\r\nConnection: ${connection}\r\n${name}: x\r\n\r\n`);
    expect(await firstLine(socket)).toBe('HTTP/1.1 403 Forbidden');
  }
  const session = connectHttp2(`https://127.0.0.1:${proxy.address.port}`, { rejectUnauthorized: false });
  onTestFinished(() => session.destroy());
  const [headers] = (await once(session.request({ [name]: 'x' }), 'response')) as [{ ':status': number }];
  expect(headers[':status']).toBe(403);
  expect(target.seen).toEqual([]);
});

test('trailers are not passed on, nor a second way to write X-Forwarded-For', async () => {
  const target = await rawTarget('0\r\n\r\n');
  const socket = dial(await serverBefore(target.url));
  socket.write(
    'POST / HTTP/1.1\r\nHost: x\r\nX_Forwarded_For: 6.6.6.6\r\nTrailer: X-Flashbots-Measurement\r\n' +
      'Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\nX-Flashbots-Measurement: {}\r\n\r\n',
  );
  expect(await firstLine(socket)).toBe('HTTP/1.1 200 OK');
  expect(target.text()).toMatch(/\r\n\r\n1\r\na\r\n0\r\n\r\n$/u);
  expect(target.text().toLowerCase()).not.toMatch(/flashbots|trailer|6\.6\.6\.6/u);
});

test('a method that comes letter by letter is no HTTP/2', async () => {
  const target = await startTarget();
  const { machine, certificates } = await mockSide('a');
  const server = await startTestServer(target.url, { certificates, appraiser: undefined });
  const trust = { by: 'attestation', appraiser: await mockAppraiser(machine, 'a') } as const;
  const { address } = await startTestClient(server.address, { trust, own: undefined });
  const socket = connect({ ...address, noDelay: true });
  onTestFinished(() => void socket.destroy());
  for (const letter of 'PR') {
    await new Promise<void>((written) => socket.write(letter, () => written()));
    // So that each is a piece of its own at the other end.
    await new Promise(setImmediate);
  }
  socket.write('OPFIND / HTTP/1.1\r\nHost: x\r\n\r\n');
  expect(await firstLine(socket)).toBe('HTTP/1.1 200 OK');
  expect(target.seen).toMatchObject([{ method: 'PROPFIND', url: '/' }]);
});

test('who sends too many requests ahead of the answers is cut off', async () => {
  const target = await startTarget(() => undefined);
  const proxy = await serverBefore(target.url);
  const socket = dial(proxy);
  socket.write('GET / HTTP/1.1\r\nHost: x\r\n\r\n'.repeat(16));
  await expect.poll(() => target.seen.length, { timeout: 20_000 }).toBe(16);
  expect(socket.closed).toBe(false);
  socket.write('GET / HTTP/1.1\r\nHost: x\r\n\r\n');
  await once(socket, 'close');
  expect(target.seen).toHaveLength(16);
});

test('beyond the bound of all requests under way it is 503', async () => {
  const target = await startTarget(() => undefined);
  const proxy = await serverBefore(target.url, { maxRequests: 20 });
  const session = connectHttp2(`https://127.0.0.1:${proxy.address.port}`, { rejectUnauthorized: false });
  onTestFinished(() => session.destroy());
  const streams = Array.from({ length: 21 }, () => session.request({ ':path': '/' }));
  for (const stream of streams) stream.on('error', () => undefined);
  const [headers] = (await Promise.race(streams.map((stream) => once(stream, 'response')))) as [object];
  expect(headers).toMatchObject({ ':status': 503, 'retry-after': '1' });
  expect(proxy.failures).toEqual(['too many requests are under way']);
});

test('over HTTP/2 too a request must come whole in time', async () => {
  const target = await startTarget((incoming) => void incoming.resume());
  const { address } = await serverBefore(target.url, { headTimeoutMs: 200, requestTimeoutMs: 300 });
  const session = connectHttp2(`https://127.0.0.1:${address.port}`, { rejectUnauthorized: false });
  onTestFinished(() => session.destroy());
  const stream = session.request({ ':method': 'POST', ':path': '/' });
  stream.on('error', () => undefined);
  stream.write('the beginning');
  await once(stream, 'close');
  expect(stream.rstCode).toBe(8);
});
