/**
 * The queue between the sockets and the pipeline's intake: requests whose bodies have been read wait here for their
 * turn, one connection after the other, so that a connection that sends a thousand at once delays its own. As
 * many as the intake works off in one turn of the event loop are handed over in each.
 *
 * Lanes take turns: peers, whose orders another node has taken already; known connections; newcomers, which are those whose
 * first turn was not a second ago. So none of the three waits for a flood of another, nor the first orders of a thousand
 * new connections for the second ones. Big bodies cost up to 45 ms a MiB (measured, JSON made for the
 * purpose), so they have lanes of their own: one in a turn, and before the next what is small and came meanwhile gets as
 * much time as the big one took.
 *
 * Bounded by the time that an order would wait (admission.ts) and by bytes; beyond, the newest request is refused.
 */
import { Rejection } from '../pipeline/errors.ts';
import { type AdmissionOptions, longestWait, type Manner } from './admission.ts';
import { Lane, Source } from './lane.ts';
import { Pace, workOf } from './pace.ts';
import { Shares } from './shares.ts';

export interface FairQueueOptions extends AdmissionOptions {
  /** Bytes of request bodies that may wait; a lone request is always taken. */
  readonly maxBytes: number;
}

export interface FairQueueModules<T> {
  readonly submit: (item: T) => void;
  /** Runs the callback after the event loop has polled for I/O; `setImmediate` unless a test sets it. */
  readonly schedule?: (callback: () => void) => void;
  /** Milliseconds; `performance.now` unless a test sets it. */
  readonly now?: () => number;
}

/** What requests come on. */
export interface Sender {
  /** Orders without an answer, the one asked for included. */
  readonly unanswered: number;
}

/** Whose orders: of users, or of peers, which are not refused because of the users'. */
export type Party = 'users' | 'peers';

/** From this size on a body is big; p99 of the orders in the field is 40 KB. */
export const BIG_BODY_BYTES = 64 * 1024;
/** Requests handed over in one turn: what the intake works off in one. */
const SLICE_LENGTH = 8;
/** Bytes handed over in one turn, so that a slice of bodies just below big ones is a short one. */
const SLICE_BYTES = 128 * 1024;
/** So long after its last order a connection sends afresh, and after the last that did not wait for answers one at a time. */
const FORGOTTEN_MS = 1000;
/** So long after its first turn a connection is a newcomer. */
const NEWCOMER_MS = 1000;
/**
 * Behind no more connections than these an order of who does not send on is always taken: where something else than orders
 * takes up the thread, every wait is long.
 */
const FEW_SOURCES = 128;
/** Of `maxBytes`; the rest is the peers' alone. */
const USERS_BYTES = 3 / 4;

const TOO_LONG = new Rejection(
  'overloaded',
  'the node has more orders than it can work off: send it again in a second, or to another node',
);
const TOO_OFTEN = new Rejection(
  'overloaded',
  'the node has more orders than it can work off, and this connection sends more than its share: send fewer at once, or to another node',
);
const TOO_MUCH = new Rejection(
  'overloaded',
  'too many bytes are waiting: send it again in a second, or to another node',
);

export class FairQueue<T> {
  readonly #options: FairQueueOptions;
  readonly #submit: (item: T) => void;
  readonly #schedule: (callback: () => void) => void;
  readonly #now: () => number;
  readonly #onTurn = () => this.#turn();
  readonly #sources = new WeakMap<Sender, Source<T>>();
  readonly #bigSources = new WeakMap<Sender, Source<T>>();
  readonly #peers = new Lane<T>();
  readonly #known = new Lane<T>();
  readonly #newcomers = new Lane<T>();
  readonly #small: readonly Lane<T>[] = [this.#peers, this.#known, this.#newcomers];
  readonly #bigOfPeers = new Lane<T>();
  readonly #bigOfUsers = new Lane<T>();
  readonly #big: readonly Lane<T>[] = [this.#bigOfPeers, this.#bigOfUsers];
  readonly #pace = new Pace();
  readonly #shares = new Shares();
  /** Whose turn is next, of the small lanes and of the big ones. */
  #nextSmall = 0;
  #nextBig = 0;
  #length = 0;
  #bytes = 0;
  #scheduled = false;
  /** Handed over in this turn. */
  #submitted = 0;
  #submittedBytes = 0;
  #submittedUs = 0;
  /** When this turn began, and whether anything waited at its end. */
  #turnMs = 0;
  #busy = false;
  /** When the big one that is under way was handed over, 0 while there is none. */
  #bigSince = 0;
  /** Until then the small ones are first. */
  #smallUntil = 0;
  #draining = false;
  #drained: (() => void) | null = null;

  constructor(options: FairQueueOptions, modules: FairQueueModules<T>) {
    this.#options = options;
    this.#submit = modules.submit;
    this.#schedule = modules.schedule ?? setImmediate;
    this.#now = modules.now ?? performance.now.bind(performance);
  }

  /** Bytes of request bodies waiting. */
  get bytes(): number {
    return this.#bytes;
  }

  /** Requests waiting. */
  get length(): number {
    return this.#length;
  }

  /** How long all that waits will take, ms. */
  get waitMs(): number {
    return this.#pace.msOf(workIn(this.#small) + workIn(this.#big));
  }

  /**
   * Asked once the head of a request is known and before its body is read.
   *
   * @param bytes of its body, as far as they are known
   * @returns why there is no room for it, or null
   */
  refusal(sender: Sender, party: Party, bytes: number): Rejection | null {
    if (this.#draining) return null;
    const big = bytes > BIG_BODY_BYTES;
    const source = this.#sourceOf(sender, big);
    const now = this.#now();
    if (sender.unanswered > 1) source.asker.hastyMs = now;
    if (party === 'users') this.#shares.asks(source.asker, this.#known.length + this.#newcomers.length, now);
    return this.#refusalOf(source, party, bytes, now);
  }

  /**
   * Hands a request over, at once if nothing waits.
   *
   * @param sender whose turns it takes
   * @returns why it was not taken, or null
   */
  offer(sender: Sender, party: Party, item: T, bytes: number): Rejection | null {
    if (this.#draining) {
      this.#submit(item);
      return null;
    }
    const big = bytes > BIG_BODY_BYTES;
    const source = this.#sourceOf(sender, big);
    const now = this.#now();
    const refusal = this.#refusalOf(source, party, bytes, now);
    if (refusal !== null) return refusal;
    source.asker.takenMs = now;
    const workUs = workOf(bytes);
    if (this.#length === 0 && !big && this.#mayTake(bytes)) {
      meet(source, now);
      this.#hand(item, bytes, workUs);
    } else {
      this.#bytes += bytes;
      this.#length += 1;
      this.#laneOf(source, party, big).push(source, { item, bytes, workUs });
    }
    if (!this.#scheduled) {
      this.#scheduled = true;
      this.#schedule(this.#onTurn);
    }
    return null;
  }

  /** Hands over at once what comes from now on. @returns when all that waited has been handed over too. */
  drain(): Promise<void> {
    this.#draining = true;
    if (this.#length === 0) return Promise.resolve();
    return new Promise((resolve) => {
      this.#drained = resolve;
    });
  }

  #sourceOf(sender: Sender, big: boolean): Source<T> {
    const sources = big ? this.#bigSources : this.#sources;
    let source = sources.get(sender);
    if (source === undefined) {
      source = new Source();
      sources.set(sender, source);
    }
    return source;
  }

  #laneOf(source: Source<T>, party: Party, big: boolean): Lane<T> {
    if (party === 'peers') return big ? this.#bigOfPeers : this.#peers;
    if (big) return this.#bigOfUsers;
    return source.known ? this.#known : this.#newcomers;
  }

  #refusalOf(source: Source<T>, party: Party, bytes: number, now: number): Rejection | null {
    const { maxBytes, maxBurstWaitMs } = this.#options;
    const mayWait = party === 'peers' ? maxBytes : USERS_BYTES * maxBytes;
    if (this.#bytes > 0 && this.#bytes + bytes > mayWait) return TOO_MUCH;
    const big = bytes > BIG_BODY_BYTES;
    // One that waits stays in its lane.
    if (source.length === 0) source.known = now >= source.knownFromMs;
    const lane = this.#laneOf(source, party, big);
    if (lane.length === 0) {
      lane.emptyMs = now;
      return null;
    }
    const waitMs = this.#waitBefore(source, lane, big);
    if (party === 'peers' || big) return waitMs <= maxBurstWaitMs ? null : TOO_LONG;
    const manner = this.#mannerOf(source, now);
    if (manner !== 'on and on' && lane.sources <= FEW_SOURCES) return null;
    if (waitMs <= longestWait(this.#options, manner, now - lane.emptyMs)) return null;
    this.#shares.refused();
    return manner === 'on and on' ? TOO_OFTEN : TOO_LONG;
  }

  #mannerOf(source: Source<T>, now: number): Manner {
    const { asker } = source;
    if (source.length > 0) return 'on and on';
    if (now - asker.takenMs >= FORGOTTEN_MS) return 'afresh';
    if (now - asker.hastyMs >= FORGOTTEN_MS) return 'one at a time';
    return this.#shares.allows(asker, now) ? 'within its share' : 'on and on';
  }

  /** @returns how long the next request of a source will wait, ms. */
  #waitBefore(source: Source<T>, lane: Lane<T>, big: boolean): number {
    const lanes = big ? this.#big : this.#small;
    const others = big ? this.#small : this.#big;
    const refilled = this.#shares.scarce && (lane === this.#known || lane === this.#newcomers);
    const beforeUs = lane.before(source, refilled);
    const inTurnsUs = Math.min(beforeUs * busyOf(lanes), beforeUs + workIn(lanes) - lane.workUs);
    const workUs = workIn(others) > 0 ? 2 * inTurnsUs : inTurnsUs;
    return this.#pace.msOf(workUs);
  }

  #mayTake(bytes: number): boolean {
    return (
      this.#bigSince === 0 &&
      this.#submitted < SLICE_LENGTH &&
      (this.#submitted === 0 || this.#submittedBytes + bytes <= SLICE_BYTES)
    );
  }

  #hand(item: T, bytes: number, workUs: number): void {
    this.#submitted += 1;
    this.#submittedBytes += bytes;
    this.#submittedUs += workUs;
    this.#shares.served();
    this.#submit(item);
  }

  #turn(): void {
    const now = this.#now();
    if (this.#busy) this.#pace.worked(this.#submittedUs, (now - this.#turnMs) * 1000);
    this.#turnMs = now;
    this.#scheduled = false;
    this.#submitted = 0;
    this.#submittedBytes = 0;
    this.#submittedUs = 0;
    if (this.#bigSince !== 0) {
      this.#smallUntil = 2 * now - this.#bigSince;
      this.#bigSince = 0;
    }
    const smallWaits = this.#small.some(waits);
    if (this.#big.some(waits) && (!smallWaits || now >= this.#smallUntil)) this.#handBig(now);
    else this.#handSlice();
    this.#busy = this.#length > 0;
    for (const lane of this.#small) if (lane.length === 0) lane.emptyMs = now;
    if (this.#length === 0 && this.#drained !== null) {
      this.#drained();
      this.#drained = null;
    }
    if (this.#length > 0 || this.#submitted > 0) {
      this.#scheduled = true;
      this.#schedule(this.#onTurn);
    }
  }

  #handBig(now: number): void {
    this.#bigSince = now;
    const turn = nextOf(this.#big, this.#nextBig);
    this.#nextBig = turn + 1;
    this.#handFrom(this.#big[turn]);
  }

  #handSlice(): void {
    while (this.#mayTake(0)) {
      const turn = nextOf(this.#small, this.#nextSmall);
      if (turn === -1) return;
      this.#nextSmall = turn + 1;
      this.#handFrom(this.#small[turn]);
      if (this.#submittedBytes > SLICE_BYTES) return;
    }
  }

  #handFrom(lane: Lane<T> | undefined): void {
    const source = lane?.next();
    if (lane === undefined || source === undefined) return;
    const { item, bytes, workUs } = source.shift();
    meet(source, this.#turnMs);
    source.known = this.#turnMs >= source.knownFromMs;
    const to = source.known && lane === this.#newcomers ? this.#known : lane;
    to.return(source);
    this.#length -= 1;
    this.#bytes -= bytes;
    this.#hand(item, bytes, workUs);
  }
}

/** A connection has a turn. */
function meet(source: Source<unknown>, nowMs: number): void {
  if (source.knownFromMs === Number.POSITIVE_INFINITY) source.knownFromMs = nowMs + NEWCOMER_MS;
}

function waits(lane: Lane<unknown>): boolean {
  return lane.length > 0;
}

/** @returns the index of the next lane in which anything waits, from one on and round; -1 when there is none. */
function nextOf(lanes: readonly Lane<unknown>[], from: number): number {
  for (let i = 0; i < lanes.length; i += 1) {
    const turn = (from + i) % lanes.length;
    if ((lanes[turn]?.length ?? 0) > 0) return turn;
  }
  return -1;
}

function workIn(lanes: readonly Lane<unknown>[]): number {
  let workUs = 0;
  for (const lane of lanes) workUs += lane.workUs;
  return workUs;
}

/** @returns how many lanes share the turns. */
function busyOf(lanes: readonly Lane<unknown>[]): number {
  let busy = 0;
  for (const lane of lanes) if (lane.length > 0) busy += 1;
  return busy;
}
