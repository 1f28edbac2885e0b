/**
 * One connection of the order stream to a peer, from its dialling on: orders go out in frames of what is given in
 * one turn of the event loop, never later, within the peer's credit; acknowledgements come back
 * (ingress/stream/PROTOCOL.md).
 *
 * Every order given to `write` has exactly one fate: `settled`, or it is among the unanswered of `ended`. It never
 * reconnects; the carrier does.
 */
import type { TLSSocket } from 'node:tls';
import {
  Channel,
  type ChannelModules,
  type ChannelOwner,
  type FarEnd,
} from '../../identity/channel/channel.ts';
import { STREAM_PROTOCOL } from '../../identity/channel/hello.ts';
import type { Address } from '../../pipeline/order.ts';
import type { CloseReason } from '../../pipeline/stream/close-reasons.ts';
import {
  decodeAck,
  decodeRefused,
  encodeOrders,
  FRAME,
  MAX_RECORDS,
  ordersFrameBytes,
  recordSpace,
} from '../../pipeline/stream/frames.ts';
import { type Refusal, refusalOf } from '../../pipeline/stream/refusals.ts';
import { orderCost, SendWindow } from '../../pipeline/stream/windows.ts';
import type { Answer } from '../answer.ts';
import type { Delivery } from '../delivery.ts';
import { Fifo } from '../fifo.ts';
import type { TlsDialler } from '../pinned-tls.ts';
import { KEPT_FRAME_BYTES, KeptFrame } from './kept-frame.ts';

export type StreamDialler = TlsDialler;

export interface OutgoingOptions {
  readonly connectTimeoutMs: number;
  /** Longest time without an acknowledgement while one is due. */
  readonly responseTimeoutMs: number;
  /** Bytes in this process that the kernel has not taken. */
  readonly maxBufferedBytes: number;
}

export interface OutgoingModules extends ChannelModules {
  /** Is the account that the other side proves the peer's? */
  readonly isPeer: (address: Address) => boolean;
}

export interface OutgoingOwner {
  /** Orders can be written from now on. */
  streamOpened(stream: OutgoingStream): void;
  /** A frame with so many orders has left. */
  sent(orders: number): void;
  settled(delivery: Delivery, answer: Answer): void;
  /** There may be room for more. */
  streamRoom(): void;
  /**
   * Called once, as the last call.
   * @param unanswered in the order written; the first `written` may have arrived
   */
  streamEnded(
    stream: OutgoingStream,
    reason: CloseReason,
    byPeer: boolean,
    unanswered: Delivery[],
    written: number,
  ): void;
}

const ACCEPTED: Answer = { failure: null, retryable: false };
const ANSWERS: Readonly<Record<Refusal, Answer>> = {
  invalid: { failure: 'rpc_error', retryable: false },
  unknown_peer: { failure: 'unknown_peer', retryable: true },
  overloaded: { failure: 'overloaded', retryable: true },
  shutting_down: { failure: 'overloaded', retryable: true },
  internal: { failure: 'rpc_error', retryable: false },
};

/** A frame is sent as soon as it is so long; what comes after it goes into the next. */
const FRAME_BYTES = 65_536;
const HELLO_TIMEOUT_MS = 5_000;
/**
 * Read at once: acknowledgements of 21 bytes. Frames are read before the next bytes come, so that one buffer serves for
 * good; a buffer and an event for each acknowledgement cost more than reading it.
 */
const READ_BYTES = 4 * 1024;

export class OutgoingStream implements ChannelOwner {
  /** `performance.now()` when it was opened; 0 before. */
  openedAtMs = 0;
  readonly #owner: OutgoingOwner;
  readonly #options: OutgoingOptions;
  readonly #modules: OutgoingModules;
  readonly #socket: TLSSocket;
  readonly #connectTimer: NodeJS.Timeout;
  readonly #outstanding = new Fifo<Delivery>();
  /** `bytes` of those. */
  #owedBytes = 0;
  readonly #idleMs: number;
  /** Refused ones, until the acknowledgement has reached them. */
  readonly #refused = new Map<number, Refusal>();
  readonly #flushSoon = (): void => this.#flush();
  #channel: Channel | null = null;
  #window = new SendWindow(0);
  #maxOrderBytes = 0;
  /** Records that leave when this turn is done. */
  #batch: Buffer[] = [];
  #batchBytes = 0;
  #progressMs = 0;
  #goingAway = false;
  #ended = false;

  /**
   * Starts connecting. Throws what the dialler throws.
   * @param idleMs it ends by itself after so long without an order
   */
  constructor(
    dialler: StreamDialler,
    options: OutgoingOptions,
    modules: OutgoingModules,
    owner: OutgoingOwner,
    idleMs = Number.POSITIVE_INFINITY,
  ) {
    this.#owner = owner;
    this.#idleMs = idleMs;
    this.#options = options;
    this.#modules = modules;
    const buffer = Buffer.allocUnsafeSlow(READ_BYTES);
    const socket = dialler.dial({
      buffer,
      callback: (length) => {
        this.#read(buffer.subarray(0, length));
        return true;
      },
    });
    this.#socket = socket;
    this.#connectTimer = setTimeout(() => this.#fail('connect_timeout'), options.connectTimeoutMs);
    socket.once('secureConnect', () => this.#secured(dialler));
    const failed = () => this.#fail('connect_failed');
    socket.on('error', failed);
    socket.on('close', failed);
  }

  /** May it be given orders at all? What it has may still be acknowledged when it may not. */
  get open(): boolean {
    return this.#channel?.open === true && !this.#goingAway;
  }

  /** Has it orders that leave when this turn is done? */
  get filling(): boolean {
    return this.#batch.length > 0;
  }

  /** Orders written and not settled. */
  get outstanding(): number {
    return this.#outstanding.length;
  }

  /** Bytes of those, as the queue counts them. */
  get owedBytes(): number {
    return this.#owedBytes;
  }

  get clockOffsetUs(): number | null {
    const offset = this.#channel?.clockOffset;
    return offset?.known === true ? offset.offsetUs : null;
  }

  /** @returns whether the peer takes orders of this length, canonical form, over the stream. */
  takes(canonicalBytes: number): boolean {
    return canonicalBytes <= this.#maxOrderBytes;
  }

  /** Puts an order into the frame of this turn. @returns false when credit or socket have no room for it. */
  write(delivery: Delivery, nowMs: number): boolean {
    const record = delivery.request.record();
    if (record === null || this.#channel === null || !this.open) return false;
    const cost = orderCost(record.length);
    const buffered = this.#channel.buffered + this.#batchBytes;
    const crowded = buffered > 0 && buffered + record.length > this.#options.maxBufferedBytes;
    if (crowded || !this.#window.allows(cost)) return false;
    if (this.#window.outstanding === 0) this.#progressMs = nowMs;
    this.#window.send(cost);
    delivery.sentAtMs = nowMs;
    this.#outstanding.push(delivery);
    this.#owedBytes += delivery.bytes;
    if (this.#batch.length === 0) queueMicrotask(this.#flushSoon);
    this.#batch.push(record);
    this.#batchBytes += recordSpace(record);
    if (this.#batchBytes >= FRAME_BYTES || this.#batch.length === MAX_RECORDS) this.#flush();
    return true;
  }

  /** Gives up what it has not settled, before its end. What is not written by then never will be. */
  takeBack(): { unanswered: Delivery[]; written: number } {
    const unanswered = this.#outstanding.takeAll();
    this.#owedBytes = 0;
    const written = unanswered.length - this.#batch.length;
    this.#batch = [];
    return { unanswered, written };
  }

  /** Ends it now. */
  close(reason: CloseReason): void {
    if (this.#channel === null) this.#fail(reason);
    else this.#channel.close(reason);
  }

  // --- what the channel reports ---

  admit(far: FarEnd): CloseReason | null {
    return this.#modules.isPeer(far.address) ? null : 'not_listed';
  }

  opened(far: FarEnd): void {
    this.#window = new SendWindow(far.windowBytes);
    this.#maxOrderBytes = far.maxOrderBytes;
    this.openedAtMs = performance.now();
    this.#progressMs = this.openedAtMs;
    this.#owner.streamOpened(this);
  }

  frame(type: number, payload: Buffer): CloseReason | null {
    switch (type) {
      case FRAME.ack:
        return this.#acknowledged(payload);
      case FRAME.refused:
        return this.#wasRefused(payload);
      case FRAME.goAway:
        this.#goingAway = true;
        return this.#outstanding.length === 0 ? 'normal' : null;
      case FRAME.orders:
        return 'unexpected';
      default:
        return null;
    }
  }

  readEnd(): void {
    this.#owner.streamRoom();
  }

  tick(nowMs: number): CloseReason | null {
    const sinceMs = nowMs - this.#progressMs;
    if (this.#outstanding.length > 0) return sinceMs > this.#options.responseTimeoutMs ? 'stalled' : null;
    return sinceMs > this.#idleMs ? 'normal' : null;
  }

  drained(): void {
    this.#owner.streamRoom();
  }

  closed(reason: CloseReason, byPeer: boolean): void {
    this.#end(reason, byPeer);
  }

  #secured(dialler: StreamDialler): void {
    if (this.#ended) return;
    const refused = dialler.refuse(this.#socket);
    if (refused !== null) this.#fail(refused);
    else if (this.#socket.alpnProtocol !== STREAM_PROTOCOL) this.#fail('not_offered');
    else {
      clearTimeout(this.#connectTimer);
      this.#channel = new Channel(
        this.#socket,
        {
          role: 'client',
          // Orders come the other way on the peer's own connection.
          hello: { features: 0, windowBytes: 0, maxOrderBytes: 0 },
          maxOrdersBytes: 0,
          helloTimeoutMs: HELLO_TIMEOUT_MS,
        },
        this.#modules,
        this,
      );
      this.#channel.start();
    }
  }

  #read(chunk: Buffer): void {
    // Both sides of the stream are silent until the client has said hello.
    if (this.#channel === null) this.#fail('unexpected');
    else this.#channel.read(chunk);
  }

  #acknowledged(payload: Buffer): CloseReason | null {
    const ack = decodeAck(payload);
    if (ack === null) return 'malformed';
    const before = this.#window.acknowledged;
    // Orders of the frame that is still being put together cannot have been acknowledged.
    if (ack.sequence > this.#window.sent - this.#batch.length) return 'acknowledgement';
    const fresh = this.#window.acknowledge(ack.sequence, ack.limit);
    if (typeof fresh === 'string') return fresh;
    if (fresh > 0) this.#progressMs = performance.now();
    for (let sequence = before + 1; sequence <= ack.sequence; sequence++) {
      const delivery = this.#outstanding.shift();
      if (delivery === undefined) continue;
      this.#owedBytes -= delivery.bytes;
      this.#owner.settled(delivery, this.#answerTo(sequence));
    }
    return this.#goingAway && this.#outstanding.length === 0 ? 'normal' : null;
  }

  #answerTo(sequence: number): Answer {
    if (this.#refused.size === 0) return ACCEPTED;
    const refusal = this.#refused.get(sequence);
    if (refusal === undefined) return ACCEPTED;
    this.#refused.delete(sequence);
    return ANSWERS[refusal];
  }

  #wasRefused(payload: Buffer): CloseReason | null {
    const refused = decodeRefused(payload);
    if (refused === null) return 'malformed';
    const { sequence } = refused;
    // Once each: refusals are not counted as other frames are.
    if (!this.#window.mayRefuse(sequence) || this.#refused.has(sequence)) return 'acknowledgement';
    this.#refused.set(sequence, refusalOf(refused.code));
    return null;
  }

  #flush(): void {
    const records = this.#batch;
    if (records.length === 0 || this.#channel === null || this.#ended) return;
    this.#batch = [];
    this.#batchBytes = 0;
    const first = this.#window.sent - records.length + 1;
    const sentAtUs = this.#modules.clock();
    if (this.#channel.buffered > 0 || ordersFrameBytes(records) > KEPT_FRAME_BYTES) {
      this.#channel.send(encodeOrders(sentAtUs, first, records));
    } else {
      const { memory, written } = KeptFrame.take();
      this.#channel.send(encodeOrders(sentAtUs, first, records, memory), written);
    }
    this.#owner.sent(records.length);
  }

  /** Ends it before there is a channel. */
  #fail(reason: CloseReason): void {
    if (this.#channel !== null || this.#ended) return;
    this.#socket.destroy();
    this.#end(reason, false);
  }

  #end(reason: CloseReason, byPeer: boolean): void {
    if (this.#ended) return;
    this.#ended = true;
    clearTimeout(this.#connectTimer);
    const { unanswered, written } = this.takeBack();
    this.#owner.streamEnded(this, reason, byPeer, unanswered, written);
  }
}
