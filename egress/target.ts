/**
 * One receiver of orders (the local builder, a peer): pipelined connections, to a peer of our kind a stream that
 * is used in their place while it is up, and the queue of what they cannot take yet. `send` hands an order to a
 * socket in the same call when there is room.
 *
 * What is bounded by what, and what happens at the bound:
 * - a connection, by orders, bytes and time (pipelined-connection.ts): orders wait in the queue, or go back to it;
 * - the queue, by bytes and age: the new order is dropped (`queue_full`), the oldest is (`expired`);
 * - a target that fails, by back-off (connection-pool.ts); one that says "not now" too (refusals.ts).
 *
 * Delivery is at least once: the orders of a lost connection go back to their places in the queue and are
 * sent again within the age bound. Receivers deduplicate (protocol section 5).
 */

import type { Clock } from '../pipeline/clock.ts';
import { type AdmittedOrder, BIG_REQUEST_BYTES } from '../pipeline/order.ts';
import { type Answer, classifyAnswer } from './answer.ts';
import type { BackoffOptions } from './backoff.ts';
import { ConnectionPool, type ConnectionPoolOptions, type ConnectionPoolOwner } from './connection-pool.ts';
import {
  type ConnectionEnd,
  DELIVERY_OVERHEAD_BYTES,
  type Delivery,
  type DeliveryEvents,
  type DropReason,
  LARGE_ORDER_BYTES,
  type OutgoingRequest,
  type TargetState,
} from './delivery.ts';
import { DeliveryQueue, type QueueAllowance } from './delivery-queue.ts';
import type { Dialler } from './pipelined-connection.ts';
import { Refusals } from './refusals.ts';
import type { StreamDialler } from './stream/outgoing-stream.ts';
import {
  StreamCarrier,
  type StreamCarrierOptions,
  type StreamCarrierOwner,
  type StreamModules,
} from './stream/stream-carrier.ts';

export interface TargetOptions extends ConnectionPoolOptions, StreamCarrierOptions {
  readonly queueBytes: number;
  /** Age, from its being handed over, at which an order that waits is dropped. */
  readonly queueAgeMs: number;
  /** Between attempts after the target has said "not now". */
  readonly retry: BackoffOptions;
  /** How long closing waits for a target that takes nothing, in milliseconds. */
  readonly closeStallMs: number;
}

/** Where and how a target is reached. */
export interface TargetAddress {
  readonly dialler: Dialler;
  /** Request line and the header lines that are the same for every order; `headerEnd()` follows. */
  readonly headStart: string;
  /** The way to its stream; undefined where there is none to be asked for. */
  readonly stream?: StreamDialler | undefined;
}

export interface TargetModules {
  readonly events: DeliveryEvents;
  /** Unix microseconds, the clock of `receivedAtUs`. */
  readonly now: Clock;
  /** Needed with an address that has a stream. */
  readonly stream?: StreamModules | undefined;
  /** Of the queues of several targets. */
  readonly allowance?: QueueAllowance | undefined;
}

export class Target implements ConnectionPoolOwner, StreamCarrierOwner {
  readonly name: string;
  readonly #options: TargetOptions;
  readonly #events: DeliveryEvents;
  readonly #now: Clock;
  readonly #queue: DeliveryQueue;
  readonly #refusals: Refusals;
  readonly #pool: ConnectionPool;
  readonly #stream: StreamCarrier | null;
  #headStart: string;
  #sequence = 0;
  #corked = false;
  #expiryTimer: NodeJS.Timeout | null = null;
  #closing: PromiseWithResolvers<void> | null = null;
  #closeTimer: NodeJS.Timeout | null = null;
  #closeDeadlineMs = 0;
  #closed = false;
  #retired = false;

  /** Begins to connect at once. */
  constructor(name: string, address: TargetAddress, options: TargetOptions, modules: TargetModules) {
    this.name = name;
    this.#headStart = address.headStart;
    this.#options = options;
    this.#events = modules.events;
    this.#now = modules.now;
    this.#queue = new DeliveryQueue({
      maxBytes: options.queueBytes,
      maxAgeMs: options.queueAgeMs,
      allowance: modules.allowance,
    });
    this.#refusals = new Refusals(options.retry, () => this.#waitOver());
    this.#pool = new ConnectionPool(address.dialler, options, this);
    this.#stream =
      address.stream === undefined || modules.stream === undefined
        ? null
        : new StreamCarrier(name, address.stream, options, modules.stream, this);
    this.#pool.open(false);
    this.#stream?.open();
  }

  /** Is a connection open? */
  get up(): boolean {
    return this.#pool.up > 0;
  }

  /** What is sent from now on leaves with `uncork`. */
  cork(): void {
    this.#corked = true;
  }

  uncork(): void {
    this.#corked = false;
    this.#pool.flush();
  }

  /** Sends an order in this call unless corked, or queues it. Its fate is told through the events. */
  send(request: OutgoingRequest): void {
    const { length } = request.admitted.order.canonical;
    const delivery: Delivery = {
      request,
      sequence: this.#sequence++,
      bytes: length + DELIVERY_OVERHEAD_BYTES,
      large: length >= LARGE_ORDER_BYTES,
      sentAtMs: 0,
      refusals: 0,
    };
    if (this.#closing !== null) this.#drop([delivery], 'shutdown');
    else if (this.#waitsBefore(delivery) || !this.#write(delivery)) this.#enqueue(delivery);
    else if (!this.#corked) this.#pool.flush();
  }

  /**
   * Moves the target to another address or certificate: its connections end, the queue stays, orders
   * without an answer go to the new place. Nothing more is written to the old one.
   */
  replace(address: TargetAddress): void {
    if (this.#closed) return;
    this.#headStart = address.headStart;
    if (address.stream !== undefined) this.#stream?.replace(address.stream);
    this.#pool.replace(address.dialler);
  }

  /** The target proves another account from now on: its streams are made anew, requests are not touched. */
  replaceStream(dialler: StreamDialler): void {
    if (!this.#closed) this.#stream?.replace(dialler);
  }

  state(): TargetState {
    const oldest = this.#queue.peek() ?? this.#refusals.oldest();
    return {
      name: this.name,
      queueLength: this.#queue.length + this.#refusals.length,
      queueBytes: this.#queue.bytes + this.#refusals.bytes,
      oldestAgeMs: oldest === undefined ? 0 : performance.now() - oldest.request.bornMs,
      outstanding: this.#outstanding,
      connectionsUp: this.#pool.up + (this.#stream?.up ?? 0),
      streamsUp: this.#stream?.up ?? 0,
      streamOwedBytes: this.#stream?.owedBytes ?? 0,
      clockOffsetUs: this.#stream?.clockOffsetUs ?? null,
    };
  }

  /**
   * Takes no more orders, waits until those it has are answered, then closes. A target that has taken none
   * of them for `closeStallMs` is not waited for any longer: one dead peer must not hold up every restart of a node.
   * @param deadlineMs how long to wait at most; what is left then is dropped (`shutdown`)
   */
  close(deadlineMs: number): Promise<void> {
    if (this.#closing !== null) return this.#closing.promise;
    this.#closing = Promise.withResolvers<void>();
    this.#closeDeadlineMs = performance.now() + deadlineMs;
    this.#waitForAnswers();
    this.#closeIfIdle();
    return this.#closing.promise;
  }

  /**
   * The target may get no more orders: drops those that have not been written (`removed`), waits for the answers to
   * those that have, then closes.
   * @param deadlineMs how long to wait at most
   */
  retire(deadlineMs: number): Promise<void> {
    this.#retired = true;
    this.#drop(this.#queue.takeAll(), 'removed');
    this.#drop(this.#refusals.takeAll(), 'removed');
    return this.close(deadlineMs);
  }

  // --- what the connections report ---

  connected(): void {
    this.#events.connected(this.name);
    // Somebody is there again, perhaps with other software.
    if (this.#pool.up === 1) this.#stream?.probe();
  }

  disconnected(reason: ConnectionEnd): void {
    this.#events.disconnected(this.name, reason);
  }

  answered(deliveries: readonly Delivery[], status: number, body: Buffer): void {
    const answer = classifyAnswer(status, body);
    for (const delivery of deliveries) this.settled(delivery, answer);
  }

  settled(delivery: Delivery, { failure, retryable }: Answer): void {
    if (failure !== null) this.#events.failed(this.name, failure);
    if (retryable && this.#retired) {
      this.#drop([delivery], 'removed');
      return;
    }
    if (retryable) {
      this.#refusals.add(delivery);
      return;
    }
    if (this.#closing !== null) this.#waitForAnswers();
    const { admitted } = delivery.request;
    const rpcMs = performance.now() - delivery.sentAtMs;
    this.#events.answered(
      this.name,
      admitted,
      failure === null,
      isBig(admitted),
      rpcMs,
      this.#msSince(admitted),
    );
    this.#takeBack(this.#refusals.taken(delivery));
  }

  unanswered(deliveries: readonly Delivery[], written: number, reason: ConnectionEnd): void {
    if (this.#closed) {
      this.#drop(deliveries, 'shutdown');
      return;
    }
    if (this.#retired) {
      this.#drop(deliveries, 'removed');
      return;
    }
    for (let i = 0; i < written; i++) {
      if (reason !== 'replaced') this.#events.failed(this.name, reason);
      this.#events.resent(this.name);
    }
    this.#takeBack(deliveries);
  }

  /** Sends what waits, as far as there is room. */
  room(): void {
    if (this.#closed) return;
    if (this.#queue.length > 0) {
      this.#dropExpired();
      this.#sendQueued();
      this.#pool.flush();
      if (this.#wantsConnections()) this.#pool.open(true);
    }
    this.#closeIfIdle();
  }

  /** In order of arrival; with a stream, small and large orders do not wait for one another. */
  #sendQueued(): void {
    const queue = this.#queue;
    if (!this.#stream?.isUp) {
      for (let next = queue.peek(); next !== undefined && this.#write(next); next = queue.peek())
        queue.shift();
      return;
    }
    for (const large of [false, true]) {
      for (
        let next = queue.peekLane(large);
        next !== undefined && this.#write(next);
        next = queue.peekLane(large)
      )
        queue.shiftLane(large);
    }
  }

  /** @returns whether orders wait that more connections for requests would help. */
  #wantsConnections(): boolean {
    if (this.#refusals.limit === 0) return false;
    const small = this.#queue.peekLane(false);
    const large = this.#queue.peekLane(true);
    return (
      (small !== undefined && !this.#stream?.carries(small)) ||
      (large !== undefined && !this.#stream?.carries(large))
    );
  }

  /** @returns whether an order must wait because others wait for the way it takes. */
  #waitsBefore(delivery: Delivery): boolean {
    if (this.#queue.length === 0) return false;
    return !this.#stream?.isUp || this.#queue.peekLane(delivery.large) !== undefined;
  }

  /** Orders written and not answered, whichever way. */
  get #outstanding(): number {
    return this.#pool.outstanding + (this.#stream?.outstanding ?? 0);
  }

  // --- orders ---

  /** @returns false when no connection has room or the target is not to be asked now. */
  #write(delivery: Delivery): boolean {
    if (this.#outstanding >= this.#refusals.limit) return false;
    const first = delivery.sentAtMs === 0;
    const written = this.#stream?.carries(delivery)
      ? this.#stream.write(delivery)
      : this.#pool.write(delivery, this.#headStart);
    if (!written) return false;
    if (first) {
      const { admitted } = delivery.request;
      this.#events.sent(this.name, admitted, isBig(admitted), this.#msSince(admitted));
    }
    return true;
  }

  #enqueue(delivery: Delivery): void {
    this.#dropExpired();
    if (!this.#queue.push(delivery, this.#refusals.bytes)) {
      this.#drop([delivery], 'queue_full');
      return;
    }
    this.#watchAge();
    if (this.#wantsConnections()) this.#pool.open(true);
  }

  #takeBack(deliveries: readonly Delivery[]): void {
    if (deliveries.length === 0) return;
    this.#queue.putBack(deliveries);
    // The oldest may now be older than the one the timer was set for.
    if (this.#expiryTimer !== null) clearTimeout(this.#expiryTimer);
    this.#expiryTimer = null;
    this.#watchAge();
  }

  /** The wait after a refusal is over. */
  #waitOver(): void {
    const nowMs = performance.now();
    const expired = this.#refusals.takeExpired((delivery) => this.#queue.isExpired(delivery, nowMs));
    this.#drop(expired, 'expired');
    this.#takeBack(this.#refusals.release(this.#queue.length === 0));
    this.room();
  }

  #drop(deliveries: readonly Delivery[], reason: DropReason): void {
    for (const { request } of deliveries) this.#events.dropped(this.name, reason, request.admitted);
  }

  #dropExpired(): void {
    if (this.#queue.length === 0) return;
    const nowMs = performance.now();
    for (let old = this.#queue.shiftExpired(nowMs); old !== undefined; old = this.#queue.shiftExpired(nowMs))
      this.#drop([old], 'expired');
  }

  /** Nothing is sent to a target that is down, so age needs a clock of its own. */
  #watchAge(): void {
    const oldest = this.#queue.peek();
    if (this.#expiryTimer !== null || oldest === undefined) return;
    const leftMs = oldest.request.bornMs + this.#options.queueAgeMs - performance.now();
    this.#expiryTimer = setTimeout(() => {
      this.#expiryTimer = null;
      this.#dropExpired();
      this.#watchAge();
      this.#closeIfIdle();
    }, Math.max(0, leftMs) + 1);
  }

  // --- closing ---

  #waitForAnswers(): void {
    if (this.#closed) return;
    if (this.#closeTimer !== null) clearTimeout(this.#closeTimer);
    const leftMs = Math.max(0, this.#closeDeadlineMs - performance.now());
    this.#closeTimer = setTimeout(() => this.#finishClosing(), Math.min(leftMs, this.#options.closeStallMs));
  }

  #closeIfIdle(): void {
    if (this.#closing === null || this.#outstanding > 0) return;
    if (this.#queue.length === 0 && this.#refusals.length === 0) this.#finishClosing();
  }

  #finishClosing(): void {
    if (this.#closed) return;
    this.#closed = true;
    if (this.#closeTimer !== null) clearTimeout(this.#closeTimer);
    if (this.#expiryTimer !== null) clearTimeout(this.#expiryTimer);
    this.#refusals.close();
    this.#stream?.close();
    this.#pool.close();
    this.#drop(this.#queue.takeAll(), 'shutdown');
    this.#drop(this.#refusals.takeAll(), 'shutdown');
    this.#closing?.resolve();
  }

  #msSince(admitted: AdmittedOrder): number {
    return (this.#now() - admitted.receivedAtUs) / 1000;
  }
}

function isBig(admitted: AdmittedOrder): boolean {
  return admitted.order.canonical.length >= BIG_REQUEST_BYTES;
}
