/** Sender mode: what Flashbots' own infrastructure gives it reaches every builder of the internal list, as Flashbots. */
import { readdir } from 'node:fs/promises';
import { expect, test } from 'vitest';
import { createOrderSource } from './devnet/orders.ts';
import { createSigner } from './identity/signature.ts';
import { createHttp2Wallet } from './testing/clients.ts';
import {
  bodiesOf,
  digestsOf,
  eventually,
  randomKey,
  startTestNode,
  startTestNodeAt,
  startTestPeer,
} from './testing/harness.ts';
import { isList, startHubFront } from './testing/hub-front.ts';

const source = createOrderSource({ seed: 'sender', methods: 'bundles', bodyBytes: 1_000 });

/** A request as Flashbots' infrastructure makes it: without a signature. */
function unsigned(method: string, param: unknown) {
  const body = Buffer.from(JSON.stringify({ jsonrpc: '2.0', id: 1, method, params: [param] }));
  return { body, signature: '' };
}

/** What every builder must get. */
function canonical(method: string, param: unknown): Buffer {
  return Buffer.from(JSON.stringify({ method, params: [param], id: 0, jsonrpc: '2.0' }));
}

test('shares with all builders of the internal list, signed as Flashbots', async () => {
  const hub = await startHubFront();
  const key = randomKey();
  const flashbots = createSigner(key);
  const flags = ['--flashbots-orderflow-signer-address', flashbots.address];
  const [a, b] = await Promise.all(['a', 'b'].map((name) => startTestNode(hub, name, { flags })));
  const listed = await startTestPeer(hub, 'listed');
  await Promise.all([a!.connectedTo('b', 'listed'), b!.connectedTo('a', 'listed')]);
  // Of another network, so not in the list of production.
  const elsewhere = await startTestPeer(hub, 'elsewhere');
  hub.addBuilder({ name: 'elsewhere', dns_name: `127.0.0.1:${elsewhere.sink.port}`, network: 'testnet' });

  const known = await hub.builders();
  const sender = await startTestNodeAt(hub.url, 'sender', {
    flags: ['--mode', 'sender', '--orderflow-signer-key', key.toString('hex')],
  });
  expect(sender.handle.address.toLowerCase()).toBe(flashbots.addressLower);
  expect(Object.keys(sender.handle.addresses).toSorted()).toEqual(['metrics', 'user']);
  await sender.connectedTo('a', 'b', 'listed');
  expect(await sender.readyz()).toEqual({ status: 200, missing: '' });

  const { txs } = JSON.parse(source.next().body.toString()).params[0] as { txs: string[] };
  const [tx] = txs;
  const uuid = '0191b5b2-7e4e-7000-8000-000000000001';
  const signer = `0x${'ab'.repeat(20)}`;
  const mev = {
    version: 'v0.1',
    inclusion: { block: '0x1', maxBlock: '0x2' },
    body: [{ tx }],
    validity: {},
    metadata: { signer },
  };
  const sent: [method: string, given: unknown, shared: unknown][] = [
    // Without a version it is one of v1; zero timestamps mean none.
    [
      'eth_sendBundle',
      { txs, blockNumber: '0x10', minTimestamp: 0, maxTimestamp: 0, signingAddress: signer },
      { txs, blockNumber: '0x10', version: 'v1', signingAddress: signer },
    ],
    [
      'eth_sendBundle',
      { txs, blockNumber: '0x11', minTimestamp: 5, version: 'v2', refundPercent: 90 },
      { txs, blockNumber: '0x11', minTimestamp: 5, version: 'v2', refundPercent: 90 },
    ],
    ['mev_sendBundle', mev, mev],
    [
      'eth_cancelBundle',
      { replacementUuid: uuid, signingAddress: signer },
      { replacementUuid: uuid, signingAddress: signer },
    ],
    ['eth_sendRawTransaction', tx, tx],
    ['bid_subsidiseBlock', 1000, 1000],
  ];
  const wallet = createHttp2Wallet(sender.userUrl, await sender.certificate());
  for (const [method, given] of sent) {
    const answer = await wallet.send(unsigned(method, given));
    expect([method, answer.status, answer.error]).toEqual([method, 200, undefined]);
  }
  const expected = digestsOf(sent.map(([method, , shared]) => canonical(method, shared)));
  for (const { builder } of [a!, b!, { builder: listed.sink }]) {
    await builder.received(sent.length);
    expect(bodiesOf(builder)).toEqual(expected);
  }

  // As Flashbots: its signature over the exact bytes, and no certificate, which no hub would list.
  for (const { body, headers, clientCertificate } of listed.sink.requests) {
    expect(headers['x-flashbots-signature']).toBe(flashbots.sign(body));
    expect(clientCertificate).toBeUndefined();
  }
  for (const node of [a!, b!]) {
    const peer = { peer: 'flashbots' };
    expect(await node.metric('orderflow_proxy_api_incoming_requests_by_peer', peer)).toBe(sent.length);
    expect(await node.archived()).toEqual([]);
  }
  expect(elsewhere.sink.accepted).toBe(0);

  // It is no member: it registers nothing, reads the internal list alone, and keeps no orders.
  expect((await hub.builders()).map(({ name }) => name).toSorted()).toEqual(
    known.map(({ name }) => name).toSorted(),
  );
  const calls = hub.calls.filter(({ caller }) => caller === '');
  expect(new Set(calls.map(({ path }) => path))).toEqual(new Set(['/api/internal/l1-builder/v1/builders']));
  await sender.close();
  expect(JSON.stringify(sender.log).toLowerCase()).not.toContain(key.toString('hex'));
  expect(await readdir(sender.directory)).not.toContain('archive');
});

test('refuses what the builders would refuse, checks a signature that is there, and knows duplicates', async () => {
  const hub = await startHubFront();
  const listed = await startTestPeer(hub, 'listed');
  const sender = await startTestNodeAt(hub.url, 'sender', {
    flags: ['--mode', 'sender', '--orderflow-signer-key', randomKey().toString('hex')],
  });
  await sender.connectedTo('listed');
  const { txs } = JSON.parse(source.next().body.toString()).params[0] as { txs: string[] };
  const refusals: [request: { body: Buffer; signature: string }, message: string][] = [
    [
      unsigned('eth_sendBundle', { txs: ['0x01'], refundPercent: 10 }),
      'refund percent field should not be set',
    ],
    [unsigned('eth_sendBundle', { txs: ['0x01'], version: 'v3' }), 'invalid version'],
    [unsigned('mev_sendBundle', { version: 'v0.1', body: [{ tx: txs[0] }] }), 'metadata'],
    [
      { ...source.next(), signature: `0x${'00'.repeat(20)}:0x${'11'.repeat(65)}` },
      'invalid signature provided: ',
    ],
  ];
  const wallet = createHttp2Wallet(sender.userUrl, await sender.certificate());
  for (const [request, message] of refusals) {
    expect((await wallet.send(request)).error?.message).toContain(message);
  }
  const order = unsigned('eth_sendBundle', { txs: ['0x02'] });
  const signed = { body: order.body, signature: createSigner(randomKey()).sign(order.body) };
  expect((await wallet.send(order)).error).toBeUndefined();
  expect((await wallet.send(order)).error).toBeUndefined();
  expect((await wallet.send(signed)).error).toBeUndefined();
  expect(await sender.metric('orderflow_duplicates_total')).toBe(1);
  // Another signer is another order.
  await listed.sink.received(2);
  // The hub fails: the list stays.
  hub.answer = ({ path }) => (isList(path) ? { status: 500 } : undefined);
  await eventually(async () =>
    expect(await sender.metric('orderflow_proxy_confighub_errors')).toBeGreaterThan(0),
  );
  expect((await wallet.send(unsigned('eth_sendBundle', { txs: ['0x03'] }))).error).toBeUndefined();
  await listed.sink.received(3);
});
