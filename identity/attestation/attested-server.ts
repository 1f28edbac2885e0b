/**
 * The server side of attested TLS: sockets come in, secured and appraised sockets come out.
 *
 * What it shows: to a client whose server name is base64, a certificate with a quote about that nonce (deployed
 * scheme); to every other client the standing one (newer scheme); or a given certificate. What it demands: nothing, or
 * a client certificate with a quote, about the nonce that it names as its only authority, or of the newer scheme, to
 * which a binding to the connection must follow (binding.ts).
 *
 * A nonce is used for one connection. Bounded: connections, handshakes at a time, time of a handshake.
 */
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { createServer, type Server, type Socket } from 'node:net';
import { createServer as createTlsServer, type SecureContext, type TLSSocket } from 'node:tls';
import { type AppraisalRefusal, type Appraiser, type Attestation, isRefused } from './appraiser.ts';
import {
  type CertificateMaker,
  NonceAuthority,
  secureContext,
  type TlsCredentials,
} from './attested-certificate.ts';
import { BINDING_ALPN, Binding } from './binding.ts';
import { decodeBase64, readCertificateEvidence } from './certificate-evidence.ts';

export interface AttestedServerOptions {
  readonly listen: { readonly host: string; readonly port: number };
  /** Protocols of the application, most wanted first. */
  readonly alpn: readonly string[];
  readonly maxConnections: number;
  readonly maxHandshakes: number;
  /** From the TCP connection to the verdict, in milliseconds. */
  readonly handshakeTimeoutMs: number;
}

/** The other side of a connection. */
export interface Peer {
  /** What it has proven; undefined when nothing was demanded. */
  readonly attestation: Attestation | undefined;
  /** What is still open; undefined when nothing is. Until then nothing of this connection may be believed. */
  readonly binding: Binding | undefined;
}

export interface AttestedServerEvents {
  handshake?(milliseconds: number, attested: boolean): void;
  /** `certificate`: no certificate could be made for the client; `tls`: the handshake failed. */
  refused?(
    reason: AppraisalRefusal | { readonly refused: 'certificate' | 'tls' | 'limit'; readonly reason: string },
  ): void;
  /** A defect of this program; the connection it met has been ended. */
  fault?(error: unknown): void;
}

export interface AttestedServerModules {
  /** Certificates with quotes, or a given one. */
  readonly certificates: CertificateMaker | (() => TlsCredentials);
  /** Demands and appraises client certificates; undefined demands none. */
  readonly appraiser: Appraiser | undefined;
  readonly onConnection: (socket: TLSSocket, peer: Peer) => void;
  readonly events?: AttestedServerEvents | undefined;
  /** Unix milliseconds. */
  readonly now?: (() => number) | undefined;
}

export interface AttestedServer {
  readonly address: { readonly host: string; readonly port: number };
  readonly connections: number;
  stopAccepting(): void;
  /** Ends all connections. */
  close(): Promise<void>;
}

const NONCE_BYTES = 32;
/** A server name of base64 has at most 255 characters; nonces in the field have 32 bytes. */
const MAX_NONCE_BYTES = 64;
const NO_PEER: Peer = { attestation: undefined, binding: undefined };

/** @throws Error when the address cannot be listened on */
export async function listenAttested(
  options: AttestedServerOptions,
  modules: AttestedServerModules,
): Promise<AttestedServer> {
  const authority = await NonceAuthority.create();
  const open = new Set<Socket>();
  let handshakes = 0;
  const server = createServer({ noDelay: true }, (socket) => {
    socket.on('error', () => undefined);
    if (open.size >= options.maxConnections || handshakes >= options.maxHandshakes) {
      modules.events?.refused?.({ refused: 'limit', reason: 'too many connections or handshakes' });
      socket.destroy();
      return;
    }
    open.add(socket);
    socket.once('close', () => open.delete(socket));
    handshakes++;
    secure(socket, authority, options, modules)
      .catch((error: unknown) => {
        modules.events?.fault?.(error);
        socket.destroy();
      })
      .finally(() => handshakes--);
  });
  await listen(server, options.listen);
  const address = server.address();
  const port = typeof address === 'object' && address !== null ? address.port : options.listen.port;
  return {
    address: { host: options.listen.host, port },
    get connections() {
      return open.size;
    },
    stopAccepting() {
      server.close();
    },
    async close() {
      const closed = server.listening ? once(server, 'close') : undefined;
      server.close();
      for (const socket of open) socket.destroy();
      await closed;
    },
  };
}

async function listen(server: Server, { host, port }: AttestedServerOptions['listen']): Promise<void> {
  server.listen(port, host);
  await once(server, 'listening');
}

/** From a socket to a verdict. Ends the socket when the verdict is no. */
async function secure(
  socket: Socket,
  authority: NonceAuthority,
  options: AttestedServerOptions,
  modules: AttestedServerModules,
): Promise<void> {
  const { appraiser, events } = modules;
  const started = performance.now();
  const timer = setTimeout(
    () => socket.destroy(new Error('the handshake took too long')),
    options.handshakeTimeoutMs,
  );
  try {
    const nonce = randomBytes(NONCE_BYTES);
    const ca = appraiser === undefined ? undefined : await authority.certificate(nonce);
    const tls = await handshake(socket, ca, options, modules);
    if (tls === undefined) return;
    const peer =
      appraiser === undefined ? NO_PEER : await appraise(tls, nonce, appraiser, modules.now ?? Date.now);
    if ('refused' in peer) {
      events?.refused?.(peer);
      tls.destroy();
      return;
    }
    if (tls.destroyed) return;
    events?.handshake?.(performance.now() - started, peer.attestation !== undefined);
    modules.onConnection(tls, peer);
  } finally {
    clearTimeout(timer);
  }
}

/** @returns undefined when it failed, which has been reported */
async function handshake(
  socket: Socket,
  ca: string | undefined,
  options: AttestedServerOptions,
  { certificates, appraiser, events }: AttestedServerModules,
): Promise<TLSSocket | undefined> {
  let standing: TlsCredentials;
  try {
    standing = typeof certificates === 'function' ? certificates() : await certificates.standing();
  } catch (error) {
    events?.refused?.({ refused: 'certificate', reason: messageOf(error) });
    socket.destroy();
    return undefined;
  }
  const answerName = async (
    name: string,
    done: (error: Error | null, context?: SecureContext) => void,
  ): Promise<void> => {
    const nonce = typeof certificates === 'function' ? undefined : decodeBase64(name, MAX_NONCE_BYTES);
    if (nonce === undefined || typeof certificates === 'function') {
      done(null);
      return;
    }
    let context: SecureContext;
    try {
      context = secureContext(await certificates.forNonce(nonce), ca);
    } catch (error) {
      events?.refused?.({ refused: 'certificate', reason: messageOf(error) });
      done(new Error('no certificate'));
      return;
    }
    done(null, context);
  };
  // A server for one connection: what it shows and asks for is different for each.
  const acceptor = createTlsServer({
    cert: standing.cert,
    key: standing.key,
    ...(ca === undefined ? {} : { ca }),
    minVersion: 'TLSv1.2',
    SNICallback: (name, done) => void answerName(name, done),
    ALPNProtocols: appraiser === undefined ? [...options.alpn] : [BINDING_ALPN, ...options.alpn],
    requestCert: appraiser !== undefined,
    // The certificate is self-signed: the appraiser judges it.
    rejectUnauthorized: false,
    handshakeTimeout: options.handshakeTimeoutMs,
  });
  const { promise, resolve } = Promise.withResolvers<TLSSocket | string>();
  acceptor.once('secureConnection', resolve);
  acceptor.once('tlsClientError', (error) => resolve(error.message));
  socket.once('close', () => resolve('the connection was closed'));
  acceptor.emit('connection', socket);
  const secured = await promise;
  if (typeof secured !== 'string') {
    secured.on('error', () => undefined);
    return secured;
  }
  events?.refused?.({ refused: 'tls', reason: secured });
  socket.destroy();
  return undefined;
}

async function appraise(
  tls: TLSSocket,
  nonce: Buffer,
  appraiser: Appraiser,
  now: () => number,
): Promise<Peer | AppraisalRefusal | { readonly refused: 'tls'; readonly reason: string }> {
  const certificate = tls.getPeerX509Certificate();
  if (certificate === undefined) return { refused: 'evidence', reason: 'the client shows no certificate' };
  const evidence = readCertificateEvidence(certificate.raw, nonce, now());
  if (typeof evidence === 'string') return { refused: 'evidence', reason: evidence };
  const attestation = await appraiser.appraise(evidence.rawQuote, evidence.reportData);
  if (isRefused(attestation)) return attestation;
  if (evidence.scheme === 'nonce') return { attestation, binding: undefined };
  // While it was appraised the client may have gone, and with it the exporter.
  if (tls.destroyed) return { refused: 'tls', reason: 'the connection was closed' };
  // Only from TLS 1.3 on is the exporter tied to the whole handshake.
  if (tls.getProtocol() !== 'TLSv1.3') return { refused: 'binding', reason: 'the connection is not TLS 1.3' };
  return { attestation, binding: new Binding(tls, certificate.raw, appraiser) };
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
