/**
 * The peers: every order given here goes to every peer of the list, over the order stream (ingress/stream/PROTOCOL.md)
 * where the peer speaks it, else as v1 JSON-RPC over TLS (protocol sections 5 and 6). Each peer has its own connections and queue, so nobody waits for a neighbour.
 *
 * An order is signed once, when the first peer without a stream can take it, and made a record once for all streams;
 * its bytes are shared by all peers.
 * Connections: one is kept open per peer, up to ten under load, because a peer answers a connection in order.
 * An order lives 45 s: a peer learns of a new node at its next poll, up to 30 s later, and until then refuses.
 */
import { isIPv6 } from 'node:net';
import { STREAM_PROTOCOL } from '../identity/channel/hello.ts';
import { type Clock, createClock } from '../pipeline/clock.ts';
import { keccak256Hex } from '../pipeline/keccak.ts';
import type { Address, AdmittedOrder } from '../pipeline/order.ts';
import { encodeRecord } from '../pipeline/stream/record.ts';
import type { DeliveryEvents, OutgoingRequest, TargetState } from './delivery.ts';
import { QueueAllowance } from './delivery-queue.ts';
import { ClientIdentity, type PinnedServer, pinnedTlsDialler, type TlsIdentity } from './pinned-tls.ts';
import type { StreamModules } from './stream/stream-carrier.ts';
import { Target, type TargetAddress, type TargetOptions } from './target.ts';
import { mergeTargetOptions } from './target-options.ts';

/** A node of the hub list that orders can be sent to. */
export interface PeerTarget extends PinnedServer {
  /** Hub name: unique in the list, and the peer's label in metrics. */
  readonly name: string;
  /** The account that signs for it. */
  readonly address: Address;
  /** SHA-256 of the certificate, lower-case hex without colons. */
  readonly fingerprint: string;
}

/** Signs orders as this node. */
export interface OrderSigner {
  /**
   * @param canonicalHash keccak256 of the canonical bytes, 64 hex digits
   * @returns value of `X-Flashbots-Signature` (protocol section 3)
   */
  signHash(canonicalHash: string): string;
}

/** What is reported about the peers; a target is named by its hub name. */
export type PeerEvents = DeliveryEvents;

export interface PeersOptions extends Partial<Omit<TargetOptions, 'connections'>> {
  readonly connectionsPerPeer?: number;
  /** Most bytes in the queues of all peers together, beside a megabyte that each may have; no bound unless set. */
  readonly queuesBytes?: number;
  /** How long a peer that left the list is given to answer what it has been sent, in milliseconds. */
  readonly removalFlushMs?: number;
}

export interface PeersModules {
  readonly signer: OrderSigner;
  /** Asked for each new connection; undefined for a client that shows no certificate (Flashbots' sender). */
  readonly tlsIdentity: () => TlsIdentity | undefined;
  readonly events: PeerEvents;
  /** A peer showed another certificate than the listed one: the list may be old. */
  readonly onCertificateMismatch?: (peerName: string) => void;
  /** With it peers are asked for the order stream; it needs a certificate of ours. */
  readonly stream?: Omit<StreamModules, 'isPeer'> | undefined;
  readonly now?: Clock;
}

export interface Peers {
  /**
   * Makes the list the peers. One that did not change keeps its connections and queue; one with another
   * address or certificate is connected anew and keeps its queue; one that is gone is flushed and closed.
   */
  update(peers: readonly PeerTarget[]): void;
  /** Sends an order to every peer, or queues it there. Its fates are told through the events. */
  send(admitted: AdmittedOrder): void;
  /** What is sent from now on leaves together, with `uncork`. */
  cork(): void;
  uncork(): void;
  /** One per peer of the list. */
  state(): TargetState[];
  /** Waits at most so long until all peers have answered all orders; the rest is dropped (`shutdown`). */
  close(deadlineMs: number): Promise<void>;
}

const DEFAULTS = { connections: 10, warmConnections: 1, queueAgeMs: 45_000 };
const REMOVAL_FLUSH_MS = 2_000;
/** Of each peer's queue, whatever the others hold: 150 orders of the mean. */
export const QUEUE_RESERVE_BYTES = 1024 * 1024;

/** Starts with no peers. */
export function createPeers(options: PeersOptions, modules: PeersModules): Peers {
  return new PeerSet(options, modules);
}

interface Member {
  readonly peer: PeerTarget;
  readonly target: Target;
}

class PeerSet implements Peers {
  readonly #options: TargetOptions;
  readonly #removalFlushMs: number;
  readonly #modules: PeersModules;
  readonly #now: Clock;
  readonly #identity: ClientIdentity;
  readonly #allowance: QueueAllowance;
  #members = new Map<string, Member>();
  /** The members' targets, for the walk over them with every order. */
  #targets: Target[] = [];
  /** Peers that left the list and are being flushed. */
  readonly #leaving = new Set<Target>();
  #closed = false;

  constructor(options: PeersOptions, modules: PeersModules) {
    const { connectionsPerPeer, queuesBytes, removalFlushMs, ...targetOptions } = options;
    this.#options = mergeTargetOptions(DEFAULTS, {
      ...targetOptions,
      ...(connectionsPerPeer === undefined ? {} : { connections: connectionsPerPeer }),
    });
    this.#removalFlushMs = removalFlushMs ?? REMOVAL_FLUSH_MS;
    this.#modules = modules;
    this.#now = modules.now ?? createClock();
    this.#identity = new ClientIdentity(modules.tlsIdentity);
    this.#allowance = new QueueAllowance(queuesBytes ?? Number.POSITIVE_INFINITY, QUEUE_RESERVE_BYTES);
  }

  update(peers: readonly PeerTarget[]): void {
    if (this.#closed) return;
    const members = new Map<string, Member>();
    for (const peer of peers) {
      if (members.has(peer.name)) continue;
      members.set(peer.name, this.#join(peer, this.#members.get(peer.name)));
    }
    for (const [name, member] of this.#members) if (!members.has(name)) this.#leave(member.target);
    this.#members = members;
    this.#targets = [...members.values()].map((member) => member.target);
  }

  send(admitted: AdmittedOrder): void {
    if (this.#targets.length === 0) return;
    const request = new PeerRequest(admitted, this.#modules.signer);
    for (const target of this.#targets) target.send(request);
  }

  cork(): void {
    for (const target of this.#targets) target.cork();
  }

  uncork(): void {
    for (const target of this.#targets) target.uncork();
  }

  state(): TargetState[] {
    return this.#targets.map((target) => target.state());
  }

  async close(deadlineMs: number): Promise<void> {
    this.#closed = true;
    await Promise.all([...this.#targets, ...this.#leaving].map((target) => target.close(deadlineMs)));
  }

  #join(peer: PeerTarget, known: Member | undefined): Member {
    if (known === undefined) {
      const { events, stream } = this.#modules;
      const target = new Target(peer.name, this.#address(peer), this.#options, {
        events,
        now: this.#now,
        allowance: this.#allowance,
        stream:
          stream === undefined
            ? undefined
            : { ...stream, isPeer: (address) => this.#signs(peer.name, address) },
      });
      return { peer, target };
    }
    this.#move(known, peer);
    return { peer, target: known.target };
  }

  /** Another account matters to streams alone, on which the former one was proven. */
  #move({ peer: before, target }: Member, peer: PeerTarget): void {
    const same = isSameServer(peer, before);
    if (same && peer.address === before.address) return;
    const address = this.#address(peer);
    if (!same) target.replace(address);
    else if (address.stream !== undefined) target.replaceStream(address.stream);
  }

  #leave(target: Target): void {
    this.#leaving.add(target);
    void target.retire(this.#removalFlushMs).finally(() => this.#leaving.delete(target));
  }

  /** Is it the account that signs for the peer, by the list of now? */
  #signs(name: string, address: Address): boolean {
    return this.#members.get(name)?.peer.address === address;
  }

  #address(peer: PeerTarget): TargetAddress {
    const onMismatch = () => this.#modules.onCertificateMismatch?.(peer.name);
    return {
      headStart: `POST / HTTP/1.1\r\nHost: ${hostHeader(peer)}\r\nContent-Type: application/json\r\n`,
      dialler: pinnedTlsDialler(peer, this.#identity, onMismatch),
      // A server without the stream agrees on HTTP, which says so without an error.
      ...(this.#modules.stream === undefined
        ? {}
        : { stream: pinnedTlsDialler(peer, this.#identity, onMismatch, [STREAM_PROTOCOL, 'http/1.1']) }),
    };
  }
}

function hostHeader(peer: PeerTarget): string {
  return `${isIPv6(peer.host) ? `[${peer.host}]` : peer.host}:${peer.port}`;
}

/** Is it reached at the same place with the same certificate? */
function isSameServer(a: PeerTarget, b: PeerTarget): boolean {
  return (
    a.host === b.host &&
    a.port === b.port &&
    a.servername === b.servername &&
    a.certificate.equals(b.certificate)
  );
}

class PeerRequest implements OutgoingRequest {
  readonly admitted: AdmittedOrder;
  readonly bornMs = performance.now();
  readonly #signer: OrderSigner;
  #headerEnd: string | null = null;
  #record: Buffer | null = null;

  constructor(admitted: AdmittedOrder, signer: OrderSigner) {
    this.admitted = admitted;
    this.#signer = signer;
  }

  headerEnd(): string {
    this.#headerEnd ??= this.#sign();
    return this.#headerEnd;
  }

  record(): Buffer {
    const { order } = this.admitted;
    this.#record ??= encodeRecord(order.method, order.canonical);
    return this.#record;
  }

  #sign(): string {
    const { order } = this.admitted;
    const signature = this.#signer.signHash(keccak256Hex(order.canonical));
    return `X-Flashbots-Signature: ${signature}\r\nContent-Length: ${order.canonical.length}\r\n\r\n`;
  }
}
