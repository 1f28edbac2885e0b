import { createPublicKey, X509Certificate } from 'node:crypto';
import { once } from 'node:events';
import { type ConnectionOptions, connect as connectTls, createServer, type TLSSocket } from 'node:tls';
import { describe, expect, onTestFinished, test } from 'vitest';
import { certificateFingerprint, createCredentials, namesExactly, readCredentials } from './certificate.ts';

const NAMES = ['node.example', 'localhost', '127.0.0.1', '::1', '2001:db8::1:0:0:5'];
const NOW = Date.now();
const DAY_MS = 86_400_000;
const own = await createCredentials({ names: NAMES, validityDays: 365, now: NOW });

describe('what it says', () => {
  const certificate = new X509Certificate(own.certificatePem);

  test('names, usage, authority', () => {
    expect(certificate.subject).toBe('CN=node.example');
    expect(certificate.issuer).toBe('CN=node.example');
    expect(certificate.subjectAltName).toBe(
      'DNS:node.example, DNS:localhost, IP Address:127.0.0.1, IP Address:0:0:0:0:0:0:0:1, IP Address:2001:DB8:0:0:1:0:0:5',
    );
    expect(certificate.ca).toBe(false);
    expect(certificate.keyUsage).toEqual(['1.3.6.1.5.5.7.3.1', '1.3.6.1.5.5.7.3.2']); // serverAuth, clientAuth
    expect(certificate.publicKey.asymmetricKeyDetails?.namedCurve).toBe('prime256v1');
  });

  test('is signed by its own key', () => {
    expect(certificate.verify(certificate.publicKey)).toBe(true);
    expect(createPublicKey(own.privateKeyPem).equals(certificate.publicKey)).toBe(true);
  });

  test('validity begins an hour before it was made, to the second', () => {
    expect(own.notBefore.getTime()).toBe(Math.floor((NOW - 3_600_000) / 1000) * 1000);
    expect(own.notAfter.getTime()).toBe(Math.floor((NOW + 365 * DAY_MS) / 1000) * 1000);
  });

  test('serial numbers are positive, of full length and never the same', async () => {
    const made = Array.from({ length: 20 }, () =>
      createCredentials({ names: ['a'], validityDays: 1, now: NOW }),
    );
    const serials = (await Promise.all(made)).map(
      ({ certificatePem }) => new X509Certificate(certificatePem).serialNumber,
    );
    for (const serial of serials) expect(serial).toMatch(/^[4-7][0-9A-F]{31}$/u);
    expect(new Set(serials).size).toBe(20);
  });

  test('fingerprint', () => {
    expect(own.fingerprint).toBe(certificate.fingerprint256.replaceAll(':', '').toLowerCase());
    expect(certificateFingerprint(own.certificateDer)).toBe(own.fingerprint);
  });

  test('a date beyond 2049 is written as RFC 5280 asks', async () => {
    const { notAfter } = await createCredentials({
      names: ['a'],
      validityDays: 36_500,
      now: Date.UTC(2026, 0, 1),
    });
    expect(notAfter.toISOString()).toBe('2125-12-08T00:00:00.000Z');
  });

  test('a name too long for the common name still stands among the alternative names', async () => {
    const long = `${'a'.repeat(60)}.${'b'.repeat(60)}.example`;
    const { certificatePem } = await createCredentials({ names: [long], validityDays: 1, now: NOW });
    expect(new X509Certificate(certificatePem).subject).toBe('CN=orderflow node');
    expect(namesExactly(certificatePem, [long])).toBe(true);
  });
});

describe('names', () => {
  test.each([
    [NAMES, true],
    [NAMES.toReversed(), true],
    [['NODE.example.', 'localhost', '127.0.0.1', '[::1]', '2001:DB8:0:0:1::5'], true],
    [NAMES.slice(1), false],
    [[...NAMES, 'other.example'], false],
    [[...NAMES.slice(1), 'other.example'], false],
  ])('%j', (names, same) => {
    expect(namesExactly(own.certificatePem, names)).toBe(same);
  });

  test('a certificate without names has none of ours', () => {
    expect(namesExactly(NAMELESS, ['localhost'])).toBe(false);
  });

  test.each([['not a name'], ['node.example:5544'], ['*.example'], ['']])(
    '%j is refused by name',
    async (name) => {
      await expect(createCredentials({ names: ['ok', name], validityDays: 1, now: NOW })).rejects.toThrow(
        JSON.stringify(name),
      );
    },
  );

  test('at least one is needed', async () => {
    await expect(createCredentials({ names: [], validityDays: 1, now: NOW })).rejects.toThrow('at least one');
  });
});

describe('reading', () => {
  test('gives back what was made', () => {
    expect(readCredentials(own.certificatePem, own.privateKeyPem)).toEqual(own);
  });

  test('a foreign key is told', async () => {
    const other = await createCredentials({ names: NAMES, validityDays: 1, now: NOW });
    expect(() => readCredentials(own.certificatePem, other.privateKeyPem)).toThrow('do not belong together');
  });

  test('what is damaged is told, without its content', () => {
    expect(() => readCredentials('x', own.privateKeyPem)).toThrow(/^the certificate cannot be read$/u);
    expect(() => readCredentials(own.certificatePem, 'secret')).toThrow(/^the private key cannot be read$/u);
  });
});

describe('in a handshake, as its own trust anchor', () => {
  async function serve(): Promise<number> {
    const server = createServer({
      cert: own.certificatePem,
      key: own.privateKeyPem,
      ca: own.certificatePem,
      requestCert: true,
      rejectUnauthorized: true,
    });
    server.on('tlsClientError', () => undefined);
    server.on('secureConnection', (socket) => socket.on('error', () => undefined).end('hello'));
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    onTestFinished(() => void server.close());
    const address = server.address();
    if (address === null || typeof address === 'string') throw new Error('no port');
    return address.port;
  }

  async function connect(options: ConnectionOptions): Promise<TLSSocket> {
    const socket = connectTls({
      port: await serve(),
      ca: own.certificatePem,
      cert: own.certificatePem,
      key: own.privateKeyPem,
      ...options,
    });
    onTestFinished(() => void socket.destroy());
    await once(socket, 'secureConnect');
    return socket;
  }

  test.each([
    { host: '127.0.0.1' },
    { host: '127.0.0.1', servername: 'node.example' },
    { host: '127.0.0.1', servername: 'localhost' },
  ])('$host $servername is accepted, on both sides', async (options) => {
    const socket = await connect(options);
    expect(socket.authorized).toBe(true);
    const [data]: Buffer[] = await once(socket, 'data');
    expect(data!.toString()).toBe('hello');
  });

  test('another name is refused', async () => {
    await expect(connect({ host: '127.0.0.1', servername: 'other.example' })).rejects.toThrow(
      'does not match certificate',
    );
  });

  test('without it as anchor it is refused', async () => {
    const other = await createCredentials({ names: NAMES, validityDays: 1, now: NOW });
    await expect(connect({ host: '127.0.0.1', ca: other.certificatePem })).rejects.toThrow();
  });
});

/** A self-signed P-256 certificate with CN=x and no alternative names, made with openssl. */
const NAMELESS = `-----BEGIN CERTIFICATE-----
MIIBbjCCARWgAwIBAgIUCSA5O9ADvqn6Hs/xeAwWccOvs8AwCgYIKoZIzj0EAwIw
DDEKMAgGA1UEAwwBeDAgFw0yNjExMjMwNTUwMDFaGA8yMTI2MTAzMDA1NTAwMVow
DDEKMAgGA1UEAwwBeDBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABA/VZnGqxDFk
Unjhsl51B4zjMVVv4PVmKNIodRWUzMe5fYRjs8E6NBPCWEBpMXC/hNygyYkEk8Ky
JluOKs3RjXujUzBRMB0GA1UdDgQWBBSTQF+4KT4EJ4Jh7DNI2A5UQtVu/jAfBgNV
HSMEGDAWgBSTQF+4KT4EJ4Jh7DNI2A5UQtVu/jAPBgNVHRMBAf8EBTADAQH/MAoG
CCqGSM49BAMCA0cAMEQCIGRZhcs7NQdGaYbhzO/SnUybU0G8kwhMCI897Acd2Ket
AiAaqLdfGRVIN4BIVKhkOM8PwmMAZgUJgKIZ2XGJFzegcw==
-----END CERTIFICATE-----`;
