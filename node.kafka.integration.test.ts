/** A whole node with a broker behind its archive: what it acknowledges is shipped, and what happens when the broker is gone. */
import { expect, onTestFinished, test } from 'vitest';
import { createOrderSource } from './devnet/orders.ts';
import { decodeCheckpoint, isSignedByNode } from './egress/archive/checkpoint.ts';
import { startKafka } from './egress/archive/testing/kafka.ts';
import { kafkaOptions, readPartition } from './egress/archive/testing/shipping.ts';
import { SignatureVerifier } from './identity/signature.ts';
import { connectSystem } from './testing/clients.ts';
import { bodiesOf, canonicalOf, eventually, startTestNode, startTestPeer } from './testing/harness.ts';
import { startHubFront } from './testing/hub-front.ts';

const BEHIND = 'the brokers of the archive are behind, try again later';

test('acknowledged orders go to Kafka; with the broker away users are told, peers and builder go on, and it resumes', async () => {
  const kafka = await startKafka();
  onTestFinished(() => kafka.close());
  const hub = await startHubFront();
  const peer = await startTestPeer(hub, 'peer');
  const node = await startTestNode(hub, 'a', {
    flags: Object.entries({
      '--kafka-brokers': kafka.brokers.join(','),
      '--kafka-tls': 'false',
      '--kafka-topic': 'archive',
      '--kafka-topic-partitions': '1',
      '--kafka-topic-replication': '1',
      '--kafka-topic-min-insync': '1',
      '--archive-unshipped-max-sec': '4',
      '--archive-checkpoint-sec': '1',
    }).flat(),
  });
  await node.connectedTo('peer', 'local-builder');
  await eventually(async () =>
    expect(await node.metric('orderflow_archive_shipped_total')).toBeGreaterThan(0),
  );
  const source = createOrderSource({ seed: 'kafka', methods: 'bundles', bodyBytes: 800 });
  const first = Array.from({ length: 30 }, () => source.next());
  await node.sendAll(first);
  await eventually(async () =>
    expect(await node.metric('orderflow_archive_shipped_total')).toBeGreaterThan(first.length),
  );

  await kafka.node(1).kill();
  const during = [source.next()];
  await node.sendAll(during);
  await eventually(async () => expect((await node.readyz()).missing).toContain(BEHIND));
  expect(await node.send(source.next())).toEqual({ status: 503, error: { code: -32005, message: BEHIND } });
  expect(await node.metric('orderflow_archive_accepting')).toBe(0);
  expect(await node.metric('orderflow_archive_unshipped_bytes')).toBeGreaterThan(0);
  expect(await node.metric('orderflow_rejected_total', { kind: 'archive_unavailable' })).toBe(1);
  // A peer's order goes to the builder all the same.
  const ofPeer = source.next();
  const system = await connectSystem(node.systemPort);
  const { canonical } = ofPeer;
  expect(await system.send({ body: canonical, signature: peer.signer.sign(canonical) })).toMatchObject({
    status: 200,
    result: { bundleHash: ofPeer.hash },
  });

  await kafka.node(1).restart();
  const after = source.next();
  await eventually(async () => expect((await node.readyz()).missing).not.toContain(BEHIND));
  await node.sendAll([after]);
  // What a broker that has just begun again is slow with is not left to the end of the node.
  await eventually(async () => expect(await node.metric('orderflow_archive_unshipped_bytes')).toBe(0));
  await node.close();
  const owned = [...first, ...during, after];
  expect(bodiesOf(node.builder)).toEqual(canonicalOf([...owned, ofPeer]));

  const { records, problems } = await readPartition(kafkaOptions(kafka.brokers, 'archive'), 0);
  expect(problems).toEqual([]);
  const archived = records.filter(({ method }) => method !== null);
  expect(archived.map(({ value }) => value.toString())).toEqual(
    owned.map((order) => order.canonical.toString()),
  );
  const verifier = new SignatureVerifier({ cacheSize: 16 });
  const checkpoints = records.filter(({ control }) => control === 'checkpoint');
  // The last record vouches for all before it.
  expect(checkpoints.at(-1)).toBe(records.at(-1));
  for (const { value, sequence } of checkpoints) {
    const checkpoint = decodeCheckpoint(value)!;
    expect(checkpoint.s).toBe(sequence - 1);
    expect(isSignedByNode(checkpoint, (signature, text) => verifier.verify(signature, text))).toBe(true);
  }
});
