import { chmod, mkdir, readdir, readFile, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, onTestFinished, test, vi } from 'vitest';
import { temporaryDirectory } from '../testing/directory.ts';
import type { Credentials } from './certificate.ts';
import { type Identity, type IdentityEvents, type IdentityOptions, openIdentity } from './identity.ts';
import { ManualTimer } from './testing/manual-timer.ts';

const DAY_MS = 86_400_000;
const NAMES = ['node.example', '127.0.0.1'];

interface Opened {
  readonly timer?: ManualTimer;
  readonly events?: IdentityEvents;
  readonly options?: Partial<IdentityOptions>;
}

async function open(directory: string | undefined, opened: Opened = {}): Promise<Identity> {
  const { timer = new ManualTimer(), events } = opened;
  const identity = await openIdentity({ directory, names: NAMES, ...opened.options }, { timer, events });
  onTestFinished(() => identity.close());
  return identity;
}

describe('first start and restart', () => {
  test('key and certificate are made, stored for the owner alone, and used again', async () => {
    const directory = join(await temporaryDirectory(), 'identity');
    const made = vi.fn();
    const first = await open(directory, { events: { made } });
    expect(made.mock.calls).toEqual([['orderflow key'], ['certificate']]);
    expect((await stat(directory)).mode & 0o777).toBe(0o700);
    const files = await readdir(directory);
    expect(files.toSorted()).toEqual(['orderflow.key', 'tls.pem']);
    for (const file of files) expect((await stat(join(directory, file))).mode & 0o777).toBe(0o600);

    const second = await open(directory, { events: { made } });
    expect(second.signer.address).toBe(first.signer.address);
    expect(second.current).toEqual(first.current);
    expect(made).toHaveBeenCalledTimes(2);
    expect(second.renewalDue()).toBeUndefined();
  });

  test('nothing is stored when it lives in memory only', async () => {
    const [a, b] = [await open(undefined), await open(undefined)];
    expect(a.signer.address).not.toBe(b.signer.address);
    expect(a.current.fingerprint).not.toBe(b.current.fingerprint);
  });

  test('a given orderflow key is used and not stored', async () => {
    const directory = await temporaryDirectory();
    const one = Buffer.alloc(32);
    one[31] = 1;
    const identity = await open(directory, { options: { orderflowKey: one } });
    expect(identity.signer.addressLower).toBe('0x7e5f4552091a69125d5dfcb7b8c2659029395bdf');
    expect(await readdir(directory)).toEqual(['tls.pem']);
  });

  test('names that are none stop the start, also when a certificate is stored', async () => {
    const directory = await temporaryDirectory();
    await open(directory);
    await expect(open(directory, { options: { names: ['a:5544'] } })).rejects.toThrow('cannot name "a:5544"');
    await expect(open(directory, { options: { names: [] } })).rejects.toThrow('at least one');
  });

  test('a certificate that has ended is replaced at once', async () => {
    const directory = await temporaryDirectory();
    const timer = new ManualTimer();
    const first = await open(directory, { timer });
    timer.advance(366 * DAY_MS);
    const second = await open(directory, { timer });
    expect(second.current.fingerprint).not.toBe(first.current.fingerprint);
    expect(second.signer.address).toBe(first.signer.address);
    expect((await open(directory, { timer })).current).toEqual(second.current);
  });
});

describe('files that are not right stop the start, are named and stay as they are', () => {
  test.each(['orderflow.key', 'tls.pem'])('%s that others may read', async (file) => {
    const directory = await temporaryDirectory();
    await open(directory);
    await chmod(join(directory, file), 0o640);
    await expect(open(directory)).rejects.toThrow(`others may read ${join(directory, file)} (mode 0640)`);
  });

  const order = 'fffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141';
  test.each([
    ['orderflow.key', ''],
    ['orderflow.key', '0x1234'],
    ['orderflow.key', `0x${'0'.repeat(64)}`],
    ['orderflow.key', `0x${order}`],
    ['orderflow.key', `0x${'1'.repeat(64)} x`],
    ['tls.pem', ''],
    ['tls.pem', '-----BEGIN CERTIFICATE-----\n'],
    [
      'tls.pem',
      '-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n',
    ],
  ])('%s with %j', async (file, content) => {
    const directory = await temporaryDirectory();
    const path = join(directory, file);
    await open(directory);
    await writeFile(path, content);
    const error = await open(directory).catch((reason: unknown) => reason);
    expect(String(error)).toContain(`${path} is damaged`);
    if (content.length > 20) expect(String(error)).not.toContain(content.slice(2, 20));
    expect(await readFile(path, 'utf8')).toBe(content);
  });

  test('tls.pem whose key belongs to another certificate', async () => {
    const directory = await temporaryDirectory();
    const { current } = await open(directory);
    const other = await open(undefined);
    await writeFile(join(directory, 'tls.pem'), other.current.privateKeyPem + current.certificatePem);
    await expect(open(directory)).rejects.toThrow('do not belong together');
  });

  test('a key file made by hand is taken with and without 0x', async () => {
    const directory = await temporaryDirectory();
    for (const text of ['11'.repeat(32), `0x${'11'.repeat(32)}\n`]) {
      await writeFile(join(directory, 'orderflow.key'), text, { mode: 0o600 });
      expect((await open(directory)).signer.addressLower).toBe('0x19e7e376e7c213b7e7e7e46cc70a5dd086daff2a');
    }
  });
});

describe('when a renewal is due', () => {
  test.each([
    [365, 365 - 30],
    [90, 60],
    [3, 2],
  ])('a certificate of %d days after %d', async (validityDays, days) => {
    const timer = new ManualTimer();
    const identity = await open(undefined, { timer, options: { validityDays } });
    // An hour of margin: validity begins an hour before the certificate is made.
    timer.advance(days * DAY_MS - 3_600_000);
    expect(identity.renewalDue()).toBeUndefined();
    timer.advance(2 * 3_600_000);
    expect(identity.renewalDue()).toBe('ending');
  });

  test('at once when the configured names are others', async () => {
    const directory = await temporaryDirectory();
    const first = await open(directory);
    const same = await open(directory, { options: { names: NAMES.toReversed() } });
    expect(same.renewalDue()).toBeUndefined();
    const other = await open(directory, { options: { names: [...NAMES, '::1'] } });
    expect(other.renewalDue()).toBe('names');
    expect(other.current).toEqual(first.current);
  });
});

describe('renewal', () => {
  test('the new certificate becomes current once it is registered, and not before', async () => {
    const directory = await temporaryDirectory();
    const timer = new ManualTimer();
    const identity = await open(directory, { timer });
    const old = identity.current;
    const listener = vi.fn<(credentials: Credentials) => void>();
    identity.onChange(listener);
    const accepted = Promise.withResolvers<void>();
    const register = vi.fn(() => accepted.promise);
    const renewal = identity.renew(register);
    expect(identity.renew(register)).toBe(renewal);
    await vi.waitFor(() => expect(register).toHaveBeenCalledTimes(1));
    expect(identity.current).toBe(old);
    expect((await open(directory, { timer })).current).toEqual(old);
    expect(listener).not.toHaveBeenCalled();

    accepted.resolve();
    await renewal;
    expect(identity.current.fingerprint).not.toBe(old.fingerprint);
    expect(register.mock.calls).toEqual([[identity.current]]);
    expect(listener.mock.calls).toEqual([[identity.current]]);
    expect((await open(directory, { timer })).current).toEqual(identity.current);
  });

  test('a refused registration leaves the old one in place, and the next check tries again', async () => {
    const timer = new ManualTimer();
    const renewalFailed = vi.fn();
    const identity = await open(undefined, { timer, events: { renewalFailed } });
    const old = identity.current;
    const register = vi
      .fn<(credentials: Credentials) => Promise<void>>()
      .mockRejectedValueOnce(new Error('closed'));
    identity.startRenewal(register);
    timer.advance(334 * DAY_MS);
    expect(register).not.toHaveBeenCalled();
    timer.advance(DAY_MS);
    await vi.waitFor(() => expect(renewalFailed).toHaveBeenCalledTimes(1));
    expect(identity.current).toBe(old);

    const renewed = Promise.withResolvers<Credentials>();
    identity.onChange(renewed.resolve);
    register.mockResolvedValue();
    timer.advance(3_600_000);
    expect(await renewed.promise).toBe(identity.current);
  });

  test('a certificate that cannot be stored is current all the same, and the failure is told', async () => {
    const directory = await temporaryDirectory();
    const storingFailed = vi.fn();
    const identity = await open(directory, { events: { storingFailed } });
    const old = identity.current;
    await mkdir(join(directory, 'tls.pem.new'));
    await identity.renew(() => Promise.resolve());
    expect(identity.current.fingerprint).not.toBe(old.fingerprint);
    expect(storingFailed).toHaveBeenCalledTimes(1);
  });

  test('after closing nothing is checked any more', async () => {
    const timer = new ManualTimer();
    const identity = await open(undefined, { timer });
    const register = vi.fn(() => Promise.resolve());
    identity.startRenewal(register);
    await identity.close();
    timer.advance(400 * DAY_MS);
    expect(register).not.toHaveBeenCalled();
    expect(timer.delays).toEqual([]);
  });
});
