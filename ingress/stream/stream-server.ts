/**
 * The receiving side of the order stream: takes the connections that the system API's TLS server has agreed on
 * `orderflow-stream/1` with, lets in those of listed peers, and keeps few of each.
 */
import { certificateFingerprint } from '../../identity/certificate.ts';
import type { ChannelModules, StreamEvents } from '../../identity/channel/channel.ts';
import { callerOf, checkClientCertificate } from '../../identity/client-certificate.ts';
import type { PeerLookup } from '../../identity/peer-table.ts';
import { Rejection } from '../../pipeline/errors.ts';
import type { Address } from '../../pipeline/order.ts';
import type { CloseReason } from '../../pipeline/stream/close-reasons.ts';
import type { AcceptedStream } from '../http-server.ts';
import {
  FRAME_OVERHEAD_BYTES,
  type Identified,
  type IncomingModules,
  type IncomingOptions,
  IncomingStream,
} from './incoming-stream.ts';

export interface StreamServerOptions extends Omit<IncomingOptions, 'helloTimeoutMs'> {
  readonly helloTimeoutMs?: number;
  /** Most bytes of frames that have begun and not ended, of all peers; each may have its longest order alone. */
  readonly maxGatheredBytes?: number;
}

export interface StreamServerModules extends ChannelModules {
  readonly peers: PeerLookup & { refresh(): Promise<void> };
  readonly offer: IncomingModules['offer'];
  readonly events: StreamEvents;
}

export interface StreamServer {
  accept(stream: AcceptedStream): void;
  /** Streams that bring orders, by hub name, and how far each peer's clock is ahead of ours, if known, µs. */
  state(): { readonly peer: string; readonly open: number; readonly clockOffsetUs: number | null }[];
  /** The hub's list has changed: ends the streams of those whom it does not list as they have shown themselves. */
  update(): void;
  /** Tells the peers to send elsewhere; what they have sent is dealt with. */
  stopAccepting(): void;
  /** Ends all connections. */
  close(): void;
}

const HELLO_TIMEOUT_MS = 5_000;
/** A peer has nine at most, eight for small orders and one for large; twice that while it comes back. */
const MAX_STREAMS_PER_PEER = 18;
/** Beside one order of the greatest length, what a peer's connections may hold of frames that have not ended. */
const MAX_GATHERED_BYTES = MAX_STREAMS_PER_PEER * FRAME_OVERHEAD_BYTES;

export function createStreamServer(options: StreamServerOptions, modules: StreamServerModules): StreamServer {
  return new Streams({ helloTimeoutMs: HELLO_TIMEOUT_MS, ...options }, modules);
}

class Streams implements StreamServer {
  readonly #options: IncomingOptions;
  readonly #maxGatheredBytes: number;
  readonly #modules: StreamServerModules;
  readonly #all = new Set<IncomingStream>();
  /** Open ones by the peer's account, oldest first. */
  readonly #byPeer = new Map<Address, IncomingStream[]>();
  #stopping = false;

  constructor(
    { maxGatheredBytes, ...options }: IncomingOptions & Pick<StreamServerOptions, 'maxGatheredBytes'>,
    modules: StreamServerModules,
  ) {
    this.#options = options;
    this.#maxGatheredBytes = Math.max(
      maxGatheredBytes ?? Number.POSITIVE_INFINITY,
      options.maxOrderBytes + MAX_GATHERED_BYTES,
    );
    this.#modules = modules;
  }

  accept(accepted: AcceptedStream): void {
    const { signer, verifier, clock, offer, events } = this.#modules;
    const stream = new IncomingStream(accepted.socket, this.#options, {
      signer,
      verifier,
      clock,
      offer,
      charge: (us) => accepted.charge(us),
      events,
      identify: (address, certificate) => this.#identify(address, certificate),
      opened: (opened) => {
        accepted.keep();
        this.#opened(opened);
      },
      gathers: (gathering) => this.#gathers(gathering),
      closed: (closed, reason, byPeer) => this.#closed(closed, reason, byPeer),
    });
    this.#all.add(stream);
    stream.start();
  }

  state(): { peer: string; open: number; clockOffsetUs: number | null }[] {
    return [...this.#byPeer.values()].flatMap((streams) => {
      const [first] = streams;
      return first === undefined
        ? []
        : [{ peer: first.peer, open: streams.length, clockOffsetUs: first.clockOffsetUs }];
    });
  }

  update(): void {
    for (const stream of [...this.#byPeer.values()].flat()) {
      const found = stream.certificate && this.#find(stream.address, stream.certificate.fingerprint);
      // By another name it comes back as what it is called now.
      if (found?.name !== stream.peer) stream.close('not_listed');
    }
  }

  stopAccepting(): void {
    this.#stopping = true;
    for (const stream of this.#all) stream.goAway();
  }

  close(): void {
    for (const stream of this.#all) stream.close('shutdown');
  }

  #opened(stream: IncomingStream): void {
    const streams = this.#byPeer.get(stream.address) ?? [];
    streams.push(stream);
    this.#byPeer.set(stream.address, streams);
    this.#modules.events.opened(stream.peer, 'in');
    if (streams.length > MAX_STREAMS_PER_PEER) streams[0]?.close('superseded');
    if (this.#stopping) stream.goAway();
  }

  /**
   * Memory for long orders: a peer sends them on one connection. More than one of the greatest length at a time is
   * what a lost connection has left behind, or an attack; the other that holds the most goes. So does it of all
   * peers' beyond what they may have together.
   */
  #gathers(stream: IncomingStream): void {
    const own = this.#byPeer.get(stream.address) ?? [];
    closeLargest(own, stream, this.#options.maxOrderBytes + MAX_GATHERED_BYTES);
    closeLargest(this.#all, stream, this.#maxGatheredBytes);
  }

  #closed(stream: IncomingStream, reason: CloseReason, byPeer: boolean): void {
    this.#all.delete(stream);
    const streams = this.#byPeer.get(stream.address)?.filter((other) => other !== stream) ?? [];
    if (streams.length === 0) this.#byPeer.delete(stream.address);
    else this.#byPeer.set(stream.address, streams);
    this.#modules.events.closed(stream.peer, 'in', reason, byPeer);
  }

  /** A peer that is not in the list may be new: one look at a fresh one is due (protocol section 5). */
  #identify(address: Address, certificate: Buffer): Identified | Promise<Identified> {
    const fingerprint = certificateFingerprint(certificate);
    const known = this.#find(address, fingerprint);
    if (known !== null) return known;
    return this.#modules.peers.refresh().then(() => this.#find(address, fingerprint) ?? 'not_listed');
  }

  #find(address: Address, fingerprint: string): Exclude<Identified, CloseReason> | null {
    const { peers } = this.#modules;
    const certificate = checkClientCertificate(fingerprint, 'require', peers);
    if (certificate === undefined || certificate instanceof Rejection) return null;
    const name = callerOf(address, certificate, peers, undefined);
    return typeof name === 'string' ? { name, certificate } : null;
  }
}

/** If what the streams hold of frames that have not ended is more than `maxBytes`: closes the one, but `newest`, that holds most. */
function closeLargest(streams: Iterable<IncomingStream>, newest: IncomingStream, maxBytes: number): void {
  let sum = 0;
  let most: IncomingStream | null = null;
  for (const stream of streams) {
    sum += stream.pending;
    if (stream !== newest && (most === null || stream.pending > most.pending)) most = stream;
  }
  if (sum > maxBytes) most?.close('superseded');
}
