import { describe, expect, test } from 'vitest';
import { KeyCache, KnownKey } from './key-cache.ts';

function known(index: number): KnownKey {
  return new KnownKey(`0x${index.toString(16).padStart(40, '0')}`, new Uint8Array(65));
}

/** A signer that came back at least once. */
function settle(cache: KeyCache, key: KnownKey): void {
  cache.add(key);
  cache.touch(key);
}

describe('key cache', () => {
  test('holds no more than its size', () => {
    const cache = new KeyCache(8);
    for (let index = 0; index < 1000; index++) {
      const key = known(index);
      if (index % 3 === 0) settle(cache, key);
      else cache.add(key);
      expect(cache.size).toBeLessThanOrEqual(8);
    }
    expect(cache.size).toBeGreaterThanOrEqual(7);
  });

  test('keys used once push out no signer that came back', () => {
    const cache = new KeyCache(8);
    const signers = [1, 2, 3, 4, 5, 6].map(known);
    for (const key of signers) settle(cache, key);
    for (let index = 100; index < 10_000; index++) cache.add(known(index));
    for (const key of signers) expect(cache.get(key.address)).toBe(key);
  });

  test('only claiming an address moves nothing', () => {
    const cache = new KeyCache(4); // 3 that came back, 1 waiting
    cache.add(known(1));
    for (let times = 0; times < 10; times++) expect(cache.get(known(1).address)).toBeDefined();
    cache.add(known(2));
    expect(cache.get(known(1).address)).toBeUndefined();
  });

  test('the least recently used of those that came back goes first', () => {
    const cache = new KeyCache(4);
    const [a, b, c, d] = [known(1), known(2), known(3), known(4)];
    for (const key of [a, b, c]) settle(cache, key);
    cache.touch(a);
    settle(cache, d);
    expect(cache.get(a.address)).toBe(a);
    expect(cache.get(b.address)).toBeUndefined();
  });

  test('adding a key again changes nothing', () => {
    const cache = new KeyCache(4);
    settle(cache, known(1));
    cache.add(known(1));
    cache.add(known(2));
    cache.add(known(2));
    expect(cache.size).toBe(2);
  });

  test.each([0, 1, 1.5, Number.NaN])('a size of %d is refused', (size) => {
    expect(() => new KeyCache(size)).toThrow(RangeError);
  });
});
