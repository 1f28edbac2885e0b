import { describe, expect, test } from 'vitest';
import { MAX_FRAME_BYTES } from './egress/archive/record.ts';
import { MAX_FREE_TEXT } from './pipeline/fields.ts';
import { flagOf, readSettings, SETTINGS, SettingError, settingRows } from './settings.ts';

describe('readSettings', () => {
  test("defaults are v1's addresses", () => {
    const settings = readSettings([], {});
    expect(settings.userListenAddr).toEqual({ host: '127.0.0.1', port: 443 });
    expect(settings.systemListenAddr).toEqual({ host: '127.0.0.1', port: 5544 });
    expect(settings.certListenAddr).toEqual({ host: '127.0.0.1', port: 14727 });
    expect(settings.metricsAddr).toEqual({ host: '127.0.0.1', port: 8090 });
    expect(settings.builderEndpoint?.href).toBe('http://127.0.0.1:8645/');
    expect(settings.hubEndpoint?.href).toBe('http://127.0.0.1:14892/');
    expect(settings.maxRequestBodySizeBytes).toBe(30 * 1024 * 1024);
    expect(settings.flashbotsSigner).toBe('0x5015fa72e34f75a9ec64f44a4fcf0837919d1bb7');
  });

  test('a flag wins over the environment, the environment over the default, an alias serves', () => {
    const env = { MAX_USER_RPS: '5', BUILDERHUB_ENDPOINT: 'http://hub:1', CONN_PER_PEER: '' };
    const settings = readSettings(['--max-user-rps', '7', '--ephemeral', '--user-tls=off'], env);
    expect(settings.maxUserRps).toBe(7);
    expect(settings.hubEndpoint?.host).toBe('hub:1');
    expect([settings.ephemeral, settings.userTls, settings.connPerPeer]).toEqual([true, false, 10]);
  });

  test('addresses: IPv6 in brackets, every interface, port 0', () => {
    const at = (text: string) => readSettings(['--user-listen-addr', text], {}).userListenAddr;
    expect(at('[::1]:0')).toEqual({ host: '::1', port: 0 });
    expect(at(':443')).toEqual({ host: '::', port: 443 });
    expect(at('0.0.0.0:5544')).toEqual({ host: '0.0.0.0', port: 5544 });
  });

  test.each([
    [
      ['--max-user-rps', '-1'],
      {},
      '--max-user-rps: "-1" is not allowed; allowed is a whole number from 0 to 1000000',
    ],
    [
      ['--max-user-rps'],
      {},
      '--max-user-rps: a value is missing; allowed is a whole number from 0 to 1000000',
    ],
    [['--no-such'], {}, '--no-such: no such flag; --help shows all of them'],
    [[], { MODE: 'both' }, 'MODE: "both" is not allowed; allowed is node or sender'],
    [
      [],
      { USER_LISTEN_ADDR: '1.2.3.4' },
      'USER_LISTEN_ADDR: "1.2.3.4" is not allowed; allowed is HOST:PORT, [IPV6]:PORT or :PORT',
    ],
    [
      [],
      { BUILDER_READY_ENDPOINT: 'ftp://x' },
      'BUILDER_READY_ENDPOINT: "ftp://x" is not allowed; allowed is an http:// or https:// URL, or none',
    ],
    [
      [],
      { BUILDER_ENDPOINT: 'https://x' },
      'BUILDER_ENDPOINT: "https://x" is not allowed; allowed is an http:// URL, or none',
    ],
    [
      [],
      { FLASHBOTS_ORDERFLOW_SIGNER_ADDRESS: '0x12' },
      'FLASHBOTS_ORDERFLOW_SIGNER_ADDRESS: "0x12" is not allowed; allowed is 0x and 40 hex digits',
    ],
  ])('%j %j is refused by name', (argv, env, message) => {
    expect(() => readSettings(argv, env)).toThrow(new SettingError(message));
  });

  test('names of the certificate are names and addresses', () => {
    expect(readSettings(['--cert-hosts', 'node.example, ::1,10.0.0.1'], {}).certHosts).toHaveLength(3);
    expect(() => readSettings(['--cert-hosts', 'node.example:443'], {})).toThrow(
      '--cert-hosts: "node.example:443"',
    );
  });

  test('every body that is taken can be archived, however much its text grows', () => {
    const body = (bytes: number) => readSettings(['--max-request-body-size-bytes', String(bytes)], {});
    const largest = MAX_FRAME_BYTES - 6 * MAX_FREE_TEXT - 65_536;
    expect(() => body(largest)).toThrow('from 1024 to 62914560');
    expect(body(62_914_560).maxRequestBodySizeBytes).toBeLessThan(largest);
  });

  test('a wrong secret is refused without being shown', () => {
    expect(() => readSettings([], { ORDERFLOW_SIGNER_KEY: 'hunter2' })).toThrow('(not shown)');
    expect(() => readSettings([], { ORDERFLOW_SIGNER_KEY: 'hunter2' })).not.toThrow('hunter2');
  });
});

test('every setting has a flag of its own and help', () => {
  const rows = settingRows();
  expect(rows).toHaveLength(Object.keys(SETTINGS).length);
  expect(new Set(rows.map((row) => row.flag)).size).toBe(rows.length);
  for (const row of rows) expect(row.help.length).toBeGreaterThan(5);
  expect(flagOf('USER_LISTEN_ADDR')).toBe('--user-listen-addr');
});
