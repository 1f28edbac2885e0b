/**
 * What a hostile peer can do to the receiving end, over real sockets and real TLS: each ends its own connection with
 * the reason it should, both sides know that reason, and an honest peer beside it never notices.
 */
import { describe, expect, onTestFinished, test } from 'vitest';
import { createOrderSource } from '../../devnet/orders.ts';
import { type Credentials, createCredentials } from '../../identity/certificate.ts';
import { STREAM_PROTOCOL } from '../../identity/channel/hello.ts';
import type { Peer } from '../../identity/peer.ts';
import { PeerTable } from '../../identity/peer-table.ts';
import { createSigner, SignatureVerifier, type Signer } from '../../identity/signature.ts';
import { createClock } from '../../pipeline/clock.ts';
import { Rejection } from '../../pipeline/errors.ts';
import type { CloseReason } from '../../pipeline/stream/close-reasons.ts';
import {
  decodeAck,
  decodeHello,
  decodeRefused,
  encodeAck,
  encodeClose,
  encodeGoAway,
  encodeOrders,
  encodePing,
  FRAME,
} from '../../pipeline/stream/frames.ts';
import { encodeRecord } from '../../pipeline/stream/record.ts';
import { ORDER_OVERHEAD_BYTES } from '../../pipeline/stream/windows.ts';
import type { Arrival } from '../../pipeline/submission.ts';
import { listenHttp } from '../http-server.ts';
import { createStreamServer } from './stream-server.ts';
import { connectRaw, type RawStream } from './testing/raw-stream.ts';

const WINDOW = 65_536;
const MAX_ORDER = 200_000;
/** What of frames that have not ended one peer may have (an order and eighteen frames of small ones), and all together. */
const MOST_OF_A_PEER = MAX_ORDER + 18 * 131_072;
const MAX_GATHERED = 1.5 * MOST_OF_A_PEER;

interface PeerIdentity {
  readonly name: string;
  readonly signer: Signer;
  readonly credentials: Credentials;
}

interface Server {
  readonly port: number;
  readonly honest: PeerIdentity;
  readonly other: PeerIdentity;
  /** Of the hub's list, but in nobody's. */
  readonly stranger: PeerIdentity;
  readonly arrivals: Arrival[];
  readonly closed: { peer: string; reason: CloseReason; byPeer: boolean }[];
  /** Whether orders are settled as they come. */
  settling: boolean;
  /** Whether the queue takes orders. */
  taking: boolean;
  refreshes: number;
  /** When the hub has answered. */
  refreshed: Promise<void>;
  /** Makes it the hub's list, as after a poll. */
  list(...peers: PeerIdentity[]): void;
  /** Streams that it has open. */
  open(): number;
  stopAccepting(): void;
  ended(count: number): Promise<void>;
}

async function makePeer(name: string, seed: number): Promise<PeerIdentity> {
  const credentials = await createCredentials({ names: ['127.0.0.1'], validityDays: 1, now: Date.now() });
  return { name, signer: createSigner(Buffer.alloc(32, seed)), credentials };
}

function entryOf({ name, signer, credentials }: PeerIdentity): Peer {
  const nowhere = { host: undefined, port: undefined, servername: undefined, certificate: undefined };
  const { fingerprint } = credentials;
  return { name, address: signer.addressLower, fingerprint, sendable: false, reason: 'test', ...nowhere };
}

/** A system API with the stream, and nothing behind it but what the test looks at. */
async function startServer(helloTimeoutMs = 5_000): Promise<Server> {
  const [own, honest, other, stranger] = await Promise.all([
    makePeer('own', 9),
    makePeer('honest', 1),
    makePeer('other', 2),
    makePeer('stranger', 3),
  ]);
  const table = new PeerTable();
  const waiters: { count: number; resolve: () => void }[] = [];
  const server: Omit<Server, 'port' | 'stopAccepting' | 'open' | 'list'> = {
    honest,
    other,
    stranger,
    arrivals: [],
    closed: [],
    settling: true,
    taking: true,
    refreshes: 0,
    refreshed: Promise.resolve(),
    ended(count) {
      if (server.closed.length >= count) return Promise.resolve();
      return new Promise((resolve) => waiters.push({ count, resolve }));
    },
  };
  table.replace([honest, other].map(entryOf));
  const streams = createStreamServer(
    { windowBytes: WINDOW, maxOrderBytes: MAX_ORDER, helloTimeoutMs, maxGatheredBytes: MAX_GATHERED },
    {
      signer: own.signer,
      verifier: new SignatureVerifier({ cacheSize: 16 }),
      clock: createClock(),
      peers: {
        byAddress: (address) => table.byAddress(address),
        byFingerprint: (fingerprint) => table.byFingerprint(fingerprint),
        refresh: () => {
          server.refreshes++;
          return server.refreshed;
        },
      },
      offer(_stream, arrival) {
        if (!server.taking) return false;
        server.arrivals.push(arrival);
        if (server.settling) arrival.streamed?.settle(null);
        return true;
      },
      events: {
        opened: () => undefined,
        oneWay: () => undefined,
        orders: () => undefined,
        closed(peer, _direction, reason, byPeer) {
          server.closed.push({ peer, reason, byPeer });
          for (const { count, resolve } of waiters) if (server.closed.length >= count) resolve();
        },
      },
    },
  );
  const http = await listenHttp(
    {
      listen: { host: '127.0.0.1', port: 0 },
      listeners: 1,
      tls: { certificate: own.credentials.certificatePem, key: own.credentials.privateKeyPem },
      requestClientCertificate: true,
      headTimeoutMs: 10_000,
      requestTimeoutMs: 10_000,
      writeTimeoutMs: 10_000,
      idleTimeoutMs: 60_000,
      maxConnections: 1000,
      pipelining: 64,
    },
    {
      onRequest: (_request, response) => response.end('http'),
      onEvicted: () => undefined,
      stream: { protocol: STREAM_PROTOCOL, accept: (stream) => streams.accept(stream) },
    },
  );
  onTestFinished(async () => {
    streams.close();
    await http.close();
  });
  return Object.assign(server, {
    port: http.address.port,
    stopAccepting: () => streams.stopAccepting(),
    open: () => streams.state().reduce((sum, { open }) => sum + open, 0),
    list(...peers: PeerIdentity[]) {
      table.replace(peers.map(entryOf));
      streams.update();
    },
  });
}

const source = createOrderSource({ seed: 'hostile', bodyBytes: 1_000 });
const records = Array.from({ length: 200 }, () => source.next()).map(({ method, canonical }) =>
  encodeRecord(method, canonical),
);
const NOW = 1_718_030_000_000_000;

function orders(first: number, count = 1): Buffer {
  return encodeOrders(NOW, first, records.slice(first - 1, first - 1 + count));
}

/** An honest connection that has been let in. */
async function join(server: Server, peer = server.honest): Promise<RawStream> {
  const stream = await connectRaw(server.port, peer.credentials);
  stream.hello('client', peer.signer);
  await stream.until(() => stream.of(FRAME.hello).length === 1);
  return stream;
}

function acknowledged(stream: RawStream): number {
  return decodeAck(stream.of(FRAME.ack).at(-1) ?? Buffer.alloc(16))?.sequence ?? 0;
}

/** What an honest peer beside the hostile one gets through. */
async function stillServes(server: Server): Promise<void> {
  server.settling = true;
  server.taking = true;
  const stream = await join(server, server.other);
  const before = server.arrivals.length;
  stream.write(orders(1, 20));
  await stream.until(() => acknowledged(stream) === 20);
  expect(server.arrivals.length).toBe(before + 20);
}

function header(type: number, length: number): Buffer {
  const bytes = Buffer.alloc(5);
  bytes[0] = type;
  bytes.writeUInt32BE(length, 1);
  return bytes;
}

describe('who it is', () => {
  test('an honest peer is let in, and orders from it count as its own', async () => {
    const server = await startServer();
    const stream = await join(server);
    const hello = decodeHello(stream.of(FRAME.hello)[0]!);
    expect(hello).toMatchObject({ windowBytes: WINDOW, maxOrderBytes: MAX_ORDER });
    stream.write(orders(1, 3));
    await stream.until(() => acknowledged(stream) === 3);
    expect(server.arrivals.map(({ streamed }) => streamed?.peer)).toEqual(
      Array.from({ length: 3 }, () => server.honest.signer.addressLower),
    );
    expect(server.refreshes).toBe(0);
  });

  test('HTTP on the same port is as before', async () => {
    const server = await startServer();
    const stream = await connectRaw(server.port, null, { ALPNProtocols: ['http/1.1'] });
    let answer = '';
    stream.socket.on('data', (chunk: Buffer) => {
      answer += chunk.toString();
    });
    stream.socket.end('GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n');
    await stream.closed;
    expect(answer).toContain('http');
  });

  test.each<[string, CloseReason, (server: Server) => Promise<RawStream>]>([
    ['no certificate', 'certificate_missing', (server) => connectRaw(server.port, null)],
    [
      'TLS 1.2',
      'tls_version',
      (server) => connectRaw(server.port, server.honest.credentials, { maxVersion: 'TLSv1.2' }),
    ],
    [
      'a certificate that nobody lists',
      'not_listed',
      async (server) => {
        const stream = await connectRaw(server.port, server.stranger.credentials);
        stream.hello('client', server.honest.signer);
        return stream;
      },
    ],
    [
      "the right certificate with another peer's key",
      'not_listed',
      async (server) => {
        const stream = await connectRaw(server.port, server.honest.credentials);
        stream.hello('client', server.other.signer);
        return stream;
      },
    ],
    [
      'the right address with a signature of another key',
      'hello_signature',
      async (server) => {
        const stream = await connectRaw(server.port, server.honest.credentials);
        stream.hello('client', server.other.signer, (frame) => {
          Buffer.from(server.honest.signer.addressLower.slice(2), 'hex').copy(frame, 17);
          return frame;
        });
        return stream;
      },
    ],
    [
      "the server's own part of the hello",
      'hello_signature',
      async (server) => {
        const stream = await connectRaw(server.port, server.honest.credentials);
        stream.hello('server', server.honest.signer);
        return stream;
      },
    ],
    [
      'an order before the hello',
      'unexpected',
      async (server) => {
        const stream = await connectRaw(server.port, server.honest.credentials);
        stream.write(orders(1));
        return stream;
      },
    ],
    [
      'a long frame of orders before the hello: not a byte of it is kept',
      'oversized',
      async (server) => {
        const stream = await connectRaw(server.port, server.honest.credentials);
        stream.write(header(FRAME.orders, MAX_ORDER));
        return stream;
      },
    ],
    [
      "a session of an earlier connection, without that one's key",
      'resumed',
      async (server) => {
        const first = await connectRaw(server.port, server.honest.credentials);
        const session = await new Promise<Buffer>((resolve) => first.socket.once('session', resolve));
        first.hello('client', server.honest.signer);
        await first.until(() => first.of(FRAME.hello).length === 1);
        first.write(encodeClose('normal')!);
        await server.ended(1);
        server.closed.length = 0;
        const stream = await connectRaw(server.port, null, { session });
        expect(stream.socket.isSessionReused()).toBe(true);
        return stream;
      },
    ],
    [
      'a hello cut short',
      'malformed',
      async (server) => {
        const stream = await connectRaw(server.port, server.honest.credentials);
        stream.write(Buffer.from([FRAME.hello, 0, 0, 0, 3, 1, 2, 3]));
        return stream;
      },
    ],
    [
      'a second hello',
      'unexpected',
      async (server) => {
        const stream = await join(server);
        stream.hello('client', server.honest.signer);
        return stream;
      },
    ],
  ])('%s: closed with %s', async (_name, reason, attack) => {
    const server = await startServer();
    const stream = await attack(server);
    expect(await stream.closed).toBe(reason);
    await server.ended(1);
    expect(server.closed).toMatchObject([{ reason, byPeer: false }]);
    expect(server.arrivals).toHaveLength(0);
    await stillServes(server);
  });

  test('a hello that was good on another connection is not on this one', async () => {
    const server = await startServer();
    const first = await connectRaw(server.port, server.honest.credentials);
    const hello = first.hello('client', server.honest.signer);
    await first.until(() => first.of(FRAME.hello).length === 1);
    const replay = await connectRaw(server.port, server.honest.credentials);
    replay.write(hello);
    expect(await replay.closed).toBe('hello_signature');
    first.write(orders(1));
    await first.until(() => acknowledged(first) === 1);
  });

  test('nobody who says nothing stays', async () => {
    const server = await startServer(600);
    const stream = await connectRaw(server.port, server.honest.credentials);
    expect(await stream.closed).toBe('hello_timeout');
  });

  test('a peer that is new is looked up once; one that has left is cut off with its next order', async () => {
    const server = await startServer();
    server.list(server.other);
    const early = await connectRaw(server.port, server.honest.credentials);
    early.hello('client', server.honest.signer);
    expect(await early.closed).toBe('not_listed');
    expect(server.refreshes).toBe(1);
    server.list(server.other, server.honest);
    const stream = await join(server);
    server.settling = false;
    stream.write(orders(1));
    await stillServes(server);
    // What the pipeline says of an order whose sender is not in the list any longer.
    server.arrivals[0]?.streamed?.settle(new Rejection('client_certificate', 'gone'));
    expect(await stream.closed).toBe('not_listed');
  });

  test.each<[string, (server: Server) => void]>([
    ['has left the list', (server) => server.list(server.other)],
    [
      'has another certificate there',
      (server) => server.list({ ...server.honest, credentials: server.stranger.credentials }, server.other),
    ],
    [
      'has another key there',
      (server) => server.list({ ...server.honest, signer: server.stranger.signer }, server.other),
    ],
    [
      'shares its key, but not its certificate, with another entry',
      (server) =>
        server.list(
          { ...server.honest, credentials: server.stranger.credentials },
          { ...server.other, credentials: server.honest.credentials },
        ),
    ],
  ])('a peer that %s is cut off at once, without an order', async (_name, change) => {
    const server = await startServer();
    const [stream, second] = [await join(server), await join(server)];
    server.list(server.honest, server.other);
    expect(server.open()).toBe(2);
    change(server);
    expect([await stream.closed, await second.closed]).toEqual(['not_listed', 'not_listed']);
    expect([server.open(), server.refreshes]).toEqual([0, 0]);
  });

  test('while the hub is asked about it nothing is kept of what a stranger sends', async () => {
    const server = await startServer();
    const answer = Promise.withResolvers<void>();
    server.refreshed = answer.promise;
    const stream = await connectRaw(server.port, server.stranger.credentials);
    stream.hello('client', server.stranger.signer);
    await expect.poll(() => server.refreshes).toBe(1);
    stream.write(Buffer.alloc(20_000, header(99, 0)));
    expect(await stream.closed).toBe('unexpected');
    answer.resolve();
    await stillServes(server);
    expect(server.closed).toEqual([{ peer: '', reason: 'unexpected', byPeer: false }]);
  });

  test('the nineteenth connection of a peer costs it the first', async () => {
    const server = await startServer();
    const streams: RawStream[] = [];
    for (let i = 0; i < 19; i++) streams.push(await join(server));
    expect(await streams[0]!.closed).toBe('superseded');
    for (const stream of streams.slice(1)) {
      stream.write(orders(1));
      await stream.until(() => acknowledged(stream) === 1);
    }
  });
});

describe('what it sends', () => {
  test('orders that wait keep their bytes while others are read, whole or in pieces, on any connection', async () => {
    const server = await startServer();
    server.settling = false;
    const streams = [await join(server), await join(server, server.other)];
    const wanted: string[] = [];
    for (const [round, first] of [1, 11, 21, 31].entries()) {
      for (const [index, stream] of streams.entries()) {
        const from = index * 100 + first;
        const sent = records.slice(from - 1, from + 9);
        wanted.push(...sent.map((record) => record.toString('hex')));
        const frame = encodeOrders(NOW, first, sent);
        const cut = round % 2 === 0 ? frame.length : 3 + round * 500;
        stream.write(frame.subarray(0, cut));
        // Answered when what is before it has been read.
        const pongs = stream.of(FRAME.pong).length;
        if (cut === frame.length) stream.write(encodePing(1));
        else {
          await new Promise((resolve) => stream.socket.write(frame.subarray(cut), resolve));
          stream.write(encodePing(1));
        }
        await stream.until(() => stream.of(FRAME.pong).length > pongs);
      }
    }
    expect(server.arrivals.map(({ body }) => body.toString('hex'))).toEqual(wanted);
  });

  test.each<[string, CloseReason, (stream: RawStream) => void]>([
    ['a frame longer than may be', 'oversized', (stream) => stream.write(header(FRAME.orders, 1 << 30))],
    ['an unknown frame longer than may be', 'oversized', (stream) => stream.write(header(200, 1 << 20))],
    ['garbage', 'oversized', (stream) => stream.write(Buffer.alloc(5_000, 0xa7))],
    [
      'records that do not fit their frame',
      'malformed',
      (stream) => stream.write(Buffer.concat([orders(1).fill(0xff, 23, 27)])),
    ],
    [
      'a record that contradicts itself',
      'malformed',
      (stream) => stream.write(encodeOrders(NOW, 1, [Buffer.alloc(20, 1)])),
    ],
    ['no orders in an orders frame', 'malformed', (stream) => stream.write(encodeOrders(NOW, 1, []))],
    ['numbers with a hole', 'sequence', (stream) => stream.write(orders(1), orders(3))],
    ['a number again', 'sequence', (stream) => stream.write(orders(1), orders(1))],
    ['an acknowledgement', 'unexpected', (stream) => stream.write(encodeAck(1, 1))],
    ["a farewell that is the receiver's", 'unexpected', (stream) => stream.write(encodeGoAway())],
    ['a million tiny frames', 'flood', (stream) => stream.write(Buffer.alloc(5_000_000, header(99, 0)))],
    [
      'a hundred thousand pings',
      'flood',
      (stream) => stream.write(...Array.from({ length: 100_000 }, () => encodePing(1))),
    ],
  ])('%s: closed with %s', async (_name, reason, attack) => {
    const server = await startServer();
    const stream = await join(server);
    attack(stream);
    expect(await stream.closed).toBe(reason);
    await server.ended(1);
    expect(server.closed[0]).toEqual({ peer: 'honest', reason, byPeer: false });
    await stillServes(server);
  });

  test('more than its credit: cut off at the bound', async () => {
    const server = await startServer();
    server.settling = false;
    const stream = await join(server);
    const fit = Math.floor(WINDOW / (records[0]!.length + ORDER_OVERHEAD_BYTES));
    for (let i = 1; i <= fit + 20; i++) stream.write(encodeOrders(NOW, i, [records[0]!]));
    expect(await stream.closed).toBe('window');
    expect(server.arrivals.length).toBeLessThanOrEqual(fit);
    await stillServes(server);
  });

  test('unknown frames are passed over, and so are bytes of a later version', async () => {
    const server = await startServer();
    const stream = await join(server);
    stream.write(header(42, 3), Buffer.from('new'), orders(1), header(255, 0), orders(2));
    await stream.until(() => acknowledged(stream) === 2);
  });

  test('a frame that trickles in is cut off, a slow one that comes is not', async () => {
    const server = await startServer();
    const stream = await join(server);
    const slow = orders(1);
    stream.write(slow.subarray(0, 100));
    let at = 100;
    const trickle = setInterval(() => stream.write(slow.subarray(at, ++at)), 250);
    onTestFinished(() => clearInterval(trickle));
    const good = await join(server);
    const frame = orders(1, 20);
    const third = Math.ceil(frame.length / 3);
    good.write(frame.subarray(0, third));
    setTimeout(() => good.write(frame.subarray(third, 2 * third)), 600);
    setTimeout(() => good.write(frame.subarray(2 * third)), 1_200);
    await good.until(() => acknowledged(good) === 20);
    expect(await stream.closed).toBe('slow');
  });

  test('long frames that never end: one at a time, whatever the number of connections', async () => {
    const server = await startServer();
    const bound = MOST_OF_A_PEER;
    const each = MAX_ORDER + 131_072;
    const streams: RawStream[] = [];
    for (let held = 0; held < 2 * bound; held += each) {
      const stream = await join(server);
      stream.write(header(FRAME.orders, each), Buffer.alloc(each - 1));
      streams.push(stream);
    }
    const most = Math.floor(bound / each);
    await server.ended(streams.length - most);
    expect(new Set(server.closed.map(({ reason }) => reason))).toEqual(new Set(['superseded']));
    expect(server.open()).toBe(most);
    await stillServes(server);
  });

  test('long frames that never end, of several peers: no more than all may have together', async () => {
    const server = await startServer();
    const each = MAX_ORDER + 131_072;
    const ofEach = Math.floor(MOST_OF_A_PEER / each);
    for (const peer of [server.honest, server.other]) {
      for (let i = 0; i < ofEach; i++) {
        const stream = await join(server, peer);
        stream.write(header(FRAME.orders, each), Buffer.alloc(each - 1));
      }
    }
    const most = Math.floor(MAX_GATHERED / each);
    expect(most).toBeLessThan(2 * ofEach);
    await server.ended(2 * ofEach - most);
    expect(new Set(server.closed.map(({ reason }) => reason))).toEqual(new Set(['superseded']));
    expect(server.open()).toBe(most);
    await stillServes(server);
  });

  test('an order that is too big, or for which there is no room, is refused and no more', async () => {
    const server = await startServer();
    const stream = await join(server);
    const huge = createOrderSource({ seed: 'huge', bodyBytes: 250_000, methods: 'bundles' }).next();
    const refused = () => stream.of(FRAME.refused).map((payload) => decodeRefused(payload));
    stream.write(encodeOrders(NOW, 1, [encodeRecord(huge.method, huge.canonical)]));
    await stream.until(() => acknowledged(stream) === 1);
    expect(refused()).toEqual([{ sequence: 1, code: 1 }]);
    server.taking = false;
    stream.write(orders(2));
    await stream.until(() => acknowledged(stream) === 2);
    expect(refused().at(-1)).toEqual({ sequence: 2, code: 3 });
    server.taking = true;
    stream.write(orders(3));
    await stream.until(() => acknowledged(stream) === 3);
  });
});

describe('what it does not do', () => {
  test('one that never reads costs a bounded amount, and others nothing', async () => {
    const server = await startServer();
    const stream = await join(server);
    server.taking = false;
    stream.socket.pause();
    // Each order is refused, and a refusal is longer than nothing.
    const tiny = encodeRecord(
      'eth_sendRawTransaction',
      Buffer.from('{"method":"eth_sendRawTransaction","params":["0x01"],"id":0,"jsonrpc":"2.0"}'),
    );
    let next = 1;
    const flood = setInterval(() => {
      if (stream.socket.writableLength > 0) return;
      for (let i = 0; i < 200; i++) {
        stream.socket.write(
          encodeOrders(
            NOW,
            next,
            Array.from({ length: 100 }, () => tiny),
          ),
        );
        next += 100;
      }
    }, 5);
    onTestFinished(() => clearInterval(flood));
    // Credit for what is refused is there at once, read or not; so it is the answers, which pile up.
    await server.ended(1);
    expect(server.closed[0]).toMatchObject({ reason: 'unread', byPeer: false });
    await stillServes(server);
  });

  test('one that falls silent is given up within five seconds', async () => {
    const server = await startServer();
    const stream = await join(server);
    const startMs = performance.now();
    expect(await stream.closed).toBe('silent');
    // By its own clock within five, which liveness.test.ts holds it to; more than that is a machine with no time.
    expect(performance.now() - startMs).toBeLessThan(20_000);
  });

  test('a reason it gives is known on this side', async () => {
    const server = await startServer();
    const stream = await join(server);
    stream.write(encodeClose('stalled')!);
    await server.ended(1);
    expect(server.closed).toEqual([{ peer: 'honest', reason: 'stalled', byPeer: true }]);
  });

  test('when the node stops it is told, and what it has sent is dealt with', async () => {
    const server = await startServer();
    const stream = await join(server);
    server.settling = false;
    stream.write(orders(1, 5));
    await expect.poll(() => server.arrivals.length).toBe(5);
    server.stopAccepting();
    await stream.until(() => stream.of(FRAME.goAway).length === 1);
    for (const { streamed } of server.arrivals) streamed?.settle(null);
    await stream.until(() => acknowledged(stream) === 5);
  });
});
