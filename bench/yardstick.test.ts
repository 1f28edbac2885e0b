import { expect, test } from 'vitest';
import { REFERENCE, slowness, undisturbedUs } from './yardstick.ts';

test('what others hold the core for is in no yardstick', () => {
  let nowUs = 0;
  let calls = 0;
  const work = () => {
    nowUs += 40;
    // Another program is on the core for a time slice.
    if (++calls % 25 === 0) nowUs += 4_000;
  };
  expect(undisturbedUs(work, () => nowUs)).toBe(40);
});

test('slowness is the mean of what each piece of work takes longer than on the reference machine', () => {
  expect(slowness(REFERENCE)).toBe(1);
  expect(slowness({ 'secp256k1 verify': 54, 'keccak-256 of 1 KB': 2.2 })).toBe(1.25);
  // A report without one of them.
  expect(slowness({ 'secp256k1 verify': 54 })).toBe(1.25);
});
