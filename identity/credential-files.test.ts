import { chmod, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { temporaryDirectory } from '../testing/directory.ts';
import { type CertificateOptions, type Credentials, createCredentials } from './certificate.ts';
import { CredentialFiles, type CredentialFilesModules, type CredentialPaths } from './credential-files.ts';
import { ManualTimer } from './testing/manual-timer.ts';

function made(more: Partial<CertificateOptions> = {}): Promise<Credentials> {
  return createCredentials({ names: ['127.0.0.1'], validityDays: 1, now: Date.now(), ...more });
}

async function put({ certPath, keyPath }: CredentialPaths, credentials: Credentials): Promise<void> {
  await writeFile(certPath, credentials.certificatePem);
  await writeFile(keyPath, credentials.privateKeyPem, { mode: 0o600 });
}

async function opened(first: Credentials, upkeep?: CredentialFilesModules['upkeep']) {
  const directory = await temporaryDirectory();
  const paths = { certPath: join(directory, 'cert.pem'), keyPath: join(directory, 'key.pem') };
  await put(paths, first);
  const timer = new ManualTimer(Date.now());
  const said: string[] = [];
  const files = await CredentialFiles.open(paths, {
    timer,
    upkeep,
    events: {
      changed: ({ fingerprint }) => said.push(fingerprint),
      failed: ({ message }) => said.push(message),
    },
  });
  onTestFinished(() => files.close());
  /** The next look, and what it finds. */
  const look = async (): Promise<void> => {
    timer.advance(30_000);
    await files.look();
  };
  return { files, paths, said, look, timer };
}

test('what replaces the two files is in force within half a minute', async () => {
  const [first, second, third] = await Promise.all([made(), made(), made()]);
  const { files, paths, said, look, timer } = await opened(first);
  const heard: string[] = [];
  files.onChange(({ fingerprint }) => heard.push(fingerprint));
  expect(timer.delays).toEqual([30_000]);
  await look();
  expect(said).toEqual([]);
  for (const next of [second, third]) {
    await put(paths, next);
    await look();
    expect(files.current).toEqual(next);
  }
  expect(heard).toEqual([second.fingerprint, third.fingerprint]);
  expect(said).toEqual(heard);
});

test('the same key with another certificate is a change too', async () => {
  const first = await made();
  const { files, paths, look } = await opened(first);
  const renewed = await made({ privateKeyPem: first.privateKeyPem });
  expect(renewed.privateKeyPem).toBe(first.privateKeyPem);
  await writeFile(paths.certPath, renewed.certificatePem);
  await look();
  expect(files.current.fingerprint).toBe(renewed.fingerprint);
});

test('one file replaced, the other not yet: said when it stays so, once, and the last good ones stay', async () => {
  const [first, second] = await Promise.all([made(), made()]);
  const { files, paths, said, look } = await opened(first);
  await writeFile(paths.certPath, second.certificatePem);
  await look();
  expect(said).toEqual([]);
  await look();
  await look();
  const problem = `${paths.certPath}, ${paths.keyPath}: the certificate and the private key do not belong together`;
  expect(said).toEqual([problem]);
  expect(files.current).toEqual(first);
  await put(paths, second);
  await look();
  expect(said).toEqual([problem, second.fingerprint]);
  await chmod(paths.keyPath, 0o644);
  await look();
  await look();
  expect(said.at(-1)).toContain(`others may read ${paths.keyPath}`);
  expect(files.current).toEqual(second);
});

test('upkeep replaces what it is told of', async () => {
  const [first, second] = await Promise.all([made(), made()]);
  const told: string[] = [];
  let paths: CredentialPaths | undefined;
  const world = await opened(first, async ({ fingerprint }) => {
    told.push(fingerprint);
    if (paths === undefined || fingerprint === second.fingerprint) return false;
    await put(paths, second);
    return true;
  });
  ({ paths } = world);
  await world.look();
  expect(world.files.current).toEqual(second);
  await world.look();
  expect(told).toEqual([first.fingerprint, first.fingerprint, second.fingerprint]);
});

test.each([
  ['cert.pem', undefined, 'cert.pem is missing'],
  ['key.pem', undefined, 'key.pem is missing'],
  ['cert.pem', 'x', 'the certificate cannot be read'],
  ['key.pem', 'x', 'the private key cannot be read'],
])('at the start: %s with %s', async (name, content, reason) => {
  const directory = await temporaryDirectory();
  const good = await made();
  const texts = { 'cert.pem': good.certificatePem, 'key.pem': good.privateKeyPem, [name]: content };
  for (const [file, text] of Object.entries(texts)) {
    if (text !== undefined) await writeFile(join(directory, file), text, { mode: 0o600 });
  }
  const paths = { certPath: join(directory, 'cert.pem'), keyPath: join(directory, 'key.pem') };
  await expect(CredentialFiles.open(paths)).rejects.toThrow(reason);
});
