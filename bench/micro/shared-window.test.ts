import { expect, test } from 'vitest';
import { SeededSource } from '../../devnet/seeded.ts';
import { SharedWindow } from './shared-window.ts';

test('knows what it has seen, and makes room with the oldest', () => {
  const random = new SeededSource('shared window');
  const digests = Array.from({ length: 4096 }, () => random.bytes(32));
  const window = new SharedWindow(1024);
  for (const [now, digest] of digests.entries()) expect(window.seen(digest, now)).toBe(false);
  const newest = digests.slice(-256);
  expect(newest.filter((digest) => window.seen(digest, 5000))).toHaveLength(256);
  expect(digests.slice(0, 256).filter((digest) => window.seen(digest, 5001)).length).toBeLessThan(10);
});
