/**
 * Only proven peers: orders leave to the holder of the listed certificate alone, and come in on the system API with the
 * signature of a listed peer or of Flashbots alone, over that same peer's certificate where one is shown.
 */
import { describe, expect, test, vi } from 'vitest';
import { answerProblem } from './devnet/once.ts';
import { createOrderSource, type GeneratedOrder } from './devnet/orders.ts';
import { createSigner, type Signer } from './identity/signature.ts';
import { connectSystem, createHttp2Wallet, type SystemConnection } from './testing/clients.ts';
import {
  bodiesOf,
  canonicalOf,
  eventually,
  randomKey,
  startSink,
  startTestNode,
  startTestPeer,
  testCredentials,
} from './testing/harness.ts';
import { startHubFront } from './testing/hub-front.ts';

const UNKNOWN = { code: -32000, message: "unknown peers can't send to the system address" };
const OF_ANOTHER = { code: -32000, message: "the client certificate does not belong to the order's signer" };

const source = createOrderSource({ seed: 'trust', methods: 'bundles', bodyBytes: 1_000 });

function signedBy(signer: Signer, { canonical }: GeneratedOrder) {
  return { body: canonical, signature: signer.sign(canonical) };
}

/** Well before the ten seconds after which a connection without a request is closed anyway. */
async function closedByNode(connection: Pick<SystemConnection, 'closed'>): Promise<void> {
  await vi.waitFor(() => expect(connection.closed).toBe(true), { timeout: 5_000, interval: 20 });
}

test('a server at a listed address with another certificate gets not a byte, until it shows the listed one', async () => {
  const hub = await startHubFront();
  const [listed, impostor] = [await testCredentials(), await testCredentials()];
  const tls = { cert: impostor.certificatePem, key: impostor.privateKeyPem };
  const sink = await startSink({ tls });
  const good = await startTestPeer(hub, 'good');
  hub.addBuilder({ name: 'impostor', dns_name: `127.0.0.1:${sink.port}` });
  await hub.register('impostor', createSigner(randomKey()).addressLower, listed.certificatePem);

  const node = await startTestNode(hub, 'a', { flags: ['--peer-poll-sec', '3600'] });
  await node.connectedTo('good');
  const orders = Array.from({ length: 20 }, () => source.next());
  await node.sendAll(orders);
  await good.sink.received(orders.length);
  const ends = { target: 'impostor', reason: 'certificate_mismatch' };
  await eventually(async () =>
    expect(await node.metric('orderflow_delivery_disconnects_total', ends)).toBeGreaterThan(2),
  );
  expect(sink.bytesRead).toBe(0);
  expect(node.log.filter(({ event }) => event === 'certificate mismatch')).not.toEqual([]);

  // Once it has registered, and once as its polling begins; the mismatch alone makes the node look again.
  await eventually(() => expect(hub.fetches('a')).toBeGreaterThan(2));
  await hub.register('impostor', createSigner(randomKey()).addressLower, impostor.certificatePem);
  await sink.received(orders.length);
  expect(bodiesOf(sink)).toEqual(canonicalOf(orders));
});

describe('the system API', () => {
  test("asks for certificates: one that is shown must be listed, and the signer's own", async () => {
    const hub = await startHubFront();
    const [one, two] = [await startTestPeer(hub, 'one'), await startTestPeer(hub, 'two')];
    const node = await startTestNode(hub, 'a');
    await node.connectedTo('one', 'two', 'local-builder');
    const orders = Array.from({ length: 4 }, () => source.next());

    const bare = await connectSystem(node.systemPort);
    expect(answerProblem(orders[0]!, await bare.send(signedBy(one.signer, orders[0]!)))).toBeNull();
    const own = await connectSystem(node.systemPort, one.credentials);
    expect(answerProblem(orders[1]!, await own.send(signedBy(one.signer, orders[1]!)))).toBeNull();
    expect(answerProblem(orders[2]!, await own.send(signedBy(one.signer, orders[2]!)))).toBeNull();

    // A listed certificate with another listed peer's signature.
    expect((await own.send(signedBy(two.signer, source.next()))).error).toEqual(OF_ANOTHER);
    await closedByNode(own);
    // The connection of the other peer is its own affair.
    expect((await bare.send(signedBy(createSigner(randomKey()), source.next()))).error).toEqual(UNKNOWN);
    expect(answerProblem(orders[3]!, await bare.send(signedBy(two.signer, orders[3]!)))).toBeNull();
    expect(bare.closed).toBe(false);

    // A certificate that nobody lists closes the connection, whoever signed.
    const unlisted = await connectSystem(node.systemPort, await testCredentials());
    await Promise.allSettled([unlisted.send(signedBy(one.signer, source.next()))]);
    await closedByNode(unlisted);
    const silent = await connectSystem(node.systemPort, await testCredentials());
    await closedByNode(silent);
    const refused = { reason: 'not listed' };
    expect(await node.metric('orderflow_client_certificates_refused_total', refused)).toBe(2);

    await node.builder.received(orders.length);
    await node.close();
    expect(bodiesOf(node.builder)).toEqual(canonicalOf(orders));
  });

  test('over HTTP/2 it is no different', async () => {
    const hub = await startHubFront();
    const [one, two] = [await startTestPeer(hub, 'one'), await startTestPeer(hub, 'two')];
    const node = await startTestNode(hub, 'a');
    await node.connectedTo('one', 'two', 'local-builder');
    const url = `https://127.0.0.1:${node.systemPort}`;
    const certificate = await node.certificate();
    const order = source.next();
    const own = createHttp2Wallet(url, certificate, one.credentials);
    expect(answerProblem(order, await own.send(signedBy(one.signer, order)))).toBeNull();
    expect((await own.send(signedBy(two.signer, source.next()))).error).toEqual(OF_ANOTHER);
    await closedByNode(own);
    const unlisted = createHttp2Wallet(url, certificate, await testCredentials());
    await Promise.allSettled([unlisted.send(signedBy(one.signer, source.next()))]);
    await closedByNode(unlisted);
    await node.builder.received(1);
    await node.close();
    expect(bodiesOf(node.builder)).toEqual(canonicalOf([order]));
  });

  test('demands them where it is told to', async () => {
    const hub = await startHubFront();
    const peer = await startTestPeer(hub, 'peer');
    const node = await startTestNode(hub, 'a', { flags: ['--system-client-cert', 'require'] });
    const other = await startTestNode(hub, 'other');
    await node.connectedTo('peer', 'other', 'local-builder');
    await other.connectedTo('a');
    const bare = await connectSystem(node.systemPort);
    await Promise.allSettled([bare.send(signedBy(peer.signer, source.next()))]);
    await closedByNode(bare);
    const refused = { reason: 'missing' };
    expect(await node.metric('orderflow_client_certificates_refused_total', refused)).toBe(1);
    const orders = [source.next(), source.next()];
    const own = await connectSystem(node.systemPort, peer.credentials);
    expect(answerProblem(orders[0]!, await own.send(signedBy(peer.signer, orders[0]!)))).toBeNull();
    // Nodes of ours always show theirs.
    await other.sendAll([orders[1]!]);
    await node.builder.received(2);
    expect(bodiesOf(node.builder)).toEqual(canonicalOf(orders));
  });

  test('takes subsidies from Flashbots alone, and Flashbots without being listed', async () => {
    const hub = await startHubFront();
    const peer = await startTestPeer(hub, 'peer');
    const flashbots = createSigner(randomKey());
    const flags = ['--flashbots-orderflow-signer-address', flashbots.address];
    const node = await startTestNode(hub, 'a', { flags });
    await node.connectedTo('peer', 'local-builder');
    const canonical = Buffer.from('{"method":"bid_subsidiseBlock","params":[1000],"id":0,"jsonrpc":"2.0"}');
    const subsidy = (signer: Signer) => ({ body: canonical, signature: signer.sign(canonical) });
    const system = await connectSystem(node.systemPort);
    expect((await system.send(subsidy(peer.signer))).error?.message).toContain('only be called by Flashbots');
    expect((await node.send(subsidy(flashbots))).error?.message).toContain('only be called on system API');
    expect(await system.send(subsidy(flashbots))).toMatchObject({ status: 200, result: null });
    const order = source.next();
    expect(answerProblem(order, await system.send(signedBy(flashbots, order)))).toBeNull();
    await node.builder.received(2);
    expect(await node.metric('orderflow_proxy_api_incoming_requests_by_peer', { peer: 'flashbots' })).toBe(2);
    await node.close();
    expect(node.builder.requests.map(({ body }) => body)).toEqual([canonical, order.canonical]);
    expect(peer.sink.count).toBe(0);
    expect(await node.archived()).toEqual([]);
  });
});
