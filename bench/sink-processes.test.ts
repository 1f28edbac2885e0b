import { expect, test } from 'vitest';
import { arrivalsOf } from './sink-processes.ts';

const NEVER = Number.NaN;

function received(times: number[][], checksums: number[][], duplicates = 0) {
  return {
    receivedUs: times.map((sink) => Float64Array.from(sink)),
    checksums: checksums.map((sink) => Uint32Array.from(sink)),
    duplicates,
  };
}

test('the builder comes first; an order that came to both with other bytes is told, one that did not come is not', () => {
  const builder = received([[1, 2, NEVER, 4]], [[10, 20, 0, 40]], 1);
  const peers = received(
    [
      [5, 6, 7, NEVER],
      [5, 6, NEVER, 8],
    ],
    [
      [10, 21, 30, 0],
      [11, 20, 0, 41],
    ],
    2,
  );
  expect(arrivalsOf([builder, peers])).toEqual({
    receivedUs: [...builder.receivedUs, ...peers.receivedUs],
    duplicates: 3,
    corrupted: 3,
  });
  expect(() => arrivalsOf([received([], []), peers])).toThrow('the sinks have no builder');
});
