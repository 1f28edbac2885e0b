/**
 * Whole nodes while something beside them fails: a full archive, a builder that is down, slow or in error, and their
 * own end. What was acknowledged is never lost, and nobody waits for a neighbour.
 */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, onTestFinished, test } from 'vitest';
import { startGuard } from './devnet/guard.ts';
import { startNodeProcess } from './devnet/node-process.ts';
import { answerProblem } from './devnet/once.ts';
import { createOrderSource, type GeneratedOrder } from './devnet/orders.ts';
import { createSigner } from './identity/signature.ts';
import { connectSystem, createHttp2Wallet } from './testing/clients.ts';
import { temporaryDirectory } from './testing/directory.ts';
import {
  bodiesOf,
  canonicalOf,
  eventually,
  freePort,
  leaksIn,
  randomKey,
  SHARDS,
  startSink,
  startTestNode,
  startTestPeer,
} from './testing/harness.ts';
import { isList, startHubFront } from './testing/hub-front.ts';

function orders(seed: string, count: number, bodyBytes = 1_000): GeneratedOrder[] {
  const source = createOrderSource({ seed, methods: 'bundles', bodyBytes });
  return Array.from({ length: count }, () => source.next());
}

test('a full archive: users are told, peers go on, and a restart changes nothing', async () => {
  const hub = await startHubFront();
  const peer = await startTestPeer(hub, 'peer');
  const flags = ['--archive-max-bytes', '1048576'];
  const first = await startTestNode(hub, 'a', { flags });
  await first.connectedTo('peer', 'local-builder');

  const accepted: GeneratedOrder[] = [];
  const source = createOrderSource({ seed: 'full', methods: 'bundles', bodyBytes: 200_000 });
  for (;;) {
    const order = source.next();
    const answer = await first.send(order);
    if (answer.error !== undefined) {
      expect(answer).toEqual({
        status: 503,
        error: { code: -32005, message: 'the archive is full, try again later' },
      });
      break;
    }
    accepted.push(order);
  }
  expect(accepted.length).toBeGreaterThan(3);
  expect(await first.readyz()).toEqual({ status: 503, missing: 'the archive is full, try again later' });
  expect(await first.metric('orderflow_archive_accepting')).toBe(0);
  expect(await first.metric('orderflow_ready')).toBe(0);
  expect(await first.metric('orderflow_rejected_total', { kind: 'archive_unavailable' })).toBe(1);
  expect(await first.metric('orderflow_proxy_archive_events_processed_err')).toBe(1);
  await peer.sink.received(accepted.length);

  // The same after a restart with the full archive.
  await first.close();
  const { directory, systemPort, builder } = first;
  const node = await startTestNode(hub, 'a', { flags, directory, systemPort, builder });
  await node.connectedTo('peer', 'local-builder');
  const [refused, ofPeer] = orders('after', 2);
  expect((await node.send(refused!)).error?.code).toBe(-32005);
  const system = await connectSystem(systemPort);
  const { canonical } = ofPeer!;
  expect(await system.send({ body: canonical, signature: peer.signer.sign(canonical) })).toMatchObject({
    status: 200,
    result: { bundleHash: ofPeer!.hash },
  });
  await node.close();
  expect(bodiesOf(builder)).toEqual(canonicalOf([...accepted, ofPeer!]));
  expect(bodiesOf(peer.sink)).toEqual(canonicalOf(accepted));
  expect(await node.archived()).toEqual(canonicalOf(accepted));
});

describe('the builder', () => {
  test('is down: orders are answered and shared, and it gets them when it is back', async () => {
    const hub = await startHubFront();
    const peer = await startTestPeer(hub, 'peer');
    const port = await freePort();
    const url = `http://127.0.0.1:${port}`;
    const flags = ['--builder-endpoint', url, '--builder-ready-endpoint', url];
    const node = await startTestNode(hub, 'a', { flags });
    await node.connectedTo('peer');
    const sent = orders('builder down', 10);
    await node.sendAll(sent);
    expect(await peer.sink.received(10)).toHaveLength(10);
    await eventually(async () =>
      expect(await node.readyz()).toEqual({
        status: 503,
        missing: 'builder is down; no connection to the builder',
      }),
    );
    const back = await startSink({ port });
    await back.received(10);
    await eventually(async () => expect(await node.readyz()).toEqual({ status: 200, missing: '' }));
    expect(bodiesOf(back)).toEqual(canonicalOf(sent));
  });

  test('never answers: nobody waits for it', async () => {
    const hub = await startHubFront();
    const peer = await startTestPeer(hub, 'peer');
    const node = await startTestNode(hub, 'a', {
      builder: await startSink({ answer: () => ({ never: true }) }),
    });
    await node.connectedTo('peer', 'local-builder');
    const sent = orders('builder hangs', 400);
    await Promise.all(sent.map((order) => node.sendAll([order])));
    await peer.sink.received(sent.length);
    expect(bodiesOf(peer.sink)).toEqual(canonicalOf(sent));
    expect(await node.metric('orderflow_delivery_answered_total', { target: 'local-builder' })).toBe(0);
    node.builder.answer = undefined;
  });

  test('answers errors and resets: counted; orders it may not have got are sent again', async () => {
    const hub = await startHubFront();
    const error = '{"jsonrpc":"2.0","id":0,"error":{"code":-32000,"message":"no such block"}}';
    const answers = [{ status: 500 }, { body: error }, { reset: true }, { raw: 'nonsense\r\n\r\n' }];
    const builder = await startSink({ answer: (_request, index) => answers[index] });
    const node = await startTestNode(hub, 'a', { builder });
    await node.connectedTo('local-builder');
    const sent = orders('builder errs', 6);
    await node.sendAll(sent);
    // Two answers were no answers: those orders come again.
    await builder.received(sent.length + 2);
    await eventually(async () => {
      const counted = { target: 'local-builder' };
      const of = (outcome: string) =>
        node.metric('orderflow_delivery_answered_total', { ...counted, outcome });
      expect([await of('accepted'), await of('refused')]).toEqual([4, 2]);
      expect(await node.metric('orderflow_delivery_resent_total', counted)).toBe(2);
    });
    expect(new Set(bodiesOf(builder))).toEqual(new Set(canonicalOf(sent)));
  });

  test('says that it is not ready', async () => {
    const hub = await startHubFront();
    const node = await startTestNode(hub, 'a');
    await eventually(async () => expect((await node.readyz()).status).toBe(200));
    node.builder.readyStatus = 503;
    await eventually(async () =>
      expect(await node.readyz()).toEqual({ status: 503, missing: 'builder answers 503' }),
    );
    const [order] = orders('not ready', 1);
    await node.sendAll([order!]);
  });
});

describe('the end of a node', () => {
  test.each(['HTTP/1.1', 'HTTP/2'])(
    'while orders come over %s: what it took is everywhere',
    async (version) => {
      const hub = await startHubFront();
      const peer = await startTestPeer(hub, 'peer');
      const node = await startTestNode(hub, 'a');
      await node.connectedTo('peer', 'local-builder');
      const wallet = version === 'HTTP/2' ? createHttp2Wallet(node.userUrl, await node.certificate()) : node;
      const sent = orders(`drain ${version}`, 300);
      const first = Promise.withResolvers<void>();
      const outcomes = sent.map(async (order) => {
        const answer = await wallet.send(order).catch(() => 'no answer' as const);
        first.resolve();
        return answer;
      });
      await first.promise;
      await node.close();
      const answers = await Promise.all(outcomes);
      const taken = sent.filter((order, i) => answerProblem(order, answers[i]!) === null);
      expect(taken.length).toBeGreaterThan(0);
      // Whatever the node had begun to work on was answered: nothing is in the archive without its sender knowing.
      expect(await node.archived()).toEqual(canonicalOf(taken));
      expect(bodiesOf(node.builder)).toEqual(canonicalOf(taken));
      expect(bodiesOf(peer.sink)).toEqual(canonicalOf(taken));
    },
  );

  test('waits for the answers that are due; whoever comes later finds the door closed', async () => {
    const hub = await startHubFront();
    const node = await startTestNode(hub, 'a', { flags: ['--drain-timeout-sec', '10'] });
    await node.connectedTo('local-builder');
    // An order whose answer waits for the hub: its sender has registered, the list is on its way.
    const list = Promise.withResolvers<void>();
    hub.answer = async ({ path }) => {
      if (isList(path)) await list.promise;
      return {};
    };
    const newcomer = await startTestPeer(hub, 'newcomer');
    const [order] = orders('newcomer', 1);
    const { canonical } = order!;
    const system = await connectSystem(node.systemPort);
    const waiting = system.send({ body: canonical, signature: newcomer.signer.sign(canonical) });
    await eventually(async () => expect(await node.metric('orderflow_unanswered_orders')).toBe(1));

    const closed = node.handle.close();
    expect(node.handle.readiness()).toMatchObject({ ready: false, reasons: ['shutting down'] });
    // Shards hear of it a moment later.
    await eventually(() => expect(connectSystem(node.systemPort)).rejects.toThrow('ECONNREFUSED'));
    expect(await node.metric('orderflow_ready')).toBe(0);
    list.resolve();
    expect(answerProblem(order!, await waiting)).toBeNull();
    await closed;
    expect(bodiesOf(node.builder)).toEqual(canonicalOf([order!]));
  });

  test('flushes the queues to those who come back in time', async () => {
    const hub = await startHubFront();
    let busy = true;
    const peer = await startTestPeer(hub, 'peer', {
      answer: () => (busy ? { status: 503, body: '' } : undefined),
    });
    const port = await freePort();
    const builder = await startSink({ port });
    const node = await startTestNode(hub, 'a', { builder, flags: ['--drain-timeout-sec', '10'] });
    await node.connectedTo('peer', 'local-builder');
    await builder.close();
    const sent = orders('flush', 8);
    await node.sendAll(sent);
    await peer.sink.received(1);

    const closed = node.handle.close();
    const late = await startSink({ port });
    busy = false;
    await closed;
    expect(bodiesOf(late)).toEqual(canonicalOf(sent));
    expect(new Set(bodiesOf(peer.sink))).toEqual(new Set(canonicalOf(sent)));
    expect(node.log.map(({ event }) => event)).toContain('stopped');
  });

  test('SIGTERM drains a process; a second one ends it at once', async () => {
    const hub = await startHubFront();
    const builder = await startSink({ answer: () => ({ never: true }) });
    const guard = startGuard();
    onTestFinished(() => guard.close());
    const directory = await temporaryDirectory();
    const start = async (drainSec: string) =>
      startNodeProcess({
        name: 'a',
        guard,
        logFile: join(directory, 'log'),
        env: {
          USER_LISTEN_ADDR: '127.0.0.1:0',
          SYSTEM_LISTEN_ADDR: '127.0.0.1:0',
          CERT_LISTEN_ADDR: '127.0.0.1:0',
          METRICS_ADDR: '127.0.0.1:0',
          BUILDER_ENDPOINT: builder.url.href,
          BUILDER_READY_ENDPOINT: builder.url.href,
          BUILDERHUB_ENDPOINT: hub.urlOf('a'),
          DATA_DIR: join(directory, 'data'),
          SHARDS: String(SHARDS),
          DRAIN_TIMEOUT_SEC: drainSec,
          LOG_DEBUG: 'true',
        },
      });
    hub.addBuilder({ name: 'a' });
    const [one, two] = orders('signals', 2);

    // The builder never answers: the drain ends all the same, and is a success.
    const patient = await start('1');
    const certificate = await (await fetch(`http://${patient.addresses.cert}/cert`)).text();
    const wallet = createHttp2Wallet(`https://${patient.addresses.user}`, certificate);
    expect(answerProblem(one!, await wallet.send(one!))).toBeNull();
    await builder.received(1);
    process.kill(patient.pid, 'SIGTERM');
    expect(await patient.ended).toBe(0);

    // A request whose answer waits for a hub that does not answer: the drain waits for it.
    const stuck = await start('60');
    const asked = Promise.withResolvers<void>();
    hub.answer = async ({ path }) => {
      if (!isList(path)) return {};
      asked.resolve();
      return new Promise(() => {});
    };
    const system = await connectSystem(Number(stuck.addresses.system.split(':')[1]));
    const { canonical } = two!;
    const signature = createSigner(randomKey()).sign(canonical);
    const cutOff = expect(system.send({ body: canonical, signature })).rejects.toThrow('was closed');
    await asked.promise;
    process.kill(stuck.pid, 'SIGTERM');
    const { user } = stuck.addresses;
    await eventually(async () => {
      await expect(fetch(`http://${user}/livez`)).rejects.toMatchObject({ cause: { code: 'ECONNREFUSED' } });
    });
    expect(stuck.running).toBe(true);
    const before = performance.now();
    process.kill(stuck.pid, 'SIGTERM');
    expect(await stuck.ended).toBe(1);
    expect(performance.now() - before).toBeLessThan(2_000);
    await cutOff;
    const log = await readFile(join(directory, 'log'), 'utf8');
    expect(log).toContain('second signal');
    expect(await leaksIn(log, join(directory, 'data'))).toEqual([]);
  });
});
