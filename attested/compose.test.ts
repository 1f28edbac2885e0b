/** One proxy from its settings: what stops it, and what it reads again while it runs. */
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { connect } from 'node:tls';
import { expect, onTestFinished, test } from 'vitest';
import { type Credentials, createCredentials } from '../identity/certificate.ts';
import { ManualTimer } from '../identity/testing/manual-timer.ts';
import { createLogger } from '../log.ts';
import { temporaryDirectory } from '../testing/directory.ts';
import { startProgram } from './compose.ts';
import { type Role, readSettings } from './settings.ts';

const log = createLogger({ json: true, debug: false, service: 'test' });
log.level = 'silent';

function start(role: Role, flags: readonly string[], timer?: ManualTimer) {
  const target = role === 'server' ? 'http://127.0.0.1:1' : 'https://127.0.0.1:1';
  const all = ['--listen-addr', '127.0.0.1:0', '--target-addr', target, ...flags];
  return startProgram(role, readSettings(role, all, {}), log, timer);
}

test('a regular certificate that has been replaced is shown to the next connection', async () => {
  const directory = await temporaryDirectory();
  const [certPath, keyPath] = [join(directory, 'cert.pem'), join(directory, 'key.pem')];
  const put = async ({ certificatePem, privateKeyPem }: Credentials): Promise<void> => {
    await writeFile(certPath, certificatePem);
    await writeFile(keyPath, privateKeyPem, { mode: 0o600 });
  };
  const make = () => createCredentials({ names: ['127.0.0.1'], validityDays: 1, now: Date.now() });
  const [first, second] = await Promise.all([make(), make()]);
  await put(first);
  const timer = new ManualTimer(Date.now());
  const program = await start(
    'server',
    [
      '--server-attestation-type',
      'none',
      '--tls-certificate-path',
      certPath,
      '--tls-private-key-path',
      keyPath,
    ],
    timer,
  );
  onTestFinished(() => program.close());
  const shown = async (): Promise<string | undefined> => {
    const socket = connect({ ...program.address, rejectUnauthorized: false });
    await new Promise((resolve) => socket.once('secureConnect', resolve));
    const certificate = socket.getPeerX509Certificate();
    socket.destroy();
    return certificate?.fingerprint256.replaceAll(':', '').toLowerCase();
  };
  expect(await shown()).toBe(first.fingerprint);
  await put(second);
  timer.advance(30_000);
  await expect.poll(shown, { timeout: 15_000 }).toBe(second.fingerprint);
});

test.each([
  [
    'client',
    ['--verify-tls', '--tls-ca-certificate', 'FILE'],
    '--tls-ca-certificate FILE: it is no certificate',
  ],
  ['client', ['--verify-tls', '--tls-ca-certificate', '/no/such'], '--tls-ca-certificate /no/such: ENOENT'],
  ['client', ['--server-measurements', '/no/such'], '/no/such'],
  [
    'client',
    ['--server-measurements', 'POLICY', '--dev-mock-root', 'FILE'],
    '--dev-mock-root FILE: it is no certificate',
  ],
  [
    'server',
    ['--server-attestation-type', 'none', '--tls-certificate-path', 'FILE', '--tls-private-key-path', 'FILE'],
    'FILE, FILE: the certificate cannot be read',
  ],
  ['client', ['--server-measurements', 'AZURE'], 'AZURE: no entry can be used: azure-tdx evidence'],
  ['client', ['--server-measurements', 'GCP'], 'GCP: no entry can be used: gcp-tdx evidence'],
] as const)('%s %j does not start, and says why', async (role, flags, reason) => {
  const directory = await temporaryDirectory();
  const image = (type: string) =>
    JSON.stringify([{ measurement_id: 'x', attestation_type: type, measurements: {} }]);
  const files = {
    FILE: 'no certificate',
    POLICY: image('dcap-tdx'),
    AZURE: image('azure-tdx'),
    GCP: image('gcp-tdx'),
  };
  for (const [name, text] of Object.entries(files)) {
    await writeFile(join(directory, name), text, { mode: 0o600 });
  }
  const placed = (text: string) =>
    text.replaceAll(/\b(?:FILE|POLICY|AZURE|GCP)\b/g, (name) => join(directory, name));
  await expect(start(role, flags.map(placed))).rejects.toThrow(placed(reason));
});
