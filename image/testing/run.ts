/**
 * `npm run test:image [-- FILTER…]`: fetches what the locks name, builds the image, then boots and attacks it. Builds
 * and tests run in network namespaces with loopback alone. Ends with `N passed, N failed`; what is missing on the
 * machine fails, nothing is skipped.
 *
 * Two machines run at a time, each with a namespace of its own: the tests that keep one for long beside all others.
 */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { locksOf, toolsOf } from '../build/build.ts';
import { fetchDebian, fetchNpm, StaleLock } from '../build/fetch.ts';
import { progressToStderr } from '../build/progress.ts';
import { defaultStore } from '../build/store.ts';
import { runInside } from '../vm/namespace.ts';
import { testImage } from './paths.ts';

const SOURCES = dirname(dirname(import.meta.dirname));
const LONG = ['image/vm/boot.image.test.ts', 'image/vm/refusals.image.test.ts'];
const progress = progressToStderr();
const store = defaultStore();
const started = performance.now();

interface Counts {
  readonly passed: number;
  readonly failed: number;
}

/** @throws StaleLock naming the packages that are neither in the store nor to be had any more */
async function fetchAll(): Promise<string> {
  const { tools, root, npm } = locksOf(SOURCES, 'devnet');
  await fetchDebian(store, tools.file, tools.lock, progress);
  await fetchDebian(store, root.file, root.lock, progress);
  await fetchNpm(store, npm.lock, progress);
  return toolsOf(store, tools.lock, progress);
}

/** @param name of its report */
async function vitest(
  tools: string,
  folder: string,
  name: string,
  args: readonly string[],
  output?: (chunk: Buffer) => void,
): Promise<Counts> {
  const report = join(folder, `${name}.json`);
  const program = join(SOURCES, 'node_modules/vitest/vitest.mjs');
  const config = ['--config', join(SOURCES, 'image/vitest.config.ts')];
  const reporters = ['--reporter=verbose', '--reporter=json', `--outputFile.json=${report}`];
  const status = await runInside(tools, [program, 'run', ...config, ...reporters, ...args], output);
  try {
    const found = JSON.parse(readFileSync(report, 'utf8')) as {
      numTotalTests: number;
      numPassedTests: number;
    };
    const { numTotalTests: total, numPassedTests: passed } = found;
    // A file that does not load has no test to fail, and an unhandled error fails the run alone.
    return { passed, failed: Math.max(total - passed, status === 0 && total > 0 ? 0 : 1) };
  } catch (error) {
    process.stderr.write(`no report from vitest: ${String(error)}\n`);
    return { passed: 0, failed: 1 };
  }
}

async function testAll(tools: string, filters: readonly string[]): Promise<Counts[]> {
  const folder = mkdtempSync(join(tmpdir(), 'image-test-'));
  try {
    if (filters.length > 0) return [await vitest(tools, folder, 'some', filters)];
    const kept: Buffer[] = [];
    const counts = await Promise.all([
      vitest(tools, folder, 'long', LONG),
      vitest(
        tools,
        folder,
        'others',
        LONG.flatMap((file) => ['--exclude', file]),
        (chunk) => kept.push(chunk),
      ),
    ]);
    process.stdout.write(Buffer.concat(kept));
    return counts;
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

async function run(): Promise<Counts[]> {
  let tools: string;
  try {
    tools = await fetchAll();
  } catch (error) {
    if (!(error instanceof StaleLock)) throw error;
    process.stdout.write(`${error.message}\n`);
    return [{ passed: 0, failed: 1 }];
  }
  const build = [join(SOURCES, 'image/main.ts'), 'build', '--out', testImage(store)];
  if ((await runInside(tools, build)) !== 0) return [{ passed: 0, failed: 1 }];
  return testAll(tools, process.argv.slice(2));
}

const counts = await run();
const sum = (pick: (one: Counts) => number): number => counts.reduce((total, one) => total + pick(one), 0);
const failed = sum((one) => one.failed);
process.stdout.write(`\nimage: ${((performance.now() - started) / 1000).toFixed(0)} s\n`);
process.stdout.write(`${sum((one) => one.passed)} passed, ${failed} failed\n`);
process.exitCode = failed === 0 ? 0 : 1;
