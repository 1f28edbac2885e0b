/**
 * Verification of a TDX quote: from its signature up to Intel's root, and down to how up to date the machine is.
 * What the quote says (measurements, REPORTDATA) is judged elsewhere: policy.ts and evidence.ts.
 *
 * Order matters: nothing is believed, and nothing is fetched, before the certificates of the quote lead to a root.
 */
import { createPublicKey, hash, type KeyObject, timingSafeEqual, verify } from 'node:crypto';
import type { Collateral } from './collateral.ts';
import type { PckPlatform } from './pck.ts';
import { PckChains } from './pck-chains.ts';
import { parseQuote, type Quote } from './quote.ts';
import { evaluatePlatform, evaluateQe, type TcbVerdict } from './tcb.ts';
import type { TcbStatus } from './tcb-documents.ts';

/** The checks in the order they are made; a refusal names the one that failed. */
export type Check =
  | 'format'
  | 'pck-chain'
  | 'pck-extension'
  | 'qe-report-signature'
  | 'qe-binding'
  | 'quote-signature'
  | 'collateral'
  | 'pck-revocation'
  | 'qe-vendor'
  | 'platform-tcb'
  | 'qe-identity'
  | 'tcb-status';

export interface Refusal {
  readonly check: Check;
  readonly reason: string;
}

/** A quote whose own signatures hold, up to a trusted root; whether the machine is good is still open. */
export interface SignedQuote {
  readonly quote: Quote;
  readonly pck: PckPlatform;
  /** Serial numbers of the PCK certificate and of its authorities. */
  readonly serials: readonly string[];
  readonly leafSerial: string;
}

export interface VerifiedQuote {
  readonly quote: Quote;
  readonly tcb: TcbVerdict;
}

/** Intel's quoting enclaves (Intel TDX DCAP Quoting Library API, appendix 3.1). */
const INTEL_QE_VENDOR = Buffer.from('939a7233f79c4ca9940a0db3957f0607', 'hex');

/**
 * Checks the quote's signatures and certificates.
 *
 * @param now Unix milliseconds
 * @param roots key fingerprints of trusted roots
 * @param chains remembers the chains of earlier quotes
 */
export function checkSignatures(
  bytes: Buffer,
  now: number,
  roots: ReadonlySet<string>,
  chains: PckChains = new PckChains(),
): SignedQuote | Refusal {
  const quote = parseQuote(bytes);
  if (typeof quote === 'string') return refusal('format', quote);
  const chain = chains.check(quote.pckChainPem, now, roots);
  if ('check' in chain) return chain;
  const { qeReport, attestationKey, qeAuthData } = quote;
  if (!signed(qeReport.bytes, quote.qeReportSignature, chain.key)) {
    return refusal('qe-report-signature', 'the PCK has not signed the QE report');
  }
  // The enclave vouches for its key: REPORTDATA = SHA-256(key ‖ authentication data) ‖ 0.
  const vouched = Buffer.alloc(64);
  hash('sha256', Buffer.concat([attestationKey, qeAuthData]), 'buffer').copy(vouched);
  if (!timingSafeEqual(qeReport.reportData, vouched)) {
    return refusal('qe-binding', 'the QE report is about another attestation key');
  }
  const key = publicKey(attestationKey);
  if (key === undefined || !signed(quote.signed, quote.signature, key)) {
    return refusal('quote-signature', 'the attestation key has not signed the report');
  }
  return { quote, pck: chain.pck, serials: chain.serials, leafSerial: chain.leafSerial };
}

/**
 * Judges the machine of a quote whose signatures hold.
 *
 * @param collateral of the quote's FMSPC and authority, valid now
 * @param accepted statuses that may pass
 */
export function checkMachine(
  { quote, pck, serials, leafSerial }: SignedQuote,
  collateral: Collateral,
  accepted: ReadonlySet<TcbStatus>,
): VerifiedQuote | Refusal {
  const { tcbInfo, pckCrl, rootCrl, qeIdentity } = collateral;
  if (tcbInfo.fmspc !== pck.fmspc || tcbInfo.pceId !== pck.pceId) {
    return refusal('collateral', 'it is about another kind of machine');
  }
  if (pckCrl.issuer.toLowerCase() !== `intel sgx pck ${pck.authority} ca`) {
    return refusal('collateral', 'its revocation list is of another authority');
  }
  if (pckCrl.revoked.has(leafSerial)) return refusal('pck-revocation', 'the PCK certificate is revoked');
  if (serials.some((serial) => rootCrl.revoked.has(serial))) {
    return refusal('pck-revocation', 'an authority of the PCK certificate is revoked');
  }
  if (!quote.qeVendorId.equals(INTEL_QE_VENDOR)) return refusal('qe-vendor', 'the QE is not of Intel');
  const platform = evaluatePlatform(quote.report, pck, tcbInfo);
  if (typeof platform === 'string') return refusal('platform-tcb', platform);
  const tcb = evaluateQe(quote.qeReport, qeIdentity, platform);
  if (typeof tcb === 'string') return refusal('qe-identity', tcb);
  if (!accepted.has(tcb.status)) return refusal('tcb-status', `the TCB is ${tcb.status}`);
  return { quote, tcb };
}

/** @returns whether a result of this module is a refusal */
export function isRefusal(value: object): value is Refusal {
  return 'check' in value;
}

function refusal(check: Check, reason: string): Refusal {
  return { check, reason };
}

function signed(bytes: Buffer, signature: Buffer, key: KeyObject): boolean {
  if (key.asymmetricKeyType !== 'ec' || key.asymmetricKeyDetails?.namedCurve !== 'prime256v1') return false;
  return verify('sha256', bytes, { key, dsaEncoding: 'ieee-p1363' }, signature);
}

/** @returns undefined when the point is not on the curve */
function publicKey(point: Buffer): KeyObject | undefined {
  try {
    return createPublicKey({
      format: 'jwk',
      key: {
        kty: 'EC',
        crv: 'P-256',
        x: point.subarray(0, 32).toString('base64url'),
        y: point.subarray(32).toString('base64url'),
      },
    });
  } catch {
    return undefined;
  }
}
