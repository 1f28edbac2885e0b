/** The commands as a shell runs them: exit codes, help, closed pipes, interruption. */
import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { describe, expect, onTestFinished, test } from 'vitest';
import { order, range } from './testing/orders.ts';
import { append, openTestSpool, temporaryFolder } from './testing/spool.ts';

const MAIN = join(import.meta.dirname, 'main.ts');

/** Runs the archive command in a process of its own. */
async function archive(...args: string[]) {
  const run = promisify(execFile)(process.execPath, [MAIN, ...args]);
  return run.then(
    ({ stdout, stderr }) => ({ code: 0, stdout, stderr }),
    (failure: { code: number; stdout: string; stderr: string }) => failure,
  );
}

async function filled(count: number, bytes: number): Promise<string> {
  const dir = temporaryFolder();
  const spool = await openTestSpool(dir);
  await Promise.all(range(1, count).map((n) => append(spool, order(n, bytes))));
  await spool.close();
  return dir;
}

describe('the archive command', () => {
  test.each([
    ['--help'],
    ['tail', '--help'],
    ['export', '-h'],
    ['verify', '--help'],
    ['replay', '--help'],
    ['stats', '-h'],
  ])('%s %s', async (...args) => {
    const { code, stdout, stderr } = await archive(...args);
    expect([code, stderr]).toEqual([0, '']);
    expect(stdout).toMatch(/^Usage: npm run archive -- /);
  });

  test('an archive that is whole: 0, and nothing on standard error', async () => {
    const { code, stdout, stderr } = await archive('verify', '--no-inspect', '--dir', await filled(20, 10));
    expect([code, stderr]).toEqual([0, '']);
    expect(stdout).toMatch(/\n20 orders, 1 segment, .*\nall is well\n$/);
  });

  test('wrong usage: 2', async () => {
    expect(await archive()).toMatchObject({
      code: 2,
      stderr: expect.stringContaining('a command is missing'),
    });
    expect(await archive('fish')).toMatchObject({
      code: 2,
      stderr: expect.stringContaining("unknown command 'fish'"),
    });
    expect(await archive('verify', '--fish')).toMatchObject({
      code: 2,
      stderr: "archive verify: Unknown option '--fish' (verify --help tells the options)\n",
    });
  });

  test('a reader that has enough (| head) ends it quietly', async () => {
    const dir = await filled(500, 4000);
    const child = spawn(process.execPath, [MAIN, 'export', '--no-inspect', '--dir', dir], {
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    onTestFinished(() => void child.kill('SIGKILL'));
    let complaints = '';
    child.stderr.on('data', (chunk) => {
      complaints += chunk;
    });
    await once(child.stdout, 'readable');
    child.stdout.destroy();
    const [code] = await once(child, 'close');
    expect([code, complaints]).toEqual([0, '']);
  });

  test('Ctrl-C ends following: 0', async () => {
    const dir = await filled(5, 10);
    const child = spawn(process.execPath, [MAIN, 'tail', '--dir', dir], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    onTestFinished(() => void child.kill('SIGKILL'));
    await once(child.stdout, 'readable');
    child.kill('SIGINT');
    const [code] = await once(child, 'exit');
    expect(code).toBe(0);
  });
});
