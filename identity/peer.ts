/** What a node knows of a peer: one entry of the hub's list, decoded. Protocol section 6. */
import type { Address } from '../pipeline/order.ts';

interface ListedPeer {
  /** The hub's name for it, printable and at most 100 characters: fit for a metric label. */
  readonly name: string;
  /** Signs the orders that come from this peer. */
  readonly address: Address;
}

/** A peer with a place to send orders to and the certificate that proves it is there. */
export interface SendablePeer extends ListedPeer {
  readonly sendable: true;
  /** A DNS name or an IP address (IPv6 without brackets), as `tls.connect({ host })` takes it. */
  readonly host: string;
  readonly port: number;
  /** The name to ask for (SNI): the DNS name, undefined for an IP address. */
  readonly servername: string | undefined;
  /** DER of the one certificate it may show. */
  readonly certificate: Buffer;
  /** SHA-256 of the certificate, 64 lower-case hex digits. */
  readonly fingerprint: string;
}

/** A peer that may send to us but cannot be sent to. */
interface ReceiveOnlyPeer extends ListedPeer {
  readonly sendable: false;
  /** Why it cannot be sent to, in words without anything from the hub's list. */
  readonly reason: string;
  readonly host: string | undefined;
  readonly port: number | undefined;
  readonly servername: string | undefined;
  readonly certificate: Buffer | undefined;
  readonly fingerprint: string | undefined;
}

export type Peer = SendablePeer | ReceiveOnlyPeer;

/** @returns whether two entries say the same, so that nothing of the peer needs to be touched */
export function samePeer(a: Peer, b: Peer): boolean {
  return a === b || (comparePeers(a, b) === 0 && a.sendable === b.sendable);
}

/** A fixed order, as the hub sends its list in another one each time: by name, then by everything else. */
export function comparePeers(a: Peer, b: Peer): number {
  return (
    compare(a.name, b.name) ||
    compare(a.address, b.address) ||
    compare(a.host, b.host) ||
    compare(a.port, b.port) ||
    compare(a.fingerprint, b.fingerprint)
  );
}

function compare<T extends string | number>(a: T | undefined, b: T | undefined): number {
  if (a === b) return 0;
  if (a === undefined) return -1;
  if (b === undefined) return 1;
  return a < b ? -1 : 1;
}
