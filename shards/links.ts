/**
 * A shard's side of what the node has once: the archive, the peers of the hub's list, the certificate, readiness. Each
 * answers from what the node's thread last said.
 */
import { type Observable, Subject } from 'rxjs';
import type { Peer, SendablePeer } from '../identity/peer.ts';
import { type PeerChanges, PeerTable } from '../identity/peer-table.ts';
import type { Address, AdmittedOrder } from '../pipeline/order.ts';
import type { ArchiveOutlet } from '../pipeline/pipeline.ts';
import { AnswerReader } from './answer-ring.ts';
import type { ArchiveRings, CredentialsMessage, FromShard, ToShard } from './messages.ts';
import { Numbered } from './numbered.ts';
import { packOrders } from './order-batch.ts';
import { RingWriter } from './order-ring.ts';
import type { KnownPeers, OwnCredentials } from './shard.ts';

type Post = (message: FromShard, transfer?: ArrayBuffer[]) => void;
type Done = (error: Error | null) => void;

/** The refusal of the archive itself in the same case (egress/archive/gate.ts). */
const BEHIND = 'the archive is behind, try again in a second';

/**
 * The archive of the node's thread. Orders go there through a ring in shared memory, those of one slice together; their
 * answers come back by number the same way. While orders come, each turn of the event loop looks for answers; after one
 * without, this thread is woken for them.
 */
export class ArchiveLink implements ArchiveOutlet {
  readonly #post: Post;
  readonly #ring: RingWriter;
  readonly #answers: AnswerReader;
  readonly #maxBytes: number;
  #refusal: string;
  /** Orders on their way: who waits for each, and its bytes. */
  readonly #waiting = new Numbered<{ readonly done: Done; readonly bytes: number }>();
  #bytes = 0;
  #telling = false;
  /** Is another look for answers certain to come? */
  #looking = false;
  /** Have orders gone to the archive since the last look? */
  #busy = false;
  /** What the ring had no room for, with the number of the first. */
  #overflow: AdmittedOrder[] = [];
  #first = 0;
  readonly #tell = () => this.#tellOrders();
  readonly #look = () => this.#lookForAnswers();
  readonly #durable = (number: number) => this.#settle(number, null);

  /**
   * @param rings this shard's own
   * @param maxBytes bytes of orders that may be on their way
   */
  constructor(post: Post, rings: ArchiveRings, refusal: string, maxBytes: number) {
    this.#post = post;
    this.#ring = new RingWriter(rings.orders);
    this.#answers = new AnswerReader(rings.answers);
    this.#refusal = refusal;
    this.#maxBytes = maxBytes;
  }

  get accepting(): boolean {
    return this.#refusal === '' && this.#bytes < this.#maxBytes;
  }

  get refusal(): string {
    return this.#refusal === '' && this.#bytes >= this.#maxBytes ? BEHIND : this.#refusal;
  }

  /** The archive takes orders from now on, or does not. */
  gate(refusal: string): void {
    this.#refusal = refusal;
  }

  append(admitted: AdmittedOrder, done: Done): void {
    const { length } = admitted.order.canonical;
    const number = this.#waiting.add({ done, bytes: length });
    // Behind what waits already, for the archive keeps the order of arrival.
    if (this.#overflow.length > 0 || !this.#ring.write(admitted, number)) {
      if (this.#overflow.length === 0) this.#first = number;
      this.#overflow.push(admitted);
    }
    this.#bytes += length;
    if (this.#telling) return;
    this.#telling = true;
    queueMicrotask(this.#tell);
  }

  /** The node's thread has answers, and has found this one asleep. */
  wake(): void {
    this.#answers.readAll(this.#durable);
    if (!this.#looking) this.#sleep();
  }

  archived({ durable, failed }: Extract<ToShard, { kind: 'archived' }>): void {
    for (const number of durable) this.#settle(number, null);
    for (const [number, message] of failed) this.#settle(number, new Error(message));
  }

  #settle(number: number, error: Error | null): void {
    const waiting = this.#waiting.take(number);
    if (waiting === undefined) return;
    this.#bytes -= waiting.bytes;
    waiting.done(error);
  }

  /** Settles what the archive has; sleeps when nothing came since the last look. */
  #lookForAnswers(): void {
    this.#answers.readAll(this.#durable);
    if (this.#busy) {
      this.#busy = false;
      setImmediate(this.#look);
      return;
    }
    this.#looking = false;
    this.#sleep();
  }

  #sleep(): void {
    while (!this.#answers.sleep()) this.#answers.readAll(this.#durable);
  }

  #tellOrders(): void {
    this.#telling = false;
    this.#busy = true;
    if (!this.#looking) {
      this.#looking = true;
      this.#answers.stayAwake();
      setImmediate(this.#look);
    }
    if (this.#ring.tell()) this.#post({ kind: 'orders' });
    if (this.#overflow.length === 0) return;
    const batch = packOrders(this.#overflow, this.#first);
    this.#overflow = [];
    this.#post({ kind: 'append', batch }, [batch]);
  }
}

/** The peers of the hub's list. */
export class PeersLink implements KnownPeers {
  readonly #post: Post;
  readonly #table = new PeerTable();
  readonly #changes = new Subject<PeerChanges>();
  #refresh: PromiseWithResolvers<void> | null = null;

  constructor(post: Post, peers: readonly Peer[]) {
    this.#post = post;
    this.update(peers);
  }

  get changes(): Observable<PeerChanges> {
    return this.#changes;
  }

  get sendable(): readonly SendablePeer[] {
    return this.#table.peers.filter((peer) => peer.sendable);
  }

  byAddress(address: Address): readonly Peer[] {
    return this.#table.byAddress(address);
  }

  byFingerprint(fingerprint: string): readonly Peer[] {
    return this.#table.byFingerprint(fingerprint);
  }

  update(peers: readonly Peer[]): void {
    this.#changes.next(this.#table.replace(peers.map(withBuffer)));
  }

  /** As the registry's: whoever asks meanwhile shares the fetch. */
  refresh(): Promise<void> {
    if (this.#refresh === null) {
      this.#refresh = Promise.withResolvers();
      this.#post({ kind: 'refresh' });
    }
    return this.#refresh.promise;
  }

  refreshed(): void {
    this.#refresh?.resolve();
    this.#refresh = null;
  }
}

/** Between threads a Buffer becomes a plain array of bytes. */
function withBuffer<P extends Peer>(peer: P): P {
  const { certificate } = peer;
  return certificate === undefined ? peer : { ...peer, certificate: Buffer.from(certificate) };
}

export class CredentialsLink implements OwnCredentials {
  readonly #listeners: (() => void)[] = [];
  #current: CredentialsMessage;

  constructor(current: CredentialsMessage) {
    this.#current = current;
  }

  get current(): CredentialsMessage {
    return this.#current;
  }

  set current(credentials: CredentialsMessage) {
    this.#current = credentials;
    for (const listener of this.#listeners) listener();
  }

  onChange(listener: () => void): void {
    this.#listeners.push(listener);
  }
}
