import { describe, expect, test } from 'vitest';
import { Rejection } from '../pipeline/errors.ts';
import type { ShownCertificate } from '../pipeline/submission.ts';
import { callerOf, checkClientCertificate, FLASHBOTS } from './client-certificate.ts';
import { parseBuilders } from './hub-list.ts';
import { PeerTable } from './peer-table.ts';
import { address, CERTIFICATES, entry } from './testing/entries.ts';

const flashbots = address(0xfb);
const [D, A, B] = CERTIFICATES; // of entries 4, 1 and 2

function table(...entries: unknown[]): PeerTable {
  const peers = new PeerTable();
  peers.replace(parseBuilders(entries).peers);
  return peers;
}

function shown(fingerprint: string, peers: PeerTable): ShownCertificate {
  const certificate = checkClientCertificate(fingerprint, 'request', peers);
  if (certificate === undefined || certificate instanceof Rejection) throw new Error('refused');
  return certificate;
}

function refusal(answer: unknown): string {
  if (!(answer instanceof Rejection)) throw new Error('not refused');
  expect(answer.kind).toBe(answer.message.includes('certificate') ? 'client_certificate' : 'unknown_peer');
  return answer.message;
}

describe('connections', () => {
  const peers = table(entry(1), entry(2));

  test('without a certificate: taken when one is only asked for', () => {
    expect(checkClientCertificate(undefined, 'request', peers)).toBeUndefined();
    expect(refusal(checkClientCertificate(undefined, 'require', peers))).toBe(
      'a client certificate is required',
    );
  });

  test.each(['request', 'require'] as const)('with a certificate, mode %s: it must be listed', (mode) => {
    expect(checkClientCertificate(A!.fingerprint, mode, peers)).toMatchObject({
      owners: [{ name: 'builder-1' }],
    });
    expect(refusal(checkClientCertificate(D!.fingerprint, mode, peers))).toBe(
      'the client certificate is not one of a listed peer',
    );
  });
});

describe('orders over a connection without a certificate', () => {
  const peers = table(entry(1), entry(2, { instance: {} }));

  test.each([
    [address(1), 'builder-1'],
    [address(2), 'builder-2'],
    [flashbots, FLASHBOTS],
  ])('signer %s is %s', (signer, name) => {
    expect(callerOf(signer, undefined, peers, flashbots)).toBe(name);
  });

  test('others are unknown, also when no Flashbots signer is set', () => {
    expect(refusal(callerOf(address(3), undefined, peers, flashbots))).toBe(
      "unknown peers can't send to the system address",
    );
    refusal(callerOf(flashbots, undefined, peers, undefined));
  });
});

describe('orders over a connection with a certificate', () => {
  test('signer and certificate must stand in one entry', () => {
    const peers = table(entry(1), entry(2));
    expect(callerOf(address(1), shown(A!.fingerprint, peers), peers, flashbots)).toBe('builder-1');
    expect(refusal(callerOf(address(1), shown(B!.fingerprint, peers), peers, flashbots))).toBe(
      "the client certificate does not belong to the order's signer",
    );
  });

  test('Flashbots shows none, so one with its signature is refused', () => {
    const peers = table(entry(1));
    refusal(callerOf(flashbots, shown(A!.fingerprint, peers), peers, flashbots));
  });

  test('a certificate claimed by two entries serves the signers of both', () => {
    const peers = table(entry(1), entry(5));
    for (const [signer, name] of [
      [address(1), 'builder-1'],
      [address(5), 'builder-5'],
    ] as const) {
      expect(callerOf(signer, shown(A!.fingerprint, peers), peers, flashbots)).toBe(name);
    }
  });

  test('a key claimed by two entries: the one whose certificate was shown is the caller', () => {
    const peers = table(entry(1), entry(2, { orderflow_proxy: { ecdsa_pubkey_address: address(1) } }));
    expect(callerOf(address(1), shown(B!.fingerprint, peers), peers, flashbots)).toBe('builder-2');
  });

  test('it outlives the renewal of the certificate', () => {
    const peers = table(entry(1));
    const certificate = shown(A!.fingerprint, peers);
    peers.replace(parseBuilders([entry(1, { instance: { tls_cert: D!.certificatePem } })]).peers);
    expect(callerOf(address(1), certificate, peers, flashbots)).toBe('builder-1');
  });

  test('it takes up a new key of the entry', () => {
    const peers = table(entry(1));
    const certificate = shown(A!.fingerprint, peers);
    peers.replace(parseBuilders([entry(1, { orderflow_proxy: { ecdsa_pubkey_address: address(7) } })]).peers);
    expect(callerOf(address(7), certificate, peers, flashbots)).toBe('builder-1');
    refusal(callerOf(address(1), certificate, peers, flashbots));
  });

  test('it ends when the entry has another key and another certificate', () => {
    const peers = table(entry(1));
    const certificate = shown(A!.fingerprint, peers);
    const orderflow_proxy = { ecdsa_pubkey_address: address(7) };
    const instance = { tls_cert: D!.certificatePem };
    peers.replace(parseBuilders([entry(1, { orderflow_proxy, instance })]).peers);
    refusal(callerOf(address(7), certificate, peers, flashbots));
  });

  test('it ends with the entry, also when another entry takes over the key', () => {
    const peers = table(entry(1));
    const certificate = shown(A!.fingerprint, peers);
    peers.replace(parseBuilders([entry(2, { orderflow_proxy: { ecdsa_pubkey_address: address(1) } })]).peers);
    refusal(callerOf(address(1), certificate, peers, flashbots));
    peers.replace([]);
    refusal(callerOf(address(1), certificate, peers, flashbots));
  });
});
