/** Chains link by link: certificates whose names are right and something else is not. */
import { webcrypto, X509Certificate } from 'node:crypto';
import 'reflect-metadata';
import {
  BasicConstraintsExtension,
  KeyUsageFlags,
  KeyUsagesExtension,
  X509CertificateGenerator,
} from '@peculiar/x509';
import { beforeAll, expect, test } from 'vitest';
import { chainProblem, keyFingerprint } from './certificates.ts';

const ALGORITHM = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' };
const DAY_MS = 86_400_000;
const now = Date.parse('2026-06-01T00:00:00Z');

interface Made {
  readonly name: string;
  readonly keys: webcrypto.CryptoKeyPair;
  readonly certificate: X509Certificate;
}

interface Kind {
  /** Undefined: no basic constraints at all. */
  readonly authority: boolean | undefined;
  /** Undefined: no key usage at all. */
  readonly usage?: number;
  readonly from?: number;
  readonly until?: number;
}

const AUTHORITY: Kind = { authority: true, usage: KeyUsageFlags.keyCertSign | KeyUsageFlags.cRLSign };
const LEAF: Kind = { authority: false, usage: KeyUsageFlags.digitalSignature };

function newKeys(): Promise<webcrypto.CryptoKeyPair> {
  return webcrypto.subtle.generateKey(ALGORITHM, true, ['sign', 'verify']);
}

/** @param signer who signs in the issuer's name; the issuer itself unless set */
async function issue(
  name: string,
  kind: Kind,
  issuer?: Made,
  signer?: webcrypto.CryptoKeyPair,
): Promise<Made> {
  const keys = await newKeys();
  const { authority, usage } = kind;
  const made = await X509CertificateGenerator.create({
    serialNumber: '01',
    subject: `CN=${name}`,
    issuer: `CN=${issuer?.name ?? name}`,
    notBefore: new Date(kind.from ?? now - DAY_MS),
    notAfter: new Date(kind.until ?? now + DAY_MS),
    publicKey: keys.publicKey,
    signingKey: (signer ?? issuer?.keys ?? keys).privateKey,
    signingAlgorithm: ALGORITHM,
    extensions: [
      ...(authority === undefined ? [] : [new BasicConstraintsExtension(authority, undefined, true)]),
      ...(usage === undefined ? [] : [new KeyUsagesExtension(usage, true)]),
    ],
  });
  return { name, keys, certificate: new X509Certificate(Buffer.from(made.rawData)) };
}

let root: Made;
let middle: Made;
let leaf: Made;
let roots: ReadonlySet<string>;
beforeAll(async () => {
  root = await issue('root', AUTHORITY);
  middle = await issue('middle', AUTHORITY, root);
  leaf = await issue('leaf', LEAF, middle);
  roots = new Set([keyFingerprint(root.certificate)]);
});

function problem(...chain: readonly Made[]): string | undefined {
  const certificates = chain.map(({ certificate }) => certificate);
  return chainProblem(certificates, 3, roots, now);
}

test('a good one', () => expect(problem(leaf, middle, root)).toBeUndefined());

test('a leaf that its authority has not signed', async () => {
  const forged = await issue('leaf', LEAF, middle, await newKeys());
  expect(problem(forged, middle, root)).toBe('leaf is not signed by middle');
});

test('an authority that the root has not signed', async () => {
  const forged = await issue('middle', AUTHORITY, root, await newKeys());
  const below = await issue('leaf', LEAF, forged);
  expect(problem(below, forged, root)).toBe('middle is not signed by root');
});

test('another root of the same name', async () => {
  const other = await issue('root', AUTHORITY);
  const [authority, end] = [await issue('middle', AUTHORITY, other), leaf];
  expect(problem(end, authority, root)).toBe('leaf is not signed by middle');
  const own = await issue('leaf', LEAF, authority);
  expect(problem(own, authority, other)).toBe('root is not a root that is trusted');
});

test.each([
  ['says so', { authority: false }],
  ['says nothing', { authority: undefined }],
  ['may sign no certificates', { authority: true, usage: KeyUsageFlags.digitalSignature }],
])('a certificate in the middle that is no authority: it %s', async (_, kind) => {
  const none = await issue('middle', kind, root);
  const below = await issue('leaf', LEAF, none);
  expect(problem(below, none, root)).toMatch(/^(?:middle is no authority|leaf is not signed by middle)$/u);
});

test.each([
  ['ended', { until: now - 1000 }, 'has expired'],
  ['not begun', { from: now + 1000 }, 'is not valid yet'],
])('an authority that has %s', async (_, dates, reason) => {
  const late = await issue('middle', { ...AUTHORITY, ...dates }, root);
  const below = await issue('leaf', LEAF, late);
  expect(problem(below, late, root)).toBe(`middle ${reason}`);
});

test('more or fewer than there are in such a chain', async () => {
  const below = await issue('below', AUTHORITY, middle);
  const end = await issue('leaf', LEAF, below);
  expect(problem(end, below, middle, root)).toBe('holds 4 certificates, not 3');
  expect(problem(middle, root)).toBe('holds 2 certificates, not 3');
  expect(problem()).toBe('holds 0 certificates, not 3');
  expect(problem(leaf, middle, middle)).toBe('middle is not signed by middle');
});
