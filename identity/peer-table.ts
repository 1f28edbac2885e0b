/**
 * The peers a node has now, found by the address that signs their orders and by the certificate they show. Pure
 * memory: where the list comes from is the registry's affair.
 *
 * Limits: one address or one certificate may be claimed by several entries; all of them are given.
 */
import type { Address } from '../pipeline/order.ts';
import { type Peer, samePeer } from './peer.ts';

/** What one list changed. Unchanged peers are the same objects as before. */
export interface PeerChanges {
  readonly added: readonly Peer[];
  readonly removed: readonly Peer[];
  /** The same name with another address, host, port or certificate. */
  readonly changed: readonly { readonly before: Peer; readonly after: Peer }[];
  readonly unchanged: readonly Peer[];
}

/** Finding peers, as the system API needs it. */
export interface PeerLookup {
  /** @param address in lower case */
  byAddress(address: Address): readonly Peer[];
  /** @param fingerprint SHA-256 of a certificate, 64 lower-case hex digits */
  byFingerprint(fingerprint: string): readonly Peer[];
}

const NONE: readonly Peer[] = Object.freeze([]);

export class PeerTable implements PeerLookup {
  #peers: readonly Peer[] = NONE;
  #byAddress = new Map<Address, Peer[]>();
  #byFingerprint = new Map<string, Peer[]>();

  /** All of them, in a fixed order. */
  get peers(): readonly Peer[] {
    return this.#peers;
  }

  byAddress(address: Address): readonly Peer[] {
    return this.#byAddress.get(address) ?? NONE;
  }

  byFingerprint(fingerprint: string): readonly Peer[] {
    return this.#byFingerprint.get(fingerprint) ?? NONE;
  }

  /**
   * Puts a new list in place of the old.
   *
   * @param next in a fixed order, without repetitions
   */
  replace(next: readonly Peer[]): PeerChanges {
    const before = new Map<string, Peer[]>();
    for (const peer of this.#peers) pushTo(before, peer.name, peer);

    const unchanged: Peer[] = [];
    const fresh: Peer[] = [];
    const peers = next.map((peer) => {
      const same = take(before.get(peer.name), (candidate) => samePeer(candidate, peer));
      if (same === undefined) fresh.push(peer);
      else unchanged.push(same);
      return same ?? peer;
    });

    const added: Peer[] = [];
    const changed: { before: Peer; after: Peer }[] = [];
    for (const peer of fresh) {
      const former = before.get(peer.name)?.shift();
      if (former === undefined) added.push(peer);
      else changed.push({ before: former, after: peer });
    }
    this.#index(peers);
    return { added, removed: [...before.values()].flat(), changed, unchanged };
  }

  #index(peers: readonly Peer[]): void {
    const byAddress = new Map<Address, Peer[]>();
    const byFingerprint = new Map<string, Peer[]>();
    for (const peer of peers) {
      pushTo(byAddress, peer.address, peer);
      if (peer.fingerprint !== undefined) pushTo(byFingerprint, peer.fingerprint, peer);
    }
    this.#peers = peers;
    this.#byAddress = byAddress;
    this.#byFingerprint = byFingerprint;
  }
}

function pushTo<K>(map: Map<K, Peer[]>, key: K, peer: Peer): void {
  const list = map.get(key);
  if (list === undefined) map.set(key, [peer]);
  else list.push(peer);
}

/** Removes the first peer that fits. */
function take(peers: Peer[] | undefined, fits: (peer: Peer) => boolean): Peer | undefined {
  const index = peers?.findIndex(fits) ?? -1;
  return index < 0 ? undefined : peers?.splice(index, 1)[0];
}
