/**
 * The node's TLS certificate: a P-256 key and a self-signed leaf that names every host the node is reached by.
 *
 * It is its own trust anchor: nodes of ours pin exactly this certificate, v1 nodes put it in their pool of roots
 * and check name, validity and usage (protocol section 6). It is marked as no authority (CA false), because
 * rustls refuses a server that shows an authority's certificate; Go, OpenSSL and rustls all take a listed leaf as
 * its own anchor.
 */
// The certificate library's container asks for it at load time.
import 'reflect-metadata';
import {
  createPrivateKey,
  createPublicKey,
  hash,
  KeyObject,
  randomBytes,
  webcrypto,
  X509Certificate,
} from 'node:crypto';
import {
  BasicConstraintsExtension,
  ExtendedKeyUsage,
  ExtendedKeyUsageExtension,
  KeyUsageFlags,
  KeyUsagesExtension,
  SubjectAlternativeNameExtension,
  SubjectKeyIdentifierExtension,
  X509CertificateGenerator,
} from '@peculiar/x509';
import { datesOf } from './certificate-dates.ts';
import { type Host, parseHost } from './host.ts';

/** A certificate with its private key, ready for `tls.createSecureContext({ cert, key })`. */
export interface Credentials {
  readonly certificatePem: string;
  readonly certificateDer: Buffer;
  /** PKCS #8. Secret. */
  readonly privateKeyPem: string;
  /** SHA-256 of the DER, 64 lower-case hex digits. */
  readonly fingerprint: string;
  readonly notBefore: Date;
  readonly notAfter: Date;
}

export interface CertificateOptions {
  /** DNS names and IP addresses, at least one: the subject alternative names. */
  readonly names: readonly string[];
  /** Days until it ends. */
  readonly validityDays: number;
  /** Unix milliseconds. */
  readonly now: number;
  /** Who made it, as the subject's organization: the mark that `isMadeBy` looks for. */
  readonly organization?: string | undefined;
  /** P-256, PKCS #8 in PEM: the key to certify; a new one unless set. */
  readonly privateKeyPem?: string | undefined;
}

const DAY_MS = 86_400_000;
/**
 * Renewal is due in the last third of a certificate's life, but not before its last 30 days. A year's certificate
 * leaves a month for an outage to be noticed and repaired, and one of a few days is not renewed all the time.
 */
const RENEWAL_SHARE = 1 / 3;
const RENEWAL_MS = 30 * DAY_MS;
/** Clocks of peers that are behind still take a fresh certificate. */
const BACKDATED_MS = 3_600_000;
/** Upper bound of a common name, RFC 5280 appendix A.1. */
const MAX_COMMON_NAME = 64;

/** All that TLS with ECDSA needs. */
const ALGORITHM = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' };

/**
 * Makes a certificate, and a new P-256 key for it unless one is given.
 *
 * @throws Error when a name is neither a DNS name nor an IP address, or none is given, or the key is of another kind
 */
export async function createCredentials(options: CertificateOptions): Promise<Credentials> {
  const hosts = parseNames(options.names);
  const keys =
    options.privateKeyPem === undefined
      ? await webcrypto.subtle.generateKey(ALGORITHM, true, ['sign', 'verify'])
      : keysOf(options.privateKeyPem);
  const { organization } = options;
  const certificate = await X509CertificateGenerator.createSelfSigned({
    serialNumber: serialNumber(),
    name: [{ CN: [commonName(hosts)] }, ...(organization === undefined ? [] : [{ O: [organization] }])],
    notBefore: new Date(options.now - BACKDATED_MS),
    notAfter: new Date(options.now + options.validityDays * DAY_MS),
    keys,
    signingAlgorithm: ALGORITHM,
    extensions: [
      new BasicConstraintsExtension(false, undefined, true),
      new KeyUsagesExtension(KeyUsageFlags.digitalSignature, true),
      new ExtendedKeyUsageExtension([ExtendedKeyUsage.serverAuth, ExtendedKeyUsage.clientAuth]),
      new SubjectAlternativeNameExtension(hosts.map(({ kind, name }) => ({ type: kind, value: name }))),
      await SubjectKeyIdentifierExtension.create(keys.publicKey),
    ],
  });
  return readCredentials(
    new X509Certificate(Buffer.from(certificate.rawData)).toString(),
    KeyObject.from(keys.privateKey).export({ type: 'pkcs8', format: 'pem' }),
  );
}

function keysOf(privateKeyPem: string): webcrypto.CryptoKeyPair {
  const key = attempt('the private key cannot be read', () => createPrivateKey(privateKeyPem));
  return {
    privateKey: key.toCryptoKey(ALGORITHM, true, ['sign']),
    publicKey: createPublicKey(key).toCryptoKey(ALGORITHM, true, ['verify']),
  };
}

/** @returns whether `createCredentials` made it with this organization: self-signed, so nobody else's word is in it */
export function isMadeBy(certificatePem: string, organization: string): boolean {
  const certificate = new X509Certificate(certificatePem);
  return (
    certificate.subject.split('\n').includes(`O=${organization}`) &&
    certificate.issuer === certificate.subject &&
    certificate.verify(certificate.publicKey)
  );
}

/** @returns when a certificate should be replaced, Unix milliseconds */
export function renewalTime({ notBefore, notAfter }: Pick<Credentials, 'notBefore' | 'notAfter'>): number {
  const lifetimeMs = notAfter.getTime() - notBefore.getTime();
  return notAfter.getTime() - Math.min(RENEWAL_MS, lifetimeMs * RENEWAL_SHARE);
}

/**
 * Reads a certificate and its key from PEM text.
 *
 * @throws Error saying which of the two is damaged, or that they do not belong together
 */
export function readCredentials(certificatePem: string, privateKeyPem: string): Credentials {
  const certificate = attempt('the certificate cannot be read', () => new X509Certificate(certificatePem));
  const privateKey = attempt('the private key cannot be read', () => createPrivateKey(privateKeyPem));
  if (!certificate.checkPrivateKey(privateKey)) {
    throw new Error('the certificate and the private key do not belong together');
  }
  const { notBefore, notAfter } = datesOf(certificate);
  return {
    certificatePem,
    certificateDer: certificate.raw,
    privateKeyPem,
    fingerprint: certificateFingerprint(certificate.raw),
    notBefore: new Date(notBefore),
    notAfter: new Date(notAfter),
  };
}

/** OpenSSL's own words would tell parts of the input: only what is damaged is said. */
function attempt<T>(message: string, read: () => T): T {
  try {
    return read();
  } catch {
    throw new Error(message);
  }
}

/**
 * How certificates are told apart everywhere in the node.
 *
 * @param der the whole certificate
 * @returns SHA-256 as 64 lower-case hex digits
 */
export function certificateFingerprint(der: Uint8Array): string {
  return hash('sha256', der, 'hex');
}

/**
 * @returns whether the certificate names exactly the given hosts, in any order and spelling
 * @throws Error when a given name is neither a DNS name nor an IP address, or none is given
 */
export function namesExactly(certificatePem: string, names: readonly string[]): boolean {
  const wanted = new Set(parseNames(names).map((host) => host.name));
  const listed = (new X509Certificate(certificatePem).subjectAltName ?? '')
    .split(', ')
    .map((entry) => parseHost(entry.replace(/^(?:DNS|IP Address):/u, ''))?.name);
  return listed.length === wanted.size && listed.every((name) => name !== undefined && wanted.has(name));
}

/**
 * @returns the hosts without repetitions
 * @throws Error naming the one that is no host, or saying that there is none
 */
export function parseNames(names: readonly string[]): Host[] {
  const hosts = new Map<string, Host>();
  for (const text of names) {
    const host = parseHost(text);
    if (host === undefined) {
      throw new Error(
        `the certificate cannot name ${JSON.stringify(text)}: neither a DNS name nor an IP address`,
      );
    }
    hosts.set(host.name, host);
  }
  if (hosts.size === 0) throw new Error('the certificate must name at least one DNS name or IP address');
  return [...hosts.values()];
}

/** The common name is for people: programs look at the subject alternative names. */
function commonName(hosts: readonly Host[]): string {
  return hosts.find((host) => host.name.length <= MAX_COMMON_NAME)?.name ?? 'orderflow node';
}

/** Positive, random, 16 bytes at full length (RFC 5280 section 4.1.2.2 allows 20); as hex. */
function serialNumber(): string {
  const bytes = randomBytes(16);
  bytes[0] = ((bytes[0] ?? 0) & 0x7f) | 0x40;
  return bytes.toString('hex');
}
