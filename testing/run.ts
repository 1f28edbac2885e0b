/**
 * `npm test`: type check, format and lint, then every test, then one closing summary. Fails when anything
 * failed, was skipped or did not run. The last line is `N passed, N failed`; a static check counts as one.
 *
 * Usage: node testing/run.ts [--static-only]
 */
import { spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

interface Outcome {
  readonly name: string;
  readonly passed: number;
  readonly failed: number;
  readonly skipped: number;
  readonly seconds: number;
}

/** The part of vitest's JSON report (jest's form) that is read here. */
interface VitestReport {
  readonly numTotalTests: number;
  readonly numPassedTests: number;
  readonly numFailedTests: number;
  readonly numFailedTestSuites: number;
}

const bin = (name: string) => join(import.meta.dirname, '..', 'node_modules', '.bin', name);

const CHECKS = [
  { name: 'types', command: bin('tsc'), args: [] },
  { name: 'format and lint', command: bin('biome'), args: ['check', '--error-on-warnings', '.'] },
  { name: 'lint with types', command: bin('oxlint'), args: ['--type-aware', '--deny-warnings'] },
  { name: 'unused code', command: bin('knip'), args: ['--no-progress'] },
];

function run(command: string, args: readonly string[]): Promise<number> {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, { stdio: 'inherit' });
    child.once('error', reject);
    child.once('exit', (code) => resolve(code ?? 1));
  });
}

async function check(name: string, command: string, args: readonly string[]): Promise<Outcome> {
  const start = performance.now();
  const ok = (await run(command, args)) === 0;
  const seconds = (performance.now() - start) / 1000;
  return { name, passed: ok ? 1 : 0, failed: ok ? 0 : 1, skipped: 0, seconds };
}

async function vitest(project: string): Promise<Outcome> {
  const directory = mkdtempSync(join(tmpdir(), 'orderflow-test-'));
  const file = join(directory, 'report.json');
  const start = performance.now();
  try {
    const reporters = ['--reporter=default', '--reporter=json', `--outputFile.json=${file}`];
    const code = await run(bin('vitest'), ['run', '--project', project, ...reporters]);
    const seconds = (performance.now() - start) / 1000;
    const report = readReport(file);
    if (report === null) return { name: project, passed: 0, failed: 1, skipped: 0, seconds };
    const { numTotalTests: total, numPassedTests: passed } = report;
    // A file that does not load has no tests to fail, and an unhandled error fails the run alone.
    const failed = Math.max(report.numFailedTests, code === 0 && total > 0 ? 0 : 1);
    return { name: project, passed, failed, skipped: total - passed - report.numFailedTests, seconds };
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

function readReport(file: string): VitestReport | null {
  try {
    return JSON.parse(readFileSync(file, 'utf8')) as VitestReport;
  } catch (error) {
    console.error(`no report from vitest: ${String(error)}`);
    return null;
  }
}

const outcomes: Outcome[] = [];
for (const { name, command, args } of CHECKS) outcomes.push(await check(name, command, args));
if (!process.argv.includes('--static-only')) {
  for (const project of ['unit', 'integration']) outcomes.push(await vitest(project));
}

const sum = (pick: (outcome: Outcome) => number) =>
  outcomes.reduce((total, outcome) => total + pick(outcome), 0);
const skipped = sum((outcome) => outcome.skipped);
console.log('\n');
for (const { name, passed, failed, seconds, skipped: some } of outcomes) {
  const verdict = failed > 0 || some > 0 ? 'FAILED' : 'ok';
  const counts = `${passed} passed${failed > 0 ? `, ${failed} failed` : ''}${some > 0 ? `, ${some} skipped` : ''}`;
  console.log(
    `  ${name.padEnd(18)}${verdict.padEnd(8)}${counts.padEnd(28)}${seconds.toFixed(1).padStart(7)} s`,
  );
}
if (skipped > 0) console.log(`\n  ${skipped} tests were skipped: that counts as a failure`);
const failed = sum((outcome) => outcome.failed) + skipped;
console.log(`\n${sum((outcome) => outcome.passed)} passed, ${failed} failed`);
process.exitCode = failed === 0 ? 0 : 1;
