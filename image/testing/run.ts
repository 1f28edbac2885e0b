/**
 * `npm run test:image`: fetches what the locks name, then builds, boots and attacks the image in a network namespace
 * with loopback alone. Ends with `N passed, N failed`; what is missing on the machine fails, nothing is skipped.
 */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { locksOf, toolsOf } from '../build/build.ts';
import { fetchDebian, fetchNpm, StaleLock } from '../build/fetch.ts';
import { progressToStderr } from '../build/progress.ts';
import { defaultStore } from '../build/store.ts';
import { runInside } from '../vm/namespace.ts';

const SOURCES = dirname(dirname(import.meta.dirname));
const progress = progressToStderr();
const store = defaultStore();
const { tools: toolsLock, root, npm } = locksOf(SOURCES, 'devnet');
try {
  await fetchDebian(store, toolsLock.file, toolsLock.lock, progress);
  await fetchDebian(store, root.file, root.lock, progress);
  await fetchNpm(store, npm.lock, progress);
} catch (error) {
  if (!(error instanceof StaleLock)) throw error;
  process.stdout.write(`${error.message}\n\n0 passed, 1 failed\n`);
  process.exit(1);
}
const tools = await toolsOf(store, toolsLock.lock, progress);

const folder = mkdtempSync(join(tmpdir(), 'image-test-'));
const report = join(folder, 'report.json');
try {
  const vitest = join(SOURCES, 'node_modules/vitest/vitest.mjs');
  const reporters = ['--reporter=verbose', '--reporter=json', `--outputFile.json=${report}`];
  const config = ['--config', join(SOURCES, 'image/vitest.config.ts')];
  const status = runInside(tools, [vitest, 'run', ...config, ...reporters, ...process.argv.slice(2)]);
  const { numTotalTests, numPassedTests } = JSON.parse(readFileSync(report, 'utf8')) as {
    numTotalTests: number;
    numPassedTests: number;
  };
  const failed = Math.max(numTotalTests - numPassedTests, status === 0 && numTotalTests > 0 ? 0 : 1);
  process.stdout.write(`\n${numPassedTests} passed, ${failed} failed\n`);
  process.exitCode = failed === 0 ? 0 : 1;
} finally {
  rmSync(folder, { recursive: true, force: true });
}
