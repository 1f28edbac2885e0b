import { readFileSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { temporaryDirectory } from '../testing/directory.ts';
import { runCommand } from './run-command.ts';

const never = new AbortController().signal;

const run = (argv: readonly string[], limits: { timeoutMs?: number; outputBytes?: number } = {}) =>
  runCommand(
    {
      argv,
      env: { PATH: '/usr/bin:/bin' },
      timeoutMs: limits.timeoutMs ?? 20_000,
      outputBytes: limits.outputBytes ?? 1024,
    },
    never,
  );
const shell = (script: string, limits?: { timeoutMs?: number; outputBytes?: number }) =>
  run(['/bin/sh', '-c', script], limits);

/** One that nobody has collected yet is dead all the same. */
function isAlive(pid: number): boolean {
  try {
    return !/\) [ZX] /.test(readFileSync(`/proc/${pid}/stat`, 'utf8'));
  } catch {
    return false;
  }
}

test('success, with what was written', async () => {
  expect(await shell('echo out; echo err >&2')).toEqual({ failure: null, stdout: 'out\n', stderr: 'err\n' });
});

test('arguments are what they are: no shell looks at them', async () => {
  const { stdout } = await run(['/usr/bin/printf', '%s|', '$HOME', '`id`', '; false', '*', '']);
  expect(stdout).toBe('$HOME|`id`|; false|*||');
});

test('no input, and no more of the environment than is given', async () => {
  const { stdout } = await shell('cat; env');
  expect(stdout).toContain('PATH=/usr/bin:/bin');
  expect(stdout).not.toContain('HOME=');
});

test.each([
  ['exit 3', 'exit status 3'],
  ['kill -9 $$', 'signal: killed'],
  ['kill -15 $$', 'signal: terminated'],
  ['kill -USR1 $$', 'signal: SIGUSR1'],
])('%s: %s', async (script, failure) => {
  expect((await shell(script)).failure).toBe(failure);
});

test('a program that is not there, or may not be run', async () => {
  const directory = await temporaryDirectory();
  const file = join(directory, 'file');
  await writeFile(file, 'text', { mode: 0o600 });
  expect((await run(['/no/such'])).failure).toBe('fork/exec /no/such: no such file or directory');
  expect((await run([file])).failure).toBe(`fork/exec ${file}: permission denied`);
  expect((await run([''])).failure).toMatch(/^fork\/exec/);
});

/** Long enough for a shell to begin on a busy machine. */
const SOME_MS = 2_000;

describe('bounds', () => {
  test('of time: the whole group goes', async () => {
    const { failure, stdout } = await shell('sleep 600 & echo $!; wait', { timeoutMs: SOME_MS });
    expect(failure).toBe(`timed out after ${SOME_MS} ms`);
    expect(isAlive(Number(stdout))).toBe(false);
  });

  test('of time, for who does not listen', async () => {
    const { failure, stdout } = await shell('trap "" TERM; sleep 600 & echo $$; wait; wait', {
      timeoutMs: SOME_MS,
    });
    expect(failure).toBe(`timed out after ${SOME_MS} ms`);
    expect(isAlive(Number(stdout))).toBe(false);
  });

  test('of time: who stays behind without listening, when the one that was started has gone', async () => {
    const script = '(trap "" TERM; exec sleep 600 >/dev/null 2>&1) & echo $!; wait';
    const { failure, stdout } = await shell(script, { timeoutMs: SOME_MS });
    expect(failure).toBe(`timed out after ${SOME_MS} ms`);
    await expect.poll(() => isAlive(Number(stdout)), { timeout: 15_000 }).toBe(false);
  });

  test('of output: what is kept is the beginning, and the flood ends', async () => {
    const { failure, stdout } = await shell('yes', { outputBytes: 1024 });
    expect(failure).toBe('wrote more than 1024 bytes');
    expect(stdout).toBe('y\n'.repeat(512));
    expect((await shell('yes >&2', { outputBytes: 1024 })).failure).toBe('wrote more than 1024 bytes');
  });

  test('exactly the limit is within it', async () => {
    expect((await shell('head -c 1024 /dev/zero', { outputBytes: 1024 })).failure).toBeNull();
  });

  test('one that left its group and holds the output is not waited for', async () => {
    const { failure, stdout } = await shell('setsid sleep 600 & echo $!; exit 0', { timeoutMs: SOME_MS });
    expect(failure).toBe(`timed out after ${SOME_MS} ms`);
    const left = Number(stdout);
    if (isAlive(left)) process.kill(left);
  });
});

test('a stop ends what runs', async () => {
  const stop = new AbortController();
  const running = runCommand(
    { argv: ['/bin/sleep', '600'], env: {}, timeoutMs: 20_000, outputBytes: 1 },
    stop.signal,
  );
  stop.abort();
  expect((await running).failure).toBe('the server stops');
});
