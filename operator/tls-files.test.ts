import { X509Certificate } from 'node:crypto';
import { chmod, readFile, rename, rm, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { temporaryDirectory } from './testing/api.ts';
import { openTlsFiles, type TlsFilesOptions } from './tls-files.ts';

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

test('both are made when neither is there, for the hosts, and found again', async () => {
  const given = await options();
  const { credentials, made } = await openTlsFiles(given);
  expect(made).toBe(true);
  const certificate = new X509Certificate(await readFile(given.certPath));
  expect(certificate.subjectAltName).toBe('DNS:node.example, IP Address:10.0.0.1');
  expect(certificate.publicKey.asymmetricKeyDetails?.namedCurve).toBe('prime256v1');
  const days = (certificate.validToDate.getTime() - Date.now()) / 86_400_000;
  expect(Math.round(days)).toBe(365);
  for (const path of [given.certPath, given.keyPath]) expect((await stat(path)).mode & 0o777).toBe(0o600);
  const again = await openTlsFiles(given);
  expect(again).toMatchObject({ made: false, credentials: { fingerprint: credentials.fingerprint } });
});

test('nothing is made unless allowed, nor beside one that is there', async () => {
  const without = await options({ createIfMissing: false });
  await expect(openTlsFiles(without)).rejects.toThrow(`neither ${without.certPath} nor ${without.keyPath}`);
  const given = await options();
  await openTlsFiles(given);
  await rename(given.keyPath, `${given.keyPath}.away`);
  await expect(openTlsFiles(given)).rejects.toThrow(
    `${given.certPath} is there, but ${given.keyPath} is not`,
  );
  await rename(`${given.keyPath}.away`, given.keyPath);
  await rm(given.certPath);
  await expect(openTlsFiles(given)).rejects.toThrow(
    `${given.keyPath} is there, but ${given.certPath} is not`,
  );
});

test('a crash between the two is made good at the next start', async () => {
  const given = await options();
  await openTlsFiles(given);
  await rename(given.certPath, `${given.certPath}.prepared`);
  expect((await openTlsFiles(given)).made).toBe(false);
  await stat(given.certPath);
  // Before the key was in its place.
  await rename(given.certPath, `${given.certPath}.prepared`);
  await rm(given.keyPath);
  expect((await openTlsFiles(given)).made).toBe(true);
});

test('what is damaged, mixed up or open to others is named, and not told', async () => {
  const given = await options();
  await openTlsFiles(given);
  const key = await readFile(given.keyPath, 'utf8');
  await chmod(given.keyPath, 0o640);
  await expect(openTlsFiles(given)).rejects.toThrow(`others may read ${given.keyPath}`);
  await chmod(given.keyPath, 0o600);
  const other = await options();
  await openTlsFiles(other);
  await writeFile(given.keyPath, await readFile(other.keyPath));
  await expect(openTlsFiles(given)).rejects.toThrow('do not belong together');
  await writeFile(given.keyPath, key.replaceAll('A', 'B'));
  const error = await openTlsFiles(given).catch((thrown: unknown) => String(thrown));
  expect(error).toContain(`${given.keyPath}: the private key cannot be read`);
  await writeFile(given.keyPath, key);
  await writeFile(given.certPath, 'x');
  await expect(openTlsFiles(given)).rejects.toThrow('the certificate cannot be read');
});
