import { X509Certificate } from 'node:crypto';
import { chmod, readFile, rename, rm, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, onTestFinished, test } from 'vitest';
import { createCredentials } from '../identity/certificate.ts';
import { ManualTimer } from '../identity/testing/manual-timer.ts';
import { temporaryDirectory } from '../testing/directory.ts';
import { openTlsFiles, type TlsFilesModules, type TlsFilesOptions } from './tls-files.ts';

async function options(more: Partial<TlsFilesOptions> = {}): Promise<TlsFilesOptions> {
  const directory = await temporaryDirectory();
  return {
    certPath: join(directory, 'cert.pem'),
    keyPath: join(directory, 'key.pem'),
    createIfMissing: true,
    hosts: ['node.example', '10.0.0.1'],
    ...more,
  };
}

async function open(given: TlsFilesOptions, modules?: TlsFilesModules) {
  const opened = await openTlsFiles(given, modules);
  onTestFinished(() => opened.files.close());
  return opened;
}

test('both are made when neither is there, for the hosts, and found again', async () => {
  const given = await options();
  const { files, made } = await open(given);
  expect(made).toBe(true);
  const certificate = new X509Certificate(await readFile(given.certPath));
  expect(certificate.subjectAltName).toBe('DNS:node.example, IP Address:10.0.0.1');
  expect(certificate.publicKey.asymmetricKeyDetails?.namedCurve).toBe('prime256v1');
  const days = (certificate.validToDate.getTime() - Date.now()) / 86_400_000;
  expect(Math.round(days)).toBe(365);
  for (const path of [given.certPath, given.keyPath]) expect((await stat(path)).mode & 0o777).toBe(0o600);
  const again = await open(given);
  expect(again.made).toBe(false);
  expect(again.files.current.fingerprint).toBe(files.current.fingerprint);
});

test('nothing is made unless allowed, nor beside one that is there', async () => {
  const without = await options({ createIfMissing: false });
  await expect(open(without)).rejects.toThrow(`neither ${without.certPath} nor ${without.keyPath}`);
  const given = await options();
  await open(given);
  await rename(given.keyPath, `${given.keyPath}.away`);
  await expect(open(given)).rejects.toThrow(`${given.certPath} is there, but ${given.keyPath} is not`);
  await rename(`${given.keyPath}.away`, given.keyPath);
  await rm(given.certPath);
  await expect(open(given)).rejects.toThrow(`${given.keyPath} is there, but ${given.certPath} is not`);
});

test('a crash between the two is made good at the next start', async () => {
  const given = await options();
  await open(given);
  await rename(given.certPath, `${given.certPath}.prepared`);
  expect((await open(given)).made).toBe(false);
  await stat(given.certPath);
  // Before the key was in its place.
  await rename(given.certPath, `${given.certPath}.prepared`);
  await rm(given.keyPath);
  expect((await open(given)).made).toBe(true);
});

test('what is damaged, mixed up or open to others is named, and not told', async () => {
  const given = await options();
  await open(given);
  const key = await readFile(given.keyPath, 'utf8');
  await chmod(given.keyPath, 0o640);
  await expect(open(given)).rejects.toThrow(`others may read ${given.keyPath}`);
  await chmod(given.keyPath, 0o600);
  const other = await options();
  await open(other);
  await writeFile(given.keyPath, await readFile(other.keyPath));
  await expect(open(given)).rejects.toThrow('do not belong together');
  await writeFile(given.keyPath, key.replaceAll('A', 'B'));
  const error = await open(given).catch((thrown: unknown) => String(thrown));
  expect(error).toContain(`${given.keyPath}: the private key cannot be read`);
  await writeFile(given.keyPath, key);
  await writeFile(given.certPath, 'x');
  await expect(open(given)).rejects.toThrow('the certificate cannot be read');
});

describe('renewal', () => {
  const DAY_MS = 86_400_000;

  /** Made now, and opened again with a clock that is so many days on. */
  async function later(days: number, more: Partial<TlsFilesOptions> = {}) {
    const given = await options();
    const { files } = await open(given);
    const changes: string[] = [];
    const timer = new ManualTimer(Date.now() + days * DAY_MS);
    const events = { changed: ({ fingerprint }: { fingerprint: string }) => changes.push(fingerprint) };
    const again = await open({ ...given, ...more }, { timer, events });
    return { given, first: files.current, files: again.files, timer, changes };
  }

  test('a made certificate is replaced a month ahead of its end, for the same key', async () => {
    const { first, files, timer, changes, given } = await later(334);
    expect(files.current.fingerprint).toBe(first.fingerprint);
    timer.advance(DAY_MS + 60_000);
    await files.look();
    const second = files.current;
    expect(second.fingerprint).not.toBe(first.fingerprint);
    expect(second.privateKeyPem).toBe(first.privateKeyPem);
    expect(second.notAfter.getTime()).toBeGreaterThan(timer.now() + 364 * DAY_MS);
    expect(await readFile(given.certPath, 'utf8')).toBe(second.certificatePem);
    expect((await stat(given.certPath)).mode & 0o777).toBe(0o600);
    await files.look();
    expect(changes).toEqual([second.fingerprint]);
  });

  test('one that has ended while nobody ran is replaced at the start', async () => {
    const { first, files, timer } = await later(400);
    expect(files.current.fingerprint).not.toBe(first.fingerprint);
    expect(files.current.notAfter.getTime()).toBeGreaterThan(timer.now());
  });

  test('so is one for other hosts', async () => {
    const { files } = await later(0, { hosts: ['other.example'] });
    const { subjectAltName } = new X509Certificate(files.current.certificatePem);
    expect(subjectAltName).toBe('DNS:other.example');
  });

  test('not one that others have made, nor where none may be made', async () => {
    const { first, files } = await later(400, { createIfMissing: false });
    expect(files.current.fingerprint).toBe(first.fingerprint);
    const given = await options();
    const own = await createCredentials({
      names: ['x.example'],
      validityDays: 1,
      now: Date.now() - 2 * DAY_MS,
    });
    await writeFile(given.certPath, own.certificatePem);
    await writeFile(given.keyPath, own.privateKeyPem, { mode: 0o600 });
    const opened = await open(given);
    expect(opened.files.current.fingerprint).toBe(own.fingerprint);
  });
});
