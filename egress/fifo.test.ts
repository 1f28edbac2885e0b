/** The ring against an array that does the same. */
import * as fc from 'fast-check';
import { expect, test } from 'vitest';
import { Fifo } from './fifo.ts';

const SEED = 20_250_702;

test(`does what an array does (seed ${SEED})`, () => {
  const step = fc.constantFrom('push', 'push', 'push', 'unshift', 'shift', 'shift');
  fc.assert(
    fc.property(fc.array(step, { maxLength: 400 }), fc.nat(200), (steps, filled) => {
      const fifo = new Fifo<number>();
      const model: number[] = [];
      for (let i = 0; i < filled; i++) {
        fifo.push(-i - 1);
        model.push(-i - 1);
      }
      for (const [i, operation] of steps.entries()) {
        if (operation === 'shift') expect(fifo.shift()).toBe(model.shift());
        else {
          fifo[operation](i);
          model[operation](i);
        }
        expect(fifo.length).toBe(model.length);
        expect(fifo.peek()).toBe(model[0]);
      }
      expect(fifo.takeAll()).toEqual(model);
      expect(fifo.length).toBe(0);
    }),
    { seed: SEED, numRuns: 200 },
  );
});
