import { describe, expect, test } from 'vitest';
import type { FieldDecoder } from './fields.ts';
import { JsonText } from './json.ts';
import {
  boolean,
  int64,
  listOf,
  MAX_LIST,
  nonEmptyText,
  rawMessage,
  sortedHashes,
  text,
  texts,
  trueOnly,
  uint64,
  uuid,
} from './values.ts';

function decode(decoder: FieldDecoder, value: string): string {
  const result = decoder(new JsonText(Buffer.from(value)), 0);
  return typeof result === 'string' ? result : result.message;
}

const hashOf = (byte: string) => `"0x${byte.repeat(32)}"`;

describe('numbers', () => {
  test.each(['0', '1', '9007199254740993', '18446744073709551615'])('u64 %s', (value) => {
    expect(decode(uint64, value)).toBe(value);
  });

  test.each([
    ['18446744073709551616', 'above 64 bits'],
    ['99999999999999999999', 'above 64 bits'],
    ['100000000000000000000', 'above 64 bits'],
    ...['-1', '-0', '1.0', '1.5', '1e3', '1E0', '"1"', 'true', '[1]', '{}'].map((value) => [
      value,
      'not an unsigned integer',
    ]),
  ])('u64 refused: %s', (value, message) => {
    expect(decode(uint64, value)).toBe(message);
  });

  test.each([
    ['0', '0'],
    ['-0', '0'],
    ['-5', '-5'],
    ['9223372036854775807', '9223372036854775807'],
    ['-9223372036854775808', '-9223372036854775808'],
    ['9223372036854775808', 'beyond 64 bits'],
    ['-9223372036854775809', 'beyond 64 bits'],
    ['1.0', 'not an integer'],
    ['"1"', 'not an integer'],
  ])('int %s', (value, result) => {
    expect(decode(int64, value)).toBe(result);
  });
});

test.each([
  ['true', 'true', 'true'],
  ['false', 'false', ''],
  ['"true"', 'not a boolean', 'not a boolean'],
  ['1', 'not a boolean', 'not a boolean'],
])('boolean %s', (value, kept, onlyTrue) => {
  expect(decode(boolean, value)).toBe(kept);
  expect(decode(trueOnly, value)).toBe(onlyTrue);
});

test('texts are escaped as the reference does', () => {
  expect(decode(text, '"a<\\u0062"')).toBe('"a\\u003cb"');
  expect(decode(text, '""')).toBe('""');
  expect(decode(nonEmptyText, '""')).toBe('');
  expect(decode(text, '1')).toBe('not a string');
  expect(decode(texts, '["b","a"]')).toBe('["b","a"]');
  expect(decode(texts, '["b",null]')).toBe('[1]: not a string');
  expect(decode(rawMessage, '[ "\\u0041<" , 1.0 ]')).toBe('["\\u0041\\u003c",1.0]');
});

test.each([
  '"1F8A44C4-DF81-5C43-C0F3-C58C79E20F75"',
  '"{1f8a44c4-df81-5c43-c0f3-c58c79e20f75}"',
  '"urn:uuid:1f8a44c4-df81-5c43-c0f3-c58c79e20f75"',
  '"URN:UUID:1F8A44C4-df81-5c43-c0f3-c58c79e20f75"',
  '"1f8a44c4df815c43c0f3c58c79e20f75"',
])('UUID %s', (value) => {
  expect(decode(uuid, value)).toBe('"1f8a44c4-df81-5c43-c0f3-c58c79e20f75"');
});

test.each([
  '""',
  '"abc"',
  '"1f8a44c4-df815c43-c0f3-c58c79e20f75"',
  '"1f8a44c4-df81-5c43-c0f3-c58c79e20f7g"',
  '"{1f8a44c4df815c43c0f3c58c79e20f75}"',
  '"urn:uuid:1f8a44c4df815c43c0f3c58c79e20f75"',
  '"1f8a44c4-df81-5c43-c0f3-c58c79e20f75 "',
])('no UUID: %s', (value) => {
  expect(decode(uuid, value)).toBe('invalid UUID');
});

describe('lists', () => {
  test('of hashes are sorted and keep doubles', () => {
    const list = `[${hashOf('b0')},${hashOf('0B')},${hashOf('b0')}]`;
    expect(decode(sortedHashes, list)).toBe(`[${hashOf('0b')},${hashOf('b0')},${hashOf('b0')}]`);
  });

  test('are left out when empty', () => {
    expect(decode(sortedHashes, '[ ]')).toBe('');
    expect(decode(texts, '[]')).toBe('');
  });

  test('have a bound', () => {
    expect(decode(listOf(uint64), `[${Array(MAX_LIST).fill('1').join()}]`)).toHaveLength(2 * MAX_LIST + 1);
    expect(
      decode(
        listOf(uint64),
        `[${Array(MAX_LIST + 1)
          .fill('1')
          .join()}]`,
      ),
    ).toBe(`more than ${MAX_LIST} elements`);
    expect(decode(listOf(uint64), '{}')).toBe('not a list');
  });
});
