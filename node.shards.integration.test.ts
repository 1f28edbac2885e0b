/**
 * A node of several shards: an order that comes to two of them is one order, nonces count over all of them, and what
 * was acknowledged is kept while one of them is ended in the middle of its work.
 */
import { once } from 'node:events';
import type { Worker } from 'node:worker_threads';
import { expect, onTestFinished, test, vi } from 'vitest';
import { createUserClient, type RpcAnswer, type UserClient } from './devnet/client.ts';
import { answerProblem } from './devnet/once.ts';
import { createOrderSource, type GeneratedOrder } from './devnet/orders.ts';
import { createSigner } from './identity/signature.ts';
import { requestsSent } from './testing/clients.ts';
import {
  bodiesOf,
  canonicalOf,
  eventually,
  randomKey,
  startTestNode,
  startTestPeer,
  type TestNode,
} from './testing/harness.ts';
import { startHubFront } from './testing/hub-front.ts';

/** That all of so many connections come to one of two shards does not happen: 1 in 2^47. */
const CONNECTIONS = 48;
const FLAGS = ['--shards', '2', '--drain-timeout-sec', '5'];

function orders(seed: string, count: number): GeneratedOrder[] {
  const source = createOrderSource({ seed, methods: 'bundles', bodyBytes: 1_000 });
  return Array.from({ length: count }, () => source.next());
}

/** Wallets with a connection each. */
async function wallets(node: TestNode, count = CONNECTIONS): Promise<UserClient[]> {
  const certificate = await node.certificate();
  const clients = Array.from({ length: count }, () => createUserClient(node.userUrl, certificate));
  onTestFinished(() => {
    for (const client of clients) client.close();
  });
  return clients;
}

/** The threads of shards that are started from now on, the first two in their order. */
function watchShards(): Worker[] {
  const shards: Worker[] = [];
  const add = (worker: Worker) => void shards.push(worker);
  process.on('worker', add);
  onTestFinished(() => void process.removeListener('worker', add));
  return shards;
}

test('an order that comes to both shards at once is one order, and everybody gets the same answer', async () => {
  const hub = await startHubFront();
  const peer = await startTestPeer(hub, 'peer');
  const node = await startTestNode(hub, 'a', { flags: FLAGS });
  await node.connectedTo('peer', 'local-builder');
  const clients = await wallets(node);
  const sent = orders('both shards', 12);
  for (const order of sent) {
    requestsSent.add(order);
    const answers = await Promise.all(clients.map((client) => client.send(order)));
    expect(answerProblem(order, answers[0]!)).toBeNull();
    for (const answer of answers) expect(answer).toEqual(answers[0]);
  }
  const copies = sent.length * (CONNECTIONS - 1);
  expect(await node.metric('orderflow_duplicates_total', { side: 'user' })).toBe(copies);
  expect(await node.metric('orderflow_orders_total')).toBe(sent.length * CONNECTIONS);
  expect(await node.metric('orderflow_dedupe_keys')).toBe(sent.length);
  expect(await node.metric('orderflow_shards')).toBe(2);
  expect(await node.metric('orderflow_connections', { server: 'user' })).toBe(CONNECTIONS);
  const bundles = { method: 'eth_sendBundle', server_name: 'user_server' };
  const duration = 'goutils_rpcserver_request_duration_milliseconds';
  expect(await node.metric(`${duration}_count`, bundles)).toBe(sent.length * CONNECTIONS);
  expect(await node.metric(duration, { ...bundles, quantile: '0.5', is_big: 'false' })).toBeGreaterThan(0);
  expect(await node.metric('process_resident_memory_bytes')).toBeLessThan(4 * 2 ** 30);
  await peer.sink.received(sent.length);
  await node.close();
  expect(bodiesOf(node.builder)).toEqual(canonicalOf(sent));
  expect(bodiesOf(peer.sink)).toEqual(canonicalOf(sent));
  expect(await node.archived()).toEqual(canonicalOf(sent));
});

test('replacement nonces rise in the order in which bundles came, whichever shard took them', async () => {
  const hub = await startHubFront();
  const node = await startTestNode(hub, 'a', { flags: [...FLAGS, '--tx-validation', 'off'] });
  await node.connectedTo('local-builder');
  const clients = await wallets(node);
  const searcher = createSigner(randomKey());
  const [{ txs }] = (JSON.parse(orders('nonces', 1)[0]!.body.toString()) as { params: [{ txs: string[] }] })
    .params;
  const replacementUuid = '0f0e0d0c-0b0a-4908-8706-050403020100';
  const send = async (client: UserClient, method: string, param: object) => {
    const body = Buffer.from(JSON.stringify({ jsonrpc: '2.0', id: 1, method, params: [param] }));
    const order = { body, signature: searcher.sign(body) };
    requestsSent.add(order);
    expect((await client.send(order)).error).toBeUndefined();
  };
  for (const [i, client] of clients.entries()) {
    const block = `0x${(i + 1).toString(16)}`;
    await send(client, 'eth_sendBundle', { txs, blockNumber: block, replacementUuid });
    await send(client, 'mev_sendBundle', {
      version: 'v0.1',
      inclusion: { block },
      body: [{ tx: txs[0], canRevert: false }],
      replacementUuid,
    });
  }
  const got = await node.builder.received(2 * CONNECTIONS);
  const nonces = got
    .map(({ body }) => JSON.parse(body.toString()) as { method: string; params: [Record<string, unknown>] })
    .map(({ method, params: [param] }) => {
      const { blockNumber, inclusion, replacementNonce, metadata } = param as {
        blockNumber?: string;
        inclusion?: { block: string };
        replacementNonce?: number;
        metadata?: { replacementNonce: number };
      };
      return {
        method,
        block: Number(blockNumber ?? inclusion?.block),
        nonce: replacementNonce ?? metadata?.replacementNonce ?? -1,
      };
    })
    .toSorted((x, y) => x.block - y.block);
  const of = (name: string) => nonces.filter(({ method }) => method === name).map(({ nonce }) => nonce);
  const times = of('eth_sendBundle');
  expect(times).toHaveLength(CONNECTIONS);
  expect(times).toEqual([...new Set(times)].toSorted((x, y) => x - y));
  expect(of('mev_sendBundle')).toEqual(Array.from({ length: CONNECTIONS }, (_, i) => i));
});

test('a shard ends in the middle of its work: it is started again, and nothing acknowledged is lost or archived twice', async () => {
  const shards = watchShards();
  const hub = await startHubFront();
  const peer = await startTestPeer(hub, 'peer');
  const node = await startTestNode(hub, 'a', { flags: FLAGS });
  expect(shards).toHaveLength(2);
  await node.connectedTo('peer', 'local-builder');
  const before = orders('before', 40);
  await node.sendAll(before);
  // Prometheus has looked: what it has seen does not fall.
  expect(await node.metric('orderflow_orders_total')).toBe(before.length);

  const clients = await wallets(node);
  const sent = orders('under way', 600);
  let lost = 0;
  /** As a wallet does: again, until it has an answer. */
  async function sendUntilAnswered(order: GeneratedOrder, client: UserClient): Promise<RpcAnswer> {
    requestsSent.add(order);
    for (;;) {
      const answer = await client.send(order).catch(() => null);
      if (answer !== null && answer.status === 200) return answer;
      lost += 1;
    }
  }
  let answered = 0;
  const half = Promise.withResolvers<void>();
  const work = clients.map(async (client, at) => {
    for (let i = at; i < sent.length; i += clients.length) {
      expect(answerProblem(sent[i]!, await sendUntilAnswered(sent[i]!, client))).toBeNull();
      answered += 1;
      if (answered === sent.length / 3) half.resolve();
    }
  });
  await half.promise;
  const victim = shards[0]!;
  const ended = once(victim, 'exit');
  void victim.terminate();
  await ended;
  await Promise.all(work);
  expect(lost).toBeGreaterThan(0);

  // A thread needs its time to start on a busy machine.
  await vi.waitFor(async () => expect(await node.metric('orderflow_shards')).toBe(2), 60_000);
  expect(shards).toHaveLength(3);
  expect(await node.metric('orderflow_shard_restarts_total')).toBe(1);
  expect(await node.metric('orderflow_orders_total')).toBeGreaterThanOrEqual(before.length);
  expect(node.log.map(({ event }) => event)).toContain('shard ended');
  await eventually(async () => expect((await node.readyz()).status).toBe(200));

  // The shard that came back takes orders: these go to both.
  const after = orders('after', CONNECTIONS);
  const fresh = await wallets(node);
  await Promise.all(after.map(async (order, i) => void (await sendUntilAnswered(order, fresh[i]!))));
  const all = [...before, ...sent, ...after];
  await eventually(() => {
    expect(new Set(bodiesOf(node.builder))).toEqual(new Set(canonicalOf(all)));
    expect(new Set(bodiesOf(peer.sink))).toEqual(new Set(canonicalOf(all)));
  });
  // What the shard had taken in its last second is forwarded once more, as it may not have left; then it is known.
  await node.sendAll(all);
  await eventually(async () =>
    expect(await node.metric('orderflow_delivery_outstanding', { target: 'local-builder' })).toBe(0),
  );
  const copies = node.builder.requests.length;
  await node.sendAll(all);
  expect(node.builder.requests.length).toBe(copies);
  await node.close();
  expect(await node.archived()).toEqual(canonicalOf(all));
});

test('a restart of the node knows what it has acknowledged, in every shard', async () => {
  const hub = await startHubFront();
  const first = await startTestNode(hub, 'a', { flags: FLAGS });
  await first.connectedTo('local-builder');
  const [order] = orders('restart', 1);
  await first.sendAll([order!]);
  await first.close();
  const { directory, systemPort, builder } = first;
  const node = await startTestNode(hub, 'a', { flags: FLAGS, directory, systemPort, builder });
  await node.connectedTo('local-builder');
  const answers = await Promise.all((await wallets(node)).map((client) => client.send(order!)));
  expect(
    answers.map((answer) => answerProblem(order!, answer)).filter((problem) => problem !== null),
  ).toEqual([]);
  await node.close();
  // Once by each run: what waited when the first one ended may have been lost.
  expect(bodiesOf(builder)).toEqual(canonicalOf([order!, order!]));
  expect(await node.archived()).toEqual(canonicalOf([order!]));
});

test('a limit of requests holds for all shards together', async () => {
  const hub = await startHubFront();
  const node = await startTestNode(hub, 'a', { flags: [...FLAGS, '--max-user-rps', '1'] });
  await node.connectedTo('local-builder');
  const clients = await wallets(node);
  const sent = orders('limit', CONNECTIONS);
  const beganMs = performance.now();
  const answers = await Promise.all(
    sent.map((order, i) => {
      requestsSent.add(order);
      return clients[i]!.send(order);
    }),
  );
  const seconds = (performance.now() - beganMs) / 1000;
  const taken = answers.filter(({ status }) => status === 200).length;
  expect(taken).toBeGreaterThanOrEqual(1);
  expect(taken).toBeLessThanOrEqual(2 + seconds);
  expect(answers.filter(({ status }) => status === 429)).toHaveLength(CONNECTIONS - taken);
});

test('while orders come the node ends: what it took is everywhere', async () => {
  const hub = await startHubFront();
  const peer = await startTestPeer(hub, 'peer');
  const node = await startTestNode(hub, 'a', { flags: FLAGS });
  await node.connectedTo('peer', 'local-builder');
  const clients = await wallets(node);
  const sent = orders('drain', 480);
  const first = Promise.withResolvers<void>();
  const outcomes = sent.map(async (order, i) => {
    requestsSent.add(order);
    const answer = await clients[i % clients.length]!.send(order).catch(() => null);
    first.resolve();
    return answer;
  });
  await first.promise;
  await node.close();
  const answers = await Promise.all(outcomes);
  const taken = sent.filter((order, i) => {
    const answer = answers[i] ?? null;
    return answer !== null && answerProblem(order, answer) === null;
  });
  expect(taken.length).toBeGreaterThan(0);
  expect(await node.archived()).toEqual(canonicalOf(taken));
  expect(bodiesOf(node.builder)).toEqual(canonicalOf(taken));
  expect(bodiesOf(peer.sink)).toEqual(canonicalOf(taken));
});
