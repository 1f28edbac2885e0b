import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { open, stat, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, onTestFinished, test } from 'vitest';
import { temporaryDirectory } from '../testing/directory.ts';
import { type EventPipeOptions, startEventPipe } from './event-pipe.ts';

interface TestPipe {
  readonly path: string;
  readonly lines: readonly string[];
  write(text: string): Promise<void>;
  /** Resolves when there are so many lines. */
  have(count: number): Promise<void>;
  close(): Promise<void>;
}

async function startPipe(options: Partial<EventPipeOptions> = {}): Promise<TestPipe> {
  const path = options.path ?? join(await temporaryDirectory(), 'pipe');
  const lines: string[] = [];
  let look = () => {};
  const pipe = await startEventPipe(
    { path, mode: 0o622, fragmentMs: 60_000, maxLineBytes: 1024, ...options },
    {
      onLine: (line) => {
        lines.push(line);
        look();
      },
      onError: (error) => lines.push(error.message),
    },
  );
  onTestFinished(() => pipe.close());
  return {
    path,
    lines,
    close: () => pipe.close(),
    async write(text) {
      const file = await open(path, 'a');
      await file.writeFile(text);
      await file.close();
    },
    have(count) {
      const { promise, resolve } = Promise.withResolvers<void>();
      look = () => {
        if (lines.length >= count) resolve();
      };
      look();
      return promise;
    },
  };
}

test('a FIFO is made with its mode, and one line is one event', async () => {
  const pipe = await startPipe();
  const stats = await stat(pipe.path);
  expect(stats.isFIFO()).toBe(true);
  expect(stats.mode & 0o777).toBe(0o622);
  await pipe.write('one line\ntwo\n\n');
  await pipe.have(3);
  expect(pipe.lines).toEqual(['one line', 'two', '']);
});

test('a line is whole, however many writers wrote it, each opening and closing the FIFO', async () => {
  const pipe = await startPipe();
  for (const piece of ['fr', 'ag', 'me', 'nt\nnext\nno']) await pipe.write(piece);
  await pipe.have(2);
  await pipe.write('t yet\n');
  await pipe.have(3);
  expect(pipe.lines).toEqual(['fragment', 'next', 'not yet']);
});

test('a beginning whose end does not come is an event after a while, or at the end', async () => {
  const pipe = await startPipe({ fragmentMs: 50 });
  await pipe.write('frag');
  await pipe.have(1);
  await pipe.write('ment\n');
  await pipe.have(2);
  expect(pipe.lines).toEqual(['frag', 'ment']);

  const other = await startPipe();
  await other.write('one\nlast');
  await other.have(1);
  await other.close();
  expect(other.lines).toEqual(['one', 'last']);
});

test('one that is there is used, with its mode', async () => {
  const path = join(await temporaryDirectory(), 'pipe');
  execFileSync('mkfifo', ['-m', '600', path]);
  const pipe = await startPipe({ path });
  expect((await stat(path)).mode & 0o777).toBe(0o600);
  await pipe.write('x\n');
  await pipe.have(1);
});

test('it does not spin when its writers have gone', async () => {
  const pipe = await startPipe();
  await pipe.write('x\n');
  await pipe.have(1);
  const shares: number[] = [];
  // Spinning takes all of it, each time; the test's own process may have something to do once.
  for (let i = 0; i < 5 && !shares.some((share) => share < 0.5); i++) {
    const [before, began] = [process.cpuUsage(), performance.now()];
    await new Promise((resolve) => setTimeout(resolve, 300));
    const { user, system } = process.cpuUsage(before);
    shares.push((user + system) / 1000 / (performance.now() - began));
  }
  expect(Math.min(...shares)).toBeLessThan(0.5);
});

test('a flood waits in the FIFO: its writer is held up, the events are whole', async () => {
  const pipe = await startPipe();
  const writer = spawn('/bin/sh', ['-c', `seq -f %0511.0f 1 1600 > "$0"`, pipe.path]);
  const ended = once(writer, 'exit');
  const began = performance.now();
  await pipe.have(1600);
  await ended;
  expect(pipe.lines.map(Number)).toEqual(Array.from({ length: 1600 }, (_, i) => i + 1));
  // 512 bytes are as much as a line: the first thousand at once, two thousand a second from then on.
  expect(performance.now() - began).toBeGreaterThan(800);
});

describe('what is no FIFO stops the start', () => {
  test('a file, a folder, a link, a place that is not there', async () => {
    const directory = await temporaryDirectory();
    const file = join(directory, 'file');
    await writeFile(file, '');
    await expect(startPipe({ path: file })).rejects.toThrow(`file ${file} is not a named pipe`);
    await expect(startPipe({ path: directory })).rejects.toThrow('EISDIR');
    execFileSync('mkfifo', [join(directory, 'fifo')]);
    await symlink(join(directory, 'fifo'), join(directory, 'link'));
    await expect(startPipe({ path: join(directory, 'link') })).rejects.toThrow('ELOOP');
    const nowhere = join(directory, 'no', 'fifo');
    await expect(startPipe({ path: nowhere })).rejects.toThrow(`there is no FIFO ${nowhere}`);
  });
});
