import { expect, test } from 'vitest';
import { Pace, workOf } from './pace.ts';

test('work is what orders cost on the reference machine until there is more to go by', () => {
  expect(workOf(3279)).toBeCloseTo(165, 0);
  expect(new Pace().msOf(50_000)).toBe(50);
});

test('a machine that is slower is known after some hundred orders; one long pause changes little', () => {
  const pace = new Pace();
  for (let i = 0; i < 500; i += 1) pace.worked(1320, 3 * 1320);
  expect(pace.msOf(1000)).toBeCloseTo(3, 1);
  pace.worked(1320, 50_000);
  expect(pace.msOf(1000)).toBeLessThan(3.5);
  for (let i = 0; i < 500; i += 1) pace.worked(1320, 1320);
  expect(pace.msOf(1000)).toBeCloseTo(1, 1);
});
