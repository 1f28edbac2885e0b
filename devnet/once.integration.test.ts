/** `npm start` as a newcomer runs it: as a child process, with real nodes, and its snippets pasted into a shell. */
import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { describe, expect, onTestFinished, test } from 'vitest';

const MAIN = join(import.meta.dirname, 'main.ts');
const ROOT = join(import.meta.dirname, '..');
const run = promisify(execFile);

interface Started {
  readonly child: ChildProcess;
  /** All output so far. */
  readonly output: () => string;
  /** Resolves with all output so far once the pattern is in it. */
  readonly until: (pattern: RegExp) => Promise<string>;
  readonly exited: Promise<[code: number | null, signal: string | null]>;
}

function start(...args: string[]): Started {
  const { PATH = '', HOME = '' } = process.env;
  const child = spawn(process.execPath, [MAIN, ...args], { env: { PATH, HOME }, cwd: ROOT });
  onTestFinished(() => void child.kill('SIGKILL'));
  let text = '';
  let waiting: { pattern: RegExp; resolve: (text: string) => void; reject: (error: Error) => void }[] = [];
  for (const stream of [child.stdout, child.stderr]) {
    stream.on('data', (chunk: Buffer) => {
      text += chunk.toString();
      for (const { pattern, resolve } of waiting) if (pattern.test(text)) resolve(text);
      waiting = waiting.filter(({ pattern }) => !pattern.test(text));
    });
  }
  const exited = once(child, 'close') as Promise<[number | null, string | null]>;
  void exited.then(() => {
    for (const { reject } of waiting) reject(new Error(`it ended before:\n${text}`));
  });
  return {
    child,
    output: () => text,
    until(pattern) {
      if (pattern.test(text)) return Promise.resolve(text);
      const { promise, resolve, reject } = Promise.withResolvers<string>();
      waiting.push({ pattern, resolve, reject });
      return promise;
    },
    exited,
  };
}

async function directory(): Promise<string> {
  const made = await mkdtemp(join(tmpdir(), 'orderflow-test-'));
  onTestFinished(() => rm(made, { recursive: true, force: true }));
  return made;
}

async function refusesConnections(url: string): Promise<boolean> {
  const { hostname, port } = new URL(url);
  const socket = connect(Number(port), hostname);
  const { promise, resolve } = Promise.withResolvers<boolean>();
  socket.once('connect', () => resolve(false));
  socket.once('error', () => resolve(true));
  const refused = await promise;
  socket.destroy();
  return refused;
}

function between(text: string, from: string, to: string): string {
  const start = text.indexOf(from);
  const end = text.indexOf(to, start);
  expect(start).toBeGreaterThanOrEqual(0);
  expect(end).toBeGreaterThan(start);
  return text.slice(start, end + to.length);
}

describe('npm start -- --once', () => {
  test('proves a network of three nodes with a hundred orders', async () => {
    const { exited, output } = start('--once');
    const [code] = await exited;
    expect(output()).toContain('all 100 orders reached every builder exactly once');
    expect(output()).toMatch(/^node-1 +34 +34 +100\/100 +34\/34$/m);
    expect(output()).toMatch(/^node-3 +33 +33 +100\/100 +33\/33$/m);
    expect(code).toBe(0);
  });

  test('works again in the same directory, with the same nodes', async () => {
    const data = await directory();
    const certificates: string[] = [];
    for (let round = 0; round < 2; round++) {
      const { exited, output } = start('--once', '--nodes', '2', '--data', data);
      expect([await exited, output()]).toEqual([[0, null], expect.stringContaining('all 100 orders')]);
      certificates.push(await readFile(join(data, 'node-1.pem'), 'utf8'));
    }
    expect(certificates[1]).toBe(certificates[0]);
  });
});

describe('npm start', () => {
  test('runs until it is interrupted; its snippets work as they are printed; nothing is left behind', async () => {
    const { child, until, exited } = start('--nodes', '2', '--rate', '50');
    const text = await until(/users=\d{2,} .*archive=\d{2,}.* \| node-2 users=\d{2,}/);
    expect(text).toContain('failed=0');
    expect(text).not.toContain('\u001b');

    const curl = between(text, 'curl --cacert', "}'");
    const posted = await run('/bin/sh', ['-c', curl], { cwd: ROOT });
    expect(JSON.parse(posted.stdout)).toMatchObject({
      result: { bundleHash: expect.stringMatching(/^0x[\da-f]{64}$/) },
    });

    const viem = between(text, 'NODE_EXTRA_CA_CERTS', '\nEND');
    const made = await run('/bin/sh', ['-c', viem], { cwd: ROOT });
    expect(made.stdout).toMatch(/bundleHash: '0x[\da-f]{64}'/);

    const urls = [...text.matchAll(/^(?:hub|node-\d) +(https?:\S+)/gm)].map(([, url]) => url ?? '');
    expect(urls).toHaveLength(3);
    child.kill('SIGINT');
    expect(await exited).toEqual([0, null]);
    for (const url of urls) expect(await refusesConnections(url)).toBe(true);
  });

  test('takes its nodes with it when it is killed', async () => {
    const { child, until } = start('--nodes', '1', '--rate', '1', '--data', await directory());
    const text = await until(/users=\d/);
    const url = /^node-1 +(https:\S+)/m.exec(text)?.[1] ?? '';
    expect(await refusesConnections(url)).toBe(false);
    child.kill('SIGKILL');
    await expect.poll(() => refusesConnections(url), { timeout: 15_000 }).toBe(true);
  });

  test('says what it does not take', async () => {
    for (const [args, message] of [
      [['--nodes', '0'], '--nodes must be a whole number from 1 to 50, got 0'],
      [['--rate', 'x'], '--rate must be a whole number'],
      [['--nonsense'], "Unknown option '--nonsense'"],
    ] as const) {
      const { exited, output } = start(...args);
      expect(await exited).toEqual([2, null]);
      expect(output()).toContain(message);
    }
    const help = start('--help');
    expect(await help.exited).toEqual([0, null]);
    expect(help.output()).toContain('--once');
  });

  test('--node runs a production node with the flags that follow', async () => {
    const { exited, output } = start('--node', '--help');
    expect(await exited).toEqual([0, null]);
    expect(output()).toContain('--user-listen-addr');
  });
});
