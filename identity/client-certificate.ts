/**
 * Who is on the other side of the system API, by the certificate that a connection showed and by the signature of
 * an order (protocol section 5). Pure decisions: the connections are the ingress's.
 *
 * v1 nodes and Flashbots' sender show no certificate, so one is only asked for (`request`): then the signature
 * alone proves the peer. In a network of our nodes only it can be demanded (`require`).
 */
import { Rejection } from '../pipeline/errors.ts';
import type { Address } from '../pipeline/order.ts';
import type { ShownCertificate } from '../pipeline/submission.ts';
import type { Peer } from './peer.ts';
import type { PeerLookup } from './peer-table.ts';

export type ClientCertificateMode = 'request' | 'require';

/** Metric label and caller name of Flashbots' own signer. */
export const FLASHBOTS = 'flashbots';

/**
 * Decides about a new connection by the certificate it showed.
 *
 * @param fingerprint `certificateFingerprint` of the certificate, undefined when none was shown
 * @returns what `callerOf` needs to know of the connection; undefined when no certificate was shown and none is
 *   needed; or why the connection is refused. Before an unlisted certificate is refused, one `registry.refresh()`
 *   and a second look are due, as the peer may be new.
 */
export function checkClientCertificate(
  fingerprint: string | undefined,
  mode: ClientCertificateMode,
  peers: PeerLookup,
): ShownCertificate | undefined | Rejection {
  if (fingerprint === undefined) return mode === 'require' ? CERTIFICATE_MISSING : undefined;
  const owners = peers.byFingerprint(fingerprint);
  return owners.length === 0 ? CERTIFICATE_UNLISTED : { fingerprint, owners };
}

/**
 * Decides who sent an order: its signer must be a listed peer or Flashbots, and where the connection showed a
 * certificate, signer and certificate must stand in one hub entry. A connection outlives the renewal of the
 * certificate it showed, but not the removal of its entry from the list.
 *
 * @param signer of the request, in lower case
 * @param shown what `checkClientCertificate` gave for the connection
 * @param flashbotsSigner in lower case
 * @returns the hub's name of the peer, or `flashbots`; or why the order is refused. Before that is answered, one
 *   `registry.refresh()` and a second look are due.
 */
export function callerOf(
  signer: Address,
  shown: ShownCertificate | undefined,
  peers: PeerLookup,
  flashbotsSigner: Address | undefined,
): string | Rejection {
  if (shown === undefined) {
    return signer === flashbotsSigner ? FLASHBOTS : (peers.byAddress(signer)[0]?.name ?? UNKNOWN_PEER);
  }
  for (const peer of peers.byAddress(signer)) {
    if (peer.fingerprint === shown.fingerprint || wasListed(peer, shown.owners)) return peer.name;
  }
  return CERTIFICATE_OF_ANOTHER;
}

/** Did this entry, with the same key, list the certificate when the connection was made? */
function wasListed({ name, address }: Peer, owners: ShownCertificate['owners']): boolean {
  return owners.some((owner) => owner.name === name && owner.address === address);
}

// Made once: refusals are values and do not change.
const CERTIFICATE_MISSING = new Rejection('client_certificate', 'a client certificate is required');
const CERTIFICATE_UNLISTED = new Rejection(
  'client_certificate',
  'the client certificate is not one of a listed peer',
);
const CERTIFICATE_OF_ANOTHER = new Rejection(
  'client_certificate',
  "the client certificate does not belong to the order's signer",
);
const UNKNOWN_PEER = new Rejection('unknown_peer', "unknown peers can't send to the system address");
