import * as fc from 'fast-check';
import { toRlp } from 'viem';
import { describe, expect, test } from 'vitest';
import { encodeInteger, listHeader, RlpReader } from './rlp.ts';

type Item = string | Item[];
type Hex = `0x${string}`;
type HexItem = Hex | HexItem[];

/** Reads everything, strings as hex; a text is the reason why there is no such thing. */
function readAll(bytes: Uint8Array, start = 0, end = bytes.length): Item[] | { reason: string } {
  const reader = new RlpReader(bytes, start, end);
  const items: Item[] = [];
  while (!reader.done) {
    const reason = reader.next();
    if (reason !== null) return { reason };
    if (reader.isList) {
      const inner = readAll(bytes, reader.start, reader.end);
      if (!Array.isArray(inner)) return inner;
      items.push(inner);
    } else {
      items.push(`0x${Buffer.from(bytes.subarray(reader.start, reader.end)).toString('hex')}`);
    }
  }
  return items;
}

const read = (hex: string): Item[] | { reason: string } => readAll(Buffer.from(hex, 'hex'));

const { item } = fc.letrec<{ item: HexItem }>((tie) => ({
  item: fc.oneof(
    { depthSize: 'small' },
    fc.uint8Array({ maxLength: 80 }).map((bytes): HexItem => `0x${Buffer.from(bytes).toString('hex')}`),
    fc.array(tie('item'), { maxLength: 6 }),
  ),
}));

describe('the reader', () => {
  test('reads what another encoder wrote', () => {
    fc.assert(
      fc.property(item, (value) => {
        expect(readAll(toRlp(value, 'bytes'))).toEqual([value]);
      }),
      { seed: 20_261_123, numRuns: 1000 },
    );
  });

  test('takes one encoding only: what it reads encodes to the same bytes', () => {
    const bytes = fc.array(
      fc.oneof(fc.nat(255), fc.constantFrom(0, 0x7f, 0x80, 0x81, 0xb8, 0xc0, 0xc1, 0xf8)),
      { maxLength: 70 },
    );
    fc.assert(
      fc.property(bytes, (numbers) => {
        const input = Buffer.from(numbers);
        const items = readAll(input);
        if (!Array.isArray(items)) return;
        const again = items.map((value) => Buffer.from(toRlp(asHex(value), 'bytes')));
        expect(Buffer.concat(again).toString('hex')).toBe(input.toString('hex'));
      }),
      { seed: 20_261_123, numRuns: 5000 },
    );
  });

  test.each([
    ['8100', 'RLP: non-canonical size'],
    ['817f', 'RLP: non-canonical size'],
    ['b800', 'RLP: non-canonical size'],
    [`b837${'00'.repeat(55)}`, 'RLP: non-canonical size'],
    [`b90038${'00'.repeat(56)}`, 'RLP: non-canonical size'],
    [`f837${'00'.repeat(55)}`, 'RLP: non-canonical size'],
    ['81', 'RLP: value size exceeds the input'],
    ['b8', 'RLP: value size exceeds the input'],
    ['c1', 'RLP: value size exceeds the input'],
    ['c283', 'RLP: value size exceeds the input'],
    ['bfffffffffffffffff', 'RLP: value size exceeds the input'],
    ['ffffffffffffffffff', 'RLP: value size exceeds the input'],
  ])('refuses %s', (hex, reason) => {
    expect(read(hex)).toEqual({ reason });
  });

  test('knows when nothing is left', () => {
    expect(new RlpReader(Buffer.alloc(0), 0, 0).next()).toBe('RLP: too few elements');
  });
});

function asHex(value: Item): HexItem {
  return Array.isArray(value) ? value.map(asHex) : `0x${value.slice(2)}`;
}

test('list headers and integers are those of another encoder', () => {
  for (const length of [0, 1, 55, 56, 255, 256, 65_535, 65_536]) {
    const list = Buffer.from(toRlp(Array<Hex>(length).fill('0x01'), 'bytes'));
    expect(list.subarray(0, list.length - length).toString('hex')).toBe(listHeader(length).toString('hex'));
  }
  for (const value of [0n, 1n, 127n, 128n, 255n, 256n, 2n ** 64n, 2n ** 256n - 1n]) {
    const digits = value.toString(16);
    const hex: Hex = value === 0n ? '0x' : `0x${digits.length % 2 === 1 ? '0' : ''}${digits}`;
    expect(encodeInteger(value).toString('hex')).toBe(Buffer.from(toRlp(hex, 'bytes')).toString('hex'));
  }
  expect(() => encodeInteger(2n ** 500n)).toThrow(RangeError);
});
