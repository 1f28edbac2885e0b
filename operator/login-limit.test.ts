import { expect, test } from 'vitest';
import { LoginLimit } from './login-limit.ts';

function limitAt(perMinute: number) {
  const clock = { ms: 0 };
  return { clock, limit: new LoginLimit(perMinute, () => clock.ms) };
}

test('so many at once, then so many a minute', () => {
  const { clock, limit } = limitAt(3);
  expect([1, 2, 3].map(() => limit.take('10.0.0.1'))).toEqual([0, 0, 0]);
  expect(limit.take('10.0.0.1')).toBe(20);
  expect(limit.take('10.0.0.2')).toBe(0);
  clock.ms = 10_000;
  expect(limit.take('10.0.0.1')).toBe(10);
  clock.ms = 20_000;
  expect(limit.take('10.0.0.1')).toBe(0);
  expect(limit.take('10.0.0.1')).toBe(20);
  clock.ms = 3_600_000;
  expect([1, 2, 3, 4].map(() => limit.take('10.0.0.1'))).toEqual([0, 0, 0, 20]);
});

test('a right one costs nothing', () => {
  const { limit } = limitAt(1);
  for (let login = 0; login < 10; login++) {
    expect(limit.take('10.0.0.1')).toBe(0);
    limit.giveBack('10.0.0.1');
  }
  limit.giveBack('10.0.0.9');
});

test.each([
  ['2001:db8:1:2::1', '2001:db8:1:2:ffff::2', true],
  ['2001:db8:1:2::1', '2001:db8:1:3::1', false],
  ['2001:db8::1', '2001:db8::2', true],
  ['2001:db8::1', '2001:db8:0:0:1::', true],
  ['::1', '::2', true],
  ['::1', '1::', false],
  ['::ffff:10.0.0.1', '10.0.0.1', true],
  ['::ffff:10.0.0.1', '::ffff:10.0.0.2', false],
  ['fe80::1%eth0', 'fe80::2%eth1', true],
])('%s and %s share an account: %s', (one, other, same) => {
  const { limit } = limitAt(1);
  expect(limit.take(one)).toBe(0);
  expect(limit.take(other) > 0).toBe(same);
});

test('a hundred thousand addresses cost a bounded amount, and the newest are known', () => {
  const { limit } = limitAt(1);
  for (let i = 0; i < 100_000; i++) limit.take(`10.${i >> 16}.${(i >> 8) & 255}.${i & 255}`);
  const last = 99_999;
  expect(limit.take(`10.${last >> 16}.${(last >> 8) & 255}.${last & 255}`)).toBeGreaterThan(0);
  expect(limit.take('10.0.0.0')).toBe(0);
});
