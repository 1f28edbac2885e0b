/**
 * Makes the certificates that carry a quote: one for each connection that brings a nonce (deployed scheme), and one
 * for everybody that lives for a while and is renewed after two thirds of its life (newer scheme).
 *
 * Form of the deployed proxies: P-256, self-signed, common name "Constellation", no alternative names, no usages, two
 * hours of tolerance to both sides; the key lives as long as the process and never leaves it.
 */
import 'reflect-metadata';
import { hash, KeyObject, randomBytes, webcrypto, X509Certificate } from 'node:crypto';
import { createSecureContext, type SecureContext } from 'node:tls';
import { Extension, X509CertificateGenerator } from '@peculiar/x509';
import { systemTimer, type Timer } from '../timer.ts';
import { EVIDENCE_EXTENSION, encodeEvidence } from './certificate-evidence.ts';
import type { QuoteSource } from './quote-source.ts';
import { certificateReportData, nonceReportData } from './report-data.ts';

/** A certificate with its key, as TLS wants them. */
export interface TlsCredentials {
  readonly cert: string;
  readonly key: string;
}

export interface AttestedCertificate extends TlsCredentials {
  readonly der: Buffer;
}

export interface CertificateMakerOptions {
  /** Life of the certificate of the newer scheme, in milliseconds; 30 minutes unless set. */
  readonly lifeMs?: number | undefined;
}

export interface CertificateMakerEvents {
  renewed?(): void;
  renewalFailed?(reason: string): void;
}

export interface CertificateMakerModules {
  /** Undefined: certificates without evidence, as a side that has none to give shows. */
  readonly quotes: QuoteSource | undefined;
  readonly timer?: Timer | undefined;
  readonly events?: CertificateMakerEvents | undefined;
}

const COMMON_NAME = 'Constellation';
const ALGORITHM = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' };
const TOLERANCE_MS = 7_200_000;
const LIFE_MS = 1_800_000;
const RETRY_MS = 5_000;
const MAX_RETRY_MS = 60_000;

/** One process's key and the certificates made for it. */
export class CertificateMaker {
  readonly #keys: webcrypto.CryptoKeyPair;
  readonly #keyPem: string;
  readonly #spki: Buffer;
  readonly #quotes: QuoteSource | undefined;
  readonly #timer: Timer;
  readonly #lifeMs: number;
  readonly #events: CertificateMakerEvents;
  #standing: (AttestedCertificate & { readonly notAfter: number }) | undefined;
  #renewing: Promise<void> | undefined;
  #cancelRenewal: () => void = () => undefined;
  #failures = 0;
  #closed = false;

  private constructor(
    keys: webcrypto.CryptoKeyPair,
    options: CertificateMakerOptions,
    modules: CertificateMakerModules,
  ) {
    this.#keys = keys;
    this.#keyPem = KeyObject.from(keys.privateKey).export({ type: 'pkcs8', format: 'pem' });
    this.#spki = KeyObject.from(keys.publicKey).export({ type: 'spki', format: 'der' });
    this.#quotes = modules.quotes;
    this.#timer = modules.timer ?? systemTimer;
    this.#lifeMs = options.lifeMs ?? LIFE_MS;
    this.#events = modules.events ?? {};
  }

  static async create(
    options: CertificateMakerOptions,
    modules: CertificateMakerModules,
  ): Promise<CertificateMaker> {
    const keys = await webcrypto.subtle.generateKey(ALGORITHM, true, ['sign', 'verify']);
    return new CertificateMaker(keys, options, modules);
  }

  /** Whether a certificate of the newer scheme is there. */
  get ready(): boolean {
    return this.#standing !== undefined && this.#timer.now() < this.#standing.notAfter;
  }

  /**
   * Deployed scheme: for one connection.
   *
   * @param nonce what the other side sent
   * @throws Error when no quote can be had
   */
  async forNonce(nonce: Buffer): Promise<AttestedCertificate> {
    const now = this.#timer.now();
    const userData = hash('sha256', this.#spki, 'buffer');
    const quote = await this.#quotes?.quote(nonceReportData(userData, nonce));
    return this.#certificate(now - TOLERANCE_MS, now + TOLERANCE_MS, quote, userData);
  }

  /**
   * Newer scheme: the same for everybody until it is renewed.
   *
   * @throws Error when no quote can be had
   */
  async standing(): Promise<AttestedCertificate> {
    if (!this.ready) await this.#renew();
    if (this.#standing === undefined) throw new Error('there is no attested certificate');
    return this.#standing;
  }

  close(): void {
    this.#closed = true;
    this.#cancelRenewal();
  }

  #renew(): Promise<void> {
    this.#renewing ??= this.#renewOnce().finally(() => {
      this.#renewing = undefined;
    });
    return this.#renewing;
  }

  async #renewOnce(): Promise<void> {
    const now = this.#timer.now();
    // Whole seconds, as the certificate has them: both sides hash the same numbers.
    const notBefore = Math.floor(now / 1000) * 1000;
    const notAfter = notBefore + this.#lifeMs;
    try {
      const reportData = certificateReportData(this.#spki, notBefore, notAfter, COMMON_NAME);
      const quote = await this.#quotes?.quote(reportData);
      const certificate = await this.#certificate(notBefore, notAfter, quote, reportData);
      this.#standing = { ...certificate, notAfter };
      this.#failures = 0;
      this.#plan((this.#lifeMs * 2) / 3);
      this.#events.renewed?.();
    } catch (error) {
      this.#events.renewalFailed?.(error instanceof Error ? error.message : String(error));
      this.#plan(Math.min(RETRY_MS * 2 ** this.#failures++, MAX_RETRY_MS));
      if (!this.ready) throw error;
    }
  }

  #plan(delayMs: number): void {
    this.#cancelRenewal();
    if (this.#closed) return;
    this.#cancelRenewal = this.#timer.after(delayMs, () => {
      // Reported; who needs the certificate meanwhile asks again and gets the error.
      this.#renew().catch(() => undefined);
    });
  }

  async #certificate(
    notBefore: number,
    notAfter: number,
    quote: Buffer | undefined,
    userData: Buffer,
  ): Promise<AttestedCertificate> {
    const certificate = await X509CertificateGenerator.createSelfSigned({
      serialNumber: serialNumber(),
      name: [{ CN: [COMMON_NAME] }],
      notBefore: new Date(notBefore),
      notAfter: new Date(notAfter),
      keys: this.#keys,
      signingAlgorithm: ALGORITHM,
      extensions:
        quote === undefined
          ? []
          : [new Extension(EVIDENCE_EXTENSION, false, encodeEvidence(quote, userData))],
    });
    const der = Buffer.from(certificate.rawData);
    return { der, cert: new X509Certificate(der).toString(), key: this.#keyPem };
  }
}

/**
 * The name of an authority that does not exist, as a channel to the client: its common name is the nonce in base64,
 * and the server names it as the only one whose certificates it takes.
 */
export class NonceAuthority {
  readonly #keys: webcrypto.CryptoKeyPair;

  private constructor(keys: webcrypto.CryptoKeyPair) {
    this.#keys = keys;
  }

  static async create(): Promise<NonceAuthority> {
    return new NonceAuthority(await webcrypto.subtle.generateKey(ALGORITHM, true, ['sign', 'verify']));
  }

  /** @returns the authority's certificate in PEM */
  async certificate(nonce: Buffer): Promise<string> {
    const certificate = await X509CertificateGenerator.createSelfSigned({
      serialNumber: '01',
      name: [{ CN: [nonce.toString('base64')] }],
      notBefore: new Date(0),
      notAfter: new Date(0),
      keys: this.#keys,
      signingAlgorithm: ALGORITHM,
    });
    return certificate.toString('pem');
  }
}

/** @returns what `tls` takes; `ca` are the names that the client is told */
export function secureContext(credentials: TlsCredentials, ca?: string): SecureContext {
  return createSecureContext({
    ...credentials,
    ...(ca === undefined ? {} : { ca }),
    minVersion: 'TLSv1.2',
  });
}

/** Positive, 128 bits. */
function serialNumber(): string {
  const bytes = randomBytes(16);
  bytes[0] = ((bytes[0] ?? 0) & 0x7f) | 0x40;
  return bytes.toString('hex');
}
