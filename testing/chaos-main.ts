/**
 * `node testing/chaos-main.ts [--seed S] [--seconds N] [--nodes N] [--rate R] [--env NAME=VALUE]… [--data DIR]`:
 * chaos.ts for as long as one likes, with settings for every node. Prints each blow, the figures and a verdict. The
 * files stay in the directory when it is given, or when something was found.
 *
 * Exit codes: 0 nothing was lost, 1 a fault, 2 wrong usage.
 */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { type ChaosReport, runChaos } from './chaos.ts';
import type { DeliveryFigures } from './chaos-verdict.ts';

/** Faults that are printed; one cause makes many. */
const MOST_FAULTS = 50;

type Numbers = [seconds: number, nodes: number, rate: number];

function wholeNumber(text: string): number {
  if (/^[1-9]\d{0,6}$/.test(text)) return Number(text);
  throw new Error(`--seconds, --nodes and --rate take whole numbers of at least 1, not ${text}`);
}

function readOptions() {
  try {
    const { values } = parseArgs({
      options: {
        seed: { type: 'string', default: String(Date.now()) },
        seconds: { type: 'string', default: '60' },
        nodes: { type: 'string', default: '3' },
        rate: { type: 'string', default: '100' },
        data: { type: 'string' },
        env: { type: 'string', multiple: true, default: [] },
      },
    });
    const [seconds, nodes, rate] = [values.seconds, values.nodes, values.rate].map(wholeNumber) as Numbers;
    const env = Object.fromEntries(values.env.map((pair) => pair.split(/=(.*)/s, 2) as [string, string]));
    return { seed: values.seed, seconds, nodes, rate, data: values.data, env };
  } catch (error) {
    console.error(error instanceof Error ? error.message : String(error));
    process.exit(2);
  }
}

function figureLines(report: ChaosReport): string[] {
  const outages = Object.entries(report.outages).map(([what, count]) => `${count} ${what}`);
  const share = ({ arrived, owed }: DeliveryFigures): string => `${arrived} of ${owed}`;
  return [
    `orders          ${report.sent} sent, ${report.acknowledged} acknowledged, ${report.retries} tries without an answer`,
    `archived        ${report.archived}, ${report.copiesInArchives} copies`,
    `outages         ${outages.join(', ')}`,
    `deliveries owed ${share(report.kept)} arrived where the sender lived (${share(report.keptThroughOutage)} through an outage)`,
    `                ${share(report.handed)} arrived where the sender was killed`,
    `not owed        ${share(report.exempt)} arrived`,
    `copies          ${report.copiesAtBuilders} at builders, of orders in flight`,
    `latest          ${(report.latestMs / 1000).toFixed(1)} s after it was due`,
    `slowest         start ${report.slowestStartMs.toFixed(0)} ms, stop ${report.slowestStopMs.toFixed(0)} ms`,
  ];
}

const options = readOptions();
const directory = options.data ?? (await mkdtemp(join(tmpdir(), 'orderflow-chaos-')));
console.log(`seed ${options.seed}, files in ${directory}`);
const report = await runChaos({ ...options, directory, progress: (line) => console.log(line) });
console.log(`\n${figureLines(report).join('\n')}\n`);
for (const fault of report.faults.slice(0, MOST_FAULTS)) console.log(`FAULT ${fault}`);
if (report.faults.length === 0) {
  console.log('nothing was lost');
  if (options.data === undefined) await rm(directory, { recursive: true, force: true });
} else {
  console.log(`${report.faults.length} faults; seed ${options.seed}, files in ${directory}`);
  process.exitCode = 1;
}
