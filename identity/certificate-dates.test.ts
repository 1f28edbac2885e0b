import 'reflect-metadata';
import { webcrypto, X509Certificate } from 'node:crypto';
import { X509CertificateGenerator } from '@peculiar/x509';
import { expect, test } from 'vitest';
import { datesOf } from './certificate-dates.ts';

const NOT_BEFORE = new Date('2025-01-02T03:04:05Z');
const NOT_AFTER = new Date('2031-02-03T04:05:06Z');

async function derOf(): Promise<Buffer> {
  const keys = await webcrypto.subtle.generateKey({ name: 'ECDSA', namedCurve: 'P-256' }, true, [
    'sign',
    'verify',
  ]);
  const { rawData } = await X509CertificateGenerator.createSelfSigned({
    name: 'CN=dates',
    notBefore: NOT_BEFORE,
    notAfter: NOT_AFTER,
    keys,
    signingAlgorithm: { name: 'ECDSA', hash: 'SHA-256' },
  });
  return Buffer.from(rawData);
}

test('a certificate’s dates', async () => {
  expect(datesOf(new X509Certificate(await derOf()))).toEqual({
    notBefore: NOT_BEFORE.getTime(),
    notAfter: NOT_AFTER.getTime(),
  });
});

test('a time that is none is no number, each time it is read', async () => {
  const der = await derOf();
  der.write('999999999999Z', der.indexOf('310203040506Z'));
  const certificate = new X509Certificate(der);
  for (let time = 0; time < 100; time += 1) expect(datesOf(certificate).notAfter).toBeNaN();
});
