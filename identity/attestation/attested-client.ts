/**
 * The client side of attested TLS: connects, proves what it must, appraises the server, and only then gives the
 * socket out.
 *
 * The nonce travels as the server name and is new for every connection, so a certificate made for one connection is
 * worth nothing on the next. A client certificate bound to the server's nonce cannot be made here: the server's nonce
 * comes in the middle of the handshake, and Node's TLS asks nobody for a certificate then. This side shows one of the
 * newer scheme and binds it to the connection (binding.ts).
 */
import { randomBytes } from 'node:crypto';
import { connect as connectTcp, isIP } from 'node:net';
import { type ConnectionOptions, connect, type TLSSocket } from 'node:tls';
import { type AppraisalRefusal, type Appraiser, type Attestation, isRefused } from './appraiser.ts';
import type { AttestedCertificate, CertificateMaker } from './attested-certificate.ts';
import { BINDING_ALPN, BINDING_PATH, connectionReportData } from './binding.ts';
import { readCertificateEvidence } from './certificate-evidence.ts';
import type { QuoteSource } from './quote-source.ts';

/** How the server is known: by its quote, by certificate authorities, or not at all. */
export type ServerTrust =
  | { readonly by: 'attestation'; readonly appraiser: Appraiser }
  | { readonly by: 'authorities'; readonly ca: string | undefined }
  | { readonly by: 'nothing' };

export interface AttestedClientOptions {
  readonly host: string;
  readonly port: number;
  /** From the first packet to a socket that may be used, in milliseconds. */
  readonly timeoutMs: number;
}

export interface AttestedClientModules {
  readonly trust: ServerTrust;
  /** What this side shows of itself; undefined shows nothing. */
  readonly own: { readonly certificates: CertificateMaker; readonly quotes: QuoteSource } | undefined;
  /** Unix milliseconds. */
  readonly now?: (() => number) | undefined;
}

export interface AttestedConnection {
  readonly socket: TLSSocket;
  /** Undefined when the server is not known by its quote. */
  readonly attestation: Attestation | undefined;
}

/** The server, or what it thinks of this side, is not good enough. */
export class AttestationError extends Error {
  override readonly name = 'AttestationError';
  readonly refused: string;

  constructor({ refused, reason }: AppraisalRefusal | { refused: 'tls'; reason: string }) {
    super(`${refused}: ${reason}`);
    this.refused = refused;
  }
}

const NONCE_BYTES = 32;
/** The answer to the binding: a status line and a few headers. */
const MAX_ANSWER_BYTES = 8_192;

/**
 * @throws AttestationError when a side refuses the other; Error when the server cannot be reached or takes too long
 */
export async function connectAttested(
  options: AttestedClientOptions,
  modules: AttestedClientModules,
): Promise<AttestedConnection> {
  const { trust, own } = modules;
  const certificate = await own?.certificates.standing();
  const nonce = randomBytes(NONCE_BYTES);
  const tcp = connectTcp({ host: options.host, port: options.port, noDelay: true });
  const socket = connect({ socket: tcp, ...tlsOptions(options, trust, nonce, certificate) });
  const timer = setTimeout(() => {
    socket.destroy(new Error(`no attested connection within ${options.timeoutMs} ms`));
  }, options.timeoutMs);
  const fault = faultOf(socket);
  try {
    await Promise.race([fault, secured(socket)]);
    let attestation: Attestation | undefined;
    if (trust.by === 'attestation') {
      attestation = await Promise.race([
        fault,
        appraise(socket, nonce, trust.appraiser, modules.now ?? Date.now),
      ]);
    }
    if (own !== undefined && certificate !== undefined && socket.alpnProtocol === BINDING_ALPN) {
      await Promise.race([fault, bind(socket, certificate, own.quotes, options.host)]);
    }
    return { socket, attestation };
  } catch (error) {
    socket.destroy();
    throw error;
  } finally {
    clearTimeout(timer);
  }
}

function tlsOptions(
  { host }: AttestedClientOptions,
  trust: ServerTrust,
  nonce: Buffer,
  certificate: AttestedCertificate | undefined,
): ConnectionOptions {
  const shown = certificate === undefined ? {} : { cert: certificate.cert, key: certificate.key };
  const common = {
    ...shown,
    minVersion: 'TLSv1.2',
    ALPNProtocols: [...(certificate === undefined ? [] : [BINDING_ALPN]), 'http/1.1'],
  } as const;
  if (trust.by !== 'authorities') {
    // Attested or not, the certificate is self-signed; the nonce of a side that does not check costs nothing.
    return { ...common, servername: nonce.toString('base64'), rejectUnauthorized: false };
  }
  return {
    ...common,
    host,
    ...(isIP(host) === 0 ? { servername: host } : {}),
    ...(trust.ca === undefined ? {} : { ca: trust.ca }),
    rejectUnauthorized: true,
  };
}

/** Rejects when the connection ends; never resolves. */
function faultOf(socket: TLSSocket): Promise<never> {
  const { promise, reject } = Promise.withResolvers<never>();
  socket.on('error', reject);
  socket.once('close', () =>
    reject(new AttestationError({ refused: 'tls', reason: 'the server ended the connection' })),
  );
  // Handled also when nobody waits any more.
  promise.catch(() => undefined);
  return promise;
}

function secured(socket: TLSSocket): Promise<void> {
  return new Promise((resolve) => socket.once('secureConnect', resolve));
}

async function appraise(
  socket: TLSSocket,
  nonce: Buffer,
  appraiser: Appraiser,
  now: () => number,
): Promise<Attestation> {
  const certificate = socket.getPeerX509Certificate();
  if (certificate === undefined)
    throw new AttestationError({ refused: 'evidence', reason: 'there is no certificate' });
  const evidence = readCertificateEvidence(certificate.raw, nonce, now());
  if (typeof evidence === 'string') throw new AttestationError({ refused: 'evidence', reason: evidence });
  // A certificate of the newer scheme is not about this side's nonce: it could have been made for anybody.
  if (evidence.scheme !== 'nonce') {
    throw new AttestationError({
      refused: 'evidence',
      reason: 'the attestation answers no nonce of this side',
    });
  }
  const verdict = await appraiser.appraise(evidence.rawQuote, evidence.reportData);
  if (isRefused(verdict)) throw new AttestationError(verdict);
  return verdict;
}

/** The first request: the quote about this connection. Leaves the socket as it would be after any request. */
async function bind(
  socket: TLSSocket,
  certificate: AttestedCertificate,
  quotes: QuoteSource,
  host: string,
): Promise<void> {
  const quote = await quotes.quote(connectionReportData(socket, certificate.der));
  socket.write(
    `POST ${BINDING_PATH} HTTP/1.1\r\nHost: ${isIP(host) === 6 ? `[${host}]` : host}\r\n` +
      `Content-Type: application/octet-stream\r\nContent-Length: ${quote.length}\r\n\r\n`,
  );
  socket.write(quote);
  const status = await answerStatus(socket);
  if (status !== 204) {
    throw new AttestationError({
      refused: 'binding',
      reason: `the server answers the binding with ${status}`,
    });
  }
}

/** Reads one answer, which has no body when it is good; the server says nothing more unasked. */
async function answerStatus(socket: TLSSocket): Promise<number> {
  let text = '';
  for (;;) {
    const chunk: Buffer | null = socket.read();
    if (chunk !== null) text += chunk.toString('latin1');
    if (text.includes('\r\n\r\n')) return Number(/^HTTP\/1\.1 (\d{3})/u.exec(text)?.[1] ?? 0);
    if (text.length > MAX_ANSWER_BYTES) {
      throw new AttestationError({
        refused: 'binding',
        reason: 'the server answers the binding with too much',
      });
    }
    await new Promise((resolve) => socket.once('readable', resolve));
  }
}
