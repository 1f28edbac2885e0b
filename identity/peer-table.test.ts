import { describe, expect, test } from 'vitest';
import { parseBuilders } from './hub-list.ts';
import type { Peer } from './peer.ts';
import { type PeerChanges, PeerTable } from './peer-table.ts';
import { address, CERTIFICATES, entry } from './testing/entries.ts';

function peers(...entries: unknown[]): readonly Peer[] {
  return parseBuilders(entries).peers;
}

function names(changes: PeerChanges): Record<string, string[]> {
  return {
    added: changes.added.map(({ name }) => name),
    removed: changes.removed.map(({ name }) => name),
    changed: changes.changed.map(({ after }) => after.name),
    unchanged: changes.unchanged.map(({ name }) => name),
  };
}

describe('what a new list changes', () => {
  test('added, removed, changed, unchanged', () => {
    const table = new PeerTable();
    expect(names(table.replace(peers(entry(1), entry(2), entry(3))))).toEqual({
      added: ['builder-1', 'builder-2', 'builder-3'],
      removed: [],
      changed: [],
      unchanged: [],
    });
    const [first] = table.peers;
    expect(names(table.replace(peers(entry(4), entry(3, { dns_name: 'new.example' }), entry(1))))).toEqual({
      added: ['builder-4'],
      removed: ['builder-2'],
      changed: ['builder-3'],
      unchanged: ['builder-1'],
    });
    expect(table.peers[0]).toBe(first);
  });

  test.each([
    ['address', { orderflow_proxy: { ecdsa_pubkey_address: address(7) } }],
    ['host', { dns_name: 'other.example' }],
    ['port', { dns_name: 'b1.example:1' }],
    ['certificate', { instance: { tls_cert: CERTIFICATES[0]!.certificatePem } }],
    ['no certificate any more', { instance: {} }],
  ])('%s', (_what, changes) => {
    const table = new PeerTable();
    table.replace(peers(entry(1)));
    const [before] = table.peers;
    const result = table.replace(peers(entry(1, changes)));
    expect(result).toMatchObject({ added: [], removed: [], unchanged: [] });
    expect(result.changed).toEqual([{ before, after: table.peers[0] }]);
  });

  test('a peer that another entry duplicates is told from before', () => {
    const table = new PeerTable();
    const twin = entry(2, { dns_name: 'b1.example', instance: entry(1).instance });
    table.replace(peers(twin));
    expect(names(table.replace(peers(entry(1), twin)))).toMatchObject({
      added: ['builder-1'],
      changed: ['builder-2'],
    });
  });

  test('one name in several entries: only what differs is touched', () => {
    const table = new PeerTable();
    const second = entry(2, { name: 'builder-1' });
    table.replace(peers(entry(1), second));
    const [kept] = table.peers;
    expect(names(table.replace(peers(entry(1), entry(3, { name: 'builder-1' }))))).toEqual({
      added: [],
      removed: [],
      changed: ['builder-1'],
      unchanged: ['builder-1'],
    });
    expect(table.peers[0]).toBe(kept);
    expect(names(table.replace(peers(entry(1))))).toMatchObject({
      removed: ['builder-1'],
      unchanged: ['builder-1'],
    });
  });
});

describe('finding peers', () => {
  test('by address and by certificate, all that claim it', () => {
    const table = new PeerTable();
    table.replace(
      peers(
        entry(1),
        entry(2, { orderflow_proxy: { ecdsa_pubkey_address: address(1) } }),
        entry(5),
        entry(3, { instance: {} }),
      ),
    );
    expect(table.byAddress(address(1)).map(({ name }) => name)).toEqual(['builder-1', 'builder-2']);
    const { fingerprint } = CERTIFICATES[1]!;
    expect(table.byFingerprint(fingerprint).map(({ name }) => name)).toEqual(['builder-1', 'builder-5']);
    expect(table.byAddress(address(9))).toEqual([]);
    expect(table.byFingerprint('')).toEqual([]);
    table.replace([]);
    expect(table.byAddress(address(1))).toEqual([]);
    expect(table.byFingerprint(fingerprint)).toEqual([]);
  });
});
