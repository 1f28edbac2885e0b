/**
 * What a TD has signed into its quote (REPORTDATA, 64 bytes) so that the quote belongs to one key, one certificate or
 * one connection.
 */
import { createHash, hash } from 'node:crypto';

/** Label of the TLS exporter (RFC 8446 section 7.5) whose value a connection binding is about. */
export const EXPORTER_LABEL = 'EXPORTER-orderflow-attested-tls';
export const EXPORTER_BYTES = 32;
const BINDING_DOMAIN = 'orderflow attested tls: this connection, version 1';

/**
 * Deployed scheme: the verifier's nonce and the key.
 *
 * @param userData SHA-256 of the SubjectPublicKeyInfo
 * @param nonce what the other side sent; empty when it sent none
 * @returns SHA-256(userData ‖ nonce) ‖ 32 zero bytes
 */
export function nonceReportData(userData: Buffer, nonce: Buffer): Buffer {
  return Buffer.concat([hash('sha256', Buffer.concat([userData, nonce]), 'buffer'), Buffer.alloc(32)]);
}

/**
 * Newer scheme: a certificate that anybody can check for as long as it lives.
 *
 * @param spki SubjectPublicKeyInfo, DER
 * @param notBefore Unix milliseconds; whole seconds count, as in the certificate
 * @returns SHA-512(spki ‖ not-before ‖ not-after ‖ common name), times as 64-bit big-endian seconds
 */
export function certificateReportData(
  spki: Buffer,
  notBefore: number,
  notAfter: number,
  commonName: string,
): Buffer {
  return createHash('sha512')
    .update(spki)
    .update(seconds(notBefore))
    .update(seconds(notAfter))
    .update(commonName)
    .digest();
}

/**
 * One connection: both sides of it, and nobody else, know the exporter's value.
 *
 * @param exporter value for `EXPORTER_LABEL` without context, `EXPORTER_BYTES` long
 * @param certificate DER of the certificate that the sender of the quote showed
 */
export function bindingReportData(exporter: Buffer, certificate: Buffer): Buffer {
  return createHash('sha512')
    .update(BINDING_DOMAIN)
    .update(hash('sha256', certificate, 'buffer'))
    .update(exporter)
    .digest();
}

function seconds(milliseconds: number): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64BE(BigInt(Math.floor(milliseconds / 1000)));
  return bytes;
}
