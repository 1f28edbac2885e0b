import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { Listed, OrderedList } from './ordered-list.ts';

class Numbered extends Listed {
  readonly number: number;

  constructor(number: number) {
    super();
    this.number = number;
  }
}

describe('OrderedList', () => {
  test('agrees with a set in which adding again moves to the end', () => {
    const step = fc.record({ element: fc.nat(6), leaves: fc.boolean() });
    fc.assert(
      fc.property(fc.array(step, { maxLength: 100 }), (steps) => {
        const elements = Array.from({ length: 7 }, (_, i) => new Numbered(i));
        const list = new OrderedList<Numbered>();
        const model = new Set<Numbered>();
        for (const { element, leaves } of steps) {
          const one = elements[element]!;
          if (leaves) {
            expect(list.delete(one)).toBe(model.delete(one));
          } else {
            list.add(one);
            model.delete(one);
            model.add(one);
          }
          expect([...list]).toEqual([...model]);
          expect([list.size, list.first]).toEqual([model.size, [...model][0]]);
          expect(elements.map((each) => list.has(each))).toEqual(elements.map((each) => model.has(each)));
        }
      }),
      { seed: 5, numRuns: 300 },
    );
  });

  test('what has left points to nothing that came after it', () => {
    const list = new OrderedList<Numbered>();
    const [a, b, c] = [new Numbered(1), new Numbered(2), new Numbered(3)];
    for (const one of [a, b, c]) list.add(one);
    list.delete(b);
    expect([b.list, b.before, b.after]).toEqual([null, null, null]);
    expect([...list]).toEqual([a, c]);
  });

  test('an element may leave while it is its turn', () => {
    const list = new OrderedList<Numbered>();
    for (let i = 0; i < 5; i++) list.add(new Numbered(i));
    const seen: number[] = [];
    for (const one of list) {
      seen.push(one.number);
      if (one.number % 2 === 0) list.delete(one);
    }
    expect(seen).toEqual([0, 1, 2, 3, 4]);
    expect([...list].map(({ number }) => number)).toEqual([1, 3]);
  });

  test('an element is in one list only', () => {
    const one = new Numbered(1);
    const [a, b] = [new OrderedList<Numbered>(), new OrderedList<Numbered>()];
    a.add(one);
    expect(() => b.add(one)).toThrow('one list only');
    expect([a.delete(one), b.delete(one)]).toEqual([true, false]);
  });
});
