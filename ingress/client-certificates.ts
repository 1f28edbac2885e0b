/**
 * Client certificates on the system API (protocol section 5): one that is shown must be exactly one that
 * BuilderHub lists, else the connection is closed after one look at a fresh list. What a connection has
 * shown is kept with it; whether it fits the signer of an order is decided with each order.
 */
import type { Socket } from 'node:net';
import { certificateFingerprint } from '../identity/certificate.ts';
import { type ClientCertificateMode, checkClientCertificate } from '../identity/client-certificate.ts';
import type { PeerLookup } from '../identity/peer-table.ts';
import { Rejection } from '../pipeline/errors.ts';
import type { ShownCertificate } from '../pipeline/submission.ts';

const SHOWN = Symbol('client certificate');
type Marked = Socket & { [SHOWN]?: ShownCertificate };

export interface ClientCertificateModules {
  readonly peers: PeerLookup & { refresh(): Promise<void> };
  /** A connection was closed because of its certificate, or for want of one. */
  readonly refused: (reason: 'missing' | 'not listed') => void;
}

/** @returns what a server's `onSecureConnection` calls. */
export function clientCertificateGuard(mode: ClientCertificateMode, modules: ClientCertificateModules) {
  const { peers, refused } = modules;

  function keep(socket: Socket, fingerprint: string): boolean {
    const shown = checkClientCertificate(fingerprint, mode, peers);
    if (shown === undefined || shown instanceof Rejection) return false;
    (socket as Marked)[SHOWN] = shown;
    return true;
  }

  return (socket: Socket, certificate: Buffer | null): void => {
    if (certificate === null) {
      if (mode === 'request') return;
      refused('missing');
      socket.destroy();
      return;
    }
    const fingerprint = certificateFingerprint(certificate);
    // Requests that come before a fresh list is there must not pass for ones without a certificate.
    (socket as Marked)[SHOWN] = { fingerprint, owners: [] };
    if (keep(socket, fingerprint)) return;
    void peers.refresh().then(() => {
      if (keep(socket, fingerprint)) return;
      refused('not listed');
      socket.destroy();
    });
  };
}

/** @returns the client certificate that this connection has shown. */
export function certificateOf(socket: Socket): ShownCertificate | undefined {
  return (socket as Marked)[SHOWN];
}
