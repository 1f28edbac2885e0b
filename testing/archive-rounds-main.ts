/**
 * `node testing/archive-rounds-main.ts [--rounds N] [--seed S]`: archive-rounds.ts against a broker of its own, or those of
 * KAFKA_BROKERS. Exit codes: 0 nothing was lost or doubled, 1 something was, 2 wrong usage.
 */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { startKafka } from '../egress/archive/testing/kafka.ts';
import { runRounds } from './archive-rounds.ts';

const { values } = parseArgs({
  options: {
    rounds: { type: 'string', default: '100' },
    seed: { type: 'string', default: String(Date.now()) },
  },
});
if (!/^[1-9]\d{0,5}$/.test(values.rounds)) {
  console.error(`--rounds: a whole number of at least 1, not ${values.rounds}`);
  process.exit(2);
}

const directory = await mkdtemp(join(tmpdir(), 'orderflow-rounds-'));
const named = (process.env.KAFKA_BROKERS ?? '').split(',').filter((name) => name !== '');
const kafka = named.length > 0 ? null : await startKafka();
try {
  console.log(`seed ${values.seed}`);
  const report = await runRounds({
    rounds: Number(values.rounds),
    seed: values.seed,
    brokers: kafka?.brokers ?? named,
    topic: `rounds-${values.seed}`,
    replicationFactor: 1,
    victim: kafka?.node(1) ?? null,
    directory,
    progress: (line) => console.log(line),
  });
  const { problems, ...figures } = report;
  for (const [name, figure] of Object.entries(figures)) console.log(`${name.padEnd(14)}${figure}`);
  for (const problem of problems.slice(0, 50)) console.log(`PROBLEM ${problem}`);
  process.exitCode = report.lost + report.doubled + problems.length === 0 ? 0 : 1;
} finally {
  await kafka?.close();
  await rm(directory, { recursive: true, force: true });
}
