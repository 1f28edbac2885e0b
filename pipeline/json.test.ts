import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { encodeString, INVALID, JsonText, MAX_DEPTH, TOO_DEEP } from './json.ts';

const SEED = 20_261_123;
const runs = (numRuns: number) => ({ seed: SEED, numRuns });

/** Whether the scanner takes a whole text for JSON. */
function isJson(text: string): boolean {
  const json = new JsonText(Buffer.from(text));
  const end = json.skipValue(json.skipSpace(0), 0);
  return end >= 0 && json.skipSpace(end) === json.text.length;
}

function parses(text: string): boolean {
  try {
    JSON.parse(text);
    return true;
  } catch {
    return false;
  }
}

const jsonText = fc
  .tuple(fc.jsonValue({ maxDepth: 4, stringUnit: 'binary' }), fc.constantFrom(undefined, 1, '\t', ' \r\n'))
  .map(([value, space]) => JSON.stringify(value, null, space) ?? 'null');
const charactersOf = (text: string): string[] => text.split('');
/** Characters that matter to the grammar, so that random texts come near to JSON. */
const nearJson = fc.string({
  unit: fc.constantFrom(...charactersOf('{}[]",:\\/ \n\t0123-+.eEu"truefalsn\u0001é\u2028')),
});

describe('the grammar is that of JSON.parse', () => {
  test('texts that are JSON', () => {
    fc.assert(
      fc.property(jsonText, (text) => {
        expect(isJson(text)).toBe(true);
      }),
      runs(1000),
    );
  });

  test('texts that are nearly JSON', () => {
    fc.assert(
      fc.property(nearJson, (text) => {
        expect(isJson(text)).toBe(parses(text));
      }),
      runs(5000),
    );
  });

  test('JSON with one place changed', () => {
    const change = fc.tuple(fc.nat(), fc.nat(2), fc.constantFrom(...charactersOf('{}[]",:\\ 0-.eu\u0007é')));
    fc.assert(
      fc.property(jsonText, change, (text, [at, removed, put]) => {
        const place = at % (text.length + 1);
        const changed = text.slice(0, place) + put + text.slice(place + removed);
        expect(isJson(changed)).toBe(parses(changed));
      }),
      runs(5000),
    );
  });

  test.each([
    '01',
    '-',
    '-01',
    '1.',
    '.5',
    '1e',
    '1e+',
    '+1',
    '0x1',
    'NaN',
    'tru',
    'nulls',
    '"',
    '"\\x"',
    '"\\u12g4"',
    '"\\u12"',
    '"\u0000"',
    '"\n"',
    '[1,]',
    '[,1]',
    '{"a":1,}',
    '{a:1}',
    '{"a" 1}',
    "{'a':1}",
    '[1 2]',
    '',
    ' ',
    '\ufeff{}',
    '{}{}',
    '1 1',
  ])('refused: %j', (text) => {
    expect(parses(text)).toBe(false);
    expect(isJson(text)).toBe(false);
  });

  test.each([
    '0',
    '-0',
    '-0.0e-0',
    '1E400',
    '"\\u00e9\\/\\b"',
    '[ ]',
    '{ }',
    ' {"a" : [ 1 , { } ] } ',
    '"\u007f"',
    '"é\u2028"',
  ])('taken: %j', (text) => {
    expect(parses(text)).toBe(true);
    expect(isJson(text)).toBe(true);
  });
});

describe('nesting', () => {
  test('ends at the bound', () => {
    const nested = (depth: number) => new JsonText(Buffer.from('['.repeat(depth) + ']'.repeat(depth)));
    expect(nested(MAX_DEPTH).skipValue(0, 0)).toBe(2 * MAX_DEPTH);
    expect(nested(MAX_DEPTH + 1).skipValue(0, 0)).toBe(TOO_DEEP);
  });

  test('a body of brackets ends early', () => {
    const brackets = new JsonText(Buffer.alloc(10_000_000, '[{"a":'));
    expect(brackets.skipValue(0, 0)).toBe(TOO_DEEP);
    expect(new JsonText(Buffer.alloc(10_000_000, '{')).skipValue(0, 0)).toBe(INVALID);
  });
});

describe('strings', () => {
  test('read as JSON.parse reads them', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary' }), (content) => {
        const text = JSON.stringify(content);
        const json = new JsonText(Buffer.from(text));
        expect(json.string(0)).toBe(JSON.parse(json.text));
        expect(json.lowerQuoted(0)).toBe(`"${json.string(0).toLowerCase()}"`);
      }),
      runs(1000),
    );
  });

  test('in lower case also behind letters that grow in lower case', () => {
    const json = new JsonText(Buffer.from('["\u0130\u0130","0XAB"]'));
    expect(json.lowerQuoted(json.text.indexOf('"0X'))).toBe('"0xab"');
  });

  test('written so that they read the same', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary' }), (content) => {
        expect(JSON.parse(encodeString(content))).toBe(content);
      }),
      runs(1000),
    );
  });

  test.each([
    ['<script>&', '"\\u003cscript\\u003e\\u0026"'],
    ['\u2028\u2029', '"\\u2028\\u2029"'],
    ['\b\f\u0000\u001f', '"\\u0008\\u000c\\u0000\\u001f"'],
    ['\n\r\t', '"\\n\\r\\t"'],
    ['"\\/', '"\\"\\\\/"'],
    ['é😀\u007f\ufffd', '"é😀\u007f\ufffd"'],
  ])('%j in the way of the reference', (content, text) => {
    expect(encodeString(content)).toBe(text);
  });

  test('bytes that are no UTF-8 become U+FFFD', () => {
    const json = new JsonText(Buffer.from([0x22, 0x61, 0xff, 0x80, 0x22]));
    expect(json.string(0)).toBe('a\ufffd\ufffd');
  });
});

describe('passing on', () => {
  test('keeps the value, drops white space, and is done after once', () => {
    fc.assert(
      fc.property(jsonText, (text) => {
        const json = new JsonText(Buffer.from(text));
        for (const compacted of [
          json.compactEncoded(json.skipSpace(0)),
          json.compactRaw(json.skipSpace(0)),
        ]) {
          expect(JSON.parse(compacted)).toEqual(JSON.parse(json.text));
          const again = new JsonText(Buffer.from(compacted));
          expect([again.compactEncoded(0), again.compactRaw(0)]).toContain(compacted);
        }
      }),
      runs(1000),
    );
  });

  test('numbers keep their spelling, keys their order, strings their meaning or their spelling', () => {
    const json = new JsonText(
      Buffer.from('{ "2" : 1.0 , "1":[1e400, -0,12345678901234567890], "a":"\\u0041 <\\/" }'),
    );
    expect(json.compactEncoded(0)).toBe('{"2":1.0,"1":[1e400,-0,12345678901234567890],"a":"A \\u003c/"}');
    expect(json.compactRaw(0)).toBe('{"2":1.0,"1":[1e400,-0,12345678901234567890],"a":"\\u0041 \\u003c\\/"}');
  });
});

test('the elements of a list, up to a number of them', () => {
  const json = new JsonText(Buffer.from('[ "a" , [1,2],{"b":[3]} ,4 ]'));
  expect(json.elements(0, 4)?.map((at) => json.raw(at))).toEqual(['"a"', '[1,2]', '{"b":[3]}', '4']);
  expect(json.elements(0, 3)).toBeNull();
  expect(new JsonText(Buffer.from('[ ]')).elements(0, 0)).toEqual([]);
});
