/** Entries of the hub's list as nodes make them, for tests. */
import { createCredentials } from '../certificate.ts';

const NOW = Date.UTC(2026, 0, 1);

/** Certificates are slow to make, so tests share a few. */
export const CERTIFICATES = await Promise.all(
  ['a', 'b', 'c', 'd'].map((name) =>
    createCredentials({ names: [`${name}.example`], validityDays: 36_500, now: NOW }),
  ),
);

/** @returns an orderflow address made of one repeated byte */
export function address(byte: number): `0x${string}` {
  return `0x${byte.toString(16).padStart(2, '0').repeat(20)}`;
}

/** A clean entry with its own name, place, key and certificate; `index` from 1. */
export function entry(index: number, changes: Record<string, unknown> = {}): Record<string, unknown> {
  return {
    name: `builder-${index}`,
    ip: `10.0.0.${index}`,
    dns_name: `b${index}.example`,
    orderflow_proxy: { ecdsa_pubkey_address: address(index) },
    instance: { tls_cert: CERTIFICATES[index % CERTIFICATES.length]?.certificatePem },
    ...changes,
  };
}
