import { once } from 'node:events';
import { createServer, type IncomingMessage } from 'node:http';
import { type AddressInfo, connect } from 'node:net';
import { gzipSync } from 'node:zlib';
import { expect, onTestFinished, test } from 'vitest';
import { type BodyFailure, BodyReader, type BodyReaderOptions } from './body-reader.ts';

/** A server that reads every body with a BodyReader; `outcomes` in the order in which they were known. */
async function serve(options: Partial<BodyReaderOptions> = {}) {
  const reader = new BodyReader({
    maxBodyBytes: 1000,
    maxTotalBytes: 10_000,
    maxBodies: 100,
    timeoutMs: 60_000,
    ...options,
  });
  const connection = { reading: 0, closed: false, charge: () => undefined };
  const outcomes: (Buffer | BodyFailure)[] = [];
  let arrived = Promise.withResolvers<void>();
  const server = createServer((request: IncomingMessage, response) => {
    reader.read(request, connection, (body) => {
      outcomes.push(body);
      response.end();
      arrived.resolve();
      arrived = Promise.withResolvers<void>();
    });
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  onTestFinished(() => {
    reader.close();
    server.closeAllConnections();
    server.close();
  });
  const until = async (count: number) => {
    while (outcomes.length < count) await arrived.promise;
  };
  const open = () => {
    const socket = connect(port, '127.0.0.1');
    socket.on('error', () => undefined);
    socket.resume();
    onTestFinished(() => void socket.destroy());
    return socket;
  };
  const post = (body: Uint8Array, headers: Record<string, string> = {}) =>
    fetch(`http://127.0.0.1:${port}/`, { method: 'POST', body: new Uint8Array(body), headers });
  return { reader, outcomes, until, open, post };
}

const text = (outcome: Buffer | BodyFailure | undefined) =>
  typeof outcome === 'string' ? outcome : outcome?.toString();

test('bodies of any size up to the limit arrive whole', async () => {
  const { reader, outcomes, post } = await serve({ maxBodyBytes: 3_000_000, maxTotalBytes: 1e9 });
  for (const size of [0, 1, 3000, 70_000, 3_000_000]) {
    const body = Buffer.alloc(size, 'abc');
    await post(body);
    expect((outcomes.at(-1) as Buffer).equals(body)).toBe(true);
  }
  expect([reader.bytes, reader.reading]).toEqual([0, 0]);
});

test('one byte more than the limit is too big, announced or not', async () => {
  const { reader, outcomes, until, open, post } = await serve();
  await post(Buffer.alloc(1000));
  await post(Buffer.alloc(1001));
  open().write('POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5000\r\n\r\n');
  await until(3);
  const endless = open();
  endless.write('POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n');
  const feed = () =>
    endless.writable && endless.write(`1f4\r\n${'x'.repeat(500)}\r\n`, () => setImmediate(feed));
  feed();
  await until(4);
  expect(outcomes.slice(1)).toEqual(['too_big', 'too_big', 'too_big']);
  expect(reader.bytes).toBeLessThanOrEqual(1000);
});

test('a body in a thousand one-byte chunks costs what it is long', async () => {
  const { reader, outcomes, until, open } = await serve({ maxBodyBytes: 100_000, maxTotalBytes: 1e6 });
  const socket = open();
  socket.write('POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n');
  for (let i = 0; i < 1000; i += 1) socket.write('1\r\na\r\n');
  socket.write('0\r\n\r\n');
  await until(1);
  expect(text(outcomes[0])).toBe('a'.repeat(1000));
  expect(reader.bytes).toBe(0);
});

test('beyond the total the body that has been at it longest goes', async () => {
  const { reader, outcomes, until, open, post } = await serve({ maxTotalBytes: 4400 });
  const slow = [open(), open(), open(), open(), open()];
  for (const [i, socket] of slow.entries()) {
    socket.write(`POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n${String(i).repeat(900)}`);
    if (i < 4) while (reader.bytes < 900 * (i + 1)) await new Promise(setImmediate);
  }
  await until(1);
  expect(outcomes).toEqual(['overloaded']);
  await post(Buffer.from('quick'));
  expect(text(outcomes[1])).toBe('quick');
  slow[4]?.write('4'.repeat(100));
  await until(3);
  expect(text(outcomes[2])).toBe('4'.repeat(1000));
});

test('what still comes of a body that had to go is dropped, uncounted', async () => {
  const { reader, outcomes, until, open, post } = await serve({
    maxBodyBytes: 100_000,
    maxTotalBytes: 100_000,
  });
  const first = open();
  first.write(`POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n${'a'.repeat(60_000)}`);
  while (reader.bytes < 60_000) await new Promise(setImmediate);
  const second = open();
  second.write(`POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n${'b'.repeat(60_000)}`);
  await until(1);
  expect(outcomes).toEqual(['overloaded']);
  first.write('a'.repeat(40_000));
  second.write('b'.repeat(40_000));
  await until(2);
  expect(outcomes[1]?.length).toBe(100_000);
  await post(Buffer.from('later'));
  expect(text(outcomes[2])).toBe('later');
  expect([reader.bytes, reader.reading]).toEqual([0, 0]);
});

test('beyond so many bodies the one that has been at it longest goes', async () => {
  const { reader, outcomes, until, open } = await serve({ maxBodies: 2 });
  const sockets = [open(), open(), open()];
  for (const [i, socket] of sockets.entries()) {
    socket.write('POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\n');
    if (i < 2) while (reader.reading < i + 1) await new Promise(setImmediate);
  }
  await until(1);
  sockets[2]?.write('c');
  await until(2);
  expect([outcomes[0], text(outcomes[1]), reader.reading]).toEqual(['overloaded', 'c', 1]);
});

test('a body in a hundred thousand one-byte chunks is refused', async () => {
  const { reader, outcomes, until, open } = await serve({ maxBodyBytes: 1e6, maxTotalBytes: 1e6 });
  const socket = open();
  socket.write('POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n');
  socket.write('1\r\na\r\n'.repeat(100_000));
  await until(1);
  expect(outcomes).toEqual(['tiny_pieces']);
  expect(reader.bytes).toBe(0);
});

test('a body that is too slow is given up, a client that leaves is noticed', async () => {
  const { reader, outcomes, until, open } = await serve({ timeoutMs: 100 });
  open().write('POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nabc');
  await until(1);
  const leaver = open();
  leaver.write('POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nabc', () => leaver.destroy());
  await until(2);
  expect(outcomes).toEqual(['timeout', 'aborted']);
  expect([reader.bytes, reader.reading]).toEqual([0, 0]);
});

test('gzip: whole, a bomb, damaged, another encoding', async () => {
  const { outcomes, post } = await serve();
  const gzip = { 'content-encoding': 'gzip' };
  await post(gzipSync('hello'), gzip);
  await post(gzipSync(Buffer.alloc(1000)), gzip);
  await post(gzipSync(Buffer.alloc(1_000_000)), gzip);
  await post(Buffer.from('no gzip'), gzip);
  await post(gzipSync('hello').subarray(0, 15), gzip);
  await post(Buffer.from('x'), { 'content-encoding': 'br' });
  expect(outcomes.map((outcome) => (typeof outcome === 'string' ? outcome : outcome.length))).toEqual([
    5,
    1000,
    'too_big',
    'bad_gzip',
    'bad_gzip',
    'bad_encoding',
  ]);
});

test('an honest gzip body does not wait for bombs', async () => {
  const { outcomes, post } = await serve({ maxBodyBytes: 50_000_000, maxTotalBytes: 1e9 });
  const gzip = { 'content-encoding': 'gzip' };
  const bomb = gzipSync(Buffer.alloc(50_000_000));
  const bombs = Array.from({ length: 10 }, () => post(bomb, gzip));
  await post(gzipSync('honest'), gzip);
  expect(outcomes.length).toBeLessThan(10);
  await Promise.all(bombs);
  expect(outcomes.map((outcome) => outcome.length).sort((a, b) => a - b)).toEqual([
    6,
    ...Array.from({ length: 10 }, () => 50_000_000),
  ]);
});

test('many gzip bodies at once are all read', async () => {
  const { outcomes, post } = await serve();
  const body = gzipSync('x'.repeat(900));
  await Promise.all(Array.from({ length: 50 }, () => post(body, { 'content-encoding': 'gzip' })));
  expect(outcomes.filter((outcome) => outcome.length === 900)).toHaveLength(50);
});
