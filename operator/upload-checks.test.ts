import { expect, test } from 'vitest';
import { checkUpload } from './upload-checks.ts';

const ADDRESS = '0x00000000219ab540356cBB839Cbe05303d7705Fa';

test.each([
  ['addresses', '[]', undefined],
  ['addresses', ` ["${ADDRESS}",\n"${ADDRESS.toLowerCase()}"]\n`, undefined],
  ['addresses', '', 'body: is not JSON'],
  ['addresses', '{"a":1}', 'body: is not a JSON list of addresses'],
  ['addresses', `["${ADDRESS}","${ADDRESS}0"]`, 'body: entry 1 is no address (0x and 40 hex digits)'],
  ['addresses', `["${ADDRESS.slice(2)}"]`, 'body: entry 0 is no address (0x and 40 hex digits)'],
  ['addresses', `["0X${ADDRESS.slice(2)}"]`, 'body: entry 0 is no address (0x and 40 hex digits)'],
  ['addresses', `["${ADDRESS}\\n"]`, 'body: entry 0 is no address (0x and 40 hex digits)'],
  ['addresses', '[1]', 'body: entry 0 is no address (0x and 40 hex digits)'],
  ['addresses', `["${ADDRESS}"] x`, 'body: is not JSON'],
  ['addresses', `\ufeff["${ADDRESS}"]`, 'body: is not JSON'],
  ['json', '{"a":1}', undefined],
  ['json', '{"a":1', 'body: is not JSON'],
  ['none', 'x', undefined],
  ['none', '', undefined],
] as const)('%s: %j → %j', (check, content, reason) => {
  expect(checkUpload(check, Buffer.from(content))).toBe(reason);
});

test('what is no UTF-8 is no JSON, even where a lenient reader would take it', () => {
  const content = Buffer.concat([Buffer.from('["'), Buffer.from([0xff]), Buffer.from('"]')]);
  expect(checkUpload('json', content)).toBe('body: is not UTF-8');
});

test('a megabyte of brackets is refused, not followed', () => {
  expect(checkUpload('json', Buffer.from('['.repeat(1 << 20)))).toBe('body: is not JSON');
});
