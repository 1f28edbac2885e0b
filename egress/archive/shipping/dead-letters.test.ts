import { appendFileSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { Journal } from '../testing/journal.ts';
import { temporaryFolder } from '../testing/spool.ts';
import { keepDeadLetter } from './dead-letters.ts';

test('each is a line of its own, also behind one that a crash or a full disk cut off', async () => {
  const dir = temporaryFolder();
  const file = join(dir, 'dead-letters.ndjson');
  const [first, second, third] = new Journal().orders(1, 3);
  await keepDeadLetter(dir, first!);
  await keepDeadLetter(dir, second!);
  appendFileSync(file, '{"n":"cut o');
  await keepDeadLetter(dir, third!);
  const lines = readFileSync(file, 'utf8').split('\n');
  expect(lines).toHaveLength(5);
  expect(lines.splice(2, 1)).toEqual(['{"n":"cut o']);
  expect(lines.pop()).toBe('');
  const expected = [first!, second!, third!].map(({ sequence, value }) => ({
    s: sequence,
    value: JSON.parse(value.toString()),
  }));
  expect(lines.map((line) => JSON.parse(line))).toMatchObject(expected);
});
