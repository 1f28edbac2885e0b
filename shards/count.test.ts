import { expect, test } from 'vitest';
import { memoryShares } from '../memory-bound.ts';
import { readSettings } from '../settings.ts';
import { type Machine, shardCount } from './count.ts';

const MACHINE: Machine = { cores: 4, sharesPorts: true, openFiles: 20_000 };

function countFor(env: Record<string, string>, machine: Partial<Machine> = {}): number {
  return shardCount(readSettings([], env), { ...MACHINE, ...machine });
}

/** What so many shards may come to need. */
function most(shards: number): string {
  const bytes = memoryShares(readSettings([], {}), shards, MACHINE.openFiles).reduce(
    (sum, share) => sum + share.bytes,
    0,
  );
  return String(Math.ceil(bytes));
}

test('unless told otherwise one for each core, eight at most, and one where ports cannot be shared', () => {
  expect([1, 2, 4, 64].map((cores) => countFor({}, { cores }))).toEqual([1, 2, 4, 8]);
  expect(countFor({}, { sharesPorts: false })).toBe(1);
});

test('as many as fit under the ceiling of memory', () => {
  for (const shards of [1, 2, 3, 4]) expect(countFor({ MEMORY_CEILING_BYTES: most(shards) })).toBe(shards);
  // Then the node says that it cannot start.
  expect(countFor({ MEMORY_CEILING_BYTES: '1048576' })).toBe(1);
});

test('a number is what it says, whatever the machine', () => {
  expect(countFor({ SHARDS: '7' }, { cores: 1 })).toBe(7);
  expect(countFor({ SHARDS: '1' })).toBe(1);
});
