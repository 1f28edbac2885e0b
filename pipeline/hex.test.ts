import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { type FieldDecoder, FieldError } from './fields.ts';
import { address, addressOf, blockNumber, hash, hexBytes, quantity } from './hex.ts';
import { JsonText } from './json.ts';

function decode(decoder: FieldDecoder, value: string): string {
  const result = decoder(new JsonText(Buffer.from(value)), 0);
  return typeof result === 'string' ? result : result.message;
}

function decodeBytes(value: string): string {
  const result = hexBytes(new JsonText(Buffer.from(value)), 0);
  return result instanceof FieldError ? result.message : `${result.quoted} ${result.bytes.toString('hex')}`;
}

describe('quantities', () => {
  test.each([
    ['"0x0"', '"0x0"'],
    ['"0x3e8"', '"0x3e8"'],
    ['"0X3E8"', '"0x3e8"'],
    ['"0xffffffffffffffff"', '"0xffffffffffffffff"'],
    ['"\\u0030xA"', '"0xa"'],
    ['""', '"0x0"'],
    ['"0x"', 'hex number without digits'],
    ['"0x00"', 'hex number with leading zero digits'],
    ['"0x0123456789abcdef0"', 'hex number with leading zero digits'],
    ['"0x10000000000000000"', 'hex number above 64 bits'],
    ['"0xg"', 'invalid hex string'],
    ['"0x1 "', 'invalid hex string'],
    ['"1"', 'hex string without 0x prefix'],
    ['"x1"', 'hex string without 0x prefix'],
    ['1', 'not a string'],
    ['null', 'not a string'],
    ['["0x1"]', 'not a string'],
  ])('%s', (value, result) => {
    expect(decode(quantity, value)).toBe(result);
  });

  test('0x as a block is the next block', () => {
    expect(decode(blockNumber, '"0x"')).toBe('null');
    expect(decode(blockNumber, '"0X"')).toBe('null');
    expect(decode(blockNumber, '"0x1"')).toBe('"0x1"');
    expect(decode(blockNumber, '"0x01"')).toBe('hex number with leading zero digits');
  });
});

describe('data of a fixed size', () => {
  const upper = `"0X${'AB'.repeat(20)}"`;

  test('is written in lower case', () => {
    expect(decode(address, upper)).toBe(`"0x${'ab'.repeat(20)}"`);
    expect(decode(hash, `"0x${'aB'.repeat(32)}"`)).toBe(`"0x${'ab'.repeat(32)}"`);
    expect(addressOf(decode(address, upper))).toBe(`0x${'ab'.repeat(20)}`);
    expect(addressOf('')).toBeNull();
  });

  test.each([
    ['"0x12"', 'hex string is not 20 bytes long'],
    ['"0x"', 'hex string is not 20 bytes long'],
    ['""', 'hex string is not 20 bytes long'],
    [`"${'ab'.repeat(20)}"`, 'hex string without 0x prefix'],
    [`"0x${'ab'.repeat(19)}ag"`, 'invalid hex string'],
    [`"0x${'ab'.repeat(21)}"`, 'hex string is not 20 bytes long'],
    [`"0x${'\u0130\u0131'.repeat(20)}"`, 'invalid hex string'],
    ['5', 'not a string'],
  ])('refused: %s', (value, message) => {
    expect(decode(address, value)).toBe(message);
  });
});

describe('bytes', () => {
  test.each([
    ['"0x"', '"0x" '],
    ['""', '"0x" '],
    ['"0xAbCd"', '"0xabcd" abcd'],
    ['"0X00"', '"0x00" 00'],
    ['"0x\\u0061b"', '"0xab" ab'],
    ['"0x0"', 'hex string of odd length'],
    ['"0xzz"', 'invalid hex string'],
    ['"0xz"', 'invalid hex string'],
    ['"12"', 'hex string without 0x prefix'],
    ['1', 'not a string'],
    // Buffer.from would take these for 0x01: it looks at the low byte of each character.
    ['"0x\u0430\u0431"', 'invalid hex string'],
    ['"0x\\u0430\\u0431"', 'invalid hex string'],
  ])('%s', (value, result) => {
    expect(decodeBytes(value)).toBe(result);
  });

  test('any bytes come back, any other text is refused', () => {
    fc.assert(
      fc.property(
        fc.uint8Array({ maxLength: 64 }),
        fc.string({ unit: 'binary' }),
        fc.nat(),
        (bytes, put, at) => {
          const hex = Buffer.from(bytes).toString('hex');
          expect(decodeBytes(`"0x${hex}"`)).toBe(`"0x${hex}" ${hex}`);
          const place = at % (hex.length + 1);
          const changed = hex.slice(0, place) + put + hex.slice(place);
          const valid = /^(?:[0-9a-f]{2})*$/i.test(changed);
          expect(decodeBytes(JSON.stringify(`0x${changed}`)).startsWith('"0x')).toBe(valid);
        },
      ),
      { seed: 20_261_123, numRuns: 1000 },
    );
  });
});
