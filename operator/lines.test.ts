import fc from 'fast-check';
import { expect, test } from 'vitest';
import { LineSplitter } from './lines.ts';

function split(pieces: readonly Buffer[], maxBytes = 1024): { lines: string[]; pending: boolean } {
  const lines: string[] = [];
  const splitter = new LineSplitter(maxBytes, (line) => lines.push(line));
  for (const piece of pieces) splitter.push(piece);
  return { lines, pending: splitter.pending };
}

test('whatever the pieces, the lines are the same', () => {
  fc.assert(
    fc.property(
      fc.array(fc.string({ unit: 'grapheme', maxLength: 20 }).map((text) => text.replaceAll('\n', ''))),
      fc.array(fc.nat(200), { maxLength: 40 }),
      (lines, cuts) => {
        const bytes = Buffer.from(lines.map((line) => `${line}\n`).join(''));
        const pieces: Buffer[] = [];
        let rest = bytes;
        for (const cut of cuts) {
          pieces.push(rest.subarray(0, cut));
          rest = rest.subarray(cut);
        }
        expect(split([...pieces, rest])).toEqual({ lines, pending: false });
      },
    ),
    { seed: 1, numRuns: 300 },
  );
});

test('a beginning waits for its end, or is taken as it is', () => {
  const lines: string[] = [];
  const splitter = new LineSplitter(1024, (line) => lines.push(line));
  splitter.flush();
  expect(splitter.push(Buffer.from('a\nfra'))).toBe(1);
  expect(splitter.pending).toBe(true);
  expect(splitter.push(Buffer.from('g'))).toBe(0);
  expect(lines).toEqual(['a']);
  splitter.flush();
  expect(lines).toEqual(['a', 'frag']);
  expect(splitter.pending).toBe(false);
  expect(splitter.push(Buffer.from('ment\n'))).toBe(1);
  expect(lines).toEqual(['a', 'frag', 'ment']);
});

test('of a line that is too long the beginning is kept, and the next is whole', () => {
  expect(split([Buffer.from('123'), Buffer.from('45678\n1234'), Buffer.from('5\n')], 5).lines).toEqual([
    '12345',
    '12345',
  ]);
});

test('what is no UTF-8 is replaced, also where a piece ends inside a character', () => {
  const euro = Buffer.from('€\n');
  expect(split([euro.subarray(0, 1), euro.subarray(1)]).lines).toEqual(['€']);
  expect(split([Buffer.from([0xff, 0x0a])]).lines).toEqual(['\ufffd']);
});

test('kept pieces do not hold on to the memory they came in', () => {
  const lines: string[] = [];
  const splitter = new LineSplitter(1024, (line) => lines.push(line));
  const piece = Buffer.from('begin');
  splitter.push(piece);
  piece.fill('x');
  splitter.push(Buffer.from('\n'));
  expect(lines).toEqual(['begin']);
});
