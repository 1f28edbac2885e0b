/**
 * The sending end beside servers that do what they should not, over real sockets: whatever they do, each order is
 * answered, sent again over another way, or dropped and counted; and the peers beside them never notice.
 */
import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import tls from 'node:tls';
import { describe, expect, onTestFinished, test } from 'vitest';
import { type Credentials, createCredentials } from '../../identity/certificate.ts';
import { STREAM_PROTOCOL } from '../../identity/channel/hello.ts';
import { createSigner, SignatureVerifier } from '../../identity/signature.ts';
import { RawStream } from '../../ingress/stream/testing/raw-stream.ts';
import type { CloseReason } from '../../pipeline/stream/close-reasons.ts';
import {
  decodeOrders,
  encodeAck,
  encodeClose,
  encodeGoAway,
  encodeOrders,
  encodePong,
  encodeRefused,
  FRAME,
} from '../../pipeline/stream/frames.ts';
import { decodeRecord } from '../../pipeline/stream/record.ts';
import { createPeers, type Peers, type PeersOptions, type PeerTarget } from '../peers.ts';
import { Recorder, testClock, testOrder } from '../testing/recorder.ts';

const KEY = Buffer.alloc(32, 5);
const PEER_KEY = Buffer.alloc(32, 6);
const LIMIT = 1 << 20;

interface FarServer {
  readonly target: PeerTarget;
  /** Streams it was offered, in order. */
  readonly streams: RawStream[];
  /** Bodies of requests that it took as v1. */
  readonly bodies: string[];
  /** Whether it speaks the stream; as a v1 node does not. */
  speaks: boolean;
  /** What it does with a new stream; says hello and no more unless set. */
  behave: (stream: RawStream) => void;
  stop(): Promise<void>;
}

const hello = (stream: RawStream): void => void stream.hello('server', createSigner(PEER_KEY));

/** A peer by hand: a TLS server that takes requests as v1 does, and the stream as a test wants. */
async function startFar(name = 'far'): Promise<FarServer> {
  const credentials: Credentials = await createCredentials({
    names: ['127.0.0.1'],
    validityDays: 1,
    now: Date.now(),
  });
  const sockets = new Set<tls.TLSSocket>();
  const server = tls.createServer(
    {
      cert: credentials.certificatePem,
      key: credentials.privateKeyPem,
      requestCert: true,
      rejectUnauthorized: false,
      ALPNCallback: ({ protocols }) =>
        far.speaks && protocols.includes(STREAM_PROTOCOL) ? STREAM_PROTOCOL : 'http/1.1',
    },
    (socket) => {
      sockets.add(socket);
      socket.on('close', () => sockets.delete(socket));
      socket.on('error', () => undefined);
      if (socket.alpnProtocol === STREAM_PROTOCOL) {
        const stream = new RawStream(socket);
        far.streams.push(stream);
        far.behave(stream);
      } else serveRequests(socket, far.bodies);
    },
  );
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  const { certificateDer: certificate, fingerprint } = credentials;
  const address = createSigner(PEER_KEY).addressLower;
  const far: FarServer = {
    target: { name, address, host: '127.0.0.1', port, servername: undefined, certificate, fingerprint },
    streams: [],
    bodies: [],
    speaks: true,
    behave: hello,
    async stop() {
      for (const socket of sockets) socket.destroy();
      if (server.listening) await new Promise((resolve) => server.close(resolve));
    },
  };
  onTestFinished(() => far.stop());
  return far;
}

function serveRequests(socket: tls.TLSSocket, bodies: string[]): void {
  let text = '';
  socket.on('data', (chunk: Buffer) => {
    text += chunk.toString('latin1');
    for (;;) {
      const end = text.indexOf('\r\n\r\n');
      const length = Number(/content-length: (\d+)/i.exec(text)?.[1]);
      if (end < 0 || text.length < end + 4 + length) return;
      bodies.push(text.slice(end + 4, end + 4 + length));
      text = text.slice(end + 4 + length);
      const answer = '{"jsonrpc":"2.0","id":0,"result":null}';
      socket.write(
        `HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: ${answer.length}\r\n\r\n${answer}`,
      );
    }
  });
}

interface Sender {
  readonly peers: Peers;
  readonly recorder: Recorder;
  readonly ended: { reason: CloseReason; byPeer: boolean }[];
  opened: number;
}

async function startSender(targets: readonly PeerTarget[], options: PeersOptions = {}): Promise<Sender> {
  const own = await createCredentials({ names: ['127.0.0.1'], validityDays: 1, now: Date.now() });
  const recorder = new Recorder();
  const signer = createSigner(KEY);
  const sender: Omit<Sender, 'peers'> = { recorder, ended: [], opened: 0 };
  const peers = createPeers(
    {
      streamRetry: { baseMs: 50, maxMs: 100 },
      reconnect: { baseMs: 20, maxMs: 50 },
      streamConnections: 1,
      ...options,
    },
    {
      signer,
      tlsIdentity: () => ({ cert: own.certificatePem, key: own.privateKeyPem }),
      events: recorder,
      now: testClock,
      stream: {
        signer,
        verifier: new SignatureVerifier({ cacheSize: 16 }),
        clock: testClock,
        events: {
          opened: () => void sender.opened++,
          closed: (_peer, _direction, reason, byPeer) => void sender.ended.push({ reason, byPeer }),
          oneWay: () => undefined,
          orders: () => undefined,
        },
      },
    },
  );
  onTestFinished(() => peers.close(0));
  peers.update(targets);
  return Object.assign(sender, { peers });
}

/** Canonical forms that came over a server's streams. */
function received(far: FarServer): string[] {
  return far.streams.flatMap((stream) =>
    stream.of(FRAME.orders).flatMap((payload) =>
      (decodeOrders(payload)?.records ?? []).map((bytes) => {
        const record = decodeRecord(bytes);
        const request = record?.request();
        if (record === null || request === undefined || !('json' in request)) throw new Error('no record');
        // Each transaction asked for where it stands, as the order's decoder does.
        for (
          let at = request.json.text.indexOf('"0x"');
          at >= 0;
          at = request.json.text.indexOf('"0x"', at + 1)
        )
          request.json.raws?.take(at);
        return record?.canonical(request.json.text)?.toString() ?? '';
      }),
    ),
  );
}

/** A server that takes everything and says so. */
function honestly(stream: RawStream): void {
  hello(stream);
  let taken = 0;
  let cost = 0;
  let seen = 0;
  stream.socket.on('data', () => {
    const frames = stream.of(FRAME.orders);
    for (; seen < frames.length; seen++) {
      for (const record of decodeOrders(frames[seen]!)?.records ?? []) {
        taken++;
        cost += record.length + 256;
      }
      stream.write(encodeAck(taken, LIMIT + cost));
    }
    // It is not taken for dead.
    if (stream.of(FRAME.ping).length > 0) stream.write(encodePong(1, 2));
  });
}

const up = async (sender: Sender, streams: number) =>
  expect.poll(() => sender.peers.state().reduce((sum, { streamsUp }) => sum + streamsUp, 0)).toBe(streams);

describe('an honest peer', () => {
  test('gets each order once, in order, as the same bytes, and answers all with few frames', async () => {
    const far = await startFar();
    far.behave = honestly;
    const sender = await startSender([far.target]);
    await up(sender, 2);
    const orders = Array.from({ length: 300 }, (_, i) => testOrder(i));
    for (const order of orders) sender.peers.send(order);
    await sender.recorder.until(() => sender.recorder.accepted.length === 300);
    expect(received(far)).toEqual(orders.map(({ order }) => order.canonical.toString()));
    expect(far.bodies).toEqual([]);
    // What is given in one turn leaves in frames of 64 KiB, a lone order at once.
    expect(far.streams[0]!.of(FRAME.orders).length).toBeLessThan(10);
    expect(sender.recorder.drops).toEqual([]);
  });

  test('large orders take their own way and no small one waits for them; what there is no room for goes as requests', async () => {
    const far = await startFar();
    far.behave = (stream) => {
      // The connection for large orders is read slowly: not at all.
      if (far.streams.length === 1) honestly(stream);
      else hello(stream);
    };
    const sender = await startSender([far.target], { responseTimeoutMs: 60_000 });
    await up(sender, 2);
    far.streams[1]!.socket.pause();
    const large = Array.from({ length: 12 }, (_, i) => testOrder(1_000 + i, 900_000));
    const small = Array.from({ length: 200 }, (_, i) => testOrder(i));
    for (const order of large) sender.peers.send(order);
    for (const order of small) sender.peers.send(order);
    // Two of the large ones are a megabyte and more.
    await sender.recorder.until(() => sender.recorder.accepted.length === 210);
    expect(received(far)).toEqual(small.map(({ order }) => order.canonical.toString()));
    expect(far.bodies.toSorted()).toEqual(
      large
        .slice(2)
        .map(({ order }) => order.canonical.toString())
        .toSorted(),
    );
    expect(sender.peers.state()[0]).toMatchObject({ outstanding: 2, queueLength: 0 });
  });

  test('no more is on its way than the peer has given credit for, however willing its kernel', async () => {
    const far = await startFar();
    const sender = await startSender([far.target], { responseTimeoutMs: 60_000 });
    await up(sender, 2);
    const orders = Array.from({ length: 3_000 }, (_, i) => testOrder(i, 1_500));
    for (const [i, order] of orders.entries()) {
      sender.peers.send(order);
      if (i % 50 === 49) await new Promise(setImmediate);
    }
    const costs = () =>
      far.streams[0]!.of(FRAME.orders)
        .flatMap((payload) => decodeOrders(payload)?.records ?? [])
        .map((record) => record.length + 256);
    const sum = () => costs().reduce((all, cost) => all + cost, 0);
    await expect.poll(sum).toBeGreaterThan(LIMIT - 2_000);
    expect(sum()).toBeLessThanOrEqual(LIMIT);
    const before = costs().length;
    expect(sender.peers.state()[0]).toMatchObject({ outstanding: before, queueLength: 3_000 - before });
    // Credit for one more order is used for one more.
    far.streams[0]!.write(encodeAck(1, LIMIT + costs()[0]!));
    await expect.poll(() => costs().length).toBe(before + 1);
    expect(sender.recorder.drops).toEqual([]);
  });

  test('a slow one slows its queue, which is bounded by bytes and age; every drop is counted', async () => {
    const far = await startFar();
    const fast = await startFar('fast');
    fast.behave = honestly;
    const sender = await startSender([far.target, fast.target], { queueBytes: 200_000, queueAgeMs: 1_000 });
    await up(sender, 4);
    for (let i = 0; i < 3_000; i++) sender.peers.send(testOrder(i));
    await sender.recorder.until(
      () =>
        (sender.recorder.acceptedBy.get('fast') ?? 0) +
          (sender.recorder.dropCounts('fast').queue_full ?? 0) ===
        3_000,
    );
    await sender.recorder.until(() => sender.recorder.dropCounts('far').expired !== undefined);
    const [state] = sender.peers.state();
    const drops = sender.recorder.dropCounts('far');
    // The far window of 1 MiB, at 500 + 256 bytes an order.
    expect(state?.outstanding).toBeLessThan(LIMIT / 500);
    expect(
      (drops.queue_full ?? 0) + (drops.expired ?? 0) + (state?.outstanding ?? 0) + (state?.queueLength ?? 0),
    ).toBe(3_000);
  });
});

test('while much is on its way, further connections join, and go when they are not needed', async () => {
  const far = await startFar();
  const sender = await startSender([far.target], { streamConnections: 3, responseTimeoutMs: 60_000 });
  await up(sender, 2);
  let sent = 0;
  const some = (count: number) => {
    for (let i = 0; i < count; i++) sender.peers.send(testOrder(sent++));
  };
  // 100 orders are 150 KB, of which the first connection owes all.
  some(100);
  await up(sender, 3);
  some(100);
  await up(sender, 4);
  some(100);
  await expect
    .poll(() => far.streams.map((stream) => stream.of(FRAME.orders).length > 0))
    .toEqual([true, false, true, true]);
  expect(received(far).length).toBe(300);
  far.behave = honestly;
  far.streams[2]!.socket.destroy();
  await expect.poll(() => received(far).length).toBeGreaterThan(300);
  expect(sender.recorder.drops).toEqual([]);
});

describe('a peer that breaks the rules', () => {
  test.each<[string, CloseReason, (stream: RawStream) => void]>([
    ['acknowledges the future', 'acknowledgement', (stream) => stream.write(encodeAck(1_000, LIMIT))],
    ['takes credit back', 'acknowledgement', (stream) => stream.write(encodeAck(0, 5))],
    ['refuses what was never sent', 'acknowledgement', (stream) => stream.write(encodeRefused(999, 1))],
    [
      'refuses the same order again and again',
      'acknowledgement',
      (stream) => stream.write(encodeRefused(1, 3), encodeRefused(1, 3)),
    ],
    ['sends orders', 'unexpected', (stream) => stream.write(encodeOrders(1, 1, [Buffer.alloc(20)]))],
    ['sends garbage', 'oversized', (stream) => stream.write(Buffer.alloc(10_000, 0x77))],
    [
      'sends half an acknowledgement',
      'malformed',
      (stream) => stream.write(Buffer.from([FRAME.ack, 0, 0, 0, 1, 1])),
    ],
    ['floods', 'flood', (stream) => stream.write(Buffer.alloc(500_000, Buffer.from([99, 0, 0, 0, 0])))],
  ])('%s: ends with %s, and its orders go as requests', async (_name, reason, attack) => {
    const far = await startFar();
    const sender = await startSender([far.target]);
    await up(sender, 2);
    far.behave = () => undefined;
    for (let i = 0; i < 5; i++) sender.peers.send(testOrder(i));
    await far.streams[0]!.until(() => far.streams[0]!.of(FRAME.orders).length > 0);
    attack(far.streams[0]!);
    expect(await far.streams[0]!.closed).toBe(reason);
    await sender.recorder.until(() => sender.recorder.accepted.length === 5);
    expect(far.bodies).toHaveLength(5);
    expect(sender.ended[0]).toEqual({ reason, byPeer: false });
    expect(sender.recorder.drops).toEqual([]);
  });

  test.each<[string, CloseReason, (stream: RawStream) => void]>([
    ['proves another key', 'not_listed', (stream) => void stream.hello('server', createSigner(KEY))],
    [
      'signs for another connection',
      'hello_signature',
      (stream) => void stream.hello('client', createSigner(PEER_KEY)),
    ],
    ['refuses', 'not_listed', (stream) => stream.write(encodeClose('not_listed')!)],
  ])('%s: no order leaves on the stream', async (_name, reason, behave) => {
    const far = await startFar();
    far.behave = behave;
    const sender = await startSender([far.target]);
    await expect.poll(() => sender.ended.length).toBeGreaterThan(0);
    for (let i = 0; i < 5; i++) sender.peers.send(testOrder(i));
    await sender.recorder.until(() => sender.recorder.accepted.length === 5);
    expect(sender.ended[0]?.reason).toBe(reason);
    expect(far.bodies).toHaveLength(5);
    expect(received(far)).toEqual([]);
  });

  test('agrees on the stream and says nothing: orders go as requests from the first one on, and it is given up', async () => {
    const far = await startFar();
    far.behave = () => undefined;
    const sender = await startSender([far.target]);
    await expect.poll(() => far.streams.length).toBe(1);
    for (let i = 0; i < 5; i++) sender.peers.send(testOrder(i));
    await sender.recorder.until(() => sender.recorder.accepted.length === 5);
    expect([far.bodies.length, sender.ended]).toEqual([5, []]);
    expect(await far.streams[0]!.closed).toBe('hello_timeout');
    expect([sender.ended[0], sender.opened, received(far)]).toEqual([
      { reason: 'hello_timeout', byPeer: false },
      0,
      [],
    ]);
  });

  test('whose key is another at the hub now has its streams ended, and no order leaves on new ones', async () => {
    const far = await startFar();
    far.behave = honestly;
    const sender = await startSender([far.target]);
    await up(sender, 2);
    sender.peers.update([{ ...far.target, address: createSigner(KEY).addressLower }]);
    await up(sender, 0);
    expect(await far.streams[0]!.closed).toBe('normal');
    sender.peers.send(testOrder(1));
    await sender.recorder.until(() => sender.recorder.accepted.length === 1);
    expect([far.bodies.length, received(far)]).toEqual([1, []]);
    await expect.poll(() => sender.ended.at(-1)?.reason).toBe('not_listed');
    sender.peers.update([far.target]);
    await up(sender, 2);
  });

  test('with another certificate gets not a byte', async () => {
    const far = await startFar();
    const other = await startFar('other');
    const sender = await startSender([{ ...far.target, certificate: other.target.certificate }]);
    sender.peers.send(testOrder(1));
    await expect.poll(() => sender.ended.map(({ reason }) => reason)).toContain('certificate_mismatch');
    expect([far.bodies, received(far), sender.opened]).toEqual([[], [], 0]);
  });

  test('never acknowledges, but answers pings: given up, its orders go as requests', async () => {
    const far = await startFar();
    far.behave = (stream) => {
      hello(stream);
      stream.socket.on('data', () => stream.write(encodePong(1, 2)));
    };
    const sender = await startSender([far.target], { responseTimeoutMs: 1_000 });
    await up(sender, 2);
    far.behave = () => undefined;
    sender.peers.send(testOrder(1));
    await sender.recorder.until(() => sender.recorder.accepted.length === 1);
    expect(sender.ended[0]).toEqual({ reason: 'stalled', byPeer: false });
    expect(sender.recorder.resentTo.get('far')).toBe(1);
  });

  test('never reads: nothing is kept for it beyond its bounds', async () => {
    const far = await startFar();
    far.behave = (stream) => {
      hello(stream);
      stream.socket.pause();
    };
    const sender = await startSender([far.target], { queueBytes: 1_000_000 });
    await up(sender, 2);
    for (let i = 0; i < 5_000; i++) sender.peers.send(testOrder(i));
    const [state] = sender.peers.state();
    expect(state?.queueBytes).toBeLessThanOrEqual(1_000_000);
    expect(state?.outstanding).toBeLessThan(LIMIT / 500);
    expect(sender.recorder.dropCounts('far').queue_full).toBeGreaterThan(1_000);
  });
});

describe('coming and going', () => {
  test('half-open: within five seconds it is known, and what was on the way is sent again', async () => {
    const far = await startFar();
    const sender = await startSender([far.target]);
    await up(sender, 2);
    far.behave = () => undefined;
    const startMs = performance.now();
    for (let i = 0; i < 3; i++) sender.peers.send(testOrder(i));
    await sender.recorder.until(() => sender.recorder.accepted.length === 3);
    // By its own clock within five, which liveness.test.ts holds it to; more than that is a machine with no time.
    expect(performance.now() - startMs).toBeLessThan(20_000);
    expect(sender.ended[0]).toEqual({ reason: 'silent', byPeer: false });
  });

  test('told to go, it sends no more there and ends once all is acknowledged', async () => {
    const far = await startFar();
    const sender = await startSender([far.target]);
    await up(sender, 2);
    const [stream] = far.streams;
    sender.peers.send(testOrder(1));
    await stream!.until(() => stream!.of(FRAME.orders).length === 1);
    far.speaks = false;
    stream!.write(encodeGoAway());
    await up(sender, 1);
    sender.peers.send(testOrder(2));
    await sender.recorder.until(() => sender.recorder.accepted.length === 1);
    expect(far.bodies).toHaveLength(1);
    stream!.write(encodeAck(1, LIMIT));
    expect(await stream!.closed).toBe('normal');
    await sender.recorder.until(() => sender.recorder.accepted.length === 2);
    expect(stream!.of(FRAME.orders)).toHaveLength(1);
  });

  test('refused orders: for now, they are kept and sent again; for good, they end there', async () => {
    const far = await startFar();
    let refusals = 0;
    far.behave = (stream) => {
      hello(stream);
      let taken = 0;
      stream.socket.on('data', () => {
        const orders = stream.of(FRAME.orders).flatMap((payload) => decodeOrders(payload)?.records ?? []);
        while (taken < orders.length) {
          taken++;
          if (refusals++ === 0) stream.write(encodeRefused(taken, 2));
          if (refusals === 3) stream.write(encodeRefused(taken, 1));
          stream.write(encodeAck(taken, LIMIT * 2));
        }
      });
    };
    const sender = await startSender([far.target], { retry: { baseMs: 20, maxMs: 50 } });
    await up(sender, 2);
    sender.peers.send(testOrder(1));
    await sender.recorder.until(() => sender.recorder.accepted.length === 1);
    sender.peers.send(testOrder(2));
    await sender.recorder.until(() => sender.recorder.rejected.length === 1);
    expect(sender.recorder.failureCounts('far')).toEqual({ unknown_peer: 1, rpc_error: 1 });
  });

  test('a peer without it is asked again later, and gets requests until then', async () => {
    const far = await startFar();
    far.speaks = false;
    far.behave = honestly;
    const sender = await startSender([far.target]);
    sender.peers.send(testOrder(1));
    await sender.recorder.until(() => sender.recorder.accepted.length === 1);
    await expect.poll(() => sender.ended.length).toBeGreaterThan(1);
    expect(new Set(sender.ended.map(({ reason }) => reason))).toEqual(new Set(['not_offered']));
    far.speaks = true;
    await up(sender, 2);
    sender.peers.send(testOrder(2));
    await sender.recorder.until(() => sender.recorder.accepted.length === 2);
    expect([far.bodies.length, received(far).length]).toEqual([1, 1]);
  });

  test('what was on the way when a connection broke is sent again once it is back', async () => {
    const far = await startFar();
    const sender = await startSender([far.target]);
    await up(sender, 2);
    for (let i = 0; i < 10; i++) sender.peers.send(testOrder(i));
    await far.streams[0]!.until(() => received(far).length === 10);
    far.behave = honestly;
    for (const stream of far.streams.slice()) stream.socket.destroy();
    await sender.recorder.until(() => sender.recorder.accepted.length === 10);
    expect(sender.recorder.resentTo.get('far')).toBe(10);
    expect(sender.recorder.drops).toEqual([]);
  });

  test('a large order whose connection breaks in the middle of it is sent again whole, and arrives once', async () => {
    const far = await startFar();
    const sender = await startSender([far.target]);
    await up(sender, 2);
    const [, carrying] = far.streams;
    const large = testOrder(1, 1_000_000);
    // With the first piece of it.
    carrying!.socket.once('data', () => {
      far.behave = honestly;
      carrying!.socket.destroy();
    });
    sender.peers.send(large);
    await sender.recorder.until(
      () => sender.recorder.accepted.length + sender.recorder.rejected.length === 1,
    );
    expect(received(far).concat(far.bodies)).toEqual([large.order.canonical.toString()]);
    expect([sender.recorder.drops, sender.recorder.resentTo.get('far')]).toEqual([[], 1]);
  });

  test('closing waits for acknowledgements, and tells the peer', async () => {
    const far = await startFar();
    far.behave = honestly;
    const sender = await startSender([far.target]);
    await up(sender, 2);
    for (let i = 0; i < 50; i++) sender.peers.send(testOrder(i));
    await sender.peers.close(2_000);
    expect(sender.recorder.accepted).toHaveLength(50);
    expect(await far.streams[0]!.closed).toBe('shutdown');
  });
});
