import { chmod, readFile, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { temporaryDirectory } from '../testing/directory.ts';
import { type AccessOptions, openAccess } from './access.ts';
import { deployedHash, hashPassword } from './password.ts';

const HERE = '10.0.0.1';
const THERE = '10.0.0.2';

async function open(options: Partial<AccessOptions> = {}) {
  const path = options.path ?? join(await temporaryDirectory(), 'password');
  const clock = { ms: 0 };
  const access = await openAccess(
    {
      path,
      firstHash: '',
      salt: 'salt',
      newHashes: 'argon2id',
      rules: 'strict',
      withoutPassword: 'locked',
      failuresPerMinute: 3,
      ...options,
    },
    { now: () => clock.ms },
  );
  return { access, clock, path };
}

const basic = (credentials: string | Buffer) => `Basic ${Buffer.from(credentials).toString('base64')}`;
const firstHash = await hashPassword(Buffer.from('right password'));
const RIGHT = basic('admin:right password');

describe('credentials', () => {
  test('right ones are admitted, and their scheme is in any case', async () => {
    const { access } = await open({ firstHash });
    expect(await access.admit(RIGHT, HERE)).toEqual({ kind: 'admitted' });
    expect(await access.admit(RIGHT.replace('Basic', 'bAsIc'), HERE)).toEqual({ kind: 'admitted' });
  });

  test.each([
    basic('admin:wrong password'),
    basic('root:right password'),
    basic('Admin:right password'),
    basic('admin:right password\n'),
    basic('admin:right passwor'),
    basic(':right password'),
    basic('right password'),
    basic('admin\0:right password'),
    'Basic',
    'Basic ',
    'Basic !',
    RIGHT.replace('Basic', 'Bearer'),
    `${RIGHT} x`,
    `${RIGHT}=`.padEnd(5000, 'A'),
    '',
  ])('%j is refused', async (header) => {
    const { access } = await open({ firstHash });
    expect(await access.admit(header, HERE)).toEqual({ kind: 'wrong' });
  });

  test('none at all is no guess', async () => {
    const { access } = await open({ firstHash, failuresPerMinute: 1 });
    for (let i = 0; i < 5; i++) {
      expect(await access.admit(undefined, HERE)).toEqual({ kind: 'none given' });
    }
    expect(await access.admit(RIGHT, HERE)).toEqual({ kind: 'admitted' });
  });

  test.each([
    ['of the slow form', firstHash],
    ['of the deployed form', deployedHash(Buffer.from('right password'), 'salt')],
  ])('the slow hash is computed once for a client, and for each wrong guess, %s', async (_form, stored) => {
    const { access } = await open({ firstHash: stored, failuresPerMinute: 1000 });
    // Of the processor, of all threads: what others do on the machine does not count.
    const time = async (header: string, address = HERE) => {
      const before = process.cpuUsage();
      await access.admit(header, address);
      const { user, system } = process.cpuUsage(before);
      return user + system;
    };
    const first = await time(RIGHT);
    const again = Math.min(await time(RIGHT), await time(RIGHT), await time(RIGHT));
    const wrong = await time(basic('admin:wrong'));
    const elsewhere = await time(RIGHT, THERE);
    for (const slow of [first, wrong, elsewhere]) expect(slow).toBeGreaterThan(5 * again);
  });
});

describe('guessing', () => {
  test('so many failures, then nothing of that address is looked at, right or wrong', async () => {
    const { access, clock } = await open({ firstHash });
    for (let i = 0; i < 3; i++) await access.admit(basic(`admin:${i}`), HERE);
    expect(await access.admit(RIGHT, HERE)).toEqual({ kind: 'throttled', retryAfter: 20 });
    expect(await access.admit(RIGHT, THERE)).toEqual({ kind: 'admitted' });
    clock.ms = 20_000;
    expect(await access.admit(RIGHT, HERE)).toEqual({ kind: 'admitted' });
  });

  test('sent together they count as one after another', async () => {
    const { access } = await open({ firstHash });
    const guesses = Array.from({ length: 10 }, (_, i) => access.admit(basic(`admin:${i}`), HERE));
    const kinds = (await Promise.all(guesses)).map(({ kind }) => kind);
    expect(kinds.filter((kind) => kind === 'wrong')).toHaveLength(3);
    expect(kinds.filter((kind) => kind === 'throttled')).toHaveLength(7);
  });

  test('from many addresses together costs a bounded amount, and does not lock out who has logged in', async () => {
    const { access } = await open({ firstHash });
    await access.admit(RIGHT, HERE);
    const guesses = Array.from({ length: 40 }, (_, i) => access.admit(basic('admin:x'), `10.0.1.${i}`));
    expect(await access.admit(RIGHT, HERE)).toEqual({ kind: 'admitted' });
    const kinds = (await Promise.all(guesses)).map(({ kind }) => kind);
    expect(kinds.filter((kind) => kind === 'busy')).toHaveLength(24);
  });
});

describe('setting the password', () => {
  test('before there is one', async () => {
    const { access, path } = await open();
    expect(await access.admit(undefined, HERE)).toEqual({ kind: 'no password', open: false });
    expect(await access.setPassword(Buffer.from('right password'), access.generation)).toEqual({
      kind: 'changed',
    });
    expect(await access.admit(undefined, HERE)).toEqual({ kind: 'none given' });
    expect(await access.admit(RIGHT, HERE)).toEqual({ kind: 'admitted' });
    expect((await stat(path)).mode & 0o777).toBe(0o600);
    const again = await open({ path, firstHash: deployedHash(Buffer.from('other'), 'salt') });
    expect(await again.access.admit(RIGHT, HERE)).toEqual({ kind: 'admitted' });
  });

  test('of two first callers at once, one sets it', async () => {
    const { access } = await open();
    const { generation } = access;
    const changes = await Promise.all([
      access.setPassword(Buffer.from('right password'), generation),
      access.setPassword(Buffer.from('wrong password'), generation),
    ]);
    expect(changes).toEqual([{ kind: 'changed' }, { kind: 'stale' }]);
    expect(await access.admit(RIGHT, HERE)).toEqual({ kind: 'admitted' });
  });

  test('the old one ends at once, also for who was logged in or is being looked at', async () => {
    const { access } = await open({ firstHash });
    await access.admit(RIGHT, HERE);
    const change = access.setPassword(Buffer.from('other password'), access.generation);
    const meanwhile = access.admit(RIGHT, THERE);
    expect(await change).toEqual({ kind: 'changed' });
    expect((await meanwhile).kind).toBe('wrong');
    expect((await access.admit(RIGHT, HERE)).kind).toBe('wrong');
    expect((await access.admit(basic('admin:other password'), HERE)).kind).toBe('admitted');
  });

  test.each([
    ['1234567', 'body: is shorter than 8 bytes'],
    ['', 'body: is shorter than 8 bytes'],
    ['12345678\n', 'body: has a control character, such as a line break'],
    [Buffer.from([0xff, 0xfe, 1, 2, 3, 4, 5, 6]), 'body: is not UTF-8'],
  ])('%j is refused', async (password, reason) => {
    const { access } = await open();
    expect(await access.setPassword(Buffer.from(password), access.generation)).toEqual({
      kind: 'refused',
      reason,
    });
  });

  test('in the deployed form where so configured', async () => {
    const { access, path } = await open({ newHashes: 'sha256', rules: 'none' });
    await access.setPassword(Buffer.from(''), access.generation);
    expect(await readFile(path, 'utf8')).toBe(deployedHash(Buffer.from(''), 'salt'));
    expect((await access.admit(basic('admin:'), HERE)).kind).toBe('admitted');
  });

  test('one that cannot be stored is not the password', async () => {
    const { access } = await open({ path: '/proc/no/password', firstHash });
    expect((await access.setPassword(Buffer.from('other password'), access.generation)).kind).toBe('failed');
    expect((await access.admit(RIGHT, HERE)).kind).toBe('admitted');
  });
});

describe('the hash file', () => {
  test.each([['x'], ['a'.repeat(63)], ['a'.repeat(5000)]])('%j stops the start', async (content) => {
    const path = join(await temporaryDirectory(), 'password');
    await writeFile(path, content, { mode: 0o600 });
    await expect(open({ path })).rejects.toThrow(`${path} is neither empty nor a password hash`);
  });

  test('one that others may read stops the start; an empty one is as none', async () => {
    const path = join(await temporaryDirectory(), 'password');
    await writeFile(path, firstHash, { mode: 0o600 });
    await chmod(path, 0o644);
    await expect(open({ path })).rejects.toThrow('others may read');
    await chmod(path, 0o600);
    await writeFile(path, '');
    const { access } = await open({ path });
    expect((await access.admit(undefined, HERE)).kind).toBe('no password');
  });

  test('of the deployed program is read', async () => {
    const path = join(await temporaryDirectory(), 'password');
    await writeFile(path, deployedHash(Buffer.from('foobar'), 'salt'), { mode: 0o600 });
    const { access } = await open({ path });
    expect((await access.admit(basic('admin:foobar'), HERE)).kind).toBe('admitted');
    expect((await access.admit(basic('admin:foobars'), HERE)).kind).toBe('wrong');
  });
});
