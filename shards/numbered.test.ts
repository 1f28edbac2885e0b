import fc from 'fast-check';
import { expect, test } from 'vitest';
import { Numbered } from './numbered.ts';

test('is a map of numbers given in turn, in whatever order they are taken', () => {
  const step = fc.oneof(
    { weight: 3, arbitrary: fc.constant('add' as const) },
    { weight: 2, arbitrary: fc.constant('oldest' as const) },
    { weight: 1, arbitrary: fc.nat(400) },
  );
  fc.assert(
    fc.property(fc.array(step, { maxLength: 600, size: 'max' }), (steps) => {
      const list = new Numbered<string>();
      const model = new Map<number, string>();
      let added = 0;
      for (const one of steps) {
        if (one === 'add') {
          expect(list.add(`value ${added}`)).toBe(added);
          model.set(added, `value ${added}`);
          added += 1;
          continue;
        }
        const number = one === 'oldest' ? Math.min(added, ...model.keys()) : one;
        expect(list.take(number)).toBe(model.get(number));
        model.delete(number);
      }
      for (let number = 0; number <= added; number += 1) expect(list.take(number)).toBe(model.get(number));
    }),
    { seed: 6, numRuns: 200 },
  );
});
