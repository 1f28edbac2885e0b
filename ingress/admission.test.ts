import { expect, test } from 'vitest';
import { longestWait } from './admission.ts';

const options = { maxWaitMs: 10, maxBurstWaitMs: 1000 };

test.each([
  ['on and on', 50, 10],
  ['one at a time', 1000, 1000],
  ['within its share', 100, 100],
  ['afresh', 1000, 100],
] as const)('%s: %i ms in a burst, %i ms when it is none', (manner, burstMs, standingMs) => {
  expect([0, 200, 1001].map((ms) => longestWait(options, manner, ms)).at(0)).toBe(burstMs);
  expect(longestWait(options, manner, 1001)).toBe(standingMs);
});

test('a burst of those that send on is shorter than one of many connections', () => {
  expect([200, 201].map((ms) => longestWait(options, 'on and on', ms))).toEqual([50, 10]);
  expect([1000, 1001].map((ms) => longestWait(options, 'afresh', ms))).toEqual([1000, 100]);
});
