import { expect, test } from 'vitest';
import { optionsOf, positive, settingOf, sizeOf, transportList, whole, wholeList } from './command.ts';

test('numbers are what they must be, or the option is named', () => {
  expect(positive('--rate', '0.5')).toBe(0.5);
  expect(whole('--peers', '0', 0)).toBe(0);
  expect(wholeList('--peers', '0, 2,10')).toEqual([0, 2, 10]);
  for (const text of ['0', '-1', 'x', 'Infinity', ''])
    expect(() => positive('--rate', text)).toThrow(
      new RangeError(`--rate must be a positive number, got ${text}`),
    );
  for (const text of ['1.5', 'x', '-1']) expect(() => whole('--peers', text, 0)).toThrow(/^--peers/);
  expect(() => wholeList('--shards', '1,0', 1)).toThrow(/^--shards/);
});

test('sizes, transports and settings', () => {
  expect([sizeOf('field'), sizeOf('3279')]).toEqual(['field', 3279]);
  expect(() => sizeOf('big')).toThrow(RangeError);
  expect(transportList('http, h2')).toEqual(['http', 'h2']);
  expect(() => transportList('http,quic')).toThrow('a transport is http, https or h2, got quic');
  expect(settingOf('A=b=c')).toEqual(['A', 'b=c']);
  expect(settingOf('A=')).toEqual(['A', '']);
  for (const text of ['A', '=b']) expect(() => settingOf(text)).toThrow(RangeError);
});

test('an unknown option is a wrong option, not a crash', () => {
  expect(() => optionsOf(['--nonsense'], { quick: { type: 'boolean' } })).toThrow(RangeError);
  const { values, positionals } = optionsOf(['a', '--quick'], { quick: { type: 'boolean' } });
  expect([values.quick, positionals]).toEqual([true, ['a']]);
});
