/**
 * Collateral: what Intel's provisioning service publishes so that a quote can be judged. Revocation lists, the
 * security versions (TCB info) of a kind of machine, and the identity of the quoting enclave, each signed.
 *
 * `checkCollateral` takes texts as the service answers and gives objects whose signatures, chains and validity hold;
 * nothing else makes those objects, so that what has a `TcbInfo` may rely on it.
 *
 * Source: Intel SGX and TDX Provisioning Certification Service API v4.
 */
import { verify, type X509Certificate } from 'node:crypto';
import { datesOf } from '../certificate-dates.ts';
import {
  chainProblem,
  type RevocationList,
  readChain,
  readRevocationList,
  serialOf,
} from './certificates.ts';
import { type QeIdentity, readQeIdentity, readTcbInfo, type TcbInfo } from './tcb-documents.ts';

/** As fetched; every field is what the service sent. */
export interface RawCollateral {
  /** Body of `/tdx/certification/v4/tcb?fmspc=`. */
  readonly tcbInfo: string;
  /** Its header TCB-Info-Issuer-Chain, decoded: PEM. */
  readonly tcbInfoChain: string;
  /** Body of `/tdx/certification/v4/qe/identity`. */
  readonly qeIdentity: string;
  readonly qeIdentityChain: string;
  /** DER. */
  readonly pckCrl: Buffer;
  readonly pckCrlChain: string;
  /** DER. */
  readonly rootCrl: Buffer;
}

export interface Collateral {
  readonly tcbInfo: TcbInfo;
  readonly qeIdentity: QeIdentity;
  readonly pckCrl: RevocationList;
  readonly rootCrl: RevocationList;
  /** Unix milliseconds: the earliest end of anything in it, certificates among it. */
  readonly validUntil: number;
}

/**
 * @returns whether `one` is of a time before `other`: a service, or who stands before it, could show documents of
 *   before a recovery for as long as they are valid
 */
export function isOlder(one: Collateral, other: Collateral): boolean {
  return (
    one.tcbInfo.evaluation < other.tcbInfo.evaluation ||
    one.qeIdentity.evaluation < other.qeIdentity.evaluation ||
    one.tcbInfo.issueDate < other.tcbInfo.issueDate ||
    one.qeIdentity.issueDate < other.qeIdentity.issueDate ||
    one.pckCrl.thisUpdate < other.pckCrl.thisUpdate ||
    one.rootCrl.thisUpdate < other.rootCrl.thisUpdate
  );
}

/** Which document failed and why. */
export interface CollateralProblem {
  readonly document: 'tcb-info' | 'qe-identity' | 'pck-crl' | 'root-crl';
  readonly reason: string;
}

/** Longest body of one document; TCB info has about 10 KB, the largest revocation list some 100. */
export const MAX_DOCUMENT_BYTES = 4 * 1024 * 1024;

/**
 * @param now Unix milliseconds: everything must be valid then
 * @param roots key fingerprints of trusted roots
 */
export function checkCollateral(
  raw: RawCollateral,
  now: number,
  roots: ReadonlySet<string>,
): Collateral | CollateralProblem {
  // The root's own list comes first: it decides about the authorities of all others.
  const pckChain = trustedChain(raw.pckCrlChain, now, roots);
  if (typeof pckChain === 'string') return problem('pck-crl', `issuer: ${pckChain}`);
  const root = pckChain.at(-1);
  const authority = pckChain[0];
  if (root === undefined || authority === undefined || !authority.ca) {
    return problem('pck-crl', 'issuer: is no authority');
  }
  const rootCrl = currentList(raw.rootCrl, root, now);
  if (typeof rootCrl === 'string') return problem('root-crl', rootCrl);
  if (revokedBy(rootCrl, pckChain)) return problem('pck-crl', 'issuer: is revoked');
  const pckCrl = currentList(raw.pckCrl, authority, now);
  if (typeof pckCrl === 'string') return problem('pck-crl', pckCrl);

  const tcbText = signedDocument('tcbInfo', raw.tcbInfo, raw.tcbInfoChain, rootCrl, now, roots);
  if (typeof tcbText === 'string') return problem('tcb-info', tcbText);
  const tcbInfo = readTcbInfo(tcbText.value);
  if (typeof tcbInfo === 'string') return problem('tcb-info', tcbInfo);
  const qeText = signedDocument('enclaveIdentity', raw.qeIdentity, raw.qeIdentityChain, rootCrl, now, roots);
  if (typeof qeText === 'string') return problem('qe-identity', qeText);
  const qeIdentity = readQeIdentity(qeText.value);
  if (typeof qeIdentity === 'string') return problem('qe-identity', qeIdentity);

  for (const [document, { issueDate, nextUpdate }] of [
    ['tcb-info', tcbInfo],
    ['qe-identity', qeIdentity],
  ] as const) {
    if (now < issueDate) return problem(document, 'is not valid yet');
    if (now > nextUpdate) return problem(document, 'has expired');
  }
  return {
    tcbInfo,
    qeIdentity,
    pckCrl,
    rootCrl,
    validUntil: Math.min(
      ...[tcbInfo, qeIdentity, pckCrl, rootCrl].map(({ nextUpdate }) => nextUpdate),
      ...[...pckChain, ...tcbText.chain, ...qeText.chain].map((certificate) => datesOf(certificate).notAfter),
    ),
  };
}

/** @returns whether one of the certificates is on the list */
function revokedBy(list: RevocationList, certificates: readonly X509Certificate[]): boolean {
  return certificates.some((certificate) => list.revoked.has(serialOf(certificate)));
}

function problem(document: CollateralProblem['document'], reason: string): CollateralProblem {
  return { document, reason };
}

function trustedChain(pem: string, now: number, roots: ReadonlySet<string>): X509Certificate[] | string {
  const chain = readChain(pem);
  return typeof chain === 'string' ? chain : (chainProblem(chain, 2, roots, now) ?? chain);
}

function currentList(der: Buffer, issuer: X509Certificate, now: number): RevocationList | string {
  const list = readRevocationList(der, issuer);
  if (typeof list === 'string') return list;
  if (now < list.thisUpdate) return 'is not valid yet';
  return now > list.nextUpdate ? 'has expired' : list;
}

/**
 * The signature covers the exact bytes of the member, so the text is cut, not parsed and written again.
 *
 * @param member name of the signed member: the body is `{"MEMBER":…,"signature":"HEX"}`
 */
function signedDocument(
  member: string,
  body: string,
  chainPem: string,
  rootCrl: RevocationList,
  now: number,
  roots: ReadonlySet<string>,
): { value: unknown; chain: X509Certificate[] } | string {
  const chain = trustedChain(chainPem, now, roots);
  if (typeof chain === 'string') return `issuer: ${chain}`;
  if (revokedBy(rootCrl, chain)) return 'issuer: is revoked';
  const signer = chain[0];
  if (signer === undefined || !/^CN=Intel SGX TCB Signing$/mu.test(signer.subject)) {
    return 'issuer: is not the TCB signing certificate';
  }
  const text = body.trim();
  const head = `{"${member}":`;
  const tail = /,"signature":"([0-9a-fA-F]{128})"\}$/u.exec(text);
  if (!text.startsWith(head) || tail === null) return 'has not the form of a signed document';
  const signed = text.slice(head.length, tail.index);
  const signature = Buffer.from(tail[1] ?? '', 'hex');
  const key = { key: signer.publicKey, dsaEncoding: 'ieee-p1363' } as const;
  if (!verify('sha256', Buffer.from(signed), key, signature)) return 'has a wrong signature';
  try {
    return { value: JSON.parse(signed), chain };
  } catch {
    return 'is no JSON';
  }
}
