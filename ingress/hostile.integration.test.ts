/**
 * A real node under attack, one attack after another, while a well-behaved client goes on sending an order every
 * five milliseconds: each of its orders must be answered rightly, its p99 must stay near what it is in peace, the node's
 * memory must stay within one bound through all of it, and afterwards nothing of the attack may be left.
 *
 * Floods come as fast as a 1 Gbps line lets them. Attacks last for so many orders of the client, not for a time.
 */
import type { Socket } from 'node:net';
import { TLSSocket } from 'node:tls';
import { fileURLToPath } from 'node:url';
import { gzipSync } from 'node:zlib';
import { afterAll, beforeAll, describe, expect, onTestFinished, test, vi } from 'vitest';
import { createOrderSource } from '../devnet/orders.ts';
import { createCredentials } from '../identity/certificate.ts';
import { openFilesLimit } from './open-files.ts';
import {
  account,
  answerOf,
  CHUNKED,
  headers,
  JSON_HEAD,
  post,
  repeated,
  signed,
  wholeAnswer,
} from './testing/attack-requests.ts';
import { Attacker } from './testing/attacker.ts';
import {
  type Endured,
  endure,
  LONGEST_STALL_MS,
  MAX_BODY_BYTES,
  MAX_PENDING_BYTES,
  portOf,
  SHARDS,
  startTarget,
  type Target,
} from './testing/hostile-target.ts';
import {
  END_STREAM,
  FRAME,
  frame,
  getHead,
  kept,
  literal,
  postHead,
  SETTING_INITIAL_WINDOW,
  settings,
  streamIds,
} from './testing/http2-frames.ts';

describe('HTTP/1.1', () => {
  let target: Target;
  beforeAll(async () => {
    target = await startTarget({ userTls: false });
  });
  afterAll(() => target.close());

  async function ask(attacker: Attacker, request: Buffer): Promise<string> {
    const [socket] = await attacker.connect(target.userPort, 1);
    if (socket === undefined) throw new Error('no connection');
    socket.write(request);
    return answerOf(socket, wholeAnswer);
  }

  test('10,000 idle connections', async () => {
    await endure(target, async (attacker) => {
      await attacker.connect(target.userPort, Math.min(10_000, openFilesLimit() - 500));
      await target.steady.orders(100);
    });
  });

  test('2,000 heads, a byte at a time', async () => {
    await endure(target, async (attacker) => {
      const sockets = await attacker.connect(target.userPort, 2000);
      for (const byte of 'POST / HTTP/1.1\r\nX: y') {
        for (const socket of sockets) socket.write(byte);
        await target.steady.orders(20);
      }
    });
  });

  test('1,000 bodies that announce 30 MiB and hardly come', async () => {
    await endure(target, async (attacker) => {
      const sockets = await attacker.connect(target.userPort, 1000);
      for (const socket of sockets) socket.write(`${JSON_HEAD}Content-Length: ${MAX_BODY_BYTES}\r\n\r\n`);
      for (const byte of '{"jsonrpc"') {
        for (const socket of sockets) socket.write(byte);
        await target.steady.orders(20);
      }
      expect(await target.metric('orderflow_reading_bytes')).toBeLessThan(1e6);
      // None of them is in the way of newcomers, nor is any of them in the way of itself.
      expect(attacker.open).toBe(1000);
    });
  });

  test('200 bodies without end', async () => {
    await endure(target, async (attacker) => {
      const sockets = await attacker.connect(target.userPort, 200);
      for (const socket of sockets) socket.resume().write(CHUNKED);
      attacker.flood(sockets, Buffer.from(`10000\r\n${'x'.repeat(65_536)}\r\n`));
      await attacker.closed(sockets, 50);
      await target.steady.orders(200);
      expect(await target.metric('orderflow_reading_bytes')).toBeLessThanOrEqual(MAX_PENDING_BYTES);
    });
  });

  test('bodies without end that nobody wants to read', async () => {
    await endure(target, async (attacker) => {
      const unwanted = ['POST / HTTP/1.1', 'PUT / HTTP/1.1', 'POST http://[ HTTP/1.1', 'GET /livez HTTP/1.1'];
      const sockets = await attacker.connect(target.userPort, 40);
      for (const [i, socket] of sockets.entries()) {
        socket
          .resume()
          .write(`${unwanted[i % unwanted.length]}\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n`);
      }
      attacker.flood(sockets, repeated('400\r\n'.padEnd(1024 + 5, 'x').concat('\r\n'), 64));
      await attacker.closed(sockets);
    });
  });

  test('one-byte chunks', async () => {
    await endure(target, async (attacker) => {
      const sockets = await attacker.connect(target.userPort, 5);
      const answers = sockets.map((socket) => answerOf(socket, wholeAnswer));
      for (const socket of sockets) socket.write(CHUNKED);
      attacker.flood(sockets, repeated('1\r\na\r\n', 10_000));
      expect((await Promise.all(answers)).join('')).toContain(
        'request body comes in pieces that are too small',
      );
      await attacker.closed(sockets);
    });
  });

  describe('pipelined requests', () => {
    const source = createOrderSource({ seed: 'attacker', bodyBytes: 1000, methods: 'bundles' });
    const orders = Array.from({ length: 2000 }, () => source.next());
    const ofConnection = (i: number) => orders.slice(i * 40, i * 40 + 40);

    /** 50 connections, each flooding from its beginning. */
    async function flood(attacker: Attacker, chunkOf: (connection: number) => Buffer): Promise<Socket[]> {
      const sockets: Socket[] = [];
      while (sockets.length < 50) {
        for (const socket of await attacker.connect(target.userPort, 5)) {
          attacker.flood([socket], chunkOf(sockets.length));
          sockets.push(socket);
        }
      }
      return sockets;
    }

    test.each([
      ['GET', 'GET /livez HTTP/1.1\r\nHost: x\r\n\r\n'],
      ['405', 'PUT / HTTP/1.1\r\nHost: x\r\n\r\n'],
      ['unsigned', `${JSON_HEAD}Content-Length: 0\r\n\r\n`],
      ['bad', 'GET / HTTP/1.1\r\n\r\n'],
    ])('%s, whose answers nobody reads: cut off', async (_name, request) => {
      await endure(target, async (attacker) => {
        const sockets = await flood(attacker, () => repeated(request, 500));
        for (const socket of sockets) socket.pause();
        await target.steady.orders(200);
      });
    });

    test('valid orders, whose answers nobody reads: read no further', async () => {
      await endure(target, async (attacker) => {
        await flood(attacker, (i) =>
          Buffer.concat(ofConnection(i).map((order) => post(order.body, order.signature))),
        );
        await target.steady.orders(300);
      });
    });

    test('valid orders at full speed', async () => {
      await endure(target, async (attacker) => {
        const sockets = await flood(attacker, (i) =>
          Buffer.concat(ofConnection(i).map((order) => post(order.body, order.signature))),
        );
        for (const socket of sockets) socket.resume();
        await target.steady.orders(300);
        expect(attacker.open).toBe(50);
      });
    });

    test('wrong signatures at full speed', async () => {
      await endure(target, async (attacker) => {
        const sockets = await flood(attacker, (i) =>
          Buffer.concat(ofConnection(i).map((order, k) => post(order.body, orders[k]?.signature ?? ''))),
        );
        for (const socket of sockets) socket.resume();
        await target.steady.orders(300);
        // Most are refused before that is looked at.
        expect(
          await target.metric('orderflow_rejected_total', { kind: 'invalid_signature' }),
        ).toBeGreaterThan(0);
      });
    });
  });

  describe('gzip', () => {
    const GZIP = 'Content-Encoding: gzip\r\n';
    const bomb = gzipSync(Buffer.alloc(MAX_BODY_BYTES, ' '));

    test('50 bombs of 30 KB that become 30 MiB, and an honest body among them', async () => {
      await endure(target, async (attacker) => {
        const request = post(bomb, '0x:0x', GZIP);
        const bombs = Array.from({ length: 50 }, () => ask(attacker, request));
        const honest = Buffer.from('{"jsonrpc":"2.0","id":7,"method":"no_such","params":[]}');
        const compressed = post(gzipSync(honest), account.signBody(honest), GZIP);
        expect(await ask(attacker, compressed)).toContain('method not found');
        // What becomes of a bomb is known by its signature, which is over what came out.
        expect(await Promise.race(bombs)).toContain('invalid signature');
        await target.steady.orders(100);
      });
    });

    test('too big, nested, cut off, lying about its size', async () => {
      await endure(target, async (attacker) => {
        const tooBig = gzipSync(Buffer.alloc(MAX_BODY_BYTES + 1));
        expect(await ask(attacker, post(tooBig, '', GZIP))).toContain('request body is too big');
        const nested = gzipSync(gzipSync(bomb));
        expect(await ask(attacker, signed(nested, GZIP))).toContain('invalid signature');
        const cut = Buffer.concat([bomb.subarray(0, 20_000), Buffer.alloc(8)]);
        expect(await ask(attacker, post(cut, '', GZIP))).toContain('not valid gzip');
        const liar = gzipSync(Buffer.alloc(2 * MAX_BODY_BYTES));
        liar.writeUInt32LE(100, liar.length - 4);
        expect(await ask(attacker, post(liar, '', GZIP))).toContain('request body is too big');
      });
    });
  });

  describe('30 MiB of JSON, well signed', () => {
    const request = (params: string) =>
      Buffer.from(`{"jsonrpc":"2.0","id":1,"method":"eth_sendBundle","params":[${params}]}`);
    const filled = (before: string, filling: string, after: string) =>
      request(before + filling.repeat(Math.floor((MAX_BODY_BYTES - 200) / filling.length)) + after);

    test.each([
      ['nested brackets', () => filled('', '[', '')],
      ['digits', () => filled('{"blockNumber":', '1', '}')],
      ['one string', () => filled('{"blockNumber":"', 'a', '"}')],
      ['one string of escapes', () => filled('{"blockNumber":"', '\\u0041', '"}')],
      ['two million keys', () => filled('{', '"abcdefgh":1,', '"z":1}')],
      ['ten million empty transactions', () => filled('{"txs":[', '"",', '""]}')],
      ['ten million empty lists', () => filled('{"x":[', '[],', '[]]}')],
    ])('%s', async (_name, body) => {
      const bytes = signed(body());
      const { longestMs } = await endureStall(target, async (attacker) => {
        expect(await ask(attacker, bytes)).toContain('"error"');
      });
      expect(longestMs).toBeLessThan(LONGEST_STALL_MS);
    });
  });

  describe('requests that are none', () => {
    const body = '{"jsonrpc":"2.0","id":1,"method":"x","params":[]}';
    const inChunks = `${body.length.toString(16)}\r\n${body}\r\n0\r\n\r\n`;
    const length = `Content-Length: ${body.length}\r\n`;

    /** They could be read as two by somebody in front of the node. */
    test.each([
      ['a length and chunks', `${JSON_HEAD}${length}Transfer-Encoding: chunked\r\n\r\n${inChunks}`],
      ['chunks and a length', `${JSON_HEAD}Transfer-Encoding: chunked\r\n${length}\r\n${inChunks}`],
      ['two lengths', `${JSON_HEAD}${length}Content-Length: 5\r\n\r\n${body}`],
      ['the same length twice', `${JSON_HEAD}${length}${length}\r\n${body}`],
      ['a list of lengths', `${JSON_HEAD}Content-Length: ${body.length}, ${body.length}\r\n\r\n${body}`],
      ['a length with a sign', `${JSON_HEAD}Content-Length: +${body.length}\r\n\r\n${body}`],
      ['a folded header', `${JSON_HEAD}X: y\r\n Content-Length: 5\r\n${length}\r\n${body}`],
      ['a folded Transfer-Encoding', `${JSON_HEAD}Transfer-Encoding:\r\n chunked\r\n\r\n${inChunks}`],
      ['white space before a colon', `${JSON_HEAD}Transfer-Encoding : chunked\r\n${length}\r\n${body}`],
      ['chunks that are not last', `${JSON_HEAD}Transfer-Encoding: chunked, identity\r\n\r\n${inChunks}`],
      ['an unknown encoding', `${JSON_HEAD}Transfer-Encoding: xchunked\r\n\r\n${inChunks}`],
      ['line feeds alone', `${JSON_HEAD}${length}\r\n${body}`.replaceAll('\r', '')],
      ['a carriage return alone', `POST / HTTP/1.1\r\nHost: x\rX: y\r\n${length}\r\n${body}`],
      ['a zero byte', `${JSON_HEAD}X: a\0b\r\n${length}\r\n${body}`],
      ['chunks ended by line feeds', `${JSON_HEAD}Transfer-Encoding: chunked\r\n\r\n1\na\n0\n\n`],
      ['a chunk size that is no number', `${CHUNKED}zz\r\n`],
      ['a chunk size beyond 64 bits', `${CHUNKED}fffffffffffffffff\r\n`],
      ['an endless chunk extension', `${CHUNKED}1;${'a'.repeat(20_000)}\r\na\r\n0\r\n\r\n`],
      ['endless trailers', `${CHUNKED}1\r\na\r\n0\r\n${'X: y\r\n'.repeat(5000)}`],
      ['a head beyond 8 KiB', `POST /${'a'.repeat(9000)} HTTP/1.1\r\nHost: x\r\n${length}\r\n${body}`],
      ['a thousand headers', `${JSON_HEAD}${'a:b\r\n'.repeat(2000)}${length}\r\n${body}`],
      ['an unknown method', `BREW / HTTP/1.1\r\nHost: x\r\n${length}\r\n${body}`],
      ['CONNECT', `CONNECT x:1 HTTP/1.1\r\nHost: x\r\n\r\n`],
      ['HTTP/2 without TLS', 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'],
      ['an unknown version', `POST / HTTP/2.5\r\nHost: x\r\n${length}\r\n${body}`],
      ['TLS', '\x16\x03\x01\x00\xf8\x01\x00\x00\xf4\x03\x03'],
    ])('%s: the connection is closed without a word', async (_name, text) => {
      const attacker = new Attacker();
      onTestFinished(() => attacker.end());
      const [socket] = await attacker.connect(target.userPort, 1);
      socket?.write(Buffer.from(text, 'latin1'));
      expect(await answerOf(socket as Socket, () => false)).toBe('');
    });

    test.each([
      ['TRACE', 'TRACE / HTTP/1.1\r\nHost: x\r\n\r\n', '405'],
      ['QUERY', 'QUERY / HTTP/1.1\r\nHost: x\r\n\r\n', '405'],
      ['a path that is no path', `POST http://[::1/ HTTP/1.1\r\nHost: x\r\n${length}\r\n${body}`, '400'],
      ['a host that is none', `POST / HTTP/1.1\r\nHost: a b[\r\n${length}\r\n${body}`, '400'],
      ['no host', `POST / HTTP/1.1\r\n${length}\r\n${body}`, '400'],
      ['an expectation', `${JSON_HEAD}Expect: x\r\n${length}\r\n${body}`, '200'],
      ['an upgrade', `${JSON_HEAD}Connection: Upgrade\r\nUpgrade: h2c\r\n${length}\r\n${body}`, '200'],
      ['odd header names', `${JSON_HEAD}__proto__: x\r\nconstructor: y\r\n${length}\r\n${body}`, '200'],
    ])('%s: answered with %s', async (_name, text, status) => {
      const attacker = new Attacker();
      onTestFinished(() => attacker.end());
      const [socket] = await attacker.connect(target.userPort, 1);
      socket?.write(text);
      expect(await answerOf(socket as Socket, (answer) => answer.includes('\r\n\r\n'))).toContain(
        `HTTP/1.1 ${status}`,
      );
    });
  });

  test.each(['cert', 'metrics'] as const)(
    'the %s server: idle connections, floods, endless bodies',
    async (server) => {
      const port = portOf(target.node.addresses[server]);
      await endure(target, async (attacker) => {
        await attacker.closed(await attacker.connect(port, 1000), 1000 - 256);
        const flooders = await attacker.connect(port, 20);
        attacker.flood(flooders.slice(0, 10), repeated(`GET /${server} HTTP/1.1\r\nHost: x\r\n\r\n`, 100));
        for (const socket of flooders.slice(10)) socket.resume().write(CHUNKED);
        attacker.flood(flooders.slice(10), Buffer.from(`10000\r\n${'x'.repeat(65_536)}\r\n`));
        await target.steady.orders(200);
        expect((await fetch(`http://${target.node.addresses[server]}/${server}`)).status).toBe(200);
      });
    },
  );
});

/** Like `endure`, for an attack that is known to hold the event loop up once. */
async function endureStall(target: Target, attack: (attacker: Attacker) => Promise<void>): Promise<Endured> {
  return endure({ ...target, quietMs: LONGEST_STALL_MS }, attack);
}

describe('TLS and HTTP/2', () => {
  let target: Target;
  beforeAll(async () => {
    target = await startTarget({ userTls: true });
  });
  afterAll(() => target.close());

  test('2,000 idle connections', async () => {
    await endure(target, async (attacker) => {
      await attacker.connectTls(target.userPort, 2000);
      await target.steady.orders(100);
    });
  });

  test('5,000 connections that do not begin their handshake', async () => {
    await endure(target, async (attacker) => {
      await attacker.connect(target.userPort, 5000);
      await target.steady.orders(100);
    });
  });

  test('handshakes one after another', async () => {
    await endure(target, async (attacker) => {
      for (let i = 0; i < 15; i += 1) {
        for (const socket of await attacker.connectTls(target.userPort, 20)) socket.destroy();
      }
    });
  });

  test('renegotiation', async () => {
    await endure(target, async (attacker) => {
      const options = { maxVersion: 'TLSv1.2', ALPNProtocols: ['http/1.1'] } as const;
      const sockets = await attacker.connectTls(target.userPort, 20, options);
      for (const socket of sockets) renegotiateForEver(socket.resume());
      await attacker.closed(sockets);
    });
  });

  test('client certificates with chains of 90 and of 110 KB on the system API', async () => {
    const credentials = await createCredentials({ names: ['127.0.0.1'], validityDays: 1, now: Date.now() });
    const chain = (bytes: number) =>
      credentials.certificatePem.repeat(Math.ceil(bytes / credentials.certificateDer.length));
    await endure(target, async (attacker) => {
      for (const bytes of [90_000, 110_000]) {
        const shown = { cert: chain(bytes), key: credentials.privateKeyPem };
        for (let i = 0; i < 8; i += 1) {
          const sockets = await attacker.connectTls(target.systemPort, 5, shown);
          for (const socket of sockets) socket.resume();
          if (i === 7) await attacker.closed(sockets);
        }
      }
    });
  });

  describe('HTTP/2', () => {
    const many = (count: number, one: Buffer) => Buffer.concat(Array.from({ length: count }, () => one));

    test('streams opened and reset at once: the session ends', async () => {
      await endure(target, async (attacker) => {
        const reset = Buffer.from([0, 0, 0, 8]);
        const streams = streamIds(2000).map((id) =>
          Buffer.concat([headers(id, END_STREAM, postHead()), frame(FRAME.reset, 0, id, reset)]),
        );
        for (let i = 0; i < 10; i += 2) {
          const sockets = await attacker.connectHttp2(target.userPort, 2);
          for (const socket of sockets) socket.write(Buffer.concat([settings(), ...streams]));
          await attacker.closed(sockets);
        }
        await target.steady.orders(100);
      });
    });

    test.each([
      ['100,000 pings', frame(FRAME.ping, 0, 0, Buffer.alloc(8))],
      ['settings', settings([SETTING_INITIAL_WINDOW, 65_535])],
      ['empty DATA frames', frame(FRAME.data, 0, 1)],
      ['DATA frames of one byte', frame(FRAME.data, 0, 1, Buffer.from('a'))],
      ['CONTINUATION frames', frame(FRAME.continuation, 0, 3, literal('a', 'b'))],
    ])('%s: the session ends', async (_name, one) => {
      await endure(target, async (attacker) => {
        const sockets = await attacker.connectHttp2(target.userPort, 10);
        for (const socket of sockets) {
          socket.write(Buffer.concat([settings(), headers(1, 0, postHead())]));
          if (one[3] === FRAME.continuation) socket.write(frame(FRAME.headers, 0, 3, postHead()));
        }
        attacker.flood(sockets, many(1000, one));
        await attacker.closed(sockets);
      });
    });

    test('window updates without end', async () => {
      await endure(target, async (attacker) => {
        const sockets = await attacker.connectHttp2(target.userPort, 10);
        for (const socket of sockets) socket.write(settings());
        attacker.flood(sockets, many(1000, frame(FRAME.windowUpdate, 0, 0, Buffer.from([0, 0, 0, 1]))));
        await target.steady.orders(300);
      });
    });

    test('streams left without a body: no more than there is room for', async () => {
      await endure(target, async (attacker) => {
        const streams = streamIds(128).map((id) => headers(id, 0, postHead(literal('x', 'y'.repeat(6000)))));
        for (let i = 0; i < 90; i += 5) {
          const sockets = await attacker.connectHttp2(target.userPort, 5);
          for (const socket of sockets) socket.write(Buffer.concat([settings(), ...streams]));
        }
        await target.steady.orders(100);
        expect(await target.metric('orderflow_rejected_total', { kind: 'overloaded' })).toBeGreaterThan(2000);
      });
    });

    test('answers that cannot leave: no more than there is room for', async () => {
      await endure(target, async (attacker) => {
        const streams = streamIds(128).map((id) =>
          headers(id, END_STREAM, id % 4 === 1 ? postHead() : getHead('/readyz')),
        );
        for (let i = 0; i < 90 * SHARDS; i += 5) {
          const sockets = await attacker.connectHttp2(target.userPort, 5);
          for (const socket of sockets) {
            socket.write(Buffer.concat([settings([SETTING_INITIAL_WINDOW, 0]), ...streams]));
          }
        }
        await vi.waitFor(
          async () => expect(await target.metric('orderflow_connections_evicted_total')).toBeGreaterThan(0),
          { timeout: 10_000 },
        );
      });
    });

    test('heads that unfold to megabytes', async () => {
      await endure(target, async (attacker) => {
        const sockets = await attacker.connectHttp2(target.userPort, 4);
        for (const socket of sockets) {
          const first = headers(1, 0, postHead(kept('x', 'y'.repeat(4000))));
          const bombs = streamIds(200).map((id) =>
            headers(id + 2, 0, Buffer.concat([postHead(), Buffer.alloc(10_000, 0xbe)])),
          );
          socket.write(Buffer.concat([settings(), first, ...bombs]));
        }
        await target.steady.orders(100);
      });
    });

    test('a body that goes on after its refusal', async () => {
      await endure(target, async (attacker) => {
        const sockets = await attacker.connectHttp2(target.userPort, 10);
        for (const socket of sockets) {
          const unsupported = Buffer.concat([postHead(), literal('content-encoding', 'br')]);
          socket.write(Buffer.concat([settings(), headers(1, 0, unsupported)]));
        }
        attacker.flood(sockets, frame(FRAME.data, 0, 1, Buffer.alloc(16_384)));
        await attacker.closed(sockets);
      });
    });
  });
});

test('with few file descriptors, connections leave enough of them for the rest of the node', async () => {
  const entry = fileURLToPath(new URL('./testing/few-files.ts', import.meta.url));
  const target = await startTarget({ userTls: false, entry });
  onTestFinished(() => target.close());
  await endure(target, async (attacker) => {
    await attacker.closed(await attacker.connect(target.userPort, 1000), 1000 - 192);
    await attacker.closed(await attacker.connect(target.systemPort, 1000), 1000 - 192);
    await target.steady.orders(200);
    expect((await fetch(`http://${target.node.addresses.cert}/cert`)).status).toBe(200);
  });
});

function renegotiateForEver(socket: Socket): void {
  if (!(socket instanceof TLSSocket) || socket.destroyed) return;
  socket.renegotiate({ rejectUnauthorized: false }, (error) => {
    if (error === null) renegotiateForEver(socket);
  });
}
