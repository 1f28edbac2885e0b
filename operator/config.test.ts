import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { readConfig } from './config.ts';
import { configRows } from './config-settings.ts';

const LEAST = `
[general]
tls_cert_path = "c"
tls_key_path = "k"
basic_auth_secret_path = "p"
`;

test('the least configuration has the defaults of the table', () => {
  const { general, actions, uploads } = readConfig(LEAST);
  expect(general).toMatchObject({
    listen_addr: { host: '127.0.0.1', port: 3535 },
    metrics_addr: null,
    tls_enabled: true,
    without_password: 'locked',
    password_hash: 'argon2id',
    log_max_entries: 1000,
    pipe_mode: 0o622,
  });
  expect([actions.size, uploads.size]).toEqual([0, 0]);
  expect(Object.keys(general)).toEqual(configRows().map(({ key }) => key));
});

test('a configuration of the deployed program is read with its keys', () => {
  const { general, actions, uploads } = readConfig(`
[general]
listen_addr = "0.0.0.0:3535"
pipe_file = "pipe.fifo"
pprof = true
log_json = false
log_debug = true
log_max_entries = 1000
basic_auth_secret_path = "basic-auth-secret.txt"
basic_auth_secret_salt = "D;%yL9TS:5PalS/d"
http_read_timeout_ms = 2500
http_write_timeout_ms = 2500
tls_enabled = true
tls_create_if_missing = true
tls_cert_hosts = ["127.0.0.1", "localhost"]
tls_cert_path = "cert.pem"
tls_key_path = "key.pem"
shell_actions = true
[actions]
echo_test = "echo test"
[file_uploads]
testfile = "/tmp/testfile.txt"
`);
  expect(general.tls_cert_hosts).toEqual(['127.0.0.1', 'localhost']);
  expect(actions.get('echo_test')).toEqual({
    command: ['echo test'],
    shell: true,
    timeoutMs: 60_000,
    outputBytes: 262_144,
  });
  expect(uploads.get('testfile')).toEqual({
    path: '/tmp/testfile.txt',
    check: 'addresses',
    maxBytes: 1_048_576,
    mode: 0o644,
  });
});

test('actions and uploads with limits of their own', () => {
  const { actions, uploads } = readConfig(`${LEAST}
[actions]
a = ["/bin/true", "", "two words"]
b = { command = ["/bin/true"], timeout_ms = 10, output_bytes = 2048 }
[file_uploads]
u = { path = "/u", check = "none", max_bytes = 7, mode = 0o600 }
`);
  expect(actions.get('a')).toMatchObject({ command: ['/bin/true', '', 'two words'], shell: false });
  expect(actions.get('b')).toMatchObject({ timeoutMs: 10, outputBytes: 2048 });
  expect(uploads.get('u')).toEqual({ path: '/u', check: 'none', maxBytes: 7, mode: 0o600 });
});

test('flags win over the file, MAX_EVENTS does not', () => {
  const text = `${LEAST}pipe_file = "a"\n`;
  const overrides = { listenAddr: '[::1]:1', pipeFile: 'b', maxEvents: '7' };
  const { general } = readConfig(text, overrides);
  expect(general.listen_addr).toEqual({ host: '::1', port: 1 });
  expect(general.pipe_file).toBe('b');
  expect(general.log_max_entries).toBe(7);
  expect(readConfig(`${text}log_max_entries = 3\n`, overrides).general.log_max_entries).toBe(3);
  expect(() => readConfig(text, { maxEvents: 'many' })).toThrow('general.log_max_entries');
});

describe('what is wrong is named', () => {
  test.each([
    ['[general', 'line 1, column 2: Invalid TOML document'],
    ['general = 1', 'general: must be a table'],
    ['[general]\nlisten_addr = "x"', 'general.listen_addr: "x" is not allowed; allowed is HOST:PORT'],
    ['[general]\nlisten_addr = ":70000"', 'general.listen_addr'],
    [
      '[general]\nlog_max_entries = 0',
      'general.log_max_entries: 0 is not allowed; allowed is a whole number from 1',
    ],
    ['[general]\nlog_max_entries = "5"', 'general.log_max_entries: "5" is not allowed'],
    ['[general]\nlog_json = "yes"', 'general.log_json: "yes" is not allowed; allowed is true or false'],
    ['[general]\npipe_mode = 0o1777', 'general.pipe_mode'],
    ['[general]\ntls_cert_hosts = ["a b"]', 'general.tls_cert_hosts'],
    ['[general]\ntls_cert_hosts = []', 'general.tls_cert_hosts'],
    ['[general]\nboot_steps = ["a b"]', 'general.boot_steps'],
    [
      '[general]\nwithout_password = "closed"',
      'general.without_password: "closed" is not allowed; allowed is locked or open',
    ],
    ['[general]\nlisten_adr = "x"', 'general.listen_adr: no such key'],
    ['[genral]', 'genral: no such key'],
    ['', 'general.tls_cert_path: is missing'],
    ['[general]\ntls_enabled = false', 'general.basic_auth_secret_path: is missing'],
    [`${LEAST}[actions]\na = "reboot"`, 'actions.a: is a shell command'],
    [`${LEAST}[actions]\na = ["reboot"]`, `actions.a: "reboot" is not allowed; the program's whole path is`],
    [`${LEAST}[actions]\na = []`, 'actions.a: is not allowed; allowed is a list of texts'],
    [`${LEAST}[actions]\na = ["/bin/a", 1]`, 'actions.a: is not allowed'],
    [`${LEAST}[actions]\na = ["/bin/a\\u0000"]`, 'actions.a: is not allowed'],
    [`${LEAST}[actions]\na = {}`, 'actions.a: is not allowed'],
    [`${LEAST}[actions]\na = { command = ["/bin/a"], timeout = 1 }`, 'actions.a.timeout: no such key'],
    [`${LEAST}[actions]\na = { command = ["/bin/a"], timeout_ms = 0 }`, 'actions.a.timeout_ms: 0 is not'],
    [`${LEAST}[actions]\n"../a" = ["/bin/a"]`, 'actions: "../a" is not allowed'],
    [`${LEAST}[actions]\n__proto__ = 5`, 'actions.__proto__: is not allowed'],
    [`${LEAST}[file_uploads]\nu = "dir/"`, 'file_uploads.u: "dir/" is not allowed'],
    [`${LEAST}[file_uploads]\nu = 1`, 'file_uploads.u: 1 is not allowed'],
    [`${LEAST}[file_uploads]\nu = { path = "u", check = "yaml" }`, 'file_uploads.u.check: "yaml"'],
    [`${LEAST}a = ${'['.repeat(50)}${']'.repeat(50)}`, 'line'],
  ])('%j', (text, message) => {
    expect(() => readConfig(text)).toThrow(message);
  });

  test('but no secret', () => {
    const secret = 'correct horse';
    for (const text of [
      `${LEAST}basic_auth_secret_hash = "${secret}"`,
      `${LEAST}basic_auth_secret_salt = ["${secret}"]`,
      `${LEAST}basic_auth_secret_salt = "${secret}`,
      `${LEAST}basic_auth_secret_salt = ${secret}`,
    ]) {
      let message = '';
      try {
        readConfig(text);
      } catch (error) {
        message = (error as Error).message;
      }
      expect(message).not.toBe('');
      expect(message).not.toContain('horse');
    }
  });
});

test('unknown keys can be ignored', () => {
  const text = LEAST.replace('[general]', 'x = 1\n[general]\nunknown_keys = "ignore"\ny = 2');
  expect(readConfig(`${text}[z]\n`).general.unknown_keys).toBe('ignore');
});

describe('the examples of the README', () => {
  const readme = readFileSync(join(import.meta.dirname, 'README.md'), 'utf8');

  test('the first', () => {
    const example = /```toml\n(.*?)```/s.exec(readme)?.[1] ?? '';
    const { general, actions, uploads } = readConfig(
      example.replace(/"\$argon2id[^"]*"/, `"${'a'.repeat(64)}"`),
    );
    expect(general.boot_steps).toHaveLength(4);
    expect([...actions.keys(), ...uploads.keys()]).toEqual([
      'rbuilder_restart',
      'reboot',
      'rbuilder_blocklist',
    ]);
  });

  test('as deployed', () => {
    const example = readme.slice(readme.indexOf('## As deployed')).match(/^ {4}.*$/gm) ?? [];
    const { general } = readConfig(example.join('\n'));
    expect(general).toMatchObject({ without_password: 'open', shell_actions: true, tls_enabled: false });
  });
});
