/**
 * The quote inside a certificate: extension 1.3.9900.5.99, whose value is the JSON text
 * `{"RawQuote":"base64","UserData":"base64"}` as it is, without an ASN.1 wrapping (the deployed proxies' form).
 *
 * Two schemes say what the quote's REPORTDATA is (report-data.ts). The length of UserData tells them apart: 32 bytes,
 * the key's hash, in the deployed scheme with the verifier's nonce; 64 bytes, the REPORTDATA itself, in the newer one.
 */
import 'reflect-metadata';
import { hash, type KeyObject, timingSafeEqual, X509Certificate } from 'node:crypto';
import { X509Certificate as ParsedCertificate } from '@peculiar/x509';
import { datesOf } from '../certificate-dates.ts';
import { MAX_QUOTE_BYTES } from './quote.ts';
import { certificateReportData, nonceReportData } from './report-data.ts';

export const EVIDENCE_EXTENSION = '1.3.9900.5.99';
/** The branch of Azure's kinds: named so that a refusal can say what it was. */
const AZURE_BRANCH = '1.3.9900.4.';

export interface CertificateEvidence {
  readonly rawQuote: Buffer;
  /** What the quote's REPORTDATA must be. */
  readonly reportData: Buffer;
  readonly scheme: 'nonce' | 'certificate';
}

const MAX_CERTIFICATE_BYTES = 65_536;

/** @returns the value of the extension */
export function encodeEvidence(rawQuote: Buffer, userData: Buffer): Buffer {
  return Buffer.from(
    JSON.stringify({ RawQuote: rawQuote.toString('base64'), UserData: userData.toString('base64') }),
  );
}

/**
 * Takes the evidence out of a peer's certificate and checks all that ties the two together, which leaves the quote
 * and its REPORTDATA to be verified. The certificate must be signed by its own key and be valid.
 *
 * @param der the certificate the peer proved to hold the key of
 * @param nonce what this side sent on this connection; undefined when it could send none
 * @param now Unix milliseconds
 * @returns the evidence, or why there is none
 */
export function readCertificateEvidence(
  der: Buffer,
  nonce: Buffer | undefined,
  now: number,
): CertificateEvidence | string {
  if (der.length > MAX_CERTIFICATE_BYTES) return 'the certificate is too big';
  const read = readBoth(der);
  if (read === undefined) return 'the certificate cannot be read';
  const { certificate, parsed, publicKey } = read;
  if (!certificate.verify(publicKey)) return 'the certificate is not signed by its own key';
  const { notBefore, notAfter } = datesOf(certificate);
  // No TLS handshake has looked at them.
  if (Number.isNaN(notBefore) || Number.isNaN(notAfter)) return 'the certificate has no dates';
  if (now < notBefore) return 'the certificate is not valid yet';
  if (now > notAfter) return 'the certificate has expired';
  const [extension, second] = parsed.getExtensions(EVIDENCE_EXTENSION);
  if (extension === undefined) {
    return parsed.extensions.some(({ type }) => type.startsWith(AZURE_BRANCH))
      ? 'the certificate holds an Azure attestation, which is not verified by this version'
      : 'the certificate holds no attestation';
  }
  if (second !== undefined) return 'the certificate holds more than one attestation';
  const document = readDocument(Buffer.from(extension.value));
  if (document === undefined) return 'the attestation in the certificate cannot be read';
  const { rawQuote, userData } = document;
  const spki = publicKey.export({ type: 'spki', format: 'der' });
  if (userData.length === 32) {
    if (nonce === undefined) return 'the attestation answers no nonce of this side';
    if (!timingSafeEqual(userData, hash('sha256', spki, 'buffer')))
      return 'the attestation is about another key';
    return { rawQuote, reportData: nonceReportData(userData, nonce), scheme: 'nonce' };
  }
  const commonName = parsed.subjectName.getField('CN')[0] ?? '';
  const reportData = certificateReportData(spki, notBefore, notAfter, commonName);
  if (!timingSafeEqual(userData, reportData)) return 'the attestation is about another certificate';
  return { rawQuote, reportData, scheme: 'certificate' };
}

/** By OpenSSL, whose word the TLS handshake took, and with its extensions. */
function readBoth(
  der: Buffer,
): { certificate: X509Certificate; publicKey: KeyObject; parsed: ParsedCertificate } | undefined {
  try {
    const certificate = new X509Certificate(der);
    return { certificate, publicKey: certificate.publicKey, parsed: new ParsedCertificate(der) };
  } catch {
    return undefined;
  }
}

function readDocument(value: Buffer): { rawQuote: Buffer; userData: Buffer } | undefined {
  let document: unknown;
  try {
    document = JSON.parse(value.toString('utf8'));
  } catch {
    return undefined;
  }
  if (typeof document !== 'object' || document === null) return undefined;
  const { RawQuote: quote, UserData: data }: { RawQuote?: unknown; UserData?: unknown } = document;
  const rawQuote = decodeBase64(quote, MAX_QUOTE_BYTES);
  const userData = decodeBase64(data, 64);
  if (rawQuote === undefined || (userData?.length !== 32 && userData?.length !== 64)) return undefined;
  return { rawQuote, userData };
}

/**
 * @param text standard base64 with padding, nothing else
 * @param maxBytes of the result
 * @returns undefined for anything else
 */
export function decodeBase64(text: unknown, maxBytes: number): Buffer | undefined {
  if (typeof text !== 'string' || text.length > Math.ceil(maxBytes / 3) * 4) return undefined;
  const bytes = Buffer.from(text, 'base64');
  return bytes.length <= maxBytes && bytes.toString('base64') === text ? bytes : undefined;
}
