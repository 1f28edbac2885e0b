import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { Gathered } from './gathered.ts';

const SEED = 20_261_123;

function counted() {
  const count = { bytes: 0 };
  const gathered = new Gathered((bytes) => {
    count.bytes += bytes;
  });
  return { count, gathered };
}

describe('Gathered', () => {
  test(`pieces of any size come out as they went in, and count no more than twice (seed ${SEED})`, () => {
    const piece = fc.oneof(
      fc.uint8Array({ maxLength: 10 }),
      fc.uint8Array({ minLength: 4000, maxLength: 9000 }),
    );
    fc.assert(
      fc.property(fc.array(piece, { maxLength: 50 }), (pieces) => {
        const { count, gathered } = counted();
        for (const bytes of pieces) {
          gathered.add(Buffer.from(bytes));
          expect(count.bytes).toBeLessThanOrEqual(2 * gathered.length + 4096);
        }
        const whole = Buffer.concat(pieces);
        expect(gathered.length).toBe(whole.length);
        expect(gathered.join().equals(whole)).toBe(true);
        gathered.clear();
        expect([count.bytes, gathered.length]).toEqual([0, 0]);
      }),
      { seed: SEED },
    );
  });

  test('a piece alone is kept as it is', () => {
    const { count, gathered } = counted();
    const piece = Buffer.alloc(5000, 'a');
    gathered.add(piece);
    expect(gathered.join()).toBe(piece);
    expect(count.bytes).toBe(5000);
  });

  test('a small piece does not keep the large read alive that it is part of', () => {
    const { count, gathered } = counted();
    const read = Buffer.alloc(65_536, 'a');
    gathered.add(read.subarray(0, 5000));
    expect(gathered.join().buffer).not.toBe(read.buffer);
    expect(count.bytes).toBe(5000);
  });

  test('of no pieces there are no bytes', () => {
    expect(counted().gathered.join()).toHaveLength(0);
  });
});
