import { expect, test } from 'vitest';
import { Lane, Source } from './lane.ts';

function fill(lane: Lane<string>, requests: number): Source<string> {
  const source = new Source<string>();
  for (let i = 0; i < requests; i += 1) lane.push(source, { item: 'x', bytes: 1, workUs: 100 });
  return source;
}

test('what is before a request: one of each connection for each that its own has waiting, and for itself', () => {
  const lane = new Lane<string>();
  const two = fill(lane, 2);
  for (let i = 0; i < 8; i += 1) fill(lane, 1);
  expect([lane.length, lane.sources, lane.workUs]).toEqual([10, 9, 1000]);
  expect(lane.before(new Source(), false)).toBe(900);
  // No more than all that waits, unless others send on.
  expect(lane.before(two, false)).toBe(1000);
  expect(lane.before(two, true)).toBe(2700);
  expect(new Lane().before(two, true)).toBe(0);
});

test('a source that leaves takes along what it has waiting, and comes back behind the others', () => {
  const lane = new Lane<string>();
  const [first, second] = [fill(lane, 3), fill(lane, 1)];
  expect(lane.next()).toBe(first);
  expect([lane.length, lane.workUs]).toEqual([1, 100]);
  first.shift();
  lane.return(first);
  expect([lane.length, lane.workUs]).toEqual([3, 300]);
  expect(lane.next()).toBe(second);
  second.shift();
  lane.return(second);
  expect([lane.length, lane.sources]).toEqual([2, 1]);
});
