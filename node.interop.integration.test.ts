/** A node of ours beside peers that speak v1: in both directions, while they learn of each other, and over a restart. */
import { describe, expect, onTestFinished, test } from 'vitest';
import { answerProblem } from './devnet/once.ts';
import { createOrderSource, type GeneratedOrder } from './devnet/orders.ts';
import { startV1Peer, type V1Peer } from './egress/testing/v1-peer.ts';
import type { Address } from './pipeline/order.ts';
import {
  bodiesOf,
  canonicalOf,
  digestsOf,
  eventually,
  freePort,
  ordersOfEachMethod,
  startTestNode,
  startTestPeer,
  type TestNode,
} from './testing/harness.ts';
import { type HubFront, startHubFront } from './testing/hub-front.ts';

const SUBSIDY = '{"method":"bid_subsidiseBlock","params":[7],"id":0,"jsonrpc":"2.0"}';

/** Starts a v1 node as a BuilderNet image has it: registered at the hub, with a list that is still empty. */
async function startV1(hub: HubFront, name: string, port: number): Promise<V1Peer> {
  const peer = await startV1Peer({ name, port });
  onTestFinished(() => peer.close());
  hub.addBuilder({ name, dns_name: `127.0.0.1:${port}` });
  await hub.register(name, peer.address, peer.credentials.certificatePem);
  return peer;
}

/** What a v1 node does every 30 s. */
async function poll(peer: V1Peer, hub: HubFront): Promise<void> {
  const callers: { name: string; address: Address }[] = [];
  for (const { name, orderflow_proxy } of await hub.builders()) {
    if (orderflow_proxy !== undefined) callers.push({ name, address: orderflow_proxy.ecdsa_pubkey_address });
  }
  peer.setPeers(callers);
}

/** A node with orders on their way to a v1 peer and back. */
async function pair(hub: HubFront): Promise<{ node: TestNode; v1: V1Peer }> {
  const v1 = await startV1(hub, 'v1', await freePort());
  const node = await startTestNode(hub, 'ours');
  await eventually(async () => expect((await node.readyz()).status).toBe(200));
  await node.connectedTo('v1');
  await poll(v1, hub);
  return { node, v1 };
}

async function sendAs(v1: V1Peer, node: TestNode, body: string | Uint8Array) {
  const certificatePem = await node.certificate();
  const { status, body: answer } = await v1.send(
    { host: '127.0.0.1', port: node.systemPort, certificatePem },
    body,
  );
  return {
    status,
    ...(JSON.parse(answer) as { result?: unknown; error?: { code: number; message: string } }),
  };
}

function bundles(seed: string, count: number): GeneratedOrder[] {
  const source = createOrderSource({ seed, methods: 'bundles', bodyBytes: 1_000 });
  return Array.from({ length: count }, () => source.next());
}

describe('beside a v1 peer', () => {
  test('orders of every method, in both directions', async () => {
    const hub = await startHubFront();
    const { node, v1 } = await pair(hub);
    const bystander = await startTestPeer(hub, 'bystander');
    await node.connectedTo('v1', 'bystander', 'local-builder');
    const source = createOrderSource({ seed: 'interop' });
    const [ours, theirs] = [ordersOfEachMethod(source, 5), ordersOfEachMethod(source, 5)];

    await node.sendAll(ours);
    // It has checked our signature and found us in its list.
    const received = await v1.received(ours.length);
    expect(received.every(({ peer }) => peer === 'ours')).toBe(true);
    for (const order of theirs) {
      expect(answerProblem(order, await sendAs(v1, node, order.canonical))).toBeNull();
    }
    await node.builder.received(ours.length + theirs.length);
    await bystander.sink.received(ours.length);
    await node.close();
    expect(digestsOf(received.map(({ body }) => body))).toEqual(canonicalOf(ours));
    expect(bodiesOf(node.builder)).toEqual(canonicalOf([...ours, ...theirs]));
    expect(bodiesOf(bystander.sink)).toEqual(canonicalOf(ours));
    expect(await node.archived()).toEqual(canonicalOf(ours));
    expect(v1.refusals.size).toBe(0);
  });

  test('what v1 forwards of requests with empty params reaches the builder; what is no order is answered', async () => {
    const hub = await startHubFront();
    const { node, v1 } = await pair(hub);
    await node.connectedTo('local-builder');
    const signer = `0x${'ab'.repeat(20)}`;
    const forwarded = [
      `{"method":"eth_sendBundle","params":[{"txs":null,"blockNumber":null,"version":"v2","signingAddress":"${signer}"}],"id":0,"jsonrpc":"2.0"}`,
      `{"method":"eth_cancelBundle","params":[{"replacementUuid":"00000000-0000-0000-0000-000000000000","signingAddress":"${signer}"}],"id":0,"jsonrpc":"2.0"}`,
      '{"method":"eth_sendRawTransaction","params":["0x"],"id":0,"jsonrpc":"2.0"}',
      // Its own latency tool sends these.
      '{"method":"eth_sendRawTransaction","params":["0x0102030405060708"],"id":0,"jsonrpc":"2.0"}',
    ];
    for (const body of forwarded) {
      const answer = await sendAs(v1, node, body);
      expect(answer.status).toBe(200);
      expect(answer).toHaveProperty('result');
    }
    await node.builder.received(forwarded.length);
    expect(bodiesOf(node.builder)).toEqual(digestsOf(forwarded.map((body) => Buffer.from(body))));

    const [of] = bundles('refused', 1);
    const [tx] = (JSON.parse(of!.body.toString()) as { params: [{ txs: string[] }] }).params[0].txs;
    const refused: [body: string, code: number, message: RegExp][] = [
      ['{"method":"eth_sendBundle","params":[],"id":0,"jsonrpc":"2.0"}', -32000, /missing|params/],
      [
        '{"method":"eth_sendBundle","params":[{"txs":[]}],"id":0,"jsonrpc":"2.0"}',
        -32000,
        /version field should be set/,
      ],
      [
        `{"method":"mev_sendBundle","params":[{"version":"v0.1","inclusion":{"block":"0x1","maxBlock":"0x2"},"body":[{"tx":"${tx}"}],"validity":{}}],"id":0,"jsonrpc":"2.0"}`,
        -32000,
        /metadata/,
      ],
      [SUBSIDY, -32000, /subsidy can only be called by Flashbots/],
      ['[]', -32700, /./],
      ['{"method":"eth_chainId","params":[],"id":0,"jsonrpc":"2.0"}', -32601, /method not found/],
    ];
    for (const [body, code, message] of refused) {
      const { status, error } = await sendAs(v1, node, body);
      expect([status, error?.code]).toEqual([200, code]);
      expect(error?.message).toMatch(message);
    }
    const [after] = bundles('after', 1);
    expect(answerProblem(after!, await sendAs(v1, node, after!.canonical))).toBeNull();
    await node.builder.received(forwarded.length + 1);
  });

  test('that has not polled yet: refused orders are kept, and arrive once each when it has', async () => {
    const hub = await startHubFront();
    const v1 = await startV1(hub, 'v1', await freePort());
    const node = await startTestNode(hub, 'newcomer');
    await node.connectedTo('v1');
    const orders = bundles('newcomer', 12);
    await node.sendAll(orders);
    await eventually(() => expect(v1.refusals.size).toBe(1));
    expect([...v1.refusals.keys()]).toEqual(["unknown peers can't send to the system address"]);
    expect(v1.orders).toHaveLength(0);
    await poll(v1, hub);
    const received = await v1.received(orders.length);
    await node.close();
    expect(digestsOf(received.map(({ body }) => body))).toEqual(canonicalOf(orders));
    // It was not hammered meanwhile: after a few refusals the orders wait for a probe to succeed.
    expect([...v1.refusals.values()][0]).toBeLessThan(2 * orders.length);
  });

  test('that restarts with a new key and certificate: nothing is lost, and others do not notice', async () => {
    const hub = await startHubFront();
    const port = await freePort();
    const before = await startV1(hub, 'v1', port);
    const other = await startTestPeer(hub, 'other');
    const node = await startTestNode(hub, 'ours', { flags: ['--conn-per-peer', '1'] });
    await node.connectedTo('v1', 'other');
    await poll(before, hub);
    const orders = bundles('restart', 40);
    const [early, meanwhile, late] = [orders.slice(0, 10), orders.slice(10, 30), orders.slice(30)];
    await node.sendAll(early);
    await before.received(early.length);
    await before.close();
    await node.sendAll(meanwhile.slice(0, 10));

    // It is back with a certificate and a key that nobody knows, as v1 is after each restart.
    const after = await startV1(hub, 'v1', port);
    expect(after.address).not.toBe(before.address);
    await node.sendAll(meanwhile.slice(10));
    const [theirs] = bundles('of the restarted', 1);
    expect(answerProblem(theirs!, await sendAs(after, node, theirs!.canonical))).toBeNull();
    await eventually(() => expect(after.refusals.size).toBeGreaterThan(0));
    await poll(after, hub);
    await node.sendAll(late);

    const received = await after.received(meanwhile.length + late.length);
    await other.sink.received(orders.length);
    expect(digestsOf(received.map(({ body }) => body))).toEqual(canonicalOf([...meanwhile, ...late]));
    expect(node.log.filter(({ event }) => event === 'peers').at(-1)).toMatchObject({ changed: ['v1'] });
    expect(bodiesOf(other.sink)).toEqual(canonicalOf(orders));
    expect(other.sink.accepted).toBe(1);
    expect(bodiesOf(node.builder)).toEqual(canonicalOf([...orders, theirs!]));
  });
});
