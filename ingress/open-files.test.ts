import { expect, test } from 'vitest';
import { connectionsWithin, openFilesLimit } from './open-files.ts';

test('the limit of this process is known where there is /proc', () => {
  expect(openFilesLimit()).toBeGreaterThan(100);
});

test('both APIs together leave a quarter of the descriptors for the rest', () => {
  expect(connectionsWithin(1024, 20_000)).toBe(384);
  expect(connectionsWithin(20_000, 20_000)).toBe(7500);
  expect(connectionsWithin(1_048_576, 20_000)).toBe(20_000);
  expect(connectionsWithin(Number.POSITIVE_INFINITY, 20_000)).toBe(20_000);
});
