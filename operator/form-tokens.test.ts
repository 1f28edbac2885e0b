import { expect, test } from 'vitest';
import { FormTokens } from './form-tokens.ts';

test('a token is good for an hour, one password, and where it was made', () => {
  const clock = { ms: 1000.5 };
  const tokens = new FormTokens(() => clock.ms);
  const token = tokens.make(1);
  expect(tokens.isGood(token, 1)).toBe(true);
  expect(tokens.isGood(token, 2)).toBe(false);
  expect(new FormTokens(() => clock.ms).isGood(token, 1)).toBe(false);
  clock.ms += 3_599_999;
  expect(tokens.isGood(token, 1)).toBe(true);
  clock.ms += 2;
  expect(tokens.isGood(token, 1)).toBe(false);
});

test('no other text is', () => {
  const tokens = new FormTokens(() => 0);
  const token = tokens.make(1);
  const [end = '', mac = ''] = token.split('.');
  for (const text of ['', '.', end, `${end}.`, `.${mac}`, `1${end}.${mac}`, `${end}.${mac}=`, `${token} `]) {
    expect(tokens.isGood(text, 1), text).toBe(false);
  }
  for (let i = 0; i < mac.length - 1; i++) {
    const other = mac[i] === 'A' ? 'B' : 'A';
    expect(tokens.isGood(`${end}.${mac.slice(0, i)}${other}${mac.slice(i + 1)}`, 1)).toBe(false);
  }
});
