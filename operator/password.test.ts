import { describe, expect, test } from 'vitest';
import { deployedHash, hashPassword, parseStoredHash, verifyPassword } from './password.ts';

describe('the slow form', () => {
  test('fits its password and no other', async () => {
    const line = await hashPassword(Buffer.from('right'));
    expect(line).toMatch(/^\$argon2id\$v=19\$m=19456,t=2,p=1\$[\w+/]{22}\$[\w+/]{43}$/);
    const stored = parseStoredHash(`${line}\n`)!;
    expect(await verifyPassword(stored, Buffer.from('right'), '')).toBe(true);
    expect(await verifyPassword(stored, Buffer.from('wrong'), '')).toBe(false);
    expect(await verifyPassword(stored, Buffer.from(''), '')).toBe(false);
  });

  test('has a salt of its own each time', async () => {
    expect(await hashPassword(Buffer.from('x'))).not.toBe(await hashPassword(Buffer.from('x')));
  });

  test('of other programs is read: the reference implementation (argon2 -id -t 2 -m 16 -p 1)', async () => {
    // https://github.com/P-H-C/phc-winner-argon2, test.c, version 0x13, argon2id
    const line = '$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc';
    expect(await verifyPassword(parseStoredHash(line)!, Buffer.from('password'), '')).toBe(true);
    expect(await verifyPassword(parseStoredHash(line)!, Buffer.from('passworD'), '')).toBe(false);
  });
});

describe('the deployed form', () => {
  test('as recorded: hex sha256(password || salt)', async () => {
    const text = deployedHash(Buffer.from('foobar'), 'salt');
    // printf foobarsalt | sha256sum
    expect(text).toBe('33d7165144ecb92c5254514f6f449e1973cdbb47b3aadcfa78b4630ca7fd9b3a');
    const stored = parseStoredHash(text)!;
    expect(await verifyPassword(stored, Buffer.from('foobar'), 'salt')).toBe(true);
    expect(await verifyPassword(stored, Buffer.from('foobar'), 'other')).toBe(false);
  });
});

test.each([
  '',
  'x',
  'a'.repeat(63),
  'a'.repeat(65),
  'g'.repeat(64),
  '$argon2i$v=19$m=19456,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc',
  '$argon2id$v=16$m=19456,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc',
  '$argon2id$v=19$m=8,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc',
  '$argon2id$v=19$m=9999999,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc',
  '$argon2id$v=19$m=19456,t=99,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc',
  '$argon2id$v=19$m=19456,t=2,p=99$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc',
  '$argon2id$v=19$m=19456,t=2,p=1$c29tZXNhbHQ$short',
])('%j is no hash', (text) => {
  expect(parseStoredHash(text)).toBeUndefined();
});
