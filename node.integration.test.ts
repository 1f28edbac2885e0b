/** Whole nodes in one network over real sockets: who gets which order, what is answered, what is kept. */
import { chmod, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { sumOf } from './devnet/metrics.ts';
import { answerProblem } from './devnet/once.ts';
import { createOrderSource } from './devnet/orders.ts';
import { createSigner } from './identity/signature.ts';
import { connectSystem, createHttp2Wallet } from './testing/clients.ts';
import { temporaryDirectory } from './testing/directory.ts';
import {
  bodiesOf,
  canonicalOf,
  eventually,
  freePort,
  ordersOfEachMethod,
  randomKey,
  startTestNode,
  startTestPeer,
} from './testing/harness.ts';
import { startHubFront } from './testing/hub-front.ts';

/** A repeated mev_sendBundle with a UUID gets the next nonce, and cancellations are never deduplicated. */
const REPEATABLE = new Set<string>(['eth_sendBundle', 'eth_sendRawTransaction']);

test('three nodes: every order reaches every builder once, byte for byte, and its own archive', async () => {
  const hub = await startHubFront();
  const names = ['a', 'b', 'c'];
  const nodes = await Promise.all(names.map((name) => startTestNode(hub, name)));
  await Promise.all(nodes.map((node) => node.connectedTo(...names.filter((name) => name !== node.name))));

  const source = createOrderSource({ seed: 'three nodes' });
  const own = nodes.map(() => ordersOfEachMethod(source, 10));
  await Promise.all(
    nodes.map(async (node, i) => {
      const orders = own[i]!;
      const wallet = createHttp2Wallet(node.userUrl, await node.certificate());
      const [overHttp2, overHttp1] = [orders.slice(0, 20), orders.slice(20)];
      const answers = await Promise.all(overHttp2.map((order) => wallet.send(order)));
      expect(answers.map((answer, n) => answerProblem(overHttp2[n]!, answer))).toEqual(
        overHttp2.map(() => null),
      );
      await node.sendAll(overHttp1);
      // Again: the same answers, and nobody gets them twice.
      const repeated = orders.filter(({ method }) => REPEATABLE.has(method));
      await node.sendAll(repeated);
      expect(await node.metric('orderflow_duplicates_total', { side: 'user' })).toBe(repeated.length);
    }),
  );
  await Promise.all(nodes.map(({ builder }) => builder.received(120)));
  await Promise.all(nodes.map((node) => node.close()));
  for (const [i, node] of nodes.entries()) {
    expect(bodiesOf(node.builder)).toEqual(canonicalOf(own.flat()));
    expect(await node.archived()).toEqual(canonicalOf(own[i]!));
  }
});

test('an order that its user sends to two nodes reaches each builder once and is in both archives', async () => {
  const hub = await startHubFront();
  const [a, b, c] = await Promise.all(['a', 'b', 'c'].map((name) => startTestNode(hub, name)));
  await Promise.all([a!.connectedTo('b', 'c'), b!.connectedTo('a', 'c'), c!.connectedTo('a', 'b')]);
  const source = createOrderSource({ seed: 'two nodes', methods: 'bundles' });
  const orders = Array.from({ length: 20 }, () => source.next());

  const [together, later] = [orders.slice(0, 10), orders.slice(10)];
  await Promise.all([a!.sendAll(together), b!.sendAll(together)]);
  // Later: the second node has it from its peer already.
  await a!.sendAll(later);
  await b!.builder.received(20);
  await b!.sendAll(later);

  await Promise.all([a!, b!, c!].map(({ builder }) => builder.received(20)));
  await Promise.all([a!, b!, c!].map((node) => node.close()));
  for (const { builder } of [a!, b!, c!]) expect(bodiesOf(builder)).toEqual(canonicalOf(orders));
  expect(await a!.archived()).toEqual(canonicalOf(orders));
  expect(await b!.archived()).toEqual(canonicalOf(orders));
  expect(await c!.archived()).toEqual([]);
});

describe('operating', () => {
  const QUANTILES = ['0.5', '0.9', '0.97', '0.99', '1'];
  const STEPS = ['validation', 'rate_limiting', 'serialize_parsed_request', 'share_queue', 'archive_queue'];
  const user = { server_name: 'user_server' };
  const bundle = { method: 'eth_sendBundle' };
  const perOrder = { ...bundle, system_endpoint: 'false', is_big: 'false' };

  test("v1's metrics are there with their labels, and count", async () => {
    const hub = await startHubFront();
    const refusal = '{"jsonrpc":"2.0","id":0,"error":{"code":-32000,"message":"no"}}';
    const peer = await startTestPeer(hub, 'peer', {
      answer: (_request, index) => (index === 0 ? { body: refusal } : undefined),
    });
    const node = await startTestNode(hub, 'a', {
      flags: ['--max-user-rps', '10', '--peer-queue-bytes', '65536', '--peer-queue-age-ms', '600000'],
    });
    await node.connectedTo('peer', 'local-builder');
    const source = createOrderSource({ seed: 'metrics', methods: 'bundles', bodyBytes: 3_000 });
    const order = source.next();
    await node.sendAll([order, order]);
    const system = await connectSystem(node.systemPort);
    const [foreign, big] = [source.next(), createOrderSource({ seed: 'big', bodyBytes: 60_000 }).next()];
    for (let copy = 0; copy < 2; copy++) {
      const { canonical } = foreign;
      const answer = await system.send({ body: canonical, signature: peer.signer.sign(canonical) });
      expect(answer.error).toBeUndefined();
    }
    await node.sendAll([big]);
    const unknown = Buffer.from('{"jsonrpc":"2.0","id":1,"method":"eth_chainId","params":[]}');
    const anybody = createSigner(randomKey());
    await node.send({ body: unknown, signature: anybody.sign(unknown) });
    const nonsense = Buffer.from('[]');
    await node.send({ body: nonsense, signature: anybody.sign(nonsense) });
    await peer.sink.received(2);
    // The peer goes, what waits for it runs over; so does the rate of user orders; the hub fails.
    await peer.sink.close();
    const burst = Array.from({ length: 30 }, () => source.next());
    const answers = await Promise.all(burst.map((one) => node.send(one)));
    const tooBig = createOrderSource({ seed: 'stall', methods: 'bundles', bodyBytes: 66_000 }).next();
    await eventually(async () => {
      answers.push(await node.send(tooBig));
      expect(answers.at(-1)?.status).toBe(200);
    });
    const limited = answers.filter(({ status }) => status === 429);
    expect(limited[0]?.error).toEqual({ code: -32005, message: 'requests to user API are rate limited' });
    await hub.down();
    await eventually(async () =>
      expect(await node.metric('orderflow_proxy_confighub_errors')).toBeGreaterThan(0),
    );

    const samples = await node.samples();
    const sum = (name: string, labels: Record<string, string>) => sumOf(samples, name, labels);
    const counters: [name: string, labels: Record<string, string>, count: number][] = [
      ['orderflow_proxy_api_incoming_requests_by_peer', { peer: 'peer' }, 2],
      ['orderflow_proxy_api_duplicate_requests_by_peer', { peer: 'peer' }, 1],
      ['orderflow_proxy_api_duplicate_requests_by_peer', { peer: 'user-request' }, 1],
      ['orderflow_proxy_api_user_rate_limits', {}, limited.length],
      ['orderflow_proxy_share_queue_internal_errors', {}, 0],
      ['orderflow_proxy_share_queue_peer_rpc_errors', { peer: 'peer' }, 1],
      ['goutils_rpcserver_request_count', { method: 'unknown', ...user, is_big: 'false' }, 2],
      ['goutils_rpcserver_request_count', { ...bundle, server_name: 'system_server', is_big: 'false' }, 2],
      ['goutils_rpcserver_incorrect_request_total', user, 1],
      ['goutils_rpcserver_error_count', { method: 'unknown', ...user }, 2],
      ['orderflow_proxy_archive_events_processed_err', {}, 0],
      ['orderflow_proxy_archive_rpc_errors', {}, 0],
    ];
    for (const [name, labels, count] of counters) {
      expect([name, labels, sum(name, labels)]).toEqual([name, labels, count]);
      expect(samples.map((sample) => sample.name)).toContain(name);
    }
    const archived = (await node.archived()).length;
    expect(sum('orderflow_proxy_archive_events_processed_total', {})).toBe(archived);
    expect(sum('orderflow_proxy_archive_events_sent_ok', {})).toBe(archived);
    for (const [name, labels] of [
      ['orderflow_proxy_share_queue_peer_stalling_errors', { peer: 'peer' }],
      ['goutils_rpcserver_request_count', { ...user, is_big: 'true' }],
      ['goutils_rpcserver_error_count', { ...bundle, ...user }],
    ] as const) {
      expect(sum(name, labels), name).toBeGreaterThan(0);
    }
    expect(samples.map(({ name }) => name)).toContain('goutils_rpcserver_internal_errors_total');

    const processing = 'orderflow_proxy_api_request_processing_duration_milliseconds';
    const summaries: [name: string, labels: Record<string, string>][] = [
      ...STEPS.map((step): [string, Record<string, string>] => [processing, { ...bundle, ...user, step }]),
      [processing, { ...bundle, server_name: 'system_server', step: 'local_builder' }],
      ['orderflow_proxy_share_queue_peer_rpc_duration_milliseconds', { peer: 'peer', is_big: 'false' }],
      ['orderflow_proxy_share_queue_peer_queue_duration_milliseconds', { peer: 'peer', ...perOrder }],
      ['orderflow_proxy_share_queue_peer_e2e_duration_milliseconds', { peer: 'peer', ...perOrder }],
      [
        'orderflow_proxy_share_queue_peer_e2e_duration_milliseconds',
        { ...perOrder, peer: 'local-builder', system_endpoint: 'true' },
      ],
      ['orderflow_proxy_archive_rpc_duration_milliseconds', {}],
      ['goutils_rpcserver_request_duration_milliseconds', { ...bundle, ...user, is_big: 'false' }],
      ['goutils_rpcserver_request_size_bytes', { ...bundle, ...user }],
    ];
    for (const [name, labels] of summaries) {
      const count = sum(`${name}_count`, labels);
      expect(count, `${name} ${JSON.stringify(labels)}`).toBeGreaterThan(0);
      expect(sum(`${name}_sum`, labels)).toBeGreaterThanOrEqual(0);
      const values = QUANTILES.map((quantile) => sum(name, { ...labels, quantile }));
      expect(values).toEqual(values.toSorted((x, y) => x - y));
      expect(values.at(-1)).toBeGreaterThan(0);
    }
  });

  test('keys are for the owner alone, are kept over a restart, and are not taken from others', async () => {
    const hub = await startHubFront();
    const first = await startTestNode(hub, 'a');
    await first.close();
    for (const file of ['orderflow.key', 'tls.pem', 'peers.json']) {
      const { mode } = await stat(join(first.directory, file)).catch(() => ({ mode: -1 }));
      if (file !== 'peers.json' || mode !== -1) expect([file, mode & 0o777]).toEqual([file, 0o600]);
    }
    const { directory, systemPort } = first;
    const again = await startTestNode(hub, 'a', { directory, systemPort });
    expect(again.handle.address).toBe(first.handle.address);
    expect(await again.certificate()).toContain('BEGIN CERTIFICATE');
    await again.close();

    await chmod(join(directory, 'orderflow.key'), 0o644);
    await expect(startTestNode(hub, 'a', { directory, systemPort })).rejects.toThrow(
      /others may read .*orderflow\.key/,
    );
  });

  test('what stops a start is named', async () => {
    const hub = await startHubFront();
    const running = await startTestNode(hub, 'a');
    const { port } = running.handle.addresses.user!;
    await expect(
      startTestNode(hub, 'b', { flags: ['--user-listen-addr', `127.0.0.1:${port}`] }),
    ).rejects.toThrow(`cannot listen on 127.0.0.1:${port}`);
    await expect(startTestNode(hub, 'b', { directory: running.directory })).rejects.toThrow(/in use/);
    await expect(startTestNode(hub, 'b', { flags: ['--cert-hosts', 'not_a*name'] })).rejects.toThrow(
      'not_a*name',
    );
    await expect(startTestNode(hub, 'b', { flags: ['--mode', 'sender'] })).rejects.toThrow(
      'ORDERFLOW_SIGNER_KEY: is missing',
    );
    // The ports and folders that a failed start had taken are free again.
    const [directory, systemPort] = [await temporaryDirectory(), await freePort()];
    const busy = ['--user-listen-addr', `127.0.0.1:${port}`];
    await expect(startTestNode(hub, 'b', { directory, systemPort, flags: busy })).rejects.toThrow(
      'cannot listen',
    );
    await startTestNode(hub, 'b', { directory, systemPort });
  });
});
