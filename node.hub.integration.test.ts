/** Whole nodes and BuilderHub: joining late, lists that are not clean, a hub that is down, a certificate that changes. */
import { hash } from 'node:crypto';
import { describe, expect, test } from 'vitest';
import { answerProblem } from './devnet/once.ts';
import { createOrderSource, type GeneratedOrder } from './devnet/orders.ts';
import { createSigner } from './identity/signature.ts';
import { connectSystem, createHttp2Wallet } from './testing/clients.ts';
import {
  bodiesOf,
  canonicalOf,
  eventually,
  randomKey,
  SHARDS,
  startTestNode,
  startTestPeer,
} from './testing/harness.ts';
import { isList, startHubFront } from './testing/hub-front.ts';

const NEVER_POLL = ['--peer-poll-sec', '3600'];

function bundles(seed: string, count: number): GeneratedOrder[] {
  const source = createOrderSource({ seed, methods: 'bundles', bodyBytes: 1_000 });
  return Array.from({ length: count }, () => source.next());
}

describe('a node that joins late', () => {
  test('is taken for what it is by nodes that have not polled since', async () => {
    const hub = await startHubFront();
    const first = await startTestNode(hub, 'first', { flags: NEVER_POLL });
    await eventually(async () => expect(await first.metric('orderflow_hub_registered')).toBe(1));
    // It fetches once it has registered, and again as its polling begins.
    await eventually(() => expect(hub.fetches('first')).toBe(2));
    const orders = bundles('before', 3);
    await first.sendAll(orders);

    const late = await startTestNode(hub, 'late', { flags: NEVER_POLL });
    await late.connectedTo('first');
    const fromLate = bundles('from the late one', 20);
    await late.sendAll(fromLate);
    await first.builder.received(orders.length + fromLate.length);
    expect(hub.fetches('first')).toBe(3);
    expect(await first.metric('orderflow_rejected_total')).toBe(0);

    // The same look at the list has told it where to send.
    await first.connectedTo('late');
    const fromFirst = bundles('from the first', 5);
    await first.sendAll(fromFirst);
    await late.builder.received(fromLate.length + fromFirst.length);
    expect(bodiesOf(late.builder)).toEqual(canonicalOf([...fromLate, ...fromFirst]));
    expect(bodiesOf(first.builder)).toEqual(canonicalOf([...orders, ...fromLate, ...fromFirst]));
  });

  test('is found by its signature alone; strangers cannot make a node call the hub without end', async () => {
    const hub = await startHubFront();
    const node = await startTestNode(hub, 'a', { flags: NEVER_POLL });
    await eventually(() => expect(hub.fetches('a')).toBe(2));
    const connections = await Promise.all(Array.from({ length: 30 }, () => connectSystem(node.systemPort)));
    const orders = bundles('strangers', connections.length + 1);
    const started = performance.now();
    const answers = await Promise.all(
      connections.map((connection, i) => {
        const { canonical } = orders[i]!;
        return connection.send({ body: canonical, signature: createSigner(randomKey()).sign(canonical) });
      }),
    );
    for (const { status, error } of answers) {
      expect([status, error]).toEqual([
        200,
        { code: -32000, message: "unknown peers can't send to the system address" },
      ]);
    }
    const seconds = (performance.now() - started) / 1000;
    expect(hub.fetches('a') - 2).toBeLessThanOrEqual(1 + Math.ceil(seconds));
    expect(connections.some(({ closed }) => closed)).toBe(false);

    const peer = await startTestPeer(hub, 'new');
    const { canonical } = orders.at(-1)!;
    const signature = peer.signer.sign(canonical);
    expect(
      answerProblem(orders.at(-1)!, await connections[0]!.send({ body: canonical, signature })),
    ).toBeNull();
    await node.builder.received(1);
    expect(bodiesOf(node.builder)).toEqual(canonicalOf([orders.at(-1)!]));
    expect(await node.metric('orderflow_rejected_total', { kind: 'unknown_peer' })).toBe(connections.length);
  });
});

describe("a hub's list that is not clean", () => {
  test('costs nobody a good peer; what cannot be used is named once and counted', async () => {
    const hub = await startHubFront();
    const [good, twin, unnamed, broken] = await Promise.all(
      ['good', 'twin', 'unnamed', 'broken'].map((name) => startTestPeer(hub, name)),
    );
    const other = await startTestNode(hub, 'other');
    const place = 'http://127.0.0.1:1';
    const key = { ecdsa_pubkey_address: good!.signer.addressLower };
    const certificate = { tls_cert: good!.credentials.certificatePem };
    const expired = { tls_cert: 'MIIB' };
    const change = (entry: Record<string, unknown>, own: unknown): unknown => {
      switch (entry.name) {
        // Services that a node has registered under the name of a field.
        case 'unnamed':
          return { ...entry, name: expired };
        case 'broken':
          return {
            ...entry,
            instance: { tls_cert: '-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----' },
          };
        // Two entries with one key, each with a certificate and a place of its own.
        case 'twin':
          return { ...entry, orderflow_proxy: key };
        default:
          return entry.name === 'a' ? own : entry;
      }
    };
    const junk: unknown[] = [
      null,
      'text',
      {},
      { name: 'nothing', ip: '10.0.0.1', dns_name: '' },
      { name: 'no key', ip: '10.0.0.1', dns_name: '', orderflow_proxy: {}, instance: certificate },
      { name: 'bad key', ip: '10.0.0.1', dns_name: '', orderflow_proxy: { ecdsa_pubkey_address: '0x12' } },
      {
        name: 'ip object',
        ip: certificate,
        dns_name: '',
        orderflow_proxy: randomAddress(),
        instance: certificate,
      },
      { name: 'dns object', ip: '10.0.0.1', dns_name: expired, orderflow_proxy: randomAddress() },
      { name: 'bad place', ip: '10.0.0.1', dns_name: place, orderflow_proxy: randomAddress() },
      { name: 'no certificate', ip: '10.0.0.1', dns_name: '', orderflow_proxy: randomAddress() },
      ...Array.from({ length: 3_500 }, (_, i) => ({ name: `zz-${i}`, ip: '10.0.0.1', dns_name: '' })),
    ];
    const lists = { polls: 0 };
    hub.answer = async ({ path, caller }) => {
      if (caller !== 'a' || !isList(path)) return {};
      lists.polls++;
      const entries = (await hub.builders()) as unknown as Record<string, unknown>[];
      const own = entries.find(({ name }) => name === 'a');
      // The node's own entry twice, and all of it in another order each time, as the hub does.
      const list = [...junk, ...entries.map((entry) => change(entry, own)), { ...own, name: 'a again' }];
      return { body: JSON.stringify(list.toSorted(() => Math.random() - 0.5)) };
    };

    const node = await startTestNode(hub, 'a');
    await node.connectedTo('good', 'twin', 'other');
    const orders = bundles('unclean', 10);
    await node.sendAll(orders);
    for (const { sink } of [good!, twin!, { sink: other.builder }]) {
      await sink.received(orders.length);
      expect(bodiesOf(sink)).toEqual(canonicalOf(orders));
    }
    expect([unnamed!.sink.count, broken!.sink.count]).toEqual([0, 0]);
    // Who has no place or certificate may still send.
    const [theirs] = bundles('of the broken', 1);
    const connection = await connectSystem(node.systemPort);
    const signature = broken!.signer.sign(theirs!.canonical);
    expect(answerProblem(theirs!, await connection.send({ body: theirs!.canonical, signature }))).toBeNull();

    expect(await node.metric('orderflow_peers')).toBe(3);
    // Of the junk all, the unnamed and the broken one; the two of its own are nobody's fault.
    expect(await node.metric('orderflow_hub_skipped_entries')).toBe(junk.length + 2);
    await eventually(() => expect(lists.polls).toBeGreaterThan(3));
    const named = node.log.filter(({ event }) => event === 'hub entries skipped');
    expect(named).toHaveLength(1);
    expect(named[0]).toMatchObject({ count: junk.length + 2 });
    const lines = (named[0]!.skipped as string[]).join('\n');
    for (const name of [
      'no key',
      'bad key',
      'ip object',
      'dns object',
      'bad place',
      'no certificate',
      'broken',
    ]) {
      expect(lines).toMatch(new RegExp(`^${name}: .+`, 'm'));
    }
    expect(lines).not.toContain('MIIB');
    expect(good!.sink.accepted).toBeLessThanOrEqual(10);
  });

  test('or no list at all, leaves the last one in use', async () => {
    const hub = await startHubFront();
    const peer = await startTestPeer(hub, 'peer');
    const node = await startTestNode(hub, 'a');
    await node.connectedTo('peer');
    let polls = 0;
    const answers = [{ body: '{}' }, { body: 'nonsense' }, { status: 500 }, { body: 'null' }];
    hub.answer = ({ path }) => (isList(path) ? answers[polls++ % answers.length] : undefined);
    await eventually(async () => {
      expect(await node.metric('orderflow_proxy_confighub_errors')).toBeGreaterThan(1);
    });
    const [order] = bundles('last list', 1);
    await node.sendAll([order!]);
    await peer.sink.received(1);
    // A connection for each shard.
    expect(peer.sink.accepted).toBe(SHARDS);
  });
});

test('the hub is down at the start: users are served, the peers of the last run get their orders, and all is well when it comes', async () => {
  const hub = await startHubFront();
  const peer = await startTestPeer(hub, 'peer');
  const before = await startTestNode(hub, 'a');
  await before.connectedTo('peer');
  await before.close();
  await hub.down();

  const { directory, systemPort } = before;
  const node = await startTestNode(hub, 'a', { directory, systemPort });
  const orders = bundles('hub down', 5);
  await node.sendAll(orders);
  await peer.sink.received(orders.length);
  const [theirs] = bundles('of the peer', 1);
  const connection = await connectSystem(systemPort);
  const signature = peer.signer.sign(theirs!.canonical);
  expect(answerProblem(theirs!, await connection.send({ body: theirs!.canonical, signature }))).toBeNull();
  await eventually(async () =>
    expect(await node.readyz()).toEqual({ status: 503, missing: 'not registered at BuilderHub' }),
  );
  expect(await node.metric('orderflow_hub_registered')).toBe(0);
  expect(await node.metric('orderflow_proxy_confighub_errors')).toBeGreaterThan(0);
  expect(node.log.map(({ event }) => event)).not.toContain('storing failed');

  await hub.up();
  await eventually(async () => expect(await node.readyz()).toEqual({ status: 200, missing: '' }));
  expect(node.log.filter(({ event }) => event === 'registered')).toHaveLength(1);
  expect(bodiesOf(peer.sink)).toEqual(canonicalOf(orders));
});

test('a new certificate: standing connections stay, new ones see it, the hub has it, orders flow on', async () => {
  const hub = await startHubFront();
  const peer = await startTestNode(hub, 'peer');
  const first = await startTestNode(hub, 'a', { flags: ['--cert-hosts', '127.0.0.1'] });
  const old = await first.certificate();
  await first.connectedTo('peer');
  await peer.connectedTo('a');
  await first.close();

  // Another name is wanted, so the certificate must change; as the hub is down, it stays for now.
  await hub.down();
  const { directory, systemPort } = first;
  const flags = ['--cert-hosts', '127.0.0.1,localhost'];
  const node = await startTestNode(hub, 'a', { directory, systemPort, flags });
  await node.connectedTo('peer');
  await peer.connectedTo('a');
  expect(await node.certificate()).toBe(old);
  const standing = createHttp2Wallet(node.userUrl, old);
  const orders = bundles('renewal', 6);
  expect(answerProblem(orders[0]!, await standing.send(orders[0]!))).toBeNull();
  await node.sendAll([orders[1]!]);

  await hub.up();
  await eventually(async () => expect(await node.certificate()).not.toBe(old));
  const fresh = await node.certificate();
  expect(answerProblem(orders[2]!, await standing.send(orders[2]!))).toBeNull();
  await node.sendAll([orders[3]!]);
  const connection = await connectSystem(systemPort);
  expect(hash('sha256', connection.serverCertificate!)).toBe(fingerprintOf(fresh));
  const wallet = createHttp2Wallet(node.userUrl, fresh);
  expect(answerProblem(orders[4]!, await wallet.send(orders[4]!))).toBeNull();
  const entry = (await hub.builders()).find(({ name }) => name === 'a');
  expect([entry?.instance?.tls_cert, entry?.orderflow_proxy?.tls_cert]).toEqual([fresh, fresh]);

  // The peer learns of it, connects anew, and both go on.
  await eventually(() =>
    expect(peer.log.filter(({ event }) => event === 'peers').at(-1)).toMatchObject({ changed: ['a'] }),
  );
  await peer.connectedTo('a');
  const back = bundles('to the renewed', 3);
  await peer.sendAll(back);
  await node.sendAll([orders[5]!]);
  await Promise.all([peer, node].map(({ builder }) => builder.received(orders.length + back.length)));
  for (const { builder } of [peer, node]) {
    expect(bodiesOf(builder)).toEqual(canonicalOf([...orders, ...back]));
  }
  await node.close();
  const again = await startTestNode(hub, 'a', { directory, systemPort, flags });
  expect(await again.certificate()).toBe(fresh);
});

function randomAddress(): object {
  return { ecdsa_pubkey_address: createSigner(randomKey()).addressLower };
}

function fingerprintOf(pem: string): string {
  const base64 = /-----BEGIN CERTIFICATE-----([^-]+)-----END/.exec(pem)?.[1] ?? '';
  return hash('sha256', Buffer.from(base64, 'base64'));
}
