import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Registry } from 'prom-client';
import { expect, test } from 'vitest';
import { startArchive } from './archive.ts';
import { SegmentScan } from './egress/archive/scan.ts';
import { HeaderProblem, listSegments } from './egress/archive/segment.ts';
import { recordedEvents, temporaryFolder } from './egress/archive/testing/spool.ts';
import { createSigner } from './identity/signature.ts';
import { readSettings } from './settings.ts';

const nothing = () => {};

function start(dir: string, env: Record<string, string>) {
  return startArchive(
    { dir, settings: readSettings([], env) },
    {
      signer: createSigner(Buffer.alloc(32, 5)),
      clock: () => Date.now() * 1000,
      registry: new Registry(),
      events: recordedEvents(),
      beforeCommit: nothing,
      shipping: {
        connected: nothing,
        skipped: nothing,
        trouble: nothing,
        topicCreated: nothing,
        topicDiffers: nothing,
        lost: nothing,
        deadLetter: nothing,
        unreadable: nothing,
      },
    },
  );
}

const BROKERS = { KAFKA_BROKERS: '127.0.0.1:1' };

test.each([
  [{ KAFKA_SASL: 'scram-sha-512', KAFKA_TLS: 'false' }, 'KAFKA_SASL: needs KAFKA_TLS'],
  [{ KAFKA_SASL: 'scram-sha-256' }, 'KAFKA_USERNAME and KAFKA_PASSWORD: needed for KAFKA_SASL'],
  [{ KAFKA_CERT_FILE: 'FILE' }, 'KAFKA_CERT_FILE and KAFKA_KEY_FILE: both or neither'],
  [{ KAFKA_CA_FILE: '/nowhere/ca.pem' }, 'KAFKA_CA_FILE: ENOENT'],
  [
    { KAFKA_TOPIC_MIN_INSYNC: '3', KAFKA_TOPIC_REPLICATION: '2' },
    'KAFKA_TOPIC_MIN_INSYNC: at most KAFKA_TOPIC_REPLICATION',
  ],
])('settings that do not go together: %j', async (env, message) => {
  const dir = temporaryFolder();
  const file = join(dir, 'file.pem');
  writeFileSync(file, 'PEM');
  const given = Object.entries(env).map(([name, value]) => [name, value === 'FILE' ? file : value]);
  await expect(start(join(dir, 'archive'), { ...BROKERS, ...Object.fromEntries(given) })).rejects.toThrow(
    message,
  );
});

test('the partition follows from the node alone, with brokers or without', async () => {
  const partitions = [];
  for (const env of [{}, BROKERS]) {
    const dir = temporaryFolder();
    const archive = await start(dir, { ...env, KAFKA_TOPIC_PARTITIONS: '1000' });
    expect(archive.accepting).toBe(true);
    expect(archive.state().unshipped === null).toBe(!('KAFKA_BROKERS' in env));
    await archive.close(0);
    const [segment] = await listSegments(dir);
    const scan = await SegmentScan.open(segment!.path);
    if (scan instanceof HeaderProblem) throw new Error(scan.message);
    partitions.push(scan.header.partition);
    await scan.close();
  }
  expect(partitions).toEqual([partitions[0], partitions[0]]);
  expect(partitions[0]).toBeGreaterThan(0);
});
