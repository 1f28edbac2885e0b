import { hash } from 'node:crypto';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { DigestRing, NOWHERE } from './digest-ring.ts';

function digestOf(text: string): string {
  return hash('sha256', text, 'hex');
}

/** With this secret a digest's bucket depends on the sum of its words alone. */
const NO_SECRET = new Int32Array(8);
/** Digests of two sums, so that they all stand in two buckets. */
const CROWDED = Array.from({ length: 12 }, (_, i) => {
  const rest = digestOf(String(i)).slice(8);
  const sum = (rest.match(/.{8}/g) ?? []).reduce((all, word) => (all + Number.parseInt(word, 16)) | 0, 0);
  const first = ((((i % 2) << 19) - sum) | 0) >>> 0;
  return `${first.toString(16).padStart(8, '0')}${rest}`;
});

describe('DigestRing', () => {
  test('agrees with a plain list, also where many digests stand in one bucket', () => {
    const step = fc.oneof(
      { weight: 3, arbitrary: fc.constantFrom(...CROWDED) },
      { weight: 2, arbitrary: fc.constant(null) },
    );
    fc.assert(
      fc.property(fc.array(step, { maxLength: 300 }), (steps) => {
        const ring = new DigestRing<object>(NO_SECRET);
        const model: { digest: string; time: number }[] = [];
        for (const [time, digest] of steps.entries()) {
          if (digest !== null) {
            ring.push(digest, time, time % 256);
            model.push({ digest, time });
          } else if (model.length > 0) {
            ring.shift();
            model.shift();
          }
          for (const one of CROWDED) {
            const known = model.findLast((entry) => entry.digest === one);
            const place = ring.find(one);
            expect(place === NOWHERE ? undefined : ring.time(place)).toBe(known?.time);
            if (known !== undefined) expect(ring.state(place)).toBe(known.time % 256);
          }
          expect(ring.length).toBe(model.length);
          expect(ring.size).toBe(new Set(model.map((entry) => entry.digest)).size);
        }
      }),
      { seed: 7, numRuns: 300 },
    );
  });

  test('many times as many pass through as it holds, and each is found while it is there', () => {
    const ring = new DigestRing<object>();
    const held = 5000;
    // Each digest comes twice, 3,000 entries apart: the earlier entry is then there, and not found.
    const digests = Array.from({ length: 30_000 }, (_, i) =>
      digestOf(String(i - (i % 6000 < 3000 ? 0 : 3000))),
    );
    for (const [i, digest] of digests.entries()) {
      const place = ring.push(digest, i, i % 256);
      const object = {};
      ring.setValue(place, object);
      expect([place, ring.find(digest)]).toEqual([i, i]);
      expect(ring.value(place)).toBe(object);
      if (ring.length > held) ring.shift();
      expect(ring.length).toBe(Math.min(i + 1, held));
      if (i % 1000 !== 0) continue;
      const there = digests.slice(ring.oldest, i + 1);
      expect(ring.size).toBe(new Set(there).size);
      for (const one of there) expect(ring.find(one)).toBe(digests.lastIndexOf(one, i));
      expect(ring.find(digestOf('never'))).toBe(NOWHERE);
    }
  });

  test('an entry that has left its chunk has no place any longer, and its object is let go', () => {
    const ring = new DigestRing<object>();
    for (let i = 0; i < 3000; i++) ring.setValue(ring.push(digestOf(String(i)), i, 0), {});
    for (let i = 0; i < 3000; i++) ring.shift();
    expect(() => ring.time(0)).toThrow(RangeError);
    // The arrays of those that left are used again, once each.
    for (let i = 3000; i < 6000; i++) expect(ring.value(ring.push(digestOf(String(i)), i, 0))).toBe(null);
    for (let i = 3000; i < 6000; i++) expect(ring.time(ring.find(digestOf(String(i))))).toBe(i);
  });

  test('keeps places, times and states when it grows in the middle of a turn', () => {
    const ring = new DigestRing<object>();
    const digests = Array.from({ length: 20_000 }, (_, i) => digestOf(String(i)));
    for (const [i, digest] of digests.entries()) {
      // The first thousand have left before it grows, so the ring begins in the middle of its arrays.
      if (i >= 3000 && i < 4000) ring.shift();
      ring.push(digest, i, i % 256);
    }
    expect([ring.length, ring.size, ring.oldest]).toEqual([19_000, 19_000, 1000]);
    for (const [i, digest] of digests.entries()) {
      const place = ring.find(digest);
      expect(place).toBe(i < 1000 ? NOWHERE : i);
      if (place !== NOWHERE) expect([ring.time(place), ring.state(place)]).toEqual([i, i % 256]);
    }
    while (ring.length > 0) ring.shift();
    expect(digests.every((digest) => ring.find(digest) === NOWHERE)).toBe(true);
  });

  test('tells digests apart that differ in one digit anywhere', () => {
    const ring = new DigestRing<object>();
    const digest = digestOf('a');
    ring.push(digest, 1, 0);
    for (let i = 0; i < 64; i++) {
      const other = `${digest.slice(0, i)}${digest[i] === '7' ? '8' : '7'}${digest.slice(i + 1)}`;
      expect(ring.find(other)).toBe(NOWHERE);
    }
  });
});
