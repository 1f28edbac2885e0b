/** Some rounds of archive-rounds.ts; a hundred are `npm run archive:rounds`. */
import { randomUUID } from 'node:crypto';
import { expect, onTestFinished, test } from 'vitest';
import { someKafka } from '../egress/archive/testing/kafka.ts';
import { temporaryFolder } from '../egress/archive/testing/spool.ts';
import { runRounds } from './archive-rounds.ts';

test('kill -9 of a node under load: nothing acknowledged is lost, nothing is doubled', async () => {
  const kafka = await someKafka();
  onTestFinished(() => kafka.close());
  const report = await runRounds({
    rounds: 4,
    seed: 'rounds',
    brokers: kafka.brokers,
    topic: `rounds-${randomUUID()}`,
    replicationFactor: 1,
    victim: null,
    directory: temporaryFolder(),
  });
  expect(report).toMatchObject({ rounds: 4, lost: 0, doubled: 0, problems: [] });
  expect(report.acknowledged).toBeGreaterThan(100);
});
