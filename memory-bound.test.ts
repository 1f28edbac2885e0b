/** The sum of the bounds, and what a node says whose settings allow more than its ceiling. */
import { describe, expect, test } from 'vitest';
import { memoryProblem, memoryShares } from './memory-bound.ts';
import { readSettings } from './settings.ts';

const OPEN_FILES = 20_000;
const GIB = 2 ** 30;

function most(env: Record<string, string>, shards = 1): number {
  return memoryShares(readSettings([], env), shards, OPEN_FILES).reduce((sum, { bytes }) => sum + bytes, 0);
}

describe('the sum', () => {
  test('every setting that bounds bytes, connections or keys counts', () => {
    const before = most({});
    for (const [name, value] of Object.entries({
      MAX_PENDING_BYTES: '536870912',
      MAX_REQUEST_BODY_SIZE_BYTES: '62914560',
      BUILDER_QUEUE_BYTES: '536870912',
      PEERS_QUEUE_BYTES: '2147483648',
      CONN_PER_PEER: '20',
      DEDUPE_KEYS: '2097152',
    })) {
      expect(most({ [name]: value }), name).toBeGreaterThan(before + 50 * 2 ** 20);
    }
    // A shared window costs less than one in a heap.
    const few = { DEDUPE_KEYS: '1024' };
    expect(most(few, 2)).toBeGreaterThan(most(few) + 50 * 2 ** 20);
    expect(most({ MAX_CONNECTIONS: '1000' })).toBeLessThan(before - 50 * 2 ** 20);
  });

  test('connections count as far as there are files for them', () => {
    const few = memoryShares(readSettings([], {}), 1, 1_000).find(({ what }) => what === 'connections');
    expect(few?.bytes).toBe(2 * 375 * 60 * 1024);
  });

  test('each shard has room for the largest order, however small the whole', () => {
    const shares = (shards: number) =>
      memoryShares(
        readSettings([], { BUILDER_QUEUE_BYTES: '33554432', DEDUPE_KEYS: '1024' }),
        shards,
        OPEN_FILES,
      ).find(({ what }) => what === 'orders for the builder')?.bytes;
    expect([shares(1), shares(4)]).toEqual([33_554_432 + 31_457_280, 2 * 4 * 31_457_280]);
  });
});

describe('the ceiling', () => {
  test('none, and one that is high enough, say nothing', () => {
    expect(memoryProblem(readSettings([], {}), 1, OPEN_FILES)).toBeNull();
    const enough = String(Math.ceil(most({})));
    expect(memoryProblem(readSettings([], { MEMORY_CEILING_BYTES: enough }), 1, OPEN_FILES)).toBeNull();
  });

  test('one that is too low names what allows how much, largest first', () => {
    const problem = memoryProblem(readSettings([], { MEMORY_CEILING_BYTES: String(GIB) }), 1, OPEN_FILES);
    expect(problem).toMatch(/^MEMORY_CEILING_BYTES: is 1024 MiB, and the settings allow \d+ MiB: /);
    expect(problem).toContain(
      'orders for the peers (PEERS_QUEUE_BYTES, CONN_PER_PEER, MAX_REQUEST_BODY_SIZE_BYTES) 2080 MiB',
    );
    const sizes = [...(problem ?? '').matchAll(/[a-z)] (\d+) MiB/g)].map(([, size]) => Number(size)).slice(2);
    expect(sizes).toEqual(sizes.toSorted((a, b) => b - a));
    expect(sizes).toHaveLength(10);
  });
});
