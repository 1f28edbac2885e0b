import { readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { PassThrough } from 'node:stream';
import { describe, expect, onTestFinished, test } from 'vitest';
import { collector, runCommand } from '../testing/command-run.ts';
import { order, range } from '../testing/orders.ts';
import { append, appendEach, openTestSpool, temporaryFolder } from '../testing/spool.ts';
import { type Command, UsageError } from './command.ts';
import { exportCommand } from './export.ts';
import { tailCommand } from './tail.ts';
import { verifyCommand } from './verify.ts';
import { archiveDir } from './where.ts';

/** A moment after the first 1000 test orders. */
const NOW = 1_750_000_000_001;

const clock = { now: () => 1_750_000_000_000, monotonic: () => performance.now() };

/** A folder with the orders 1 to `count` in several segments, closed. */
async function filled(count: number): Promise<string> {
  const dir = temporaryFolder('memory');
  const spool = await openTestSpool(dir, { segmentBytes: 4096 }, { clock });
  await appendEach(spool, 1, count);
  await spool.close();
  return dir;
}

/** Runs a command to its end. The test orders are signed by nobody, so that they are inspected only where that is asked for. */
function run(command: Command, options: string[], { isTTY = false, env = {}, inspect = false } = {}) {
  const args = inspect || command === tailCommand ? options : [...options, '--no-inspect'];
  return runCommand(command, args, { isTTY, env, now: NOW });
}

/** The order numbers of JSON lines. */
function numbersOf(lines: readonly string[]): number[] {
  return lines.map((line) => Number(JSON.parse(line).order.params[0]));
}

function changeByte(path: string, offset: number): void {
  const bytes = readFileSync(path);
  bytes[offset]! ^= 1;
  writeFileSync(path, bytes);
}

function segmentsOf(dir: string): string[] {
  return readdirSync(dir)
    .filter((name) => name.endsWith('.segment'))
    .toSorted()
    .map((name) => join(dir, name));
}

describe('export', () => {
  test('every order is one JSON line, in order, with its headers', async () => {
    const dir = await filled(40);
    const { code, lines, err } = await run(exportCommand, ['--dir', dir]);
    expect([code, err]).toEqual([0, '']);
    expect(numbersOf(lines)).toEqual(range(1, 40));
    const first = JSON.parse(lines[0]!);
    expect(first).toEqual({
      n: 'node-1',
      e: 1_750_000_000_000_000,
      s: 2,
      h: expect.stringMatching(/^[0-9a-f]{32}$/),
      t: 1_750_000_000_000_001,
      time: '2025-06-15T15:06:40.000Z',
      method: 'eth_sendRawTransaction',
      signer: `0x${'1'.repeat(40)}`,
      hash: order(1).hash,
      order: JSON.parse(order(1).value.toString()),
    });
  });

  test('integers above 2^53 keep their digits', async () => {
    const dir = temporaryFolder('memory');
    const spool = await openTestSpool(dir);
    const value = Buffer.from(
      '{"method":"eth_sendBundle","params":[{"minTimestamp":18446744073709551615}],"id":0}',
    );
    await append(spool, { ...order(1), method: 'eth_sendBundle', value, hash: null });
    const { out } = await run(exportCommand, ['--dir', dir]);
    expect(out).toContain(`"hash":null,"order":${value.toString()}}\n`);
  });

  test('selections by method, signer and time', async () => {
    const dir = await filled(40);
    const spool = await openTestSpool(dir, {}, { clock });
    await append(spool, { ...order(41), method: 'eth_cancelBundle', hash: null });
    const select = async (...args: string[]) =>
      numbersOf((await run(exportCommand, ['--dir', dir, ...args])).lines);
    expect(await select('--method', 'eth_cancelBundle')).toEqual([41]);
    expect(await select('--method', 'eth_cancelBundle', '--method', 'eth_sendRawTransaction')).toEqual(
      range(1, 41),
    );
    expect(await select('--signer', `0x${'2'.repeat(40)}`)).toEqual(range(1, 41).filter((n) => n % 3 === 2));
    expect(await select('--since', '2025-06-15T15:06:40')).toEqual(range(1, 41));
    expect(await select('--until', '2025-06-15T15:06:40Z')).toEqual([]);
    expect(await select('--since', '1s', '--until', '2025-06-15T17:06:41+02:00')).toEqual(range(1, 41));
    expect(await select('--since', '2025-06-16')).toEqual([]);
  });

  test('a file is written privately and never over another', async () => {
    const dir = await filled(5);
    const file = join(temporaryFolder(), 'orders.ndjson');
    const { code, out, err } = await run(exportCommand, ['--dir', dir, '--output', file]);
    expect([code, out, err]).toEqual([0, '', '5 orders written, 0 problems found\n']);
    expect(numbersOf(readFileSync(file, 'utf8').trimEnd().split('\n'))).toEqual(range(1, 5));
    expect(statSync(file).mode & 0o777).toBe(0o600);
    await expect(run(exportCommand, ['--dir', dir, '-o', file])).rejects.toThrow(
      `--output: ${file} exists already`,
    );
  });

  test('damage is printed with segment and offset; the rest is written', async () => {
    const dir = await filled(40);
    const [, path] = segmentsOf(dir);
    changeByte(path!, 300);
    const { code, lines, err } = await run(exportCommand, ['--dir', dir]);
    expect(code).toBe(1);
    expect(lines).toHaveLength(39);
    expect(err).toMatch(
      /^PROBLEM {2}\d{20}-\d{20}\.segment at 128: the record does not match its checksum; .*\n39 orders/,
    );
  });

  test('a slow reader is waited for', async () => {
    const dir = temporaryFolder('memory');
    const spool = await openTestSpool(dir);
    await Promise.all(range(1, 200).map((n) => append(spool, order(n, 2000))));
    const stdout = new PassThrough({ highWaterMark: 1000 });
    const stderr = collector();
    const signal = new AbortController().signal;
    const done = exportCommand.run(['--dir', dir, '--no-inspect'], {
      stdout,
      stderr,
      env: {},
      signal,
      now: () => NOW,
    });
    let most = 0;
    let text = '';
    void done.then(() => stdout.end());
    for await (const chunk of stdout) {
      most = Math.max(most, stdout.writableLength);
      text += chunk.toString();
      await new Promise((resolve) => setImmediate(resolve));
    }
    expect(await done).toBe(0);
    expect(numbersOf(text.trimEnd().split('\n'))).toEqual(range(1, 200));
    expect(most).toBeLessThan(200_000);
  });

  test('a terminal sees a progress bar, and nothing of it stays', async () => {
    const dir = await filled(40);
    const { err } = await run(exportCommand, ['--dir', dir], { isTTY: true });
    expect(err).toMatch(/^\r\[[#.]{30}\] +\d+ % {2}[\d.]+ of [\d.]+ MB/);
    expect(err.endsWith('\r\u001b[K')).toBe(true);
  });
});

describe('verify', () => {
  test('a whole archive', async () => {
    const dir = await filled(40);
    const { code, lines } = await run(verifyCommand, [], { env: { ARCHIVE_DIR: dir } });
    expect(code).toBe(0);
    expect(lines[0]).toMatch(
      /^note {2}\S+ at 128: epoch 1750000000000000 of node node-1 opens; nothing is known/,
    );
    expect(lines.at(-2)).toMatch(
      /^40 orders, \d+ segments, 1 epoch, \d+ bytes, received from 2025-06-15T15:06:40.000Z to 2025-06-15T15:06:40.000Z$/,
    );
    expect(lines.at(-1)).toBe('all is well');
  });

  test('each problem with its segment and offset', async () => {
    const dir = await filled(60);
    const [, second, third] = segmentsOf(dir);
    changeByte(second!, 300);
    changeByte(third!, 10);
    const { code, lines } = await run(verifyCommand, ['--dir', dir]);
    expect(code).toBe(1);
    expect(lines.filter((line) => line.startsWith('PROBLEM'))).toEqual([
      expect.stringMatching(/segment at 128: the record does not match its checksum; .* is missing$/),
      expect.stringMatching(
        /segment at 0: the segment header is damaged; no record of this segment can be read$/,
      ),
    ]);
    expect(lines.at(-1)).toBe('2 problems found');
  });

  test('an archive that is being written', async () => {
    const dir = temporaryFolder();
    const spool = await openTestSpool(dir, { segmentBytes: 16_384 });
    const stop = new AbortController();
    const writing = (async () => {
      for (let n = 1; !stop.signal.aborted; n += 1) expect(await append(spool, order(n))).toBe(null);
    })();
    for (let times = 0; times < 20; times += 1) {
      const { code, out } = await run(verifyCommand, ['--dir', dir]);
      expect([code, code === 0 ? '' : out]).toEqual([0, '']);
    }
    stop.abort();
    await writing;
  });
});

describe('tail', () => {
  test('the last orders, across segments', async () => {
    const dir = await filled(60);
    const last = async (...args: string[]) =>
      numbersOf((await run(tailCommand, ['--dir', dir, '--no-follow', ...args])).lines);
    expect(await last()).toEqual(range(51, 60));
    expect(await last('-n', '3')).toEqual([58, 59, 60]);
    expect(await last('-n', '0')).toEqual([]);
    expect(await last('-n', '1000')).toEqual(range(1, 60));
    expect(await last('-n', '30', '--signer', `0x${'1'.repeat(40)}`)).toEqual(
      range(1, 60).filter((n) => n % 3 === 1),
    );
    expect(await last('--since', '1h')).toEqual(range(1, 60));
    expect(await last('--since', '2025-06-15T15:06:41Z')).toEqual([]);
    expect(await last('--until', '2025-06-15T15:06:40Z')).toEqual([]);
  });

  test('follows what is archived, until it is stopped', async () => {
    const dir = temporaryFolder();
    const spool = await openTestSpool(dir, { segmentBytes: 4096 });
    await appendEach(spool, 1, 5);
    const stop = new AbortController();
    onTestFinished(() => stop.abort());
    const stdout = new PassThrough();
    const stderr = collector();
    const args = ['--dir', dir, '-n', '2', '--method', 'eth_sendRawTransaction'];
    const done = tailCommand.run(args, { stdout, stderr, env: {}, signal: stop.signal, now: () => NOW });
    const seen: number[] = [];
    let rest = '';
    for await (const chunk of stdout) {
      const lines = (rest + chunk.toString()).split('\n');
      rest = lines.pop() ?? '';
      seen.push(...numbersOf(lines));
      if (seen.length === 2) await appendEach(spool, 6, 40);
      if (seen.length === 37) break;
    }
    expect(seen).toEqual(range(4, 40));
    stop.abort();
    expect(await done).toBe(0);
    expect(stderr.text()).toBe('');
  });
});

test('the folder is the one that a node with the same environment writes', () => {
  const dirOf = (env: Record<string, string>, option?: string) => archiveDir(option, env);
  expect(dirOf({})).toBe('data/archive');
  expect(dirOf({ DATA_DIR: '/data', ARCHIVE_DIR: '' })).toBe('/data/archive');
  expect(dirOf({ DATA_DIR: '/data', ARCHIVE_DIR: '/spool' })).toBe('/spool');
  expect(dirOf({ ARCHIVE_DIR: '/spool' }, '/other')).toBe('/other');
});

describe('wrong usage is named', () => {
  test.each([
    [exportCommand, ['--fish'], "Unknown option '--fish'"],
    [exportCommand, ['fish'], "Unexpected argument 'fish'"],
    [exportCommand, ['--method', 'eth_call'], "--method: 'eth_call' is none of eth_sendBundle"],
    [exportCommand, ['--signer', '0x12'], "--signer: '0x12' is no address"],
    [tailCommand, ['--since', 'yesterday'], "--since: 'yesterday' is no time"],
    [tailCommand, ['--since', '2025-13-40'], "--since: '2025-13-40' is no time"],
    [tailCommand, ['--since', '2025-02-30'], "--since: '2025-02-30' is no time"],
    [tailCommand, ['--since', '1m', '--until', '2m'], '--since: must be before --until'],
    [tailCommand, ['-n', '-5'], '-n'],
    [tailCommand, ['-n', 'five'], "--lines: 'five' is no number"],
    [verifyCommand, ['--dir', '/nowhere/at/all'], '--dir: no folder /nowhere/at/all'],
    [verifyCommand, ['--dir', import.meta.dirname], `--dir: no archive in ${import.meta.dirname}`],
    [tailCommand, ['--no-follow', '--dir', import.meta.dirname], '--dir: no archive in'],
  ] as const)('%o %j', async (command, args, message) => {
    const failure = await run(command, [...args]).catch((error: unknown) => error);
    expect(failure).toBeInstanceOf(UsageError);
    expect(failure).toMatchObject({ message: expect.stringContaining(message) });
  });
});
