import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { MAX_ENTRIES, MAX_NAME, MAX_PEM, parseBuilders } from './hub-list.ts';
import type { Peer } from './peer.ts';
import { address, CERTIFICATES, entry } from './testing/entries.ts';

const SEED = 0x11b;
const [A, B] = CERTIFICATES;
const pem = A!.certificatePem;

/** The one peer of a list with one entry. */
function only(value: unknown): Peer {
  const { peers, skipped } = parseBuilders([value]);
  expect(skipped).toEqual([]);
  expect(peers).toHaveLength(1);
  return peers[0]!;
}

/** Why the one entry of a list was left out. */
function reason(value: unknown): string {
  const { peers, skipped } = parseBuilders([value]);
  expect(peers).toEqual([]);
  expect(skipped).toHaveLength(1);
  return skipped[0]!.reason;
}

describe('a clean entry', () => {
  test('becomes a peer with everything that is needed to reach and to know it', () => {
    expect(only(entry(1, { dns_name: 'B1.example:15544' }))).toEqual({
      name: 'builder-1',
      address: address(1),
      sendable: true,
      host: 'b1.example',
      port: 15_544,
      servername: 'b1.example',
      certificate: B!.certificateDer,
      fingerprint: B!.fingerprint,
    });
  });

  test.each([
    [{ dns_name: 'b.example' }, 'b.example', 5544, 'b.example'],
    [{ dns_name: '' }, '10.0.0.1', 5544, undefined],
    [{ dns_name: undefined }, '10.0.0.1', 5544, undefined],
    [{ dns_name: null }, '10.0.0.1', 5544, undefined],
    [{ dns_name: '', ip: '2001:DB8::5' }, '2001:db8::5', 5544, undefined],
    [{ dns_name: '10.9.9.9:443' }, '10.9.9.9', 443, undefined],
    [{ dns_name: '[::1]:443' }, '::1', 443, undefined],
    [{ dns_name: '::1' }, '::1', 5544, undefined],
    [{ dns_name: 'b.example', ip: { tls_cert: 'x' } }, 'b.example', 5544, 'b.example'],
  ])('place of %j', (changes, host, port, servername) => {
    expect(only(entry(1, changes))).toMatchObject({ sendable: true, host, port, servername });
  });

  test('the certificate is that of instance, else that of orderflow_proxy', () => {
    const proxy = { ecdsa_pubkey_address: address(1), tls_cert: B!.certificatePem };
    const fingerprintOf = (instance: unknown) =>
      only(entry(1, { instance, orderflow_proxy: proxy })).fingerprint;
    expect(fingerprintOf({ tls_cert: pem })).toBe(A!.fingerprint);
    for (const absent of [undefined, null, {}, { tls_cert: '' }, { tls_cert: null }]) {
      expect(fingerprintOf(absent)).toBe(B!.fingerprint);
    }
  });

  test('of a chain the first certificate counts, whatever stands before it', () => {
    const chain = `subject=x\n${A!.privateKeyPem}${pem}${B!.certificatePem}`;
    expect(only(entry(1, { instance: { tls_cert: chain } })).fingerprint).toBe(A!.fingerprint);
    expect(only(entry(1, { instance: { tls_cert: pem.replaceAll('\n', '\r\n') } })).fingerprint).toBe(
      A!.fingerprint,
    );
  });

  test('the address is compared in lower case', () => {
    const proxy = { ecdsa_pubkey_address: '0xC68de84fBEA2A3E8785b5965c031E3A52689144B' };
    expect(only(entry(1, { orderflow_proxy: proxy })).address).toBe(
      '0xc68de84fbea2a3e8785b5965c031e3a52689144b',
    );
  });

  test('names that mean something else in the metrics are marked', () => {
    expect(only(entry(1, { name: 'flashbots' })).name).toBe('hub:flashbots');
    expect(only(entry(1, { name: 'user' })).name).toBe('hub:user');
  });
});

describe('an entry without a key or a name is skipped', () => {
  test.each([
    [null, 'the entry is no object'],
    [[], 'the entry is no object'],
    ['x', 'the entry is no object'],
    [entry(1, { orderflow_proxy: undefined }), 'it has registered no orderflow_proxy'],
    [entry(1, { orderflow_proxy: null }), 'it has registered no orderflow_proxy'],
    [entry(1, { orderflow_proxy: 'x' }), 'orderflow_proxy is no object'],
    [entry(1, { orderflow_proxy: {} }), 'orderflow_proxy.ecdsa_pubkey_address is no address'],
    [
      entry(1, { orderflow_proxy: { ecdsa_pubkey_address: 5 } }),
      'orderflow_proxy.ecdsa_pubkey_address is no address',
    ],
    [
      entry(1, { orderflow_proxy: { ecdsa_pubkey_address: '0x12' } }),
      'orderflow_proxy.ecdsa_pubkey_address is no address',
    ],
    [
      entry(1, { orderflow_proxy: { ecdsa_pubkey_address: address(0) } }),
      'orderflow_proxy.ecdsa_pubkey_address is no address',
    ],
    [entry(1, { name: { tls_cert: '1' } }), 'name is not a short printable text'],
    [entry(1, { name: '' }), 'name is not a short printable text'],
    [entry(1, { name: undefined }), 'name is not a short printable text'],
    [entry(1, { name: 'x'.repeat(MAX_NAME + 1) }), 'name is not a short printable text'],
    [entry(1, { name: 'a\nb' }), 'name is not a short printable text'],
    [entry(1, { name: 'a\u001b[31m' }), 'name is not a short printable text'],
    [entry(1, { name: 'a\u202eb' }), 'name is not a short printable text'],
    [entry(1, { name: '\ud800' }), 'name is not a short printable text'],
  ])('%j', (value, expected) => {
    expect(reason(value)).toBe(expected);
  });

  test('and named, by its place where it has no name', () => {
    const { skipped } = parseBuilders([
      entry(1, { orderflow_proxy: undefined }),
      entry(2, { name: { tls_cert: '1' } }),
      7,
    ]);
    expect(skipped.map(({ name }) => name)).toEqual(['builder-1', '#1', '#2']);
  });
});

describe('an entry that cannot be sent to may still send', () => {
  test.each([
    [{ instance: undefined }, 'it has registered no certificate'],
    [{ instance: { tls_cert: 'OLD' } }, 'instance.tls_cert holds no certificate that can be read'],
    [{ instance: { tls_cert: 5 } }, 'instance.tls_cert is no text'],
    [
      { instance: { tls_cert: '-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n' } },
      'instance.tls_cert holds no certificate that can be read',
    ],
    [
      { instance: { tls_cert: pem.slice(0, -40) } },
      'instance.tls_cert holds no certificate that can be read',
    ],
    [
      { instance: { tls_cert: pem + ' '.repeat(MAX_PEM) } },
      `instance.tls_cert is longer than ${MAX_PEM} characters`,
    ],
    [
      { instance: undefined, orderflow_proxy: { ecdsa_pubkey_address: address(1), tls_cert: 'OLD' } },
      'orderflow_proxy.tls_cert holds no certificate that can be read',
    ],
    [{ dns_name: { tls_cert: '1' } }, 'dns_name is no text'],
    [{ dns_name: 'no host' }, 'dns_name is no host'],
    [{ dns_name: 'b.example:0' }, 'dns_name is no host'],
    [{ dns_name: '', ip: '' }, 'it has neither dns_name nor ip'],
    [{ dns_name: '', ip: { tls_cert: '1' } }, 'ip is no text'],
    [{ dns_name: '', ip: '1.2.3' }, 'ip is no host'],
  ])('%j', (changes, expected) => {
    expect(only(entry(1, changes))).toMatchObject({ address: address(1), sendable: false, reason: expected });
  });

  test('what is known of it is kept', () => {
    expect(only(entry(1, { dns_name: {} }))).toMatchObject({ host: undefined, fingerprint: B!.fingerprint });
    expect(only(entry(1, { instance: {} }))).toMatchObject({ host: 'b1.example', fingerprint: undefined });
  });
});

describe('several entries', () => {
  test('one key claimed twice: both are peers', () => {
    const { peers } = parseBuilders([
      entry(1),
      entry(2, { orderflow_proxy: { ecdsa_pubkey_address: address(1) } }),
    ]);
    expect(peers.map(({ name, address: of }) => [name, of])).toEqual([
      ['builder-1', address(1)],
      ['builder-2', address(1)],
    ]);
  });

  test('one place claimed twice with different certificates: both are sent to', () => {
    const { peers } = parseBuilders([entry(1), entry(2, { dns_name: 'b1.example' })]);
    expect(peers.map(({ sendable }) => sendable)).toEqual([true, true]);
  });

  test('one place and certificate claimed twice: sent to once, always by the same entry', () => {
    const twin = entry(2, { dns_name: 'b1.example:5544', instance: entry(1).instance });
    for (const list of [
      [entry(1), twin],
      [twin, entry(1)],
    ]) {
      expect(parseBuilders(list).peers).toMatchObject([
        { name: 'builder-1', sendable: true },
        {
          name: 'builder-2',
          sendable: false,
          reason: 'another entry has the same host, port and certificate',
        },
      ]);
    }
  });

  test('the same entry twice counts once', () => {
    const { peers, skipped } = parseBuilders([entry(1), entry(1)]);
    expect(peers).toHaveLength(1);
    expect(skipped).toEqual([{ name: 'builder-1', reason: 'it is listed twice' }]);
  });

  test('the order of the list does not matter', () => {
    const list = [1, 2, 3, 4, 5].map((index) => entry(index));
    expect(parseBuilders(list.toReversed())).toEqual(parseBuilders(list));
  });

  test('ourselves are no peer, by our key or by our certificate', () => {
    const own = { address: address(1), fingerprint: A!.fingerprint };
    const list = parseBuilders([entry(1), entry(2), entry(4, { name: 'earlier' })], own);
    expect(list.peers.map(({ name }) => name)).toEqual(['builder-2']);
    expect(list.own.map(({ name }) => name)).toEqual(['builder-1', 'earlier']);
    expect(list.skipped).toEqual([]);
  });

  test('a peer without a certificate is not taken for ourselves', () => {
    const list = parseBuilders([entry(2, { instance: undefined })], {
      address: address(1),
      fingerprint: undefined,
    });
    expect(list.peers).toHaveLength(1);
  });

  test('no more than a bounded number is looked at', () => {
    const list = Array.from({ length: MAX_ENTRIES + 1 }, () => null);
    const { skipped } = parseBuilders(list);
    expect(skipped).toHaveLength(MAX_ENTRIES + 1);
    expect(skipped.at(-1)).toEqual({ name: 'list', reason: `it is longer than ${MAX_ENTRIES} entries` });
  });

  test.each([undefined, null, {}, 'x', 5])('%j is no list', (json) => {
    expect(parseBuilders(json).skipped).toEqual([{ name: 'list', reason: 'it is no JSON array' }]);
  });
});

describe('properties', () => {
  const good = [entry(1), entry(2), entry(3)];
  const names = ['builder-1', 'builder-2', 'builder-3'];
  /** Entries with one or more fields replaced by anything. */
  const dirty = fc.oneof(
    fc.jsonValue(),
    fc
      .record(
        {
          name: fc.jsonValue(),
          ip: fc.jsonValue(),
          dns_name: fc.jsonValue(),
          instance: fc.oneof(fc.jsonValue(), fc.record({ tls_cert: fc.jsonValue() })),
          orderflow_proxy: fc.oneof(
            fc.jsonValue(),
            fc.record(
              { ecdsa_pubkey_address: fc.jsonValue(), tls_cert: fc.jsonValue() },
              { requiredKeys: [] },
            ),
          ),
          ['__proto__']: fc.jsonValue(),
        },
        { requiredKeys: [] },
      )
      .map((changes) => entry(9, { ...changes })),
  );

  test('any list is decoded without an exception and costs no good entry', () => {
    fc.assert(
      fc.property(fc.array(dirty), fc.nat(), (bad, at) => {
        const list = [...bad];
        for (const value of good) list.splice(at % (list.length + 1), 0, value);
        // As it comes over the wire.
        const { peers, skipped } = parseBuilders(JSON.parse(JSON.stringify(list)));
        expect(peers.filter(({ name }) => names.includes(name)).map(({ name }) => name)).toEqual(names);
        expect(peers.length + skipped.length).toBe(list.length);
        for (const peer of peers) {
          expect(peer.name.length).toBeLessThanOrEqual(MAX_NAME + 4);
          expect(peer.address).toMatch(/^0x[0-9a-f]{40}$/u);
        }
      }),
      { seed: SEED, numRuns: 500 },
    );
  });
});
