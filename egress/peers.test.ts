/** The peers over real TLS: what they get, who they must be, and changes of the list. */
import { describe, expect, onTestFinished, test } from 'vitest';
import { type Credentials, createCredentials } from '../identity/certificate.ts';
import { keccak256Hex } from '../pipeline/keccak.ts';
import { createPeers, type Peers, type PeersModules, type PeersOptions, type PeerTarget } from './peers.ts';
import { type JsonRpcSink, type SinkOptions, startJsonRpcSink } from './testing/json-rpc-sink.ts';
import { startRawServer } from './testing/raw-server.ts';
import { orderIds, Recorder, testOrder } from './testing/recorder.ts';

const FAST = { reconnect: { baseMs: 10, maxMs: 40 }, retry: { baseMs: 10, maxMs: 40 } };
const OWN = await makeCredentials('node.example');

function makeCredentials(name: string): Promise<Credentials> {
  return createCredentials({ names: [name, '127.0.0.1'], validityDays: 1, now: Date.now() });
}

function range(count: number, from = 0): number[] {
  return Array.from({ length: count }, (_, i) => from + i);
}

interface TestPeer {
  readonly sink: JsonRpcSink;
  readonly peer: PeerTarget;
}

async function startPeer(name: string, options: SinkOptions = {}, shown?: Credentials): Promise<TestPeer> {
  const listed = await makeCredentials(`${name}.example`);
  const { certificatePem: cert, privateKeyPem: key } = shown ?? listed;
  const sink = await startJsonRpcSink({ ...options, tls: { cert, key } });
  onTestFinished(() => sink.close());
  return { sink, peer: describePeer(name, sink.port, listed) };
}

function describePeer(name: string, port: number, credentials: Credentials): PeerTarget {
  return {
    name,
    address: `0x${'2'.repeat(40)}`,
    host: '127.0.0.1',
    port,
    servername: undefined,
    certificate: credentials.certificateDer,
    fingerprint: credentials.fingerprint,
  };
}

interface Setup {
  readonly peers: Peers;
  readonly events: Recorder;
  readonly signed: string[];
  readonly mismatches: string[];
}

function start(options: PeersOptions = {}, modules: Partial<PeersModules> = {}): Setup {
  const events = new Recorder();
  const signed: string[] = [];
  const mismatches: string[] = [];
  const peers = createPeers(
    { ...FAST, ...options },
    {
      events,
      signer: {
        signHash: (hash) => {
          signed.push(hash);
          return `0xsigner:0x${hash}`;
        },
      },
      tlsIdentity: () => ({ cert: OWN.certificatePem, key: OWN.privateKeyPem }),
      onCertificateMismatch: (name) => mismatches.push(name),
      ...modules,
    },
  );
  onTestFinished(() => peers.close(0));
  return { peers, events, signed, mismatches };
}

describe('an order', () => {
  test('goes to every peer, signed once, over our certificate', async () => {
    const all = await Promise.all(['a', 'b', 'c'].map((name) => startPeer(name)));
    const { peers, events, signed } = start();
    peers.update(all.map(({ peer }) => peer));
    const order = testOrder(1, 2_000);
    peers.send(order);
    await events.until(() => events.accepted.length === 3);
    expect(signed).toEqual([keccak256Hex(order.order.canonical)]);
    for (const { sink, peer } of all) {
      const [request] = sink.requests;
      expect(request).toMatchObject({ method: 'POST', path: '/', servername: undefined });
      expect(request?.headers).toEqual({
        host: `127.0.0.1:${peer.port}`,
        'content-type': 'application/json',
        'x-flashbots-signature': `0xsigner:0x${keccak256Hex(order.order.canonical)}`,
        'content-length': '2000',
      });
      expect(request?.body.equals(order.order.canonical)).toBe(true);
      expect(request?.clientCertificate?.equals(OWN.certificateDer)).toBe(true);
    }
  });

  test('costs no signature without peers, nor before a peer can take it', async () => {
    const { sink, peer } = await startPeer('a');
    const { peers, events, signed } = start();
    peers.send(testOrder(1));
    peers.update([peer]);
    peers.send(testOrder(2));
    expect(signed).toEqual([]);
    await events.until(() => events.accepted.length === 1);
    expect({ signed: signed.length, ids: orderIds(sink.requests) }).toEqual({ signed: 1, ids: [2] });
  });

  test('asks for the name of a peer that has one (SNI)', async () => {
    const { sink, peer } = await startPeer('a');
    const { peers } = start();
    peers.update([{ ...peer, servername: 'a.example' }]);
    peers.send(testOrder(1));
    const [request] = await sink.received(1);
    expect(request?.servername).toBe('a.example');
  });

  test('finds more connections under load, up to the bound, and one without', async () => {
    const { sink, peer } = await startPeer('a', { answer: () => ({ delayMs: 20 }) });
    const { peers, events } = start({ connectionsPerPeer: 3 });
    peers.update([peer]);
    await events.until(() => events.connectedTo.get('a') === 1);
    peers.send(testOrder(0));
    await events.until(() => events.accepted.length === 1);
    expect(sink.accepted).toBe(1);
    // One more at a time, as long as all are busy.
    for (const up of [2, 3]) {
      for (const id of range(10, 10 * up)) peers.send(testOrder(id));
      await events.until(() => events.connectedTo.get('a') === up);
    }
    for (const id of range(40, 100)) peers.send(testOrder(id));
    await events.until(() => events.accepted.length === 61);
    expect(sink.accepted).toBe(3);
    expect(peers.state()).toMatchObject([{ name: 'a', connectionsUp: 3, outstanding: 0, queueLength: 0 }]);
  });
});

describe('who a peer must be', () => {
  test('another certificate than the listed one gets no byte of an order', async () => {
    const other = await makeCredentials('a.example');
    const { sink, peer } = await startPeer('a', {}, other);
    const { peers, events, mismatches } = start();
    peers.update([peer]);
    for (const id of range(20)) peers.send(testOrder(id));
    await events.until(() => (events.endCounts('a').certificate_mismatch ?? 0) >= 3);
    expect(mismatches.length).toBeGreaterThanOrEqual(3);
    expect({ requests: sink.count, bytes: sink.bytesRead, up: events.connectedTo.get('a') }).toEqual({
      requests: 0,
      bytes: 0,
      up: undefined,
    });

    // The list catches up: the same queue, the new certificate.
    peers.update([describePeer('a', peer.port, other)]);
    await events.until(() => events.accepted.length === 20);
    expect(orderIds(sink.requests)).toEqual(range(20));
    expect(events.drops).toEqual([]);
  });

  test('neither an expired certificate nor a foreign name matters when it is the listed one', async () => {
    const expired = await createCredentials({
      names: ['elsewhere.example'],
      validityDays: 1,
      now: Date.now() - 30 * 86_400_000,
    });
    const { sink, peer } = await startPeer('a', {}, expired);
    const { peers } = start();
    peers.update([describePeer('a', peer.port, expired)]);
    peers.send(testOrder(1));
    expect(orderIds(await sink.received(1))).toEqual([1]);
  });

  test('a server that does not speak TLS is none', async () => {
    const server = await startRawServer((socket) => {
      socket.on('data', () => socket.end('HTTP/1.1 400 Bad Request\r\n\r\n'));
    });
    onTestFinished(() => server.close());
    const { peers, events } = start();
    peers.update([describePeer('a', server.port, OWN)]);
    peers.send(testOrder(1));
    await events.until(() => (events.endCounts('a').connect_failed ?? 0) >= 2);
    expect(peers.state()).toMatchObject([{ queueLength: 1, connectionsUp: 0 }]);
  });

  test('our own certificate, renewed, is shown on the next connection', async () => {
    const { sink, peer } = await startPeer('a', {
      answer: (_, index) => (index === 0 ? { close: true } : {}),
    });
    const renewed = await makeCredentials('node.example');
    let current = OWN;
    const { peers, events } = start(
      {},
      { tlsIdentity: () => ({ cert: current.certificatePem, key: current.privateKeyPem }) },
    );
    peers.update([peer]);
    await events.until(() => events.connectedTo.get('a') === 1);
    current = renewed;
    peers.send(testOrder(1));
    await events.until(() => events.connectedTo.get('a') === 2);
    peers.send(testOrder(2));
    const requests = await sink.received(2);
    expect(requests[0]?.clientCertificate?.equals(OWN.certificateDer)).toBe(true);
    expect(requests[1]?.clientCertificate?.equals(renewed.certificateDer)).toBe(true);
  });

  test('a node without a certificate of its own shows none', async () => {
    const { sink, peer } = await startPeer('a');
    const { peers } = start({}, { tlsIdentity: () => undefined });
    peers.update([peer]);
    peers.send(testOrder(1));
    const [request] = await sink.received(1);
    expect(request?.clientCertificate).toBe(undefined);
  });

  test('a key of our own that does not parse stops nothing but the connections', async () => {
    const { sink, peer } = await startPeer('a');
    let key = 'no key';
    const { peers, events } = start({}, { tlsIdentity: () => ({ cert: OWN.certificatePem, key }) });
    peers.update([peer]);
    peers.send(testOrder(1));
    await events.until(() => (events.endCounts('a').connect_failed ?? 0) >= 2);
    key = OWN.privateKeyPem;
    expect(orderIds(await sink.received(1))).toEqual([1]);
  });
});

describe('the list changes', () => {
  test('a peer that did not change keeps its connection', async () => {
    const [a, b] = await Promise.all([startPeer('a'), startPeer('b')]);
    const { peers, events } = start();
    peers.update([a.peer]);
    await events.until(() => events.connectedTo.get('a') === 1);
    // The hub's order changes from call to call; the signing key may change with a restart.
    peers.update([
      b.peer,
      { ...a.peer, address: `0x${'3'.repeat(40)}`, certificate: Buffer.from(a.peer.certificate) },
    ]);
    peers.update([{ ...a.peer }, { ...b.peer }]);
    await events.until(() => events.connectedTo.get('b') === 1);
    peers.send(testOrder(1));
    await events.until(() => events.accepted.length === 2);
    expect([a.sink.accepted, b.sink.accepted]).toEqual([1, 1]);
    expect(events.ends).toEqual([]);
  });

  test('a peer that moved takes its queue along, and what was not answered', async () => {
    const old = await startPeer('a', { answer: () => ({ never: true }) });
    const moved = await startPeer('a');
    const { peers, events } = start({ connectionsPerPeer: 1, maxOutstanding: 5 });
    peers.update([old.peer]);
    for (const id of range(20)) peers.send(testOrder(id));
    await old.sink.received(1);
    peers.update([moved.peer]);
    await events.until(() => events.accepted.length === 20);
    expect(orderIds(moved.sink.requests)).toEqual(range(20));
    expect(moved.sink.requests[0]?.headers.host).toBe(`127.0.0.1:${moved.peer.port}`);
    expect({ drops: events.drops, failures: events.failures, resent: events.resentTo.get('a') }).toEqual({
      drops: [],
      failures: [],
      resent: 5,
    });
    expect(events.endCounts('a')).toEqual({ replaced: 1 });
  });

  test('a peer that is gone gets nothing more, and its answers are waited for', async () => {
    const { sink, peer } = await startPeer('a', { answer: () => ({ delayMs: 20 }) });
    const { peers, events } = start({ connectionsPerPeer: 1, maxOutstanding: 4 });
    peers.update([peer]);
    for (const id of range(30)) peers.send(testOrder(id));
    await events.until(() => events.sentTo.get('a') === 4);
    peers.update([]);
    peers.send(testOrder(99));
    expect(peers.state()).toEqual([]);
    expect(events.dropCounts('a')).toEqual({ removed: 26 });
    await events.until(() => events.endCounts('a').shutdown === 1);
    expect(orderIds(sink.requests)).toEqual(range(4));
    expect(events.accepted).toHaveLength(4);
  });

  test('a peer that is gone and says "not now" is not asked again', async () => {
    const { sink, peer } = await startPeer('a', { answer: () => ({ status: 503 }) });
    const { peers, events } = start({ connectionsPerPeer: 1 });
    peers.update([peer]);
    for (const id of range(5)) peers.send(testOrder(id));
    await events.until(() => events.sentTo.get('a') === 5);
    peers.update([]);
    await events.until(() => events.endCounts('a').shutdown === 1);
    expect(events.dropCounts('a')).toEqual({ removed: 5 });
    expect(sink.requests.length).toBeLessThanOrEqual(5);
  });

  test('a peer that is gone and does not answer is closed all the same', async () => {
    const { peer } = await startPeer('a', { answer: () => ({ never: true }) });
    const { peers, events } = start({ removalFlushMs: 50 });
    peers.update([peer]);
    for (const id of range(5)) peers.send(testOrder(id));
    await events.until(() => events.sentTo.get('a') === 5);
    peers.update([]);
    await events.until(() => events.drops.length === 5);
    expect(events.dropCounts('a')).toEqual({ shutdown: 5 });
  });

  test('closing waits for peers that are leaving too', async () => {
    const { sink, peer } = await startPeer('a', { answer: () => ({ delayMs: 5 }) });
    const { peers, events } = start({ connectionsPerPeer: 1 });
    peers.update([peer]);
    for (const id of range(10)) peers.send(testOrder(id));
    await events.until(() => events.sentTo.get('a') === 10);
    peers.update([]);
    await peers.close(10_000);
    expect({ ids: orderIds(sink.requests), drops: events.drops }).toEqual({ ids: range(10), drops: [] });
  });
});
