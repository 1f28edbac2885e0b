/** The order stream between whole nodes, and beside everything that is no such node: who gets what, which way, how often. */
import tls from 'node:tls';
import { isDeepStrictEqual } from 'node:util';
import { describe, expect, onTestFinished, test } from 'vitest';
import { createOrderSource, type GeneratedOrder } from './devnet/orders.ts';
import { startV1Peer } from './egress/testing/v1-peer.ts';
import { createCredentials } from './identity/certificate.ts';
import {
  bodiesOf,
  canonicalOf,
  digestsOf,
  eventually,
  freePort,
  ordersOfEachMethod,
  startSink,
  startTestNode,
  type TestNode,
} from './testing/harness.ts';
import { type HubFront, isList, startHubFront } from './testing/hub-front.ts';

/** Resolves when orders go from the node to the peer over a stream, small ones and large, or over none any longer. */
async function streamsTo(node: TestNode, peer: string, none = false): Promise<void> {
  await eventually(async () => {
    const open = await node.metric('orderflow_stream_connections', { peer, direction: 'out' });
    if (none) expect(open).toBe(0);
    else expect(open).toBeGreaterThanOrEqual(2);
  });
}

/** Orders that the node has read of a peer's stream. */
function streamedFrom(node: TestNode, peer: string): Promise<number> {
  return node.metric('orderflow_stream_orders_total', { peer, direction: 'in' });
}

/** All of them did; one that was under way when a connection broke came again. */
async function cameByStream(node: TestNode, peer: string, orders: number): Promise<void> {
  expect(await streamedFrom(node, peer)).toBeGreaterThanOrEqual(orders);
}

function bundles(seed: string): { next(): GeneratedOrder; readonly made: GeneratedOrder[] } {
  const source = createOrderSource({ seed, methods: 'bundles', bodyBytes: 1_000 });
  const made: GeneratedOrder[] = [];
  return {
    made,
    next() {
      const order = source.next();
      made.push(order);
      return order;
    },
  };
}

/** Sends one order after another until told to stop. */
function keepSending(node: TestNode, seed: string) {
  const source = bundles(seed);
  const stopping = new AbortController();
  const running = (async () => {
    while (!stopping.signal.aborted) {
      expect((await node.send(source.next())).status).toBe(200);
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
  })();
  return {
    orders: source.made,
    async stop(): Promise<void> {
      stopping.abort();
      await running;
    },
  };
}

describe('the order stream', () => {
  test('ours and ours: every method both ways over the stream, the same bytes once at each builder', async () => {
    const hub = await startHubFront();
    const a = await startTestNode(hub, 'a');
    const b = await startTestNode(hub, 'b');
    await Promise.all([streamsTo(a, 'b'), streamsTo(b, 'a')]);
    const source = createOrderSource({ seed: 'stream' });
    const [first, second] = [ordersOfEachMethod(source, 8), ordersOfEachMethod(source, 8)];
    const large = createOrderSource({ seed: 'large', bodyBytes: 300_000, methods: 'bundles' }).next();
    await Promise.all([a.sendAll([...first, large]), b.sendAll(second)]);
    const all = [...first, ...second, large];
    await Promise.all([a.builder.received(all.length), b.builder.received(all.length)]);
    await cameByStream(b, 'a', first.length + 1);
    await cameByStream(a, 'b', second.length);
    expect(await b.metric('orderflow_proxy_api_incoming_requests_by_peer', { peer: 'a' })).toBe(
      first.length + 1,
    );
    // Over requests it would have been as many answers.
    expect(await a.metric('orderflow_delivery_answered_total', { target: 'b', outcome: 'accepted' })).toBe(
      first.length + 1,
    );
    const offset = await b.metric('orderflow_stream_clock_offset_seconds', { peer: 'a' });
    // One clock, but the way there may have taken longer than the way back.
    expect(Math.abs(offset)).toBeLessThan(5);
    await Promise.all([a.close(), b.close()]);
    expect(bodiesOf(a.builder)).toEqual(canonicalOf(all));
    expect(bodiesOf(b.builder)).toEqual(canonicalOf(all));
  });

  test('beside v1: a v1 peer gets and sends requests, ours get the stream, of the same orders', async () => {
    const hub = await startHubFront();
    const v1 = await startV1Peer({ name: 'v1', port: await freePort() });
    onTestFinished(() => v1.close());
    hub.addBuilder({ name: 'v1', dns_name: `127.0.0.1:${v1.port}` });
    await hub.register('v1', v1.address, v1.credentials.certificatePem);
    const a = await startTestNode(hub, 'a');
    const b = await startTestNode(hub, 'b');
    await Promise.all([streamsTo(a, 'b'), a.connectedTo('v1')]);
    v1.setPeers([{ name: 'a', address: a.handle.address.toLowerCase() as `0x${string}` }]);
    const orders = ordersOfEachMethod(createOrderSource({ seed: 'three kinds' }), 6);
    await a.sendAll(orders);
    const received = await v1.received(orders.length);
    const theirs = createOrderSource({ seed: 'of v1', methods: 'bundles' }).next();
    const answer = await v1.send(
      { host: '127.0.0.1', port: a.systemPort, certificatePem: await a.certificate() },
      theirs.canonical,
    );
    expect(answer.body).toContain('result');
    await b.builder.received(orders.length);
    await a.builder.received(orders.length + 1);
    await cameByStream(b, 'a', orders.length);
    expect(
      await a.metric('orderflow_stream_closed_total', { peer: 'v1', reason: 'not_offered' }),
    ).toBeGreaterThan(0);
    expect(digestsOf(received.map(({ body }) => body))).toEqual(canonicalOf(orders));
    await Promise.all([a.close(), b.close()]);
    expect(bodiesOf(b.builder)).toEqual(canonicalOf(orders));
    expect(bodiesOf(a.builder)).toEqual(canonicalOf([...orders, theirs]));
  });

  test('behind a front end that ends TLS there is none, and orders go as requests', async () => {
    const hub = await startHubFront();
    const [nodePort, frontPort] = [await freePort(), await freePort()];
    const b = await startTestNode(hub, 'b', { systemPort: nodePort });
    await startFront(hub, 'b', frontPort, nodePort);
    const a = await startTestNode(hub, 'a');
    await a.connectedTo('b');
    const orders = ordersOfEachMethod(createOrderSource({ seed: 'front' }), 6);
    await a.sendAll(orders);
    await b.builder.received(orders.length);
    expect(await streamedFrom(b, 'a')).toBe(0);
    expect(
      await a.metric('orderflow_stream_closed_total', { peer: 'b', reason: 'not_offered' }),
    ).toBeGreaterThan(0);
    await Promise.all([a.close(), b.close()]);
    expect(bodiesOf(b.builder)).toEqual(canonicalOf(orders));
  });

  test('a running peer that changes its software, up and down and up again: nothing lost, nothing twice', async () => {
    const hub = await startHubFront();
    const [systemPort, builder] = [await freePort(), await startSink()];
    // Time enough on any machine: what is cut off would be sent again to a node that has forgotten it.
    const drain = ['--drain-timeout-sec', '30'];
    const requests = ['--peer-stream', 'off', ...drain];
    let b = await startTestNode(hub, 'b', { systemPort, builder, flags: requests });
    const a = await startTestNode(hub, 'a');
    await a.connectedTo('b');
    const sending = keepSending(a, 'upgrade');
    const become = async (flags: readonly string[]): Promise<void> => {
      const { directory } = b;
      await b.close();
      b = await startTestNode(hub, 'b', { systemPort, builder, directory, flags });
    };
    const arrivedSince = async (count: number): Promise<void> => void (await builder.received(count + 20));

    await arrivedSince(0);
    expect(await streamedFrom(b, 'a')).toBe(0);
    await become(drain);
    await streamsTo(a, 'b');
    const before = builder.requests.length;
    await arrivedSince(before);
    expect(await streamedFrom(b, 'a')).toBeGreaterThan(0);
    await become(requests);
    await streamsTo(a, 'b', true);
    await arrivedSince(builder.requests.length);
    expect(await streamedFrom(b, 'a')).toBe(0);
    await become(drain);
    await streamsTo(a, 'b');
    await arrivedSince(builder.requests.length);
    await sending.stop();
    const arrived = () => [...new Set(bodiesOf(builder))].sort();
    await eventually(() => expect(arrived()).toEqual(canonicalOf(sending.orders)));
    // A node that stops answers what it has taken, so nothing is sent again to the one that follows, which has forgotten it.
    expect(builder.requests).toHaveLength(sending.orders.length);
    for (const reason of ['lost', 'silent', 'stalled'])
      expect(await a.metric('orderflow_stream_closed_total', { peer: 'b', direction: 'out', reason })).toBe(
        0,
      );
    await Promise.all([a.close(), b.close()]);
    expect(await a.archived()).toEqual(canonicalOf(sending.orders));
  });

  test('a peer that restarts and speaks requests alone loses nothing and gets nothing twice', async () => {
    const hub = await startHubFront();
    const [systemPort, builder] = [await freePort(), await startSink()];
    const flags = ['--peer-stream', 'off', '--drain-timeout-sec', '30'];
    let b = await startTestNode(hub, 'b', { systemPort, builder, flags });
    const a = await startTestNode(hub, 'a', { flags });
    await a.connectedTo('b');
    const sending = keepSending(a, 'restarts');
    for (let restart = 0; restart < 3; restart += 1) {
      await builder.received(builder.requests.length + 40);
      const { directory } = b;
      await b.close();
      b = await startTestNode(hub, 'b', { systemPort, builder, directory, flags });
      await builder.received(builder.requests.length + 40);
    }
    await sending.stop();
    const arrived = () => [...new Set(bodiesOf(builder))].sort();
    await eventually(() => expect(arrived()).toEqual(canonicalOf(sending.orders)));
    expect(builder.requests).toHaveLength(sending.orders.length);
    await Promise.all([a.close(), b.close()]);
  });

  test('a peer that the hub lists no longer loses its streams with the list, idle as they are, and both sides know why', async () => {
    const hub = await startHubFront();
    const a = await startTestNode(hub, 'a');
    const b = await startTestNode(hub, 'b');
    await Promise.all([streamsTo(a, 'b'), streamsTo(b, 'a')]);
    let listed = false;
    // To b alone: a goes on as if nothing had happened.
    hub.answer = async ({ path, caller }) => {
      if (listed || !isList(path) || caller !== 'b') return {};
      return { body: JSON.stringify((await hub.builders()).filter(({ name }) => name !== 'a')) };
    };
    await eventually(async () => {
      expect(await b.metric('orderflow_stream_connections', { peer: 'a' })).toBe(0);
      expect(await a.metric('orderflow_stream_connections', { peer: 'b' })).toBe(0);
    });
    const ends = (node: TestNode, peer: string, byPeer: boolean) =>
      node.log.filter(
        ({ event, ...line }) =>
          event === 'stream closed' &&
          isDeepStrictEqual([line.peer, line.reason, line.byPeer], [peer, 'not_listed', byPeer]),
      ).length;
    expect(ends(b, 'a', false)).toBeGreaterThanOrEqual(2);
    await eventually(() => expect(ends(a, 'b', true)).toBeGreaterThanOrEqual(2));
    const [forB, forA] = [bundles('delisted a'), bundles('delisted b')];
    // What was accepted while nobody knew a is kept, and b takes it once it does again; b sends a nothing of its own.
    await a.sendAll([forB.next()]);
    await b.sendAll([forA.next()]);
    await b.builder.received(1);
    // It has asked again meanwhile.
    const before = ends(a, 'b', true);
    await eventually(() => expect(ends(a, 'b', true)).toBeGreaterThan(before));
    expect(bodiesOf(b.builder)).toEqual(canonicalOf(forA.made));
    expect(bodiesOf(a.builder)).toEqual(canonicalOf(forB.made));
    listed = true;
    await Promise.all([streamsTo(a, 'b'), streamsTo(b, 'a')]);
    await b.builder.received(2);
    await Promise.all([a.close(), b.close()]);
    expect(bodiesOf(b.builder)).toEqual(canonicalOf([...forA.made, ...forB.made]));
    expect(bodiesOf(a.builder)).toEqual(canonicalOf(forB.made));
  });

  test('an order that comes over the stream and as a request is one order', async () => {
    const hub = await startHubFront();
    const v1 = await startV1Peer({ name: 'v1', port: await freePort() });
    onTestFinished(() => v1.close());
    hub.addBuilder({ name: 'v1', dns_name: `127.0.0.1:${v1.port}` });
    await hub.register('v1', v1.address, v1.credentials.certificatePem);
    const a = await startTestNode(hub, 'a');
    const b = await startTestNode(hub, 'b');
    await streamsTo(a, 'b');
    const orders = createOrderSource({ seed: 'twice', methods: 'bundles' });
    const [first, last] = [orders.next(), orders.next()];
    await a.sendAll([first]);
    await b.builder.received(1);
    const server = { host: '127.0.0.1', port: b.systemPort, certificatePem: await b.certificate() };
    expect((await v1.send(server, first.canonical)).body).toContain(first.hash);
    await a.sendAll([last]);
    await b.builder.received(2);
    expect(await b.metric('orderflow_duplicates_total', { side: 'system' })).toBe(1);
    await Promise.all([a.close(), b.close()]);
    expect(bodiesOf(b.builder)).toEqual(canonicalOf([first, last]));
  });

  test('what the system side refuses it refuses over the stream, and the sender counts it', async () => {
    const hub = await startHubFront();
    const a = await startTestNode(hub, 'a', { flags: ['--tx-validation', 'off'] });
    const b = await startTestNode(hub, 'b', { flags: ['--system-tx-validation', 'strict'] });
    await streamsTo(a, 'b');
    // Of another chain.
    const bad = createOrderSource({ seed: 'bad', methods: 'bundles', chainId: 5 }).next();
    const good = createOrderSource({ seed: 'good', methods: 'bundles' }).next();
    await a.send(bad);
    await a.sendAll([good]);
    await b.builder.received(1);
    await eventually(async () =>
      expect(await a.metric('orderflow_delivery_answered_total', { target: 'b', outcome: 'refused' })).toBe(
        1,
      ),
    );
    expect(await b.metric('orderflow_rejected_total', { side: 'system', kind: 'invalid_params' })).toBe(1);
    await Promise.all([a.close(), b.close()]);
    expect(bodiesOf(b.builder)).toEqual(canonicalOf([good]));
  });
});

/** A front end as in today's images: it ends TLS with a certificate of its own and speaks HTTP/1.1 alone. */
async function startFront(hub: HubFront, name: string, port: number, nodePort: number): Promise<void> {
  const credentials = await createCredentials({ names: ['127.0.0.1'], validityDays: 1, now: Date.now() });
  const sockets = new Set<tls.TLSSocket>();
  const server = tls.createServer(
    { cert: credentials.certificatePem, key: credentials.privateKeyPem, ALPNProtocols: ['http/1.1'] },
    (socket) => {
      const back = tls.connect({ host: '127.0.0.1', port: nodePort, rejectUnauthorized: false });
      for (const one of [socket, back]) {
        sockets.add(one);
        one.on('error', () => undefined);
        one.on('close', () => sockets.delete(one));
      }
      socket.pipe(back);
      back.pipe(socket);
    },
  );
  await new Promise<void>((resolve) => server.listen(port, '127.0.0.1', resolve));
  onTestFinished(async () => {
    for (const socket of sockets) socket.destroy();
    await new Promise((resolve) => server.close(resolve));
  });
  // As the hub lists a node whose front end has registered its own certificate; the node does not learn of it.
  hub.answer = async ({ path, caller }) => {
    if (!isList(path) || caller === name) return {};
    const instance = { tls_cert: credentials.certificatePem };
    const list = (await hub.builders()).map((entry) =>
      entry.name === name ? { ...entry, dns_name: `127.0.0.1:${port}`, instance } : entry,
    );
    return { body: JSON.stringify(list) };
  };
}
