/**
 * `npm run test:image [-- FILTER…]`: fetches what the locks name, builds the image, then boots and attacks it. Builds
 * and tests run in network namespaces with loopback alone. Ends with `N passed, N failed`; what is missing on the
 * machine fails, nothing is skipped. The whole run leaves out testnet, which takes minutes and packages of its own.
 *
 * Two files run at a time, each with a namespace of its own, so two machines at most: as many as there are cores.
 */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, dirname, join } from 'node:path';
import { kafkaJars } from '../../egress/archive/testing/kafka-jars.ts';
import { locksOf, toolsOf } from '../build/build.ts';
import { fetchDebian, fetchNpm, StaleLock } from '../build/fetch.ts';
import { progressToStderr } from '../build/progress.ts';
import { defaultStore } from '../build/store.ts';
import { runInside } from '../vm/namespace.ts';

const SOURCES = dirname(dirname(import.meta.dirname));
/** Files that boot machines, longest first: so both lanes end at about the same time. The others come last. */
const BOOTING = ['boot', 'refusals', 'production', 'tamper', 'changed'].map(
  (name) => `image/vm/${name}.image.test.ts`,
);
/** Only when it is asked for, by this word among the filters. */
const ON_DEMAND = 'testnet';
const LANES = 2;
const progress = progressToStderr();
const store = defaultStore();
const started = performance.now();

interface Counts {
  readonly passed: number;
  readonly failed: number;
}

/** @throws Error when there can be no broker; StaleLock naming the packages that are neither in the store nor to be had any more */
async function fetchAll(filters: readonly string[]): Promise<string> {
  const { tools, root, npm } = locksOf(SOURCES, 'devnet');
  await fetchDebian(store, tools.file, tools.lock, progress);
  await fetchDebian(store, root.file, root.lock, progress);
  if (filters.includes(ON_DEMAND)) {
    const debug = locksOf(SOURCES, 'debug').root;
    await fetchDebian(store, debug.file, debug.lock, progress);
  }
  await fetchNpm(store, npm.lock, progress);
  // Of the broker outside: where tests run there is no network.
  await kafkaJars();
  return toolsOf(store, tools.lock, progress);
}

/**
 * Runs tests with a line for each that has ended and for what it saw, each line with their name in front.
 * @param folder for their report
 */
async function vitest(tools: string, folder: string, name: string, args: readonly string[]): Promise<Counts> {
  const report = join(folder, `${name}.json`);
  const program = join(SOURCES, 'node_modules/vitest/vitest.mjs');
  const config = ['--config', join(SOURCES, 'image/vitest.config.ts')];
  const reporters = ['--reporter=verbose', '--reporter=json', `--outputFile.json=${report}`];
  const decoder = new TextDecoder();
  let unfinished = '';
  const say = (text: string): boolean => process.stdout.write(`${name} | ${text}\n`);
  const status = await runInside(tools, [program, 'run', ...config, ...reporters, ...args], (chunk) => {
    const lines = `${unfinished}${decoder.decode(chunk, { stream: true })}`.split('\n');
    unfinished = lines.pop() ?? '';
    for (const line of lines) say(line);
  });
  if (unfinished !== '') say(unfinished);
  try {
    const found = JSON.parse(readFileSync(report, 'utf8')) as {
      numTotalTests: number;
      numPassedTests: number;
    };
    const { numTotalTests: total, numPassedTests: passed } = found;
    // A file that does not load has no test to fail, and an unhandled error fails the run alone.
    return { passed, failed: Math.max(total - passed, status === 0 && total > 0 ? 0 : 1) };
  } catch (error) {
    say(`no report from vitest: ${String(error)}`);
    return { passed: 0, failed: 1 };
  }
}

async function testAll(tools: string, folder: string, filters: readonly string[]): Promise<Counts[]> {
  if (filters.length > 0) return [await vitest(tools, folder, 'some', filters)];
  const others = [...BOOTING, `image/vm/${ON_DEMAND}.image.test.ts`].flatMap((file) => ['--exclude', file]);
  const waiting = [
    ...BOOTING.map((file) => ({ name: basename(file, '.image.test.ts'), args: [file] })),
    { name: 'others', args: others },
  ];
  const counts: Counts[] = [];
  const lane = async (): Promise<void> => {
    for (let next = waiting.shift(); next !== undefined; next = waiting.shift()) {
      const begun = performance.now();
      counts.push(await vitest(tools, folder, next.name, next.args));
      process.stdout.write(`${next.name} | ${((performance.now() - begun) / 1000).toFixed(0)} s\n`);
    }
  };
  await Promise.all(Array.from({ length: LANES }, lane));
  return counts;
}

async function run(): Promise<Counts[]> {
  let tools: string;
  try {
    tools = await fetchAll(process.argv.slice(2));
  } catch (error) {
    if (!(error instanceof StaleLock)) throw error;
    process.stdout.write(`${error.message}\n`);
    return [{ passed: 0, failed: 1 }];
  }
  // Of this run alone: another beside it has its own.
  const folder = mkdtempSync(join(tmpdir(), 'image-test-'));
  try {
    const image = join(folder, 'devnet');
    if ((await runInside(tools, [join(SOURCES, 'image/main.ts'), 'build', '--out', image])) !== 0)
      return [{ passed: 0, failed: 1 }];
    process.env.IMAGE_UNDER_TEST = image;
    return await testAll(tools, folder, process.argv.slice(2));
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

const counts = await run();
const sum = (pick: (one: Counts) => number): number => counts.reduce((total, one) => total + pick(one), 0);
const failed = sum((one) => one.failed);
process.stdout.write(`\nimage: ${((performance.now() - started) / 1000).toFixed(0)} s\n`);
process.stdout.write(`${sum((one) => one.passed)} passed, ${failed} failed\n`);
process.exitCode = failed === 0 ? 0 : 1;
