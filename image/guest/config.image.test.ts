import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { ConfigError, environmentFile, renderConfig } from './config.ts';

const KEY = 'ab'.repeat(32);
const MINIMAL = { instance_name: 'node-1', disk_encryption: { key: KEY } };

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
      JSON.stringify({ ...MINIMAL, github_token: 'SECRET', flowproxy: { other: 'SECRET' } }),
    );
    expect(JSON.stringify(files)).not.toContain('SECRET');
  });

  test('all of ASCII comes through an environment file', () => {
    const all = Array.from({ length: 95 }, (_, index) => String.fromCodePoint(32 + index)).join('');
    expect(
      readAsSystemd(
        environmentFile([
          ['A', all],
          ['B', '&<>"\'$`\\'],
        ]),
      ),
    ).toEqual({ A: all, B: '&<>"\'$`\\' });
    fc.assert(
      fc.property(fc.string({ unit: 'binary-ascii' }), (value) => {
        expect(readAsSystemd(environmentFile([['X', value]]))).toEqual({ X: value });
      }),
      { seed: 6 },
    );
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
