/**
 * `kill -9` at random moments under load, some of them while the folder is being opened: every acknowledged order is
 * there, once, in order, in one unbroken sequence and chain.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { expect, onTestFinished, test } from 'vitest';
import { openTestSpool, readFolder, temporaryFolder } from './testing/spool.ts';

const SEED = 20_250_630;
const ROUNDS = 20;

/** Numbers from 0 up to 1, the same in each run (mulberry32). */
function randomNumbers(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** A victim, the numbers that it has acknowledged, and anything else it said. */
function startAppender(dir: string, first: number) {
  const child: ChildProcess = spawn(
    process.execPath,
    [join(import.meta.dirname, 'testing/appender.ts'), dir, String(first)],
    {
      stdio: ['ignore', 'pipe', 'inherit'],
    },
  );
  onTestFinished(() => void child.kill('SIGKILL'));
  const acknowledged: number[] = [];
  const said: string[] = [];
  const lines = createInterface({ input: child.stdout! });
  let noticed: (() => void) | null = null;
  lines.on('line', (line) => {
    if (/^\d+$/.test(line)) acknowledged.push(Number(line));
    else said.push(line);
    noticed?.();
  });
  /** Resolves when a condition holds; rejects when the process ends before. */
  const until = (condition: () => boolean) =>
    new Promise<void>((resolve, reject) => {
      noticed = () => {
        if (condition()) resolve();
      };
      child.once('exit', (code) => reject(new Error(`the appender ended with ${code}: ${said.join(' ')}`)));
      noticed();
    });
  const kill = async () => {
    const ended = [once(child, 'exit'), once(lines, 'close')];
    child.kill('SIGKILL');
    await Promise.all(ended);
  };
  return { acknowledged, said, until, kill };
}

test(`${ROUNDS} rounds of kill -9, seed ${SEED}`, async () => {
  const random = randomNumbers(SEED);
  const dir = temporaryFolder();
  const acknowledged: number[] = [];
  let first = 1;
  for (let round = 1; round <= ROUNDS; round += 1) {
    const victim = startAppender(dir, first);
    if (random() < 0.25) {
      await victim.until(() => victim.said.includes('opening'));
    } else {
      const enough = 1 + Math.floor(random() * 1500);
      await victim.until(() => victim.acknowledged.length >= enough);
    }
    // Not a wait for anything: it moves the kill to a random place between the events.
    await new Promise((resolve) => setTimeout(resolve, random() * 8));
    await victim.kill();
    acknowledged.push(...victim.acknowledged);
    expect(victim.said.filter((line) => line !== 'opening' && line !== 'open')).toEqual([]);

    const { records, numbers, problems } = await readFolder(dir);
    expect({ round, problems }).toEqual({ round, problems: [] });
    expect(records.map(({ sequence }) => sequence)).toEqual(records.map((_, position) => position + 1));
    // Strictly rising: in order, and none twice.
    for (const [position, number] of numbers.entries()) {
      if (position > 0) expect(number).toBeGreaterThan(numbers[position - 1]!);
    }
    const archived = new Set(numbers);
    expect(acknowledged.filter((number) => !archived.has(number))).toEqual([]);
    first = Math.max(first, ...numbers.map((number) => number + 1));
  }
  expect(acknowledged.length).toBeGreaterThan(ROUNDS * 100);

  // The folder is whole: it opens, and one epoch holds it all.
  const spool = await openTestSpool(dir);
  await spool.close();
  const { records, problems } = await readFolder(dir);
  expect(problems).toEqual([]);
  expect(new Set(records.map(({ epoch }) => epoch)).size).toBe(1);
});
