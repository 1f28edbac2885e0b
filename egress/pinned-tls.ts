/**
 * TLS to a peer, trusting exactly one certificate: the one BuilderHub lists (protocol section 6). The
 * handshake proves that the server holds its key, and before a byte of an order is written the
 * certificate shown is compared with the listed one byte for byte.
 *
 * Node's own verification is off because the pin is stricter than it: an authority, a validity period or a
 * name could only let in a certificate that is not the listed one, or keep out the one that is.
 * No session is resumed, so every connection carries the proof anew.
 */
import type { OnReadOpts, Socket } from 'node:net';
import tls from 'node:tls';
import type { Dialler } from './pipelined-connection.ts';

/** Where a peer's system API is, and who it must be. */
export interface PinnedServer {
  /** DNS name or IP address; IPv6 with or without brackets. */
  readonly host: string;
  readonly port: number;
  /** SNI; undefined for an IP (RFC 6066 section 3 knows names only). */
  readonly servername: string | undefined;
  /** DER of the listed certificate. */
  readonly certificate: Buffer;
}

/** Our own certificate (chain) and key, PEM. */
export interface TlsIdentity {
  readonly cert: string;
  readonly key: string;
}

/**
 * Our certificate as the client's, ready for handshakes. A renewed one counts for connections made from
 * then on; the key is parsed once, not per connection.
 */
export class ClientIdentity {
  readonly #current: () => TlsIdentity | undefined;
  #identity: TlsIdentity | undefined = undefined;
  #context: tls.SecureContext | null = null;

  /** @param current gives undefined for a client that shows no certificate */
  constructor(current: () => TlsIdentity | undefined) {
    this.#current = current;
  }

  /** Throws when the certificate or key does not parse. */
  context(): tls.SecureContext {
    const identity = this.#current();
    if (
      this.#context === null ||
      this.#identity?.cert !== identity?.cert ||
      this.#identity?.key !== identity?.key
    ) {
      this.#context = tls.createSecureContext({ ...identity, minVersion: 'TLSv1.2' });
      this.#identity = identity;
    }
    return this.#context;
  }
}

/** A dialler whose sockets speak TLS. */
export interface TlsDialler extends Dialler {
  dial(onread?: OnReadOpts): tls.TLSSocket;
}

/**
 * @param onMismatch the server showed another certificate than the listed one
 * @param protocols offered by ALPN, the most wanted first
 */
export function pinnedTlsDialler(
  server: PinnedServer,
  identity: ClientIdentity,
  onMismatch: () => void,
  protocols: readonly string[] = ['http/1.1'],
): TlsDialler {
  const host = server.host.replace(/^\[(.*)\]$/, '$1');
  return {
    readyEvent: 'secureConnect',
    dial: (onread) =>
      tls.connect({
        host,
        port: server.port,
        ...(server.servername === undefined ? {} : { servername: server.servername }),
        secureContext: identity.context(),
        ALPNProtocols: [...protocols],
        rejectUnauthorized: false,
        ...(onread === undefined ? {} : { onread }),
      }),
    refuse: (socket: Socket) => {
      const shown = socket instanceof tls.TLSSocket ? socket.getPeerX509Certificate()?.raw : undefined;
      if (shown?.equals(server.certificate)) return null;
      onMismatch();
      return 'certificate_mismatch';
    },
  };
}
