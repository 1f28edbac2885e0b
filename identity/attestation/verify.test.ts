/** Real quotes against their collateral, and a mock machine for everything that can be wrong. */
import { beforeAll, describe, expect, test } from 'vitest';
import { INTEL_SGX_ROOT } from './certificates.ts';
import { checkCollateral, type RawCollateral } from './collateral.ts';
import { measurementsOf } from './measurements.ts';
import { type MockCollateralOptions, MockMachine, type MockQuoteOptions } from './mock/machine.ts';
import { PckChains } from './pck-chains.ts';
import { parseQuote } from './quote.ts';
import type { TcbStatus } from './tcb-documents.ts';
import * as vectors from './testing/vectors.ts';
import { checkMachine, checkSignatures, isRefusal, type Refusal, type VerifiedQuote } from './verify.ts';

const INTEL = new Set([INTEL_SGX_ROOT]);
const UP_TO_DATE: ReadonlySet<TcbStatus> = new Set(['UpToDate']);

/** All of it, as a handshake does it; a collateral problem is shown as the document and its reason. */
function verify(
  quote: Buffer,
  collateral: RawCollateral,
  now: number,
  roots: ReadonlySet<string>,
  accepted = UP_TO_DATE,
): VerifiedQuote | Refusal {
  const signed = checkSignatures(quote, now, roots);
  if (isRefusal(signed)) return signed;
  const checked = checkCollateral(collateral, now, roots);
  if ('document' in checked) return { check: 'collateral', reason: `${checked.document}: ${checked.reason}` };
  return checkMachine(signed, checked, accepted);
}

describe('real quotes', () => {
  test('of version 4, in a padded buffer: good at its time', () => {
    const verdict = verify(vectors.GCP_QUOTE, vectors.gcpCollateral(), vectors.GCP_TIME, INTEL);
    expect(verdict).toMatchObject({
      tcb: { status: 'UpToDate', date: '2024-11-13T00:00:00Z', advisories: [] },
    });
    const [mrTd, rtmr0, rtmr1, rtmr2, rtmr3] = measurementsOf((verdict as VerifiedQuote).quote.report);
    expect([mrTd, rtmr0, rtmr1, rtmr2].map((register) => [register.slice(0, 8), register.slice(-4)])).toEqual(
      [
        ['a5844e88', '8694'],
        ['0564ec85', '9301'],
        ['d6b50192', '48f3'],
        ['b26c7be2', '5b42'],
      ],
    );
    expect(rtmr3).toBe('00'.repeat(48));
  });

  test('of version 5 (TDX 1.5): good at its time', () => {
    const verdict = verify(vectors.V5_QUOTE, vectors.v5Collateral(), vectors.V5_TIME, INTEL);
    expect(verdict).toMatchObject({ quote: { version: 5 }, tcb: { status: 'UpToDate' } });
  });

  test('of version 4 with bytes behind the signature: genuine, of a machine below every level', () => {
    const signed = checkSignatures(vectors.SPR_QUOTE, vectors.SPR_TIME, INTEL);
    expect(signed).toMatchObject({ pck: { fmspc: '50806f000000', authority: 'platform' } });
    expect(verify(vectors.SPR_QUOTE, vectors.sprCollateral(), vectors.SPR_TIME, INTEL)).toEqual({
      check: 'platform-tcb',
      reason: 'no TCB level is as low as this platform',
    });
  });

  test.each([
    [
      'the machine of another kind',
      vectors.v5Collateral(),
      vectors.GCP_TIME + 6e8,
      'it is about another kind of machine',
    ],
    ['a year later', vectors.gcpCollateral(), vectors.GCP_TIME + 3.2e10, 'root-crl: has expired'],
    ['a month later', vectors.gcpCollateral(), Date.parse('2026-03-01'), 'pck-crl: has expired'],
    ['a day before', vectors.gcpCollateral(), vectors.GCP_TIME - 86_400_000, 'pck-crl: is not valid yet'],
  ])('%s: refused', (_, collateral, now, reason) => {
    expect(verify(vectors.GCP_QUOTE, collateral, now, INTEL)).toEqual({ check: 'collateral', reason });
  });

  test('in 2040 the certificates have expired; without the root nothing counts', () => {
    expect(checkSignatures(vectors.GCP_QUOTE, Date.parse('2040-01-01'), INTEL)).toEqual({
      check: 'pck-chain',
      reason: 'Intel SGX PCK Certificate has expired',
    });
    expect(checkSignatures(vectors.GCP_QUOTE, vectors.GCP_TIME, new Set())).toEqual({
      check: 'pck-chain',
      reason: 'Intel SGX Root CA is not a root that is trusted',
    });
  });

  test.each([
    ['4', vectors.GCP_QUOTE, vectors.GCP_TIME],
    ['5', vectors.V5_QUOTE, vectors.V5_TIME],
  ])('version %s: no byte of the signed part can be changed', (_, quote, now) => {
    const parsed = parseQuote(quote);
    if (typeof parsed === 'string') throw new Error(parsed);
    const { length } = parsed.signed;
    expect(length).toBe(parsed.version === 4 ? 632 : 702);
    const flipped = Buffer.from(quote);
    const chains = new PckChains();
    for (let offset = 0; offset < length; offset++) {
      flipped[offset]! ^= 1 << (offset % 8);
      const verdict = checkSignatures(flipped, now, INTEL, chains);
      // The layout's own fields do not even parse.
      expect(isRefusal(verdict) && verdict.check, `byte ${offset}`).toMatch(/^(?:format|quote-signature)$/u);
      flipped[offset]! ^= 1 << (offset % 8);
    }
    expect(isRefusal(checkSignatures(flipped, now, INTEL))).toBe(false);
  });

  test('nor of the signatures, the attestation key, the QE report and its data', () => {
    const parsed = parseQuote(vectors.GCP_QUOTE);
    if (typeof parsed === 'string') throw new Error(parsed);
    const end = vectors.GCP_QUOTE.indexOf('-----BEGIN') - 6;
    const flipped = Buffer.from(vectors.GCP_QUOTE);
    const chains = new PckChains();
    for (let offset = parsed.signed.length; offset < end; offset++) {
      flipped[offset]! ^= 1;
      expect(isRefusal(checkSignatures(flipped, vectors.GCP_TIME, INTEL, chains)), `byte ${offset}`).toBe(
        true,
      );
      flipped[offset]! ^= 1;
    }
  });
});

describe('a mock machine', () => {
  const now = Date.parse('2026-06-01T00:00:00Z');
  const reportData = Buffer.alloc(64, 7);
  let machine: MockMachine;
  let roots: ReadonlySet<string>;
  beforeAll(async () => {
    machine = await MockMachine.create({ now });
    roots = new Set([machine.rootFingerprint]);
  });

  test.each([4, 5] as const)('makes good quotes of version %i', async (version) => {
    const verdict = verify(machine.quote(reportData, { version }), await machine.collateral(), now, roots);
    expect(verdict).toMatchObject({ quote: { version }, tcb: { status: 'UpToDate' } });
  });

  test("is nobody under Intel's root", () => {
    expect(checkSignatures(machine.quote(reportData), now, INTEL)).toMatchObject({ check: 'pck-chain' });
  });

  test('whose certificates have ended or not begun', () => {
    expect(checkSignatures(machine.quote(reportData), now + 4e10, roots)).toEqual({
      check: 'pck-chain',
      reason: 'Intel SGX PCK Certificate has expired',
    });
    expect(checkSignatures(machine.quote(reportData), now - 4e9, roots)).toEqual({
      check: 'pck-chain',
      reason: 'Intel SGX PCK Certificate is not valid yet',
    });
  });

  const quotes: [string, MockQuoteOptions, Refusal][] = [
    [
      'signed by another key',
      { forged: 'quote' },
      { check: 'quote-signature', reason: 'the attestation key has not signed the report' },
    ],
    [
      'with a QE report by another PCK',
      { forged: 'qe-report' },
      { check: 'qe-report-signature', reason: 'the PCK has not signed the QE report' },
    ],
    [
      'with a QE report about another key',
      { forged: 'qe-binding' },
      { check: 'qe-binding', reason: 'the QE report is about another attestation key' },
    ],
    [
      'of another vendor',
      { qeVendorId: '00'.repeat(16) },
      { check: 'qe-vendor', reason: 'the QE is not of Intel' },
    ],
    [
      'of an enclave of another signer',
      { qeMrSigner: 'ee'.repeat(32) },
      { check: 'qe-identity', reason: 'the quoting enclave has another signer' },
    ],
    [
      'of an enclave with debugging',
      { qeAttributes: `17${'00'.repeat(15)}` },
      { check: 'qe-identity', reason: 'the quoting enclave has other attributes' },
    ],
    [
      'of an enclave with another MISCSELECT',
      { qeMiscSelect: '01000000' },
      { check: 'qe-identity', reason: 'the quoting enclave has another MISCSELECT' },
    ],
    [
      'of another enclave of the same signer',
      { qeIsvProdId: 1 },
      { check: 'qe-identity', reason: 'the quoting enclave is another product' },
    ],
    [
      'of an enclave below every level',
      { qeIsvSvn: 3 },
      { check: 'qe-identity', reason: 'no TCB level is as low as this quoting enclave' },
    ],
    [
      'of a module of another signer',
      { mrSignerSeam: 'ab'.repeat(48) },
      { check: 'platform-tcb', reason: 'the TDX module has another signer' },
    ],
    [
      'of a module with attributes',
      { seamAttributes: '0100000000000000' },
      { check: 'platform-tcb', reason: 'the TDX module has other attributes' },
    ],
    [
      'of a module that nobody knows',
      { teeTcbSvn: '08090800000000000000000000000000' },
      { check: 'platform-tcb', reason: 'the TDX module TDX_09 is not known' },
    ],
    [
      'of a module below every level',
      { teeTcbSvn: '03010800000000000000000000000000' },
      { check: 'platform-tcb', reason: 'no TCB level is as low as this TDX module' },
    ],
    [
      'of an old module',
      { teeTcbSvn: '05010800000000000000000000000000' },
      { check: 'tcb-status', reason: 'the TCB is OutOfDate' },
    ],
    [
      'of old microcode',
      { teeTcbSvn: '08010700000000000000000000000000' },
      { check: 'platform-tcb', reason: 'no TCB level is as low as this platform' },
    ],
  ];
  test.each(quotes)('a quote %s', async (_, options, refusal) => {
    expect(verify(machine.quote(reportData, options), await machine.collateral(), now, roots)).toEqual(
      refusal,
    );
  });

  const collaterals: [string, MockCollateralOptions, Refusal][] = [
    [
      'a revoked PCK',
      { revoked: ['pck'] },
      { check: 'pck-revocation', reason: 'the PCK certificate is revoked' },
    ],
    [
      'a revoked PCK authority',
      { revoked: ['pck-authority'] },
      { check: 'collateral', reason: 'pck-crl: issuer: is revoked' },
    ],
    [
      'a revoked TCB signer',
      { revoked: ['tcb-signing'] },
      { check: 'collateral', reason: 'tcb-info: issuer: is revoked' },
    ],
    [
      'a forged TCB info',
      { forged: 'tcb-info' },
      { check: 'collateral', reason: 'tcb-info: has a wrong signature' },
    ],
    [
      'a forged QE identity',
      { forged: 'qe-identity' },
      { check: 'collateral', reason: 'qe-identity: has a wrong signature' },
    ],
    [
      'a forged list',
      { forged: 'pck-crl' },
      { check: 'collateral', reason: 'pck-crl: is not signed by Intel SGX PCK Platform CA' },
    ],
    [
      'a forged list of the root',
      { forged: 'root-crl' },
      { check: 'collateral', reason: 'root-crl: is not signed by Intel SGX Root CA' },
    ],
    ['expired lists', { crlUntil: now - 1000 }, { check: 'collateral', reason: 'root-crl: has expired' }],
    [
      'expired documents',
      { nextUpdate: now - 1000 },
      { check: 'collateral', reason: 'tcb-info: has expired' },
    ],
    [
      'documents of the future',
      { issueDate: now + 60_000 },
      { check: 'collateral', reason: 'tcb-info: is not valid yet' },
    ],
    [
      'documents of another FMSPC',
      { fmspc: '112233445566' },
      { check: 'collateral', reason: 'it is about another kind of machine' },
    ],
    ['TCB info of SGX', { tcbInfoId: 'SGX' }, { check: 'collateral', reason: 'tcb-info: id is not TDX' }],
    [
      'TCB info of another version',
      { version: 2 },
      { check: 'collateral', reason: 'tcb-info: version is not 3' },
    ],
    [
      "the identity of SGX's quoting enclave",
      { qeIdentityId: 'QE' },
      { check: 'collateral', reason: 'qe-identity: id is not TD_QE' },
    ],
    [
      'documents of another PCE',
      { pceId: '0001' },
      { check: 'collateral', reason: 'it is about another kind of machine' },
    ],
    [
      'one component of the CPU below every level',
      { sgxComponents: [8, 8, 2, 2, 4, 1, 0, 6, 0, 0, 0, 0, 0, 0, 0, 1] },
      { check: 'platform-tcb', reason: 'no TCB level is as low as this platform' },
    ],
    [
      'one component of TDX below every level',
      { tdxComponents: [5, 0, 8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1] },
      { check: 'platform-tcb', reason: 'no TCB level is as low as this platform' },
    ],
    ['a revoked enclave', { qeStatus: 'Revoked' }, { check: 'tcb-status', reason: 'the TCB is Revoked' }],
    [
      'lists of the future',
      { crlFrom: now + 60_000 },
      { check: 'collateral', reason: 'root-crl: is not valid yet' },
    ],
    [
      'a platform out of date',
      { tcbStatus: 'OutOfDate' },
      { check: 'tcb-status', reason: 'the TCB is OutOfDate' },
    ],
    [
      'a platform to configure',
      { tcbStatus: 'ConfigurationNeeded' },
      { check: 'tcb-status', reason: 'the TCB is ConfigurationNeeded' },
    ],
    ['a revoked platform', { tcbStatus: 'Revoked' }, { check: 'tcb-status', reason: 'the TCB is Revoked' }],
    ['a revoked module', { moduleStatus: 'Revoked' }, { check: 'tcb-status', reason: 'the TCB is Revoked' }],
    [
      'an old enclave on a platform to configure',
      { tcbStatus: 'ConfigurationNeeded', qeStatus: 'OutOfDate' },
      { check: 'tcb-status', reason: 'the TCB is OutOfDateConfigurationNeeded' },
    ],
    [
      'a PCE below every level',
      { lowestPceSvn: 14 },
      { check: 'platform-tcb', reason: 'no TCB level is as low as this platform' },
    ],
  ];
  test.each(collaterals)('with %s', async (_, options, refusal) => {
    expect(verify(machine.quote(reportData), await machine.collateral(options), now, roots)).toEqual(refusal);
  });

  test('that is out of date passes where the operator accepts that status', async () => {
    const collateral = await machine.collateral({ tcbStatus: 'SWHardeningNeeded' });
    const accepted: ReadonlySet<TcbStatus> = new Set(['UpToDate', 'SWHardeningNeeded']);
    expect(verify(machine.quote(reportData), collateral, now, roots, accepted)).toMatchObject({
      tcb: { status: 'SWHardeningNeeded' },
    });
  });

  test('of an authority below the known one: no chain of this kind is so long', async () => {
    const below = await MockMachine.create({ now, subordinate: true });
    expect(checkSignatures(below.quote(reportData), now, new Set([below.rootFingerprint]))).toEqual({
      check: 'pck-chain',
      reason: 'holds 4 certificates',
    });
    const good = await machine.collateral();
    const [signer = ''] = good.tcbInfoChain.split(/(?<=-----END CERTIFICATE-----\n?)/u);
    const long = { ...good, tcbInfoChain: `${signer}\n${good.pckCrlChain}` };
    expect(verify(machine.quote(reportData), long, now, roots)).toEqual({
      check: 'collateral',
      reason: 'tcb-info: issuer: holds 3 certificates, not 2',
    });
    // Of the root's own list: it is no list of a PCK authority.
    const rootAlone = { ...good, pckCrl: good.rootCrl, pckCrlChain: machine.rootPem };
    expect(verify(machine.quote(reportData), rootAlone, now, roots)).toEqual({
      check: 'collateral',
      reason: 'pck-crl: issuer: holds 1 certificates, not 2',
    });
  });

  test('a list counts for the authority that its chain names alone', async () => {
    const checked = checkCollateral(await machine.collateral(), now, roots);
    if ('document' in checked) throw new Error(checked.reason);
    const signed = checkSignatures(machine.quote(reportData), now, roots);
    if (isRefusal(signed)) throw new Error(signed.reason);
    const processor = { ...signed, pck: { ...signed.pck, authority: 'processor' } as const };
    expect(checkMachine(processor, checked, UP_TO_DATE)).toEqual({
      check: 'collateral',
      reason: 'its revocation list is of another authority',
    });
  });

  test("an authority of the quote's own chain that the root has revoked", async () => {
    const checked = checkCollateral(await machine.collateral(), now, roots);
    if ('document' in checked) throw new Error(checked.reason);
    const signed = checkSignatures(machine.quote(reportData), now, roots);
    if (isRefusal(signed)) throw new Error(signed.reason);
    // The list of the collateral can be of a newer certificate of the same authority.
    const [, authority = ''] = signed.serials;
    const rootCrl = { ...checked.rootCrl, revoked: new Set([authority]) };
    expect(checkMachine(signed, { ...checked, rootCrl }, UP_TO_DATE)).toEqual({
      check: 'pck-revocation',
      reason: 'an authority of the PCK certificate is revoked',
    });
  });

  test('a chain that was good is good neither later nor under other roots', () => {
    const chains = new PckChains();
    const quote = machine.quote(reportData);
    expect(isRefusal(checkSignatures(quote, now, roots, chains))).toBe(false);
    for (const [at, trusted] of [
      [now + 4e10, roots],
      [now - 4e9, roots],
      [now, INTEL],
    ] as const) {
      expect(checkSignatures(quote, at, trusted, chains)).toMatchObject({ check: 'pck-chain' });
    }
    expect(isRefusal(checkSignatures(quote, now, roots, chains))).toBe(false);
  });

  test('collateral holds no longer than the certificate of its signer', async () => {
    const until = now + 5 * 86_400_000;
    const short = await MockMachine.create({ now, signerUntil: until });
    const checked = checkCollateral(await short.collateral(), now, new Set([short.rootFingerprint]));
    expect(checked).toMatchObject({ validUntil: until });
  });

  test('documents are taken as they were signed, or not at all', async () => {
    const good = await machine.collateral();
    const spaced = { ...good, tcbInfo: good.tcbInfo.replace('"version":3', '"version": 3') };
    expect(verify(machine.quote(reportData), spaced, now, roots)).toMatchObject({
      reason: 'tcb-info: has a wrong signature',
    });
    const swapped = { ...good, tcbInfoChain: good.pckCrlChain };
    expect(verify(machine.quote(reportData), swapped, now, roots)).toMatchObject({
      reason: 'tcb-info: issuer: is not the TCB signing certificate',
    });
    const noChain = { ...good, qeIdentityChain: '' };
    expect(verify(machine.quote(reportData), noChain, now, roots)).toMatchObject({
      reason: 'qe-identity: issuer: holds no certificate',
    });
    const other = await MockMachine.create({ now });
    expect(verify(machine.quote(reportData), await other.collateral(), now, roots)).toMatchObject({
      reason: 'pck-crl: issuer: Intel SGX Root CA is not a root that is trusted',
    });
  });
});
