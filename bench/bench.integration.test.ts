/** The whole bench in small: every part with a real node, a report from it, and two reports compared. */
import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { expect, onTestFinished, test } from 'vitest';
import { freePorts } from '../devnet/ports.ts';
import { type Bench, benchAndPublish } from './command.ts';
import { measureAll, type Plan, QUICK } from './commands/all.ts';
import { measureAttested } from './commands/attested.ts';
import { casesOf, measureLoad } from './commands/load.ts';
import { publish } from './publish.ts';
import { readReport, surroundings } from './report.ts';
import { openLab } from './rig.ts';
import { REFERENCE, type Yardstick } from './yardstick.ts';

const MAIN = join(import.meta.dirname, 'main.ts');

const TINY: Plan = {
  load: {
    cases: casesOf([1], ['http', 'h2'], [1]),
    connections: 8,
    warmUp: 60,
    closed: { orders: 200, bodyBytes: 2_000 },
    open: { rate: 100, seconds: 1, bodyBytes: 'field' },
    repeats: 1,
    profiled: 200,
  },
  limit: { ...QUICK.limit, boundMs: 10_000, start: 100, most: 200, seconds: 0.5 },
  saturation: {
    ...QUICK.saturation,
    base: 100,
    times: [1, 3],
    seconds: 0.5,
    connections: 8,
    inFlight: 4,
    leastGoodput: 0,
    mostP99Ms: 60_000,
  },
  burst: {
    connections: 40,
    each: 2,
    steadyRate: 50,
    warmUp: 200,
    first: false,
    transports: ['https'],
    repeats: 1,
  },
  soak: { seconds: 6, rate: 100, peers: 0, bodyBytes: 2_000 },
  micro: { only: 'dedupe', measureMs: 5, repeats: 1 },
};

async function folder(): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), 'orderflow-bench-test-'));
  onTestFinished(() => rm(directory, { recursive: true, force: true }));
  return directory;
}

/** As of a machine that takes twice as long as the reference machine, whatever this one takes. */
const HALF_AS_FAST: Yardstick = Object.fromEntries(
  Object.entries(REFERENCE).map(([name, us]) => [name, us * 2]),
);

function bench(): Bench {
  const lab = openLab();
  onTestFinished(() => lab.close());
  return { lab, seed: 'bench test', yardstick: HALF_AS_FAST, env: {}, say: () => {} };
}

/** Seconds when nobody else is at work; many nodes are started one after the other. */
const PATIENCE_MS = 300_000;

test('every part runs, loses nothing, and becomes a page and a file that compare reads', {
  timeout: PATIENCE_MS,
}, async () => {
  const sections = await measureAll(bench(), TINY, Object.keys(TINY));
  expect(sections.map(({ id }) => id)).toEqual([
    'load',
    'cpu',
    'limit',
    'saturation',
    'burst',
    'soak',
    'micro',
  ]);
  // All that a busy machine can be blamed for is time.
  expect(sections.flatMap(({ faults }) => faults)).toEqual([]);
  const figures = new Map(
    sections.flatMap((section) => section.figures.map((one) => [one.name, one.samples])),
  );
  for (const name of [
    'http, 1 peers, 1 shards: orders/s, closed loop',
    'http, 1 peers, 1 shards: CPU per order, open loop',
    'http, 1 peers, 1 shards: user → slowest peer p99',
    'h2, 1 peers, 1 shards: user → builder p99.9',
    'http, 1 peers, 1 shards: event loop delay p99, open loop',
    'http, 0 peers: orders/s at p99 ≤ 10000 ms',
    'saturation 3 ×: sent → answer p99',
    '40 new connections, https: steady → answer p99',
    'dedupe: look up, add, evict: ring of digests',
  ]) {
    expect(figures.get(name)?.[0], name).toBeGreaterThan(0);
  }
  const stages = sections[1]?.charts.find(({ title }) => title.startsWith('CPU per order by stage'));
  const named = stages?.kind === 'stacked' ? stages.bars[0]?.parts.map(({ name }) => name) : [];
  // Of so few orders the archive may be less than what a bar shows.
  expect(named).toContain('signature check');
  // All of a report is set against one yardstick: nothing in it measures the machine once more.
  const closed = sections[0]?.tables[0];
  expect(closed?.headings.slice(2, 4)).toEqual(['CPU µs/order', 'on the reference machine']);
  for (const row of closed?.rows ?? []) expect(row[3]).toBe(Number(row[2]) / 2);
  const memory = sections[0]?.charts.find(({ title }) => title.includes('memory'));
  expect(memory?.kind === 'lines' && memory.series.every(({ points }) => points.length > 0)).toBe(true);

  const directory = await folder();
  const report = { ...surroundings('bench test'), sections };
  const base = join(directory, 'a');
  const printed: string[] = [];
  expect(await publish(report, { directory, name: 'a', print: (text) => printed.push(text) })).toBe(0);
  expect(printed.join('')).toContain('ONE NODE UNDER LOAD');
  expect(await readReport(`${base}.json`)).toEqual(JSON.parse(JSON.stringify(report)));
  expect(await readFile(`${base}.html`, 'utf8')).not.toMatch(/NaN|undefined|Infinity/);
  const compared = await promisify(execFile)(process.execPath, [
    MAIN,
    'compare',
    `${base}.json`,
    `${base}.json`,
  ]);
  expect(compared.stdout).toMatch(/\d+ of \d+ figures have too few runs to tell/);
});

test('the yardstick that a measurement is given is the one in the report', {
  timeout: PATIENCE_MS,
}, async () => {
  const out = join(await folder(), 'a');
  let given: Yardstick | null = null;
  await benchAndPublish({ seed: 'bench test', set: [], out }, ({ yardstick }) => {
    given = yardstick;
    return Promise.resolve([]);
  });
  expect((await readReport(`${out}.json`)).yardstick).toEqual(given);
});

test('any other node runs under the same load: started with the environment that is printed', {
  timeout: PATIENCE_MS,
}, async () => {
  const directory = await folder();
  const [user = 0, system, cert, metrics] = await freePorts(4);
  const data = join(directory, 'data');
  const said: string[] = [];
  const [load] = await measureLoad(
    { ...bench(), say: (text) => said.push(text) },
    {
      ...TINY.load,
      cases: casesOf([1], ['http'], []),
      profiled: 0,
      foreign: {
        url: `http://127.0.0.1:${user}`,
        h2: false,
        say: (text) => said.push(text),
        startCommand: `${process.execPath} ${join(MAIN, '..', '..', 'main.ts')} --data-dir ${data} --peer-poll-sec 1 --system-listen-addr 127.0.0.1:${system} --cert-listen-addr 127.0.0.1:${cert} --metrics-addr 127.0.0.1:${metrics} > /dev/null`,
      },
    },
  );
  expect(existsSync(data)).toBe(true);
  expect(load?.faults).toEqual([]);
  const printed = said.join('\n');
  expect(printed).toMatch(/BUILDER_ENDPOINT=http:\/\/127\.0\.0\.1:\d+\n/);
  expect(printed).toMatch(/BUILDERHUB_ENDPOINT=.*\/as\/node\n/);
  const names = load?.figures.map(({ name }) => name) ?? [];
  expect(names).toContain('http, 1 peers: user → slowest peer p99');
  // Its process is known; what goes on inside is not.
  expect(names).toContain('http, 1 peers: CPU per order, closed loop');
  expect(names.filter((name) => name.includes('event loop'))).toEqual([]);
});

test('wrong options end with 2 and say which', async () => {
  const run = (...args: string[]) =>
    promisify(execFile)(process.execPath, [MAIN, ...args]).catch((error: unknown) => error);
  expect(await run('load', '--peers', 'x')).toMatchObject({
    code: 2,
    stderr: expect.stringContaining('--peers'),
  });
  expect(await run('nonsense')).toMatchObject({
    code: 2,
    stdout: expect.stringContaining('no subcommand nonsense'),
  });
  expect(await run('soak', '--help')).toMatchObject({ stdout: expect.stringContaining('--minutes') });
});

test('attested TLS beside plain TLS: six kinds, each with its figures', async () => {
  const plan = { handshakes: 4, requests: 6, concurrency: 2, repeats: 2 };
  const { figures, tables } = await measureAttested(plan, () => {});
  expect(tables.map(({ rows }) => rows.length)).toEqual([3, 3]);
  expect(figures).toHaveLength(12);
  for (const { samples } of figures) {
    expect(samples).toHaveLength(2);
    for (const sample of samples) expect(sample).toBeGreaterThan(0);
  }
});
