import 'reflect-metadata';
import { webcrypto, X509Certificate } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { Extension, X509CertificateGenerator } from '@peculiar/x509';
import { describe, expect, test, vi } from 'vitest';
import type { Timer } from '../timer.ts';
import { CertificateMaker } from './attested-certificate.ts';
import {
  decodeBase64,
  EVIDENCE_EXTENSION,
  encodeEvidence,
  readCertificateEvidence,
} from './certificate-evidence.ts';
import { parseQuote } from './quote.ts';
import { certificateReportData, nonceReportData } from './report-data.ts';
import { mockSide } from './testing/mock-world.ts';

const NONCE = Buffer.alloc(32, 1);

describe.each(['client', 'server'])('a certificate that a Go %s made', (role) => {
  const file = join(import.meta.dirname, `../../testing/vectors/tdx/go-tls/${role}.json`);
  const vector = JSON.parse(readFileSync(file, 'utf8')) as { nonce: string; certificate: string };
  const der = Buffer.from(vector.certificate, 'base64');
  const nonce = Buffer.from(vector.nonce, 'base64');
  const now = Date.parse('2026-11-23T09:36:00Z');

  test('its quote is about its key and the nonce', () => {
    const evidence = readCertificateEvidence(der, nonce, now);
    if (typeof evidence === 'string') throw new Error(evidence);
    const quote = parseQuote(evidence.rawQuote);
    expect(typeof quote === 'object' && quote.report.reportData.equals(evidence.reportData)).toBe(true);
    expect(evidence.scheme).toBe('nonce');
  });

  test('form: common name, two hours to both sides, no usages', () => {
    const certificate = new X509Certificate(der);
    expect([certificate.subject, certificate.ca, certificate.subjectAltName]).toEqual([
      'CN=Constellation',
      false,
      undefined,
    ]);
    expect(certificate.validToDate.getTime() - certificate.validFromDate.getTime()).toBe(14_400_000);
  });

  test('another nonce, another time: not this connection', () => {
    const evidence = readCertificateEvidence(der, NONCE, now);
    if (typeof evidence === 'string') throw new Error(evidence);
    const quote = parseQuote(evidence.rawQuote);
    expect(typeof quote === 'object' && quote.report.reportData.equals(evidence.reportData)).toBe(false);
    expect(readCertificateEvidence(der, undefined, now)).toBe(
      'the attestation answers no nonce of this side',
    );
    expect(readCertificateEvidence(der, nonce, now + 7_300_000)).toBe('the certificate has expired');
    expect(readCertificateEvidence(der, nonce, now - 7_300_000)).toBe('the certificate is not valid yet');
  });
});

test("ours has the same form as Go's, byte for byte where nothing is random", async () => {
  const side = await mockSide('a');
  const { der } = await side.certificates.forNonce(NONCE);
  const ours = new X509Certificate(der);
  expect([ours.subject, ours.issuer, ours.ca, ours.subjectAltName, ours.keyUsage]).toEqual([
    'CN=Constellation',
    'CN=Constellation',
    false,
    undefined,
    undefined,
  ]);
  expect(ours.validToDate.getTime() - ours.validFromDate.getTime()).toBe(14_400_000);
  expect(der.includes(Buffer.from('{"RawQuote":"'))).toBe(true);
  const evidence = readCertificateEvidence(der, NONCE, Date.now());
  expect(typeof evidence === 'object' && evidence.reportData).toEqual(side.asked[0]);
});

/** A certificate with these extensions. */
async function certificateWith(values: readonly (readonly [string, Buffer])[]): Promise<Buffer> {
  const algorithm = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' };
  const certificate = await X509CertificateGenerator.createSelfSigned({
    name: 'CN=Constellation',
    notBefore: new Date(Date.now() - 60_000),
    notAfter: new Date(Date.now() + 60_000),
    keys: await webcrypto.subtle.generateKey(algorithm, true, ['sign', 'verify']),
    signingAlgorithm: algorithm,
    extensions: values.map(([id, value]) => new Extension(id, false, value)),
  });
  return Buffer.from(certificate.rawData);
}

test.each([
  ['nothing', [], 'the certificate holds no attestation'],
  [
    'two',
    [
      [EVIDENCE_EXTENSION, Buffer.from('{}')],
      [EVIDENCE_EXTENSION, Buffer.from('{}')],
    ],
    'the certificate holds more than one attestation',
  ],
  [
    'one of Azure',
    [['1.3.9900.4.2', Buffer.from('{}')]],
    'the certificate holds an Azure attestation, which is not verified by this version',
  ],
  ['no JSON', [[EVIDENCE_EXTENSION, Buffer.from('{')]], 'the attestation in the certificate cannot be read'],
  ['null', [[EVIDENCE_EXTENSION, Buffer.from('null')]], 'the attestation in the certificate cannot be read'],
  [
    'half of it',
    [[EVIDENCE_EXTENSION, Buffer.from('{"RawQuote":"AAAA"}')]],
    'the attestation in the certificate cannot be read',
  ],
  [
    'data of another length',
    [[EVIDENCE_EXTENSION, encodeEvidence(Buffer.alloc(9), Buffer.alloc(31))]],
    'the attestation in the certificate cannot be read',
  ],
  [
    'a quote that is too long',
    [[EVIDENCE_EXTENSION, encodeEvidence(Buffer.alloc(20_000), Buffer.alloc(32))]],
    'the attestation in the certificate cannot be read',
  ],
  [
    "another key's",
    [[EVIDENCE_EXTENSION, encodeEvidence(Buffer.alloc(9), Buffer.alloc(32))]],
    'the attestation is about another key',
  ],
  [
    "another certificate's",
    [[EVIDENCE_EXTENSION, encodeEvidence(Buffer.alloc(9), Buffer.alloc(64))]],
    'the attestation is about another certificate',
  ],
] as const)('%s', async (_, extensions, reason) => {
  expect(readCertificateEvidence(await certificateWith(extensions), NONCE, Date.now())).toBe(reason);
});

test('a certificate changed in one byte, cut or too big', async () => {
  const { der } = await (await mockSide('a')).certificates.forNonce(NONCE);
  const changed = Buffer.from(der);
  changed[changed.length - 3]! ^= 1;
  expect(readCertificateEvidence(changed, NONCE, Date.now())).toBe(
    'the certificate is not signed by its own key',
  );
  expect(readCertificateEvidence(der.subarray(0, 500), NONCE, Date.now())).toBe(
    'the certificate cannot be read',
  );
  expect(readCertificateEvidence(Buffer.alloc(70_000), NONCE, Date.now())).toBe('the certificate is too big');
});

test('report data is what it is said to be', () => {
  expect(nonceReportData(Buffer.alloc(32, 1), Buffer.alloc(0)).toString('hex')).toBe(
    `72cd6e8422c407fb6d098690f1130b7ded7ec2f7f5e1d30bd9d521f015363793${'00'.repeat(32)}`,
  );
  const spki = Buffer.from('key');
  expect(certificateReportData(spki, 1_000_999, 2_000_000, 'Constellation')).toEqual(
    certificateReportData(spki, 1_000_000, 2_000_999, 'Constellation'),
  );
  expect(certificateReportData(spki, 1_000_000, 2_000_000, 'other')).not.toEqual(
    certificateReportData(spki, 1_000_000, 2_000_000, 'Constellation'),
  );
});

test('base64: standard, with padding, nothing else', () => {
  expect(decodeBase64('AQI=', 64)).toEqual(Buffer.from([1, 2]));
  for (const text of [
    'AQI',
    'AQI==',
    'AQ_-',
    'A QI=',
    'AQJ=',
    'node.example',
    5,
    undefined,
    'A'.repeat(200),
  ]) {
    expect(decodeBase64(text, 64), String(text)).toBeUndefined();
  }
});

test('the standing certificate is renewed after two thirds of its life, and a failure is tried again', async () => {
  let now = 1_700_000_000_500;
  let next: { delayMs: number; action: () => void } | undefined;
  const timer: Timer = {
    now: () => now,
    after(delayMs, action) {
      next = { delayMs, action };
      return () => undefined;
    },
  };
  const side = await mockSide('a');
  let broken = false;
  const failures: string[] = [];
  const maker = await CertificateMaker.create(
    { lifeMs: 900_000 },
    {
      timer,
      quotes: {
        quote: (reportData) =>
          broken ? Promise.reject(new Error('no device')) : side.quotes.quote(reportData),
      },
      events: { renewalFailed: (reason) => failures.push(reason) },
    },
  );
  expect(maker.ready).toBe(false);
  const first = await maker.standing();
  expect(next?.delayMs).toBe(600_000);
  expect(typeof readCertificateEvidence(first.der, undefined, now)).toBe('object');
  expect((await maker.standing()).der).toEqual(first.der);
  now += 600_000;
  next?.action();
  await vi.waitFor(async () => expect((await maker.standing()).der).not.toEqual(first.der), 15_000);
  const second = await maker.standing();
  broken = true;
  now += 600_000;
  next?.action();
  await vi.waitFor(() => expect(failures).toEqual(['no device']), 15_000);
  // Still valid, and tried again soon.
  expect((await maker.standing()).der).toEqual(second.der);
  expect(next?.delayMs).toBe(5_000);
  now += 300_001;
  await expect(maker.standing()).rejects.toThrow('no device');
  expect(maker.ready).toBe(false);
  maker.close();
});
