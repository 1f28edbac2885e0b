import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { formatHostAndPort, parseHost, parseHostAndPort } from './host.ts';

const SEED = 0x4057;

describe('hosts', () => {
  test.each([
    ['node.example', 'dns', 'node.example'],
    ['Node.EXAMPLE.', 'dns', 'node.example'],
    ['localhost', 'dns', 'localhost'],
    ['a_b-c.x1', 'dns', 'a_b-c.x1'],
    [`${'a'.repeat(63)}.example`, 'dns', `${'a'.repeat(63)}.example`],
    ['127.0.0.1', 'ip', '127.0.0.1'],
    ['::1', 'ip', '::1'],
    ['[::1]', 'ip', '::1'],
    ['2001:DB8:0:0:1:0:0:5', 'ip', '2001:db8::1:0:0:5'],
    ['::ffff:1.2.3.4', 'ip', '::ffff:102:304'],
  ])('%s', (text, kind, name) => {
    expect(parseHost(text)).toEqual({ kind, name });
  });

  test.each([
    '',
    '.',
    'a..b',
    '-a.example',
    'a-.example',
    'a b',
    'exämple.com',
    'http://node',
    'node/path',
    'user@node',
    '*.example',
    `${'a'.repeat(64)}.example`,
    `${'a.'.repeat(127)}ab`,
    '1.2.3',
    '1.2.3.4.5',
    '256.1.1.1',
    '01.2.3.4',
    '0x7f.1',
    '0x7f000001',
    '2130706433',
    'fe80::1%eth0',
    '[127.0.0.1]',
    '[node]',
    ':::',
    'node\u0000',
    'node\n',
  ])('no host: %j', (text) => {
    expect(parseHost(text)).toBeUndefined();
  });
});

describe('hosts with ports', () => {
  test.each([
    ['node.example', 'node.example', 5544],
    ['node.example:15544', 'node.example', 15544],
    ['1.2.3.4', '1.2.3.4', 5544],
    ['1.2.3.4:1', '1.2.3.4', 1],
    ['[::1]:65535', '::1', 65535],
    ['[::1]', '::1', 5544],
    ['2001:db8::5', '2001:db8::5', 5544],
    // All digits: an address, as brackets would be needed for a port.
    ['::1:443', '::1:443', 5544],
  ])('%s', (text, name, port) => {
    expect(parseHostAndPort(text, 5544)).toMatchObject({ name, port });
  });

  test.each([
    'node:',
    'node:0',
    'node:65536',
    'node:+1',
    'node: 1',
    'node:1e3',
    'node:1:2',
    ':443',
    '[::1]x',
    '[::1]:',
    '1:2:3:4:5:6:7:8:443',
    'node:٣',
  ])('none: %j', (text) => {
    expect(parseHostAndPort(text, 5544)).toBeUndefined();
  });

  test('reading back what was written is the identity', () => {
    const host = fc.oneof(fc.ipV4(), fc.ipV6(), fc.domain());
    fc.assert(
      fc.property(host, fc.integer({ min: 1, max: 65_535 }), (text, port) => {
        const parsed = parseHost(text);
        fc.pre(parsed !== undefined);
        expect(parseHostAndPort(formatHostAndPort(parsed.name, port), 5544)).toEqual({ ...parsed, port });
        expect(parseHost(parsed.name)).toEqual(parsed);
      }),
      { seed: SEED, numRuns: 300 },
    );
  });

  test('any text is answered', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary' }), (text) => {
        const parsed = parseHostAndPort(text, 5544);
        if (parsed?.kind === 'dns') expect(parsed.name).toMatch(/^[a-z0-9_.-]+$/u);
      }),
      { seed: SEED, numRuns: 1000 },
    );
  });
});
