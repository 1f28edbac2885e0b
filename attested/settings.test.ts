import { expect, test } from 'vitest';
import { helpOf, readSettings, SETTINGS, SettingError } from './settings.ts';

const TARGET = { server: 'http://127.0.0.1:1', client: 'https://127.0.0.1:1' } as const;

test.each([
  ['server', ['--server-attestation-type', 'dummy'], 'needs --dev-dummy-dcap'],
  ['server', ['--dev-dummy-dcap', 'http://127.0.0.1:1'], 'needs --server-attestation-type dummy'],
  ['server', ['--tls-certificate-path', 'x', '--server-attestation-type', 'none'], 'one without the other'],
  [
    'server',
    ['--tls-certificate-path', 'x', '--tls-private-key-path', 'y'],
    'only with --server-attestation-type none',
  ],
  ['client', ['--verify-tls', '--server-measurements', 'x'], 'not together'],
  ['client', ['--tls-ca-certificate', 'x', '--server-measurements', 'x'], 'needs --verify-tls'],
  ['client', [], '--server-measurements: is missing'],
  ['client', ['--insecure-any-server', '--production'], 'refused with --production'],
  [
    'client',
    ['--server-measurements', 'x', '--dev-mock-root', 'x', '--production'],
    'refused with --production',
  ],
  ['server', ['--server-attestation-type', 'azure-tdx'], 'is not made by this version'],
  ['server', ['--target-addr', 'https://127.0.0.1:1'], 'is no http:// URL'],
  ['client', ['--server-measurements', 'x', '--accept-tcb', 'Revoked'], 'is no status that can be accepted'],
  ['server', ['--listen-addr', 'nowhere'], 'HOST:PORT'],
  ['server', ['--max-handshakes', '0'], '--max-handshakes: a whole number'],
  ['server', ['--request-timeout-ms', '9999'], '--head-timeout-ms: at most --request-timeout-ms'],
  ['client', ['--server-measurements', 'x', '--pccs-url', 'pccs:8081'], '--pccs-url: "pccs:8081" is no'],
  [
    'server',
    ['--server-attestation-type', 'dummy', '--dev-dummy-dcap', '127.0.0.1'],
    '--dev-dummy-dcap: "127.0.0.1" is no',
  ],
  ['server', ['--log-json', 'perhaps'], '--log-json: "perhaps" is neither'],
  ['client', ['--client-attestation-type', 'gcp-tdx'], 'gcp-tdx: is not made by this version; dcap-tdx is'],
  ['server', ['--server-measurements', 'x'], "Unknown option '--server-measurements'"],
] as const)('%s %j is refused', (role, args, reason) => {
  const read = () => readSettings(role, ['--target-addr', TARGET[role], ...args], {});
  expect(read).toThrow(SettingError);
  expect(read).toThrow(reason);
});

test('each setting is a flag and an environment variable; flags win', () => {
  const env = {
    TARGET_ADDR: 'http://127.0.0.1:14727',
    LISTEN_ADDR: ':7936',
    SERVER_ATTESTATION_TYPE: 'none',
    MAX_CONNECTIONS: '7',
  };
  const settings = readSettings('server', ['--listen-addr', '[::1]:7937'], env);
  expect(settings).toMatchObject({
    own: 'none',
    listen: { host: '::1', port: 7937 },
    bounds: { maxConnections: 7 },
  });
  expect(settings.target.href).toBe('http://127.0.0.1:14727/');
  expect(settings.policyFile).toBeUndefined();
});

test('help names every setting of its role', () => {
  for (const { flag, roles } of SETTINGS) {
    for (const role of ['server', 'client'] as const) {
      expect(helpOf(role).includes(`--${flag} `), `${role} ${flag}`).toBe(roles.includes(role));
    }
  }
});
