/**
 * `npm run bench`: orders per second, CPU per order and latency of one node with 0, 2 and 10 peers. The load
 * generator and the sinks run in processes of their own; all orders are made and signed before the timed part.
 *
 * Figures of one machine are for comparing on that machine: node, generator and sinks share its cores.
 */
import { mkdir, writeFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { startGuard } from '../devnet/guard.ts';
import { startChild } from './child.ts';
import type { LoadCalls } from './load.ts';
import { faults, type Report, renderReport, surroundings } from './report.ts';
import { runScenario } from './scenario.ts';
import type { SinksCalls } from './sinks.ts';

const HELP = `Usage: npm run bench -- [options]

  --quick           fewer orders, 0 and 2 peers
  --peers LIST      numbers of peers, one scenario each (default 0,2,10)
  --rate R          orders per second of the open loop (default 2000)
  --orders N        orders of the closed loop (default 30000)
  --seconds S       length of the open loop (default 10)
  --size BYTES      size of a request body, or "field" for the sizes seen in the field (default 3279)
  --connections N   connections of the load generator (default 64)
  --tls             HTTPS on the user API
  --seed TEXT       seed of the orders (default "bench")
  --set NAME=VALUE  a setting for the node, repeatable
  --profile         write a CPU profile of each node into bench/results/ (costs some speed)
  --entry FILE      main.ts of another checkout, to compare with
  --help            this text

Writes a JSON report into bench/results/. Exits with 1 when an order was lost, doubled or refused.
`;

const QUICK = { peers: '0,2', orders: '8000', seconds: '3' };
const RESULTS = join(import.meta.dirname, 'results');

const { values } = parseArgs({
  options: {
    quick: { type: 'boolean', default: false },
    peers: { type: 'string' },
    rate: { type: 'string', default: '2000' },
    orders: { type: 'string' },
    seconds: { type: 'string' },
    size: { type: 'string', default: '3279' },
    connections: { type: 'string', default: '64' },
    tls: { type: 'boolean', default: false },
    seed: { type: 'string', default: 'bench' },
    set: { type: 'string', multiple: true, default: [] },
    entry: { type: 'string' },
    profile: { type: 'boolean', default: false },
    help: { type: 'boolean', short: 'h', default: false },
  },
});

if (values.help) {
  process.stdout.write(HELP);
} else {
  process.exitCode = await bench();
}

async function bench(): Promise<number> {
  const rate = positive('--rate', values.rate);
  const closed = positive('--orders', values.orders ?? (values.quick ? QUICK.orders : '30000'));
  const open = rate * positive('--seconds', values.seconds ?? (values.quick ? QUICK.seconds : '10'));
  const warmUp = Math.min(3_000, closed);
  const peerCounts = (values.peers ?? (values.quick ? QUICK.peers : '0,2,10')).split(',').map(Number);
  const bodyBytes = values.size === 'field' ? 'field' : positive('--size', values.size);
  const connections = positive('--connections', values.connections);
  const entry = values.entry === undefined ? undefined : resolve(values.entry);
  const env = Object.fromEntries(values.set.map(settingOf));

  const guard = startGuard();
  const load = startChild<LoadCalls>(new URL('./load.ts', import.meta.url));
  const sinks = startChild<SinksCalls>(new URL('./sinks.ts', import.meta.url));
  try {
    const total = warmUp + closed + open;
    say(`making and signing ${total} orders`);
    const { seed } = values;
    const prepared = await load.call('prepare', { seed, bodyBytes, methods: 'bundles' }, total);
    const scenarios = [];
    for (const peers of peerCounts) {
      say(`${peers} peers: ${warmUp} orders to warm up, ${closed} in the closed loop, ${open} at ${rate}/s`);
      scenarios.push(
        await runScenario(
          { load, sinks, guard },
          {
            peers,
            connections,
            rate,
            warmUp,
            closed,
            open,
            tls: values.tls,
            env,
            ...(entry !== undefined && { entry }),
            ...(values.profile && { profileDirectory: RESULTS }),
          },
        ),
      );
    }
    const report: Report = {
      ...surroundings(),
      settings: {
        rate,
        size: bodyBytes,
        meanBytes: Math.round(prepared.meanBytes),
        connections,
        tls: values.tls,
        seed,
        ...(entry !== undefined && { entry }),
        ...env,
      },
      scenarios,
    };
    process.stdout.write(`\n${renderReport(report).join('\n')}\n`);
    await mkdir(RESULTS, { recursive: true });
    const file = join(RESULTS, `${report.startedAt.replaceAll(/[:.]/g, '-')}.json`);
    await writeFile(file, `${JSON.stringify(report, null, 2)}\n`);
    say(`\nreport: ${file}`);
    return scenarios.some((s) => faults('', s.closed).length + faults('', s.open).length > 0) ? 1 : 0;
  } finally {
    await Promise.all([load.close(), sinks.close()]);
    await guard.close();
  }
}

function say(text: string): void {
  process.stderr.write(`${text}\n`);
}

function positive(name: string, text: string): number {
  const value = Number(text);
  if (!Number.isInteger(value) || value <= 0)
    throw new RangeError(`${name} must be a positive whole number, got ${text}`);
  return value;
}

function settingOf(text: string): [string, string] {
  const [name, ...value] = text.split('=');
  if (name === undefined || name === '' || value.length === 0)
    throw new RangeError(`--set NAME=VALUE, got ${text}`);
  return [name, value.join('=')];
}
