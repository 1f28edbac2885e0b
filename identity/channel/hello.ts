/**
 * The hello's signature: each side signs, with its orderflow key, what no other connection has. That is the TLS
 * exporter value (RFC 8446 section 7.5) and both certificates, which the exporter of TLS 1.3 does not cover on the
 * client's side. So a hello proves the key for this very connection, cannot be replayed on another, and cannot be
 * passed on by somebody in the middle; the orders that follow need no signature of their own.
 *
 * The signed text begins with words that no request begins with, so it never is the signature of an order.
 */
import { createHash } from 'node:crypto';
import type { TLSSocket } from 'node:tls';
import { Rejection } from '../../pipeline/errors.ts';
import type { Address } from '../../pipeline/order.ts';
import type { CloseReason } from '../../pipeline/stream/close-reasons.ts';
import { encodeHelloFields, type Hello, type HelloFields } from '../../pipeline/stream/frames.ts';
import type { SignatureVerifier, Signer } from '../signature.ts';

/** ALPN name (RFC 7301); a change that old nodes cannot read gets another number. */
export const STREAM_PROTOCOL = 'orderflow-stream/1';

const EXPORTER_LABEL = 'EXPORTER-orderflow-stream-1';
const EXPORTER_BYTES = 32;
const PREFIX = 'orderflow-stream/1 hello ';

/** `client` opened the connection and sends the orders. */
export type ChannelRole = 'client' | 'server';

/** What is the same for both sides of one connection and for no other. */
export interface ChannelBinding {
  /** 32 bytes. */
  readonly exporter: Buffer;
  /** DER of the certificates shown. */
  readonly clientCertificate: Buffer;
  readonly serverCertificate: Buffer;
}

export type NoBinding = Extract<CloseReason, 'tls_version' | 'resumed' | 'certificate_missing'>;

/**
 * @param role of this side
 * @returns why there is none: not TLS 1.3, a session of an earlier connection (whose client need not hold the key of
 *   its certificate any longer), or a side without a certificate
 */
export function channelBinding(socket: TLSSocket, role: ChannelRole): ChannelBinding | NoBinding {
  if (socket.getProtocol() !== 'TLSv1.3') return 'tls_version';
  if (socket.isSessionReused()) return 'resumed';
  const own = socket.getX509Certificate()?.raw;
  const other = socket.getPeerX509Certificate()?.raw;
  if (own === undefined || other === undefined) return 'certificate_missing';
  return {
    exporter: socket.exportKeyingMaterial(EXPORTER_BYTES, EXPORTER_LABEL, Buffer.alloc(0)),
    clientCertificate: role === 'client' ? own : other,
    serverCertificate: role === 'client' ? other : own,
  };
}

/**
 * The bytes that are signed, as the body of a request is (protocol section 3).
 *
 * @param role of the signing side
 * @param address 20 bytes, of the signing side
 */
export function helloTranscript(
  binding: ChannelBinding,
  role: ChannelRole,
  fields: HelloFields,
  address: Buffer,
): Buffer {
  return Buffer.concat([
    Buffer.from(`${PREFIX}${role}\n`),
    binding.exporter,
    sha256(binding.clientCertificate),
    sha256(binding.serverCertificate),
    encodeHelloFields(fields),
    address,
  ]);
}

function sha256(bytes: Buffer): Buffer {
  return createHash('sha256').update(bytes).digest();
}

/** Makes this side's hello. */
export function signHello(
  binding: ChannelBinding,
  role: ChannelRole,
  fields: HelloFields,
  signer: Signer,
): Hello {
  const address = Buffer.from(signer.addressLower.slice(2), 'hex');
  const header = signer.sign(helloTranscript(binding, role, fields, address));
  const signature = Buffer.from(header.slice(header.indexOf(':') + 3), 'hex');
  return { ...fields, address, signature };
}

/**
 * Checks the other side's hello.
 *
 * @param role of the other side
 * @returns the account it proves, or null
 */
export function verifyHello(
  binding: ChannelBinding,
  role: ChannelRole,
  hello: Hello,
  verifier: SignatureVerifier,
): Address | null {
  const transcript = helloTranscript(binding, role, hello, hello.address);
  const header = `0x${hello.address.toString('hex')}:0x${hello.signature.toString('hex')}`;
  const signer = verifier.verify(header, transcript);
  return signer instanceof Rejection ? null : signer;
}
