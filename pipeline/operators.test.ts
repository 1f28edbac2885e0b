import { TestScheduler } from 'rxjs/testing';
import { beforeEach, describe, expect, test } from 'vitest';
import { afterSlice, stage } from './operators.ts';

let scheduler: TestScheduler;
beforeEach(() => {
  scheduler = new TestScheduler((actual, expected) => expect(actual).toEqual(expected));
});

describe('stage', () => {
  test('passes what the step returns and ends the way of a null', () => {
    scheduler.run(({ hot, expectObservable }) => {
      const source = hot('-a-b-c-|');
      const out = source.pipe(
        stage(
          (value: string) => (value === 'b' ? null : value.toUpperCase()),
          () => undefined,
        ),
      );
      expectObservable(out).toBe('-A---C-|');
    });
  });

  test('a value whose step throws goes to onFault, and the stream lives on', () => {
    const faults: [string, unknown][] = [];
    const defect = new Error('defect');
    scheduler.run(({ hot, expectObservable }) => {
      const out = hot('-a-b-c-|').pipe(
        stage(
          (value: string) => {
            if (value === 'b') throw defect;
            return value;
          },
          (value, error) => void faults.push([value, error]),
        ),
      );
      expectObservable(out).toBe('-a---c-|');
    });
    expect(faults).toEqual([['b', defect]]);
  });

  test('an error of the source and unsubscription pass through', () => {
    scheduler.run(({ hot, expectObservable, expectSubscriptions }) => {
      const source = hot('-a-b-#');
      const keep = (value: string) => value;
      expectObservable(source.pipe(stage(keep, () => undefined))).toBe('-a-b-#');
      expectObservable(source.pipe(stage(keep, () => undefined)), '^--!').toBe('-a-');
      expectSubscriptions(source.subscriptions).toBe(['^----!', '^--!']);
    });
  });
});

describe('afterSlice', () => {
  test('holds values back until the flush and keeps their order', () => {
    scheduler.run(({ hot, expectObservable }) => {
      const source = hot(' -ab---c-d-----|');
      const flush = hot('  ----x----x-----');
      expectObservable(source.pipe(afterSlice(flush))).toBe('----(ab)-(cd)-|');
    });
  });

  test('a flush with nothing held emits nothing; completion releases what is held', () => {
    scheduler.run(({ hot, expectObservable }) => {
      const source = hot('---a---b|');
      const flush = hot(' -x---x---');
      expectObservable(source.pipe(afterSlice(flush))).toBe('-----a--(b|)');
    });
  });

  test('unsubscription leaves both sources', () => {
    scheduler.run(({ hot, expectObservable, expectSubscriptions }) => {
      const source = hot('-a-b-');
      const flush = hot(' --x--');
      expectObservable(source.pipe(afterSlice(flush)), '^--!').toBe('--a-');
      expectSubscriptions(source.subscriptions).toBe('^--!');
      expectSubscriptions(flush.subscriptions).toBe('^--!');
    });
  });
});
