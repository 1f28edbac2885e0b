/**
 * Certificate chains and revocation lists of Intel's provisioning service. Chains are short and of known shape
 * (leaf, optional CA, root), so they are checked link by link, up to a root that is known beforehand by its key.
 *
 * Limits: ECDSA P-256 with SHA-256, as Intel's API specification says; no policies or name constraints, which these
 * chains do not have.
 */
import 'reflect-metadata';
import { hash, verify, X509Certificate } from 'node:crypto';
import { X509Crl } from '@peculiar/x509';
import { fromBER, Sequence } from 'asn1js';
import { datesOf } from '../certificate-dates.ts';

/** SHA-256 of the root's SubjectPublicKeyInfo: Intel SGX Root CA, whichever of its certificates is shown. */
export const INTEL_SGX_ROOT = 'a0af031289f5d5d4132f9186068a7fc13628633ba235777472e29b6b6c67a49e';

/** A revocation list whose signature has been checked. */
export interface RevocationList {
  readonly issuer: string;
  readonly thisUpdate: number;
  readonly nextUpdate: number;
  /** Serial numbers in lower-case hex without leading zeros. */
  readonly revoked: ReadonlySet<string>;
}

/** A leaf, the PCK authority and the root: no chain of Intel's is longer. */
const MAX_CHAIN = 3;
const PEM_CERTIFICATE = /-----BEGIN CERTIFICATE-----[A-Za-z0-9+/=\s]+-----END CERTIFICATE-----/gu;

/**
 * @param pem certificates one after another, leaf first; what stands around them is ignored
 * @returns them, or why they cannot be read
 */
export function readChain(pem: string): X509Certificate[] | string {
  const texts = pem.match(PEM_CERTIFICATE) ?? [];
  if (texts.length === 0) return 'holds no certificate';
  if (texts.length > MAX_CHAIN) return `holds ${texts.length} certificates`;
  try {
    return texts.map((text) => new X509Certificate(text));
  } catch {
    return 'a certificate cannot be read';
  }
}

/** @returns SHA-256 of the certificate's SubjectPublicKeyInfo, in hex */
export function keyFingerprint(certificate: X509Certificate): string {
  return hash('sha256', certificate.publicKey.export({ type: 'spki', format: 'der' }), 'hex');
}

/**
 * Checks a chain: each certificate signed by the next, all but the leaf authorities, all valid at `now`, the last
 * one self-signed with a key of `roots`.
 *
 * @param length how many certificates there are in a chain of this kind: an authority below those that are known is
 *   none, which the path lengths of Intel's authorities say too
 * @param roots key fingerprints
 * @param now Unix milliseconds
 * @returns why it does not hold, or undefined
 */
export function chainProblem(
  chain: readonly X509Certificate[],
  length: 2 | 3,
  roots: ReadonlySet<string>,
  now: number,
): string | undefined {
  if (chain.length !== length) return `holds ${chain.length} certificates, not ${length}`;
  for (const [position, certificate] of chain.entries()) {
    const name = commonName(certificate);
    const issuer = chain[position + 1] ?? certificate;
    if (position > 0 && !certificate.ca) return `${name} is no authority`;
    const { notBefore, notAfter } = datesOf(certificate);
    // Written so that a date that is none is no permission.
    if (!(now >= notBefore)) return `${name} is not valid yet`;
    if (!(now <= notAfter)) return `${name} has expired`;
    if (!certificate.checkIssued(issuer) || !certificate.verify(issuer.publicKey)) {
      return `${name} is not signed by ${commonName(issuer)}`;
    }
  }
  const root = chain.at(-1);
  if (root === undefined) return 'the chain is empty';
  return roots.has(keyFingerprint(root)) ? undefined : `${commonName(root)} is not a root that is trusted`;
}

/** @returns the common name for messages, cut to what a log line bears */
function commonName(certificate: X509Certificate): string {
  const name = /^CN=(.*)$/mu.exec(certificate.subject)?.[1] ?? 'a certificate without a name';
  return name.slice(0, 64);
}

/** @returns a serial number as it stands in `RevocationList.revoked` */
export function serialOf(certificate: X509Certificate): string {
  return canonicalSerial(certificate.serialNumber);
}

/**
 * @param der the list
 * @param issuer whose key must have signed it
 * @returns the list, or why it cannot be used
 */
export function readRevocationList(der: Buffer, issuer: X509Certificate): RevocationList | string {
  const parts = signedParts(der);
  if (parts === undefined) return 'cannot be read';
  if (!verify('sha256', parts.signed, issuer.publicKey, parts.signature)) {
    return `is not signed by ${commonName(issuer)}`;
  }
  const list = new X509Crl(der);
  const thisUpdate = list.thisUpdate.getTime();
  const nextUpdate = list.nextUpdate?.getTime() ?? Number.NaN;
  if (Number.isNaN(thisUpdate) || Number.isNaN(nextUpdate)) return 'does not say when it begins and ends';
  return {
    issuer: commonName(issuer),
    thisUpdate,
    nextUpdate,
    revoked: new Set(list.entries.map(({ serialNumber }) => canonicalSerial(serialNumber))),
  };
}

/** What is signed and the signature of anything of the form SEQUENCE { tbs, algorithm, BIT STRING }. */
function signedParts(der: Buffer): { signed: Uint8Array; signature: Uint8Array } | undefined {
  const { offset, result } = fromBER(der);
  if (offset !== der.length || !(result instanceof Sequence)) return undefined;
  const [signed, , signature] = result.valueBlock.value;
  if (signed === undefined || signature === undefined || !('valueHexView' in signature.valueBlock)) {
    return undefined;
  }
  const { valueHexView } = signature.valueBlock;
  return valueHexView instanceof Uint8Array
    ? { signed: signed.valueBeforeDecodeView, signature: valueHexView }
    : undefined;
}

function canonicalSerial(hex: string): string {
  return hex.toLowerCase().replace(/^0+/u, '');
}
