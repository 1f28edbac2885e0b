/** What somebody in the network, or with stolen keys, can try. Keys are given to the attacker generously. */

import { KeyObject, sign, webcrypto, X509Certificate } from 'node:crypto';
import 'reflect-metadata';
import { once } from 'node:events';
import { connect as connectTcp, type Socket } from 'node:net';
import {
  connect,
  createServer as createTlsServer,
  type SecureContextOptions,
  type TLSSocket,
} from 'node:tls';
import { Extension, X509CertificateGenerator } from '@peculiar/x509';
import { BitString, fromBER, Sequence } from 'asn1js';
import { expect, onTestFinished, test, vi } from 'vitest';
import type { Appraiser } from '../identity/attestation/appraiser.ts';
import { CertificateMaker } from '../identity/attestation/attested-certificate.ts';
import { BINDING_ALPN, BINDING_PATH } from '../identity/attestation/binding.ts';
import { EVIDENCE_EXTENSION, encodeEvidence } from '../identity/attestation/certificate-evidence.ts';
import { type MockSide, mockAppraiser, mockSide } from '../identity/attestation/testing/mock-world.ts';
import type { RunningProxy } from './bounds.ts';
import { ask, startTarget, startTestClient, startTestServer } from './testing/pair.ts';

/** A TLS server that shows what it is given, and the server names it was asked for. */
async function impostor(context: SecureContextOptions) {
  const names: string[] = [];
  const server = createTlsServer({
    ...context,
    SNICallback: (name, done) => {
      names.push(name);
      done(null);
    },
  });
  const sockets = new Set<Socket>();
  server.on('connection', (socket: Socket) => sockets.add(socket));
  server.on('tlsClientError', () => undefined);
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  onTestFinished(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  const address = server.address();
  if (address === null || typeof address === 'string') throw new Error('no port');
  return { host: '127.0.0.1', port: address.port, names };
}

async function victimOf(server: { host: string; port: number }, real: MockSide) {
  const appraiser = await mockAppraiser(real.machine, 'a');
  return startTestClient(server, { trust: { by: 'attestation', appraiser }, own: undefined });
}

/** A raw TLS connection to a proxy. */
async function dial({ address }: RunningProxy, options: object = {}): Promise<TLSSocket> {
  const socket = connect({ ...address, rejectUnauthorized: false, ...options });
  onTestFinished(() => void socket.destroy());
  socket.on('error', () => undefined);
  await new Promise<void>((resolve) => {
    socket.once('secureConnect', resolve);
    socket.once('close', () => resolve());
  });
  return socket;
}

/** A self-signed certificate with evidence of the given form, whose end is the given text. */
async function withDates(own: MockSide, notAfter: string, userDataBytes: number) {
  const keys = await webcrypto.subtle.generateKey({ name: 'ECDSA', namedCurve: 'P-256' }, true, [
    'sign',
    'verify',
  ]);
  const userData = Buffer.alloc(userDataBytes, 1);
  const parsed = await X509CertificateGenerator.createSelfSigned({
    name: 'CN=Constellation',
    notBefore: new Date(Date.now() - 1000),
    notAfter: new Date('2031-02-03T04:05:06Z'),
    keys,
    signingAlgorithm: { name: 'ECDSA', hash: 'SHA-256' },
    extensions: [
      new Extension(
        EVIDENCE_EXTENSION,
        false,
        encodeEvidence(own.machine.quote(Buffer.alloc(64, 1)), userData),
      ),
    ],
  });
  const [tbs, algorithm] = (fromBER(parsed.rawData).result as Sequence).valueBlock.value;
  const changed = Buffer.from(tbs!.valueBeforeDecodeView);
  changed.write(notAfter, changed.indexOf('310203040506Z'));
  const privateKey = KeyObject.from(keys.privateKey);
  const certificate = new Sequence({
    value: [
      fromBER(changed).result,
      algorithm!,
      new BitString({ valueHex: sign('sha256', changed, privateKey) }),
    ],
  });
  return {
    cert: new X509Certificate(Buffer.from(certificate.toBER())).toString(),
    key: privateKey.export({ type: 'pkcs8', format: 'pem' }),
  };
}

/** Everything until the end of the connection. */
async function textOf(socket: Socket): Promise<string> {
  let text = '';
  socket.on('data', (chunk: Buffer) => {
    text += chunk.toString('latin1');
  });
  if (!socket.closed) await once(socket, 'close');
  return text;
}

test('a replayed certificate, with its key: it answers the nonce of another connection', async () => {
  const real = await mockSide('a');
  const captured = await real.certificates.forNonce(Buffer.alloc(32, 1));
  const victim = await victimOf(await impostor(captured), real);
  expect((await ask(victim, '/')).status).toBe(502);
  expect(victim.refused).toEqual(['report-data: the quote is about another key, nonce or connection']);
});

test('every connection brings a nonce of its own', async () => {
  const real = await mockSide('a');
  const server = await impostor(await real.certificates.forNonce(Buffer.alloc(32, 1)));
  const victim = await victimOf(server, real);
  await ask(victim, '/');
  await ask(victim, '/');
  const [first, second] = server.names;
  for (const name of [first!, second!]) {
    expect(Buffer.from(name, 'base64').toString('base64')).toBe(name);
    expect(Buffer.from(name, 'base64')).toHaveLength(32);
  }
  expect(first).not.toBe(second);
});

test('the standing certificate answers no nonce: it could have been made for anybody', async () => {
  const real = await mockSide('a');
  const victim = await victimOf(await impostor(await real.certificates.standing()), real);
  expect((await ask(victim, '/')).status).toBe(502);
  expect(victim.refused).toEqual(['evidence: the attestation answers no nonce of this side']);
});

test.each([
  ['copied as it is', (real: Buffer) => real, 'evidence: the attestation is about another key'],
  [
    'about its own key, by hand',
    undefined,
    'report-data: the quote is about another key, nonce or connection',
  ],
])('a proxy in the middle with the real evidence, %s', async (_, change, reason) => {
  const real = await mockSide('a');
  // The middle asks the real server with the victim's nonce and has a quote about it; what it lacks is the real key.
  const keys = await webcrypto.subtle.generateKey({ name: 'ECDSA', namedCurve: 'P-256' }, true, [
    'sign',
    'verify',
  ]);
  const spki = KeyObject.from(keys.publicKey).export({ type: 'spki', format: 'der' });
  const ownHash = Buffer.from(await webcrypto.subtle.digest('SHA-256', spki));
  const victimsNonce = Buffer.alloc(32, 9);
  await real.certificates.forNonce(victimsNonce);
  const quote = real.machine.quote(real.asked.at(-1)!);
  const userData = change === undefined ? ownHash : change(Buffer.alloc(32, 3));
  const certificate = await X509CertificateGenerator.createSelfSigned({
    name: 'CN=Constellation',
    notBefore: new Date(Date.now() - 1000),
    notAfter: new Date(Date.now() + 60_000),
    keys,
    signingAlgorithm: { name: 'ECDSA', hash: 'SHA-256' },
    extensions: [new Extension(EVIDENCE_EXTENSION, false, encodeEvidence(quote, userData))],
  });
  const key = KeyObject.from(keys.privateKey).export({ type: 'pkcs8', format: 'pem' });
  const victim = await victimOf(await impostor({ cert: certificate.toString('pem'), key }), real);
  expect((await ask(victim, '/')).status).toBe(502);
  expect(victim.refused).toEqual([reason]);
});

async function demandingServer() {
  const [server, own] = await Promise.all([mockSide('a'), mockSide('b')]);
  const target = await startTarget();
  const appraiser = await mockAppraiser(own.machine, 'b');
  const proxy = await startTestServer(target.url, { certificates: server.certificates, appraiser });
  return { server, own, target, proxy };
}

test('a stolen client certificate with its key: the binding of an earlier connection is worth nothing', async () => {
  const { server, own, target, proxy } = await demandingServer();
  const trust = { by: 'attestation', appraiser: await mockAppraiser(server.machine, 'a') } as const;
  const honest = await startTestClient(proxy.address, { trust, own });
  expect((await ask(honest, '/honest')).status).toBe(200);
  const earlier = own.machine.quote(own.asked.at(-1)!);
  const thief = await startTestClient(proxy.address, {
    trust,
    own: { certificates: own.certificates, quotes: { quote: async () => earlier } },
  });
  expect((await ask(thief, '/thief')).status).toBe(502);
  expect(thief.refused).toEqual(['binding: the server answers the binding with 403']);
  expect(proxy.refused).toEqual(['binding: the quote is about another connection']);
  expect(target.seen.map(({ url }) => url)).toEqual(['/honest']);
});

test('a stolen client certificate with its key, and no binding at all', async () => {
  const { own, target, proxy } = await demandingServer();
  const stolen = await own.certificates.standing();
  const socket = await dial(proxy, { ...stolen, ALPNProtocols: ['http/1.1'] });
  socket.write('GET /thief HTTP/1.1\r\nHost: x\r\n\r\nGET /again HTTP/1.1\r\nHost: x\r\n\r\n');
  expect(await textOf(socket)).toMatch(/^HTTP\/1\.1 403 /u);
  expect(proxy.refused[0]).toBe('binding: a request came before the binding');
  expect(target.seen).toEqual([]);
});

test('one try: a second binding on the same connection changes nothing', async () => {
  const { own, target, proxy } = await demandingServer();
  const stolen = await own.certificates.standing();
  const socket = await dial(proxy, { ...stolen, ALPNProtocols: [BINDING_ALPN] });
  const wrong = own.machine.quote(Buffer.alloc(64, 5));
  const head = `POST ${BINDING_PATH} HTTP/1.1\r\nHost: x\r\nContent-Length: ${wrong.length}\r\n\r\n`;
  socket.write(Buffer.concat([Buffer.from(head), wrong, Buffer.from(head), wrong]));
  expect(await textOf(socket)).toMatch(/^HTTP\/1\.1 403 /u);
  expect(target.seen).toEqual([]);
});

test('with TLS 1.2 there is nothing to bind to', async () => {
  const { own, proxy } = await demandingServer();
  const socket = await dial(proxy, { ...(await own.certificates.standing()), maxVersion: 'TLSv1.2' });
  expect(await textOf(socket)).toBe('');
  expect(proxy.refused).toEqual(['binding: the connection is not TLS 1.3']);
});

test('a certificate that has run out is no evidence', async () => {
  const { own, proxy } = await demandingServer();
  const maker = await CertificateMaker.create(
    {},
    { quotes: own.quotes, timer: { now: () => Date.now() - 7_200_000, after: () => () => undefined } },
  );
  const socket = await dial(proxy, { ...(await maker.standing()) });
  expect(await textOf(socket)).toBe('');
  expect(proxy.refused).toEqual(['evidence: the certificate has expired']);
});

test.each([
  ['bound to its own key', false],
  ['of the newer scheme', true],
])('a certificate whose dates are no dates is no evidence: %s', async (_, newer) => {
  const { own, proxy } = await demandingServer();
  const { cert, key } = await withDates(own, '999999999999Z', newer ? 64 : 32);
  const socket = await dial(proxy, { cert, key });
  expect(await textOf(socket)).toBe('');
  expect(proxy.refused).toEqual(['evidence: the certificate has no dates']);
  expect(proxy.failures).toEqual([]);
});

test('a client that goes while it is appraised takes nobody with it', async () => {
  const [server, own] = await Promise.all([mockSide('a'), mockSide('b')]);
  const target = await startTarget();
  const good = await mockAppraiser(own.machine, 'b');
  const asked = Promise.withResolvers<void>();
  const gone = Promise.withResolvers<void>();
  const slow = {
    appraise: async (quote: Buffer, reportData: Buffer) => {
      asked.resolve();
      await gone.promise;
      return good.appraise(quote, reportData);
    },
  } as Appraiser;
  const proxy = await startTestServer(target.url, { certificates: server.certificates, appraiser: slow });
  const socket = await dial(proxy, { ...(await own.certificates.standing()) });
  await asked.promise;
  socket.destroy();
  await expect.poll(() => proxy.connections(), { timeout: 20_000 }).toBe(0);
  gone.resolve();
  await expect.poll(() => proxy.refused, { timeout: 20_000 }).toEqual(['tls: the connection was closed']);
  expect(proxy.failures).toEqual([]);
});

test('plain TLS clients: by address, by a name that is base64, by any other name', async () => {
  const real = await mockSide('a');
  const target = await startTarget();
  const proxy = await startTestServer(target.url, { certificates: real.certificates, appraiser: undefined });
  const standing = await real.certificates.standing();
  for (const [servername, own] of [
    [undefined, standing],
    ['localhost', standing],
    ['node.example', standing],
    ['abcd', undefined],
  ] as const) {
    const socket = await dial(proxy, servername === undefined ? {} : { servername });
    const shown = socket.getPeerX509Certificate()?.raw;
    expect(shown?.equals(standing.der), servername).toBe(own !== undefined);
    socket.write('GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n');
    expect(await textOf(socket)).toMatch(/^HTTP\/1\.1 200 /u);
  }
});

/** A connection that never begins its handshake. */
function idleAt({ address }: RunningProxy): Socket {
  const socket = connectTcp(address);
  socket.on('error', () => undefined);
  onTestFinished(() => void socket.destroy());
  return socket;
}

test('handshakes are bounded in number', async () => {
  const { certificates } = await mockSide('a');
  const target = await startTarget();
  const proxy = await startTestServer(
    target.url,
    { certificates, appraiser: undefined },
    { maxHandshakes: 2, handshakeTimeoutMs: 60_000 },
  );
  const idle = [1, 2, 3].map(() => idleAt(proxy));
  await Promise.race(idle.map((socket) => once(socket, 'close')));
  expect(proxy.refused).toEqual(['limit: too many connections or handshakes']);
  expect(proxy.connections()).toBe(2);
});

test('and in time', async () => {
  const { certificates } = await mockSide('a');
  const target = await startTarget();
  const proxy = await startTestServer(
    target.url,
    { certificates, appraiser: undefined },
    { handshakeTimeoutMs: 300 },
  );
  await once(idleAt(proxy), 'close');
  await vi.waitFor(() => expect(proxy.refused).toEqual([expect.stringMatching(/^tls: /u)]), 15_000);
});

test('a machine that cannot make quotes serves nobody, and says so', async () => {
  const target = await startTarget();
  const broken = await CertificateMaker.create(
    {},
    { quotes: { quote: () => Promise.reject(new Error('no device')) } },
  );
  onTestFinished(() => broken.close());
  const proxy = await startTestServer(target.url, { certificates: broken, appraiser: undefined });
  const socket = await dial(proxy);
  expect(socket.closed || socket.destroyed).toBe(true);
  expect(broken.ready).toBe(false);
  expect(proxy.refused).toEqual(['certificate: no device']);
});
