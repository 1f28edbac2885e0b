import fc from 'fast-check';
import { parse } from 'smol-toml';
import { describe, expect, test } from 'vitest';
import { parse as parseYaml } from 'yaml';
import { testAuthority } from '../../egress/archive/testing/kafka-tls.ts';
import { readConfig } from '../../operator/config.ts';
import { hashPassword } from '../../operator/password.ts';
import { actionTable } from '../services/operator.ts';
import { servicesOf } from '../services.ts';
import { BROKER_FILES, BROKER_PORT } from './brokers.ts';
import { ConfigError, renderConfig as render } from './config.ts';
import { environmentFile, quoted } from './formats.ts';
import { operatorToml } from './operator-config.ts';

const KEY = 'ab'.repeat(32);
const MINIMAL = { instance_name: 'node-1', disk_encryption: { key: KEY } };

const PLAIN = { builder: false, ssh: false, exports: false };
const renderConfig = (answer: string) => render(answer, { actions: '[actions]\n', ...PLAIN });
const fileOf = (configuration: unknown, path: string): string | undefined =>
  renderConfig(JSON.stringify(configuration)).find((file) => file.path === path)?.text;

/** How systemd reads a double-quoted value (systemd.exec(5)): a backslash takes the next character as it is. */
function readAsSystemd(text: string): Record<string, string> {
  const entries = [...text.matchAll(/^(\w+)="((?:[^"\\]|\\.)*)"$/gmsu)];
  return Object.fromEntries(entries.map(([, name, value]) => [name, value!.replaceAll(/\\(.)/gsu, '$1')]));
}

describe('configuration', () => {
  test.each([
    ['no key at all', { instance_name: 'node-1' }],
    ['an empty key', { ...MINIMAL, disk_encryption: { key: '' } }],
    ['a key of 31 bytes', { ...MINIMAL, disk_encryption: { key: 'ab'.repeat(31) } }],
    ['a key that is no hex', { ...MINIMAL, disk_encryption: { key: 'zz'.repeat(32) } }],
    ['a key inherited from the prototype', { ...MINIMAL, disk_encryption: [] }],
  ])('%s stops rendering and is named', (_, configuration) => {
    expect(() => renderConfig(JSON.stringify(configuration))).toThrow(/^disk_encryption\.key: /u);
  });

  test('every problem is named, no value is', () => {
    const bad = {
      instance_name: 'SECRET NAME',
      flowproxy: { builder_region: 'SECRET\n' },
      haproxy: { rate_limit_conn_rate_regular: -1 },
    };
    let error: unknown;
    try {
      renderConfig(JSON.stringify(bad));
    } catch (caught) {
      error = caught;
    }
    expect(error).toBeInstanceOf(ConfigError);
    expect((error as ConfigError).keys).toEqual([
      'instance_name',
      'disk_encryption.key',
      'flowproxy.builder_region',
      'haproxy.rate_limit_conn_rate_regular',
    ]);
    expect((error as ConfigError).message).not.toContain('SECRET');
    expect(() => renderConfig('{')).toThrow('configuration: is no JSON');
  });

  test('keys that nobody reads are kept out', () => {
    const files = renderConfig(
      JSON.stringify({ ...MINIMAL, github_token: 'SECRET', other: 'SECRET', flowproxy: { other: 'SECRET' } }),
    );
    expect(JSON.stringify(files)).not.toContain('SECRET');
  });

  test('all of ASCII comes through every format', () => {
    const all = Array.from({ length: 128 }, (_, index) => String.fromCodePoint(index)).join('');
    const formats: Record<string, (value: string) => unknown> = {
      environment: (value) => readAsSystemd(environmentFile([['X', value]])).X,
      toml: (value) => parse(`X = ${quoted(value)}\n`).X,
      yaml: (value) => (parseYaml(`X: ${quoted(value)}\n`) as { X: unknown }).X,
    };
    for (const [name, through] of Object.entries(formats)) {
      for (const value of [all, '&<>"\'$`\\', '', ' ', '#', '%d', '{{x}}', '\n- x: y'])
        expect(through(value), name).toBe(value);
      fc.assert(
        fc.property(fc.string({ unit: 'binary-ascii' }), (value) => through(value) === value),
        { seed: 6 },
      );
    }
  });

  test('the secrets of the builder are written where there is one, and asked for there alone', () => {
    const rbuilder = {
      coinbase_secret_key: '11'.repeat(32),
      relay_secret_key: '22'.repeat(32),
      extra_data: 'x"\\\'',
    };
    const configuration = JSON.stringify({ ...MINIMAL, rbuilder, github_token: 'token' });
    const files = render(configuration, { ...PLAIN, actions: '', builder: true });
    expect(parse(files.find(({ path }) => path === 'rbuilder-operator/config.toml')!.text)).toEqual(rbuilder);
    expect(JSON.stringify(renderConfig(configuration))).not.toMatch(/1111|2222|"token"/u);
    expect(() => render(JSON.stringify(MINIMAL), { ...PLAIN, actions: '', builder: true })).toThrow(
      'rbuilder.coinbase_secret_key: is missing; rbuilder.relay_secret_key: is missing',
    );
  });

  test('metrics and journal go where the hub says, in images that send them out', () => {
    const urls = {
      metrics_url: 'https://metrics.example/api/v1/write',
      journal_url: 'https://journal.example:19532',
    };
    const exporting = { ...PLAIN, actions: '', exports: true };
    const files = render(JSON.stringify({ ...MINIMAL, export: urls }), exporting);
    const written = parseYaml(files.find(({ path }) => path.startsWith('prometheus-agent/'))!.text);
    expect(written).toMatchObject({
      global: { external_labels: { instance_name: 'node-1' } },
      remote_write: [{ url: urls.metrics_url }],
    });
    const listened = servicesOf('testnet').flatMap(({ listens }) => listens.map(({ port }) => port));
    for (const { static_configs: targets } of (
      written as { scrape_configs: { static_configs: { targets: string[] }[] }[] }
    ).scrape_configs)
      expect(listened).toContain(Number(targets[0]!.targets[0]!.split(':')[1]));
    const env = files.find(({ path }) => path === 'systemd-journal-upload/env')!.text;
    expect(readAsSystemd(env)).toEqual({ JOURNAL_URL: urls.journal_url });
    const bad = { ...MINIMAL, export: { ...urls, metrics_url: 'http://metrics.example/' } };
    expect(() => render(JSON.stringify(bad), exporting)).toThrow('export.metrics_url: must be an https URL');
  });

  test('keys of ssh are keys and nothing else', () => {
    const key = `ssh-ed25519 ${'A'.repeat(68)} somebody@example`;
    const ssh = { ...PLAIN, actions: '', ssh: true };
    const keys = (list: string[]) => JSON.stringify({ ...MINIMAL, ssh: { authorized_keys: list } });
    const files = render(keys([key]), ssh);
    expect(files.find(({ path }) => path === 'ssh-setup/authorized_keys')!.text).toBe(`${key}\n`);
    for (const other of [`command="x" ${key}`, `${key}\n${key}`, 'ssh-rsa AAAA'])
      expect(() => render(keys([other]), ssh)).toThrow('ssh.authorized_keys: ');
  });

  test('the operator API reads its configuration, from before and after the hub has answered', async () => {
    const hash = await hashPassword(Buffer.from('a password'));
    const files = render(JSON.stringify({ ...MINIMAL, operator_api: { password_hash: hash } }), {
      actions: actionTable('devnet'),
      ...PLAIN,
    });
    const after = readConfig(files.find(({ path }) => path === 'operator-api/config.toml')!.text);
    expect(after.general.basic_auth_secret_hash).toBe(hash);
    expect([...after.actions.keys()]).toEqual(['reboot', 'fetch_config', 'haproxy_restart', 'disk_wipe']);
    // What an action reads is where its upload is, for one user alone, and as long as a serial.
    const [upload, ...more] = [...after.uploads.values()];
    expect(more).toEqual([]);
    expect(upload).toMatchObject({ check: 'none', maxBytes: 64, mode: 0o600 });
    expect(after.actions.get('disk_wipe')!.command.at(-1)).toBe(upload!.path);
    const before = readConfig(operatorToml({ hash: '', phase: 'boot', actions: '' }));
    expect([...before.actions.keys(), ...before.uploads.keys()]).toEqual([]);
    expect(before.general.pipe_file).toBe(after.general.pipe_file);
    expect(before.general.tls_key_path).not.toBe(after.general.tls_key_path);
  });

  test('who may reach the operator API and sshd: anybody and nobody, until the hub says otherwise', () => {
    const sets = (configuration: object) =>
      render(JSON.stringify({ ...MINIMAL, ...configuration }), { ...PLAIN, actions: '', ssh: true }).find(
        ({ path }) => path === 'firewall-sources/sets.nft',
      )!.text;
    expect(sets({})).toBe(
      'flush set inet filter operator\nadd element inet filter operator { 0.0.0.0/0 }\nflush set inet filter ssh\n',
    );
    const named = { operator_cidrs: ['192.0.2.1', '198.51.100.0/24'], ssh: { cidrs: ['192.0.2.7/32'] } };
    expect(sets(named)).toBe(
      'flush set inet filter operator\nadd element inet filter operator { 192.0.2.1, 198.51.100.0/24 }\n' +
        'flush set inet filter ssh\nadd element inet filter ssh { 192.0.2.7/32 }\n',
    );
    for (const wrong of [
      '::1',
      '192.0.2.1/33',
      '192.0.2.1/8/8',
      '192.0.2.1 }\nflush ruleset',
      'localhost',
      4,
    ])
      expect(() => sets({ operator_cidrs: [wrong] }), String(wrong)).toThrow('operator_cidrs: ');
  });

  test('brokers: over TLS, with what vouches for them and what the node shows them in files of its own', async () => {
    const authority = await testAuthority();
    const [client, other] = await Promise.all([authority.issue('client'), authority.issue('other')]);
    const kafka = {
      brokers: ['kafka-1.example:9093', '192.0.2.1:9093'],
      topic: 'archive',
      ca: authority.certificate,
      client_cert: `${client.certificate}\n${authority.certificate}`,
      client_key: client.key,
    };
    const rendered = (more: object) => ({ ...MINIMAL, flowproxy: { kafka: { ...kafka, ...more } } });
    const settings = (configuration: object) => {
      const env = readAsSystemd(fileOf(configuration, 'orderflow-proxy/env')!);
      return Object.fromEntries(Object.entries(env).filter(([name]) => name.startsWith('KAFKA_')));
    };
    // As systemd shows them to the node, which is their only reader.
    const unit = servicesOf('production').find((one) => one.unit === 'orderflow-proxy.service')!;
    const shown = (name: string) => `/run/credentials/${unit.unit}/${name}`;
    expect(settings(rendered({}))).toEqual({
      KAFKA_BROKERS: kafka.brokers.join(),
      KAFKA_TOPIC: 'archive',
      KAFKA_CA_FILE: shown(BROKER_FILES.ca),
      KAFKA_CERT_FILE: shown(BROKER_FILES.client_cert),
      KAFKA_KEY_FILE: shown(BROKER_FILES.client_key),
    });
    for (const key of ['ca', 'client_cert', 'client_key'] as const) {
      const path = `orderflow-proxy/${BROKER_FILES[key]}`;
      expect(fileOf(rendered({}), path)).toBe(kafka[key]);
      expect(unit.run!.credentials).toContain(`${BROKER_FILES[key]}:/run/node/${path}`);
    }
    // Without them the segments are the archive; nothing turns TLS off, and no password is taken.
    const none = {
      KAFKA_BROKERS: '',
      KAFKA_TOPIC: 'orders',
      KAFKA_CA_FILE: '',
      KAFKA_CERT_FILE: '',
      KAFKA_KEY_FILE: '',
    };
    expect(settings(MINIMAL)).toEqual(none);
    expect(settings({ ...MINIMAL, flowproxy: { kafka: { tls: false, password: 'SECRET' } } })).toEqual(none);
    expect(JSON.stringify(unit.run!.environment)).not.toContain('KAFKA');
    expect(unit.calls).toContainEqual({ protocol: 'tcp', port: BROKER_PORT, what: 'brokers' });

    for (const [more, problem] of [
      [
        { brokers: ['kafka-1.example:9092'] },
        /^flowproxy\.kafka\.brokers: .*the firewall lets the node out to$/u,
      ],
      [{ brokers: 'kafka-1.example:9093' }, /^flowproxy\.kafka\.brokers: must be a list/u],
      [{ brokers: ['a:9093,b:9092'] }, /^flowproxy\.kafka\.brokers: /u],
      [{ topic: '..' }, /^flowproxy\.kafka\.topic: /u],
      [{ ca: 'SECRET' }, /^flowproxy\.kafka\.ca: must be certificates/u],
      [{ ca: client.key }, /^flowproxy\.kafka\.ca: must be certificates/u],
      [{ ca: authority.certificate.replace('M', 'A') }, /^flowproxy\.kafka\.ca: must be certificates/u],
      [{ client_key: 'SECRET' }, /^flowproxy\.kafka\.client_key: must be a private key/u],
      [{ client_key: other.key }, /^flowproxy\.kafka\.client_cert and client_key: the key is of another/u],
      [{ client_key: '' }, /^flowproxy\.kafka\.client_cert and client_key: both or neither$/u],
      [{ client_cert: '' }, /^flowproxy\.kafka\.client_cert and client_key: both or neither$/u],
    ] as const) {
      expect(() => settings(rendered(more))).toThrow(problem);
      expect(() => settings(rendered(more))).not.toThrow(/SECRET|PRIVATE KEY/u);
    }
  });

  test('addresses of privileged senders carry their names', () => {
    const configuration = {
      ...MINIMAL,
      haproxy: { rate_limit_privileged_ips: ['192.0.2.1 flashbots', '2001:db8::1'] },
    };
    expect(fileOf(configuration, 'haproxy/privileged.lst')).toBe('192.0.2.1\n2001:db8::1\n');
    expect(fileOf(configuration, 'haproxy/senders.map')).toBe('192.0.2.1 flashbots\n2001:db8::1 unknown\n');
    const injected = { ...MINIMAL, haproxy: { rate_limit_privileged_ips: ['192.0.2.1 a\n0.0.0.0/0 b'] } };
    expect(() => renderConfig(JSON.stringify(injected))).toThrow('haproxy.rate_limit_privileged_ips');
  });
});
