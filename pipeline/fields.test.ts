import { describe, expect, test } from 'vitest';
import {
  decodeFields,
  encodeObject,
  FieldError,
  FREE_TEXT_TOO_LONG,
  MAX_KEYS,
  objectDecoder,
  objectShape,
  offsetOf,
  orderError,
  readMembers,
  rowOf,
} from './fields.ts';
import { JsonText } from './json.ts';
import { listOf, text, uint64 } from './values.ts';

const SHAPE = objectShape([
  { key: 'blockNumber', decode: uint64, absent: 'null' },
  { key: 'txs', decode: text },
  {
    key: 'inner',
    decode: listOf(objectDecoder(objectShape([{ key: 'percent', decode: uint64, absent: '0' }]))),
  },
]);

/** Reads and writes an object again. */
function rewrite(param: string): string {
  const json = new JsonText(Buffer.from(param));
  const members = readMembers(json, 0, SHAPE, 0);
  if (members instanceof FieldError) return members.message;
  const fields = decodeFields(json, members, SHAPE);
  if (fields instanceof FieldError) return fields.message;
  return encodeObject(json, SHAPE, fields, members.unlisted);
}

describe('an object with listed keys', () => {
  test.each([
    ['in canonical order', '{"txs":"a","blockNumber":1}', '{"blockNumber":1,"txs":"a"}'],
    ['absent keys', '{}', '{"blockNumber":null}'],
    ['null is absent', '{"blockNumber":null,"txs":null}', '{"blockNumber":null}'],
    ['the last of a repeated key counts', '{"txs":"a","txs":"b"}', '{"blockNumber":null,"txs":"b"}'],
    ['null last', '{"txs":"a","txs":null}', '{"blockNumber":null}'],
    ['another case is the same key', '{"TXS":"a","blocknumber":2}', '{"blockNumber":2,"txs":"a"}'],
    ['escapes in keys', '{"t\\u0078s":"a"}', '{"blockNumber":null,"txs":"a"}'],
    ['letters that fold to ASCII', '{"bloc\u212aNumber":2,"tx\u017f":"a"}', '{"blockNumber":2,"txs":"a"}'],
    [
      'defaults inside',
      '{"inner":[{},{"percent":3}]}',
      '{"blockNumber":null,"inner":[{"percent":0},{"percent":3}]}',
    ],
  ])('%s', (_name, param, written) => {
    expect(rewrite(param)).toBe(written);
  });

  test.each([
    ['two spellings', '{"txs":"a","TXS":"b"}', 'txs: key appears in two spellings'],
    ['two spellings, the other first', '{"Txs":"a","txs":"b"}', 'txs: key appears in two spellings'],
    ['two other spellings', '{"Txs":null,"tXs":"b"}', 'txs: key appears in two spellings'],
    ['the same other spelling twice', '{"Txs":"a","Txs":"b"}', 'txs: key appears in two spellings'],
    ['a list', '[]', 'not an object'],
    ['no JSON', '{"txs":}', 'not valid JSON'],
    ['cut off', '{"txs":"a"', 'not valid JSON'],
    ['a wrong field', '{"blockNumber":"1"}', 'blockNumber: not an unsigned integer'],
    ['a wrong field inside', '{"inner":[{},{"percent":-1}]}', 'inner[1].percent: not an unsigned integer'],
    ['an element of another type', '{"inner":[null]}', 'inner[0]: not an object'],
  ])('refused: %s', (_name, param, message) => {
    expect(rewrite(param)).toBe(message);
  });

  test('keys that are not listed come behind, in their order, as they were sent', () => {
    const param =
      '{"b":1.0,"2":[ 1 ],"txs":"a","1":{"x" : "<"},"__proto__":{},"constructor":null,"b ":1e9,"":0}';
    expect(rewrite(param)).toBe(
      '{"blockNumber":null,"txs":"a","b":1.0,"2":[1],"1":{"x":"\\u003c"},"__proto__":{},"constructor":null,"b ":1e9,"":0}',
    );
  });

  test('a repeated unlisted key keeps its place and its last value', () => {
    expect(rewrite('{"b":1,"c":2,"b":3}')).toBe('{"blockNumber":null,"b":3,"c":2}');
  });

  test('the number of keys is bounded', () => {
    const keys = (count: number) => `{${Array.from({ length: count }, (_, i) => `"k${i}":0`).join(',')}}`;
    expect(rewrite(keys(MAX_KEYS))).toContain(`"k${MAX_KEYS - 1}":0`);
    expect(rewrite(keys(MAX_KEYS + 1))).toBe(`more than ${MAX_KEYS} keys in one object`);
  });

  test('the length of free text is bounded', () => {
    const json = new JsonText(Buffer.from('{"k":"aaaa","l":1}'));
    json.maxFreeText = 15;
    expect(readMembers(json, 0, SHAPE, 0)).not.toBeInstanceOf(FieldError);
    expect(readMembers(json, 0, SHAPE, 0)).toBe(FREE_TEXT_TOO_LONG);
  });
});

test('where a value begins', () => {
  const json = new JsonText(Buffer.from('{"txs":"a","blockNumber":null}'));
  const members = readMembers(json, 0, SHAPE, 0);
  if (members instanceof FieldError) throw new Error(members.message);
  expect(offsetOf(members, rowOf(SHAPE, 'txs'))).toBe(7);
  expect(offsetOf(members, rowOf(SHAPE, 'blockNumber'))).toBe(0);
  expect(offsetOf(members, rowOf(SHAPE, 'inner'))).toBe(0);
});

test('the path of a refusal grows outwards, a message of its own stays', () => {
  expect(new FieldError('bad').under('[2]').under('txs').under('bundle').message).toBe('bundle.txs[2]: bad');
  expect(orderError('bundle with no txs').under('body[0]').message).toBe('bundle with no txs');
});
