/** Certificates for a test cluster: an authority, a server's leaf for 127.0.0.1, and clients' leaves. PEM throughout. */
// The certificate library's container asks for it at load time.
import 'reflect-metadata';
import { KeyObject, webcrypto } from 'node:crypto';
import {
  BasicConstraintsExtension,
  ExtendedKeyUsage,
  ExtendedKeyUsageExtension,
  KeyUsageFlags,
  KeyUsagesExtension,
  SubjectAlternativeNameExtension,
  X509CertificateGenerator,
} from '@peculiar/x509';

/** One side's certificate with its key. */
export interface Leaf {
  readonly certificate: string;
  /** PKCS #8. */
  readonly key: string;
}

export interface TestAuthority {
  readonly certificate: string;
  /**
   * A leaf for 127.0.0.1 and localhost, fit for both sides; its common name is the principal.
   * @param addresses IP addresses that it is for as well
   */
  issue(name: string, addresses?: readonly string[]): Promise<Leaf>;
}

const ALGORITHM = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' };

const newKeys = () => webcrypto.subtle.generateKey(ALGORITHM, true, ['sign', 'verify']);

export async function testAuthority(): Promise<TestAuthority> {
  const validity = {
    notBefore: new Date(Date.now() - 3_600_000),
    notAfter: new Date(Date.now() + 86_400_000),
  };
  const keys = await newKeys();
  const authority = await X509CertificateGenerator.createSelfSigned({
    serialNumber: '01',
    name: 'CN=orderflow tests',
    ...validity,
    keys,
    signingAlgorithm: ALGORITHM,
    extensions: [
      new BasicConstraintsExtension(true, undefined, true),
      new KeyUsagesExtension(KeyUsageFlags.keyCertSign, true),
    ],
  });
  let serial = 1;
  return {
    certificate: authority.toString('pem'),
    async issue(name, addresses = []) {
      serial += 1;
      const own = await newKeys();
      const leaf = await X509CertificateGenerator.create({
        serialNumber: serial.toString(16).padStart(2, '0'),
        subject: `CN=${name}`,
        issuer: authority.subject,
        ...validity,
        publicKey: own.publicKey,
        signingKey: keys.privateKey,
        signingAlgorithm: ALGORITHM,
        extensions: [
          new BasicConstraintsExtension(false, undefined, true),
          new KeyUsagesExtension(KeyUsageFlags.digitalSignature, true),
          new ExtendedKeyUsageExtension([ExtendedKeyUsage.serverAuth, ExtendedKeyUsage.clientAuth]),
          new SubjectAlternativeNameExtension([
            ...['127.0.0.1', ...addresses].map((value) => ({ type: 'ip' as const, value })),
            { type: 'dns', value: 'localhost' },
          ]),
        ],
      });
      return {
        certificate: leaf.toString('pem'),
        key: KeyObject.from(own.privateKey).export({ type: 'pkcs8', format: 'pem' }),
      };
    },
  };
}
