/**
 * The order stream to one peer: one connection for small orders and one for large, so that no small one waits behind a
 * large one. While more is on its way than the near future acknowledges, on a long or lossy way, further ones for small
 * orders join: a lost packet holds up the orders of its own connection alone. It finds out whether the peer speaks the stream, comes back after a loss, and asks again
 * later where the peer does not; meanwhile the target uses requests.
 */
import type { StreamEvents } from '../../identity/channel/channel.ts';
import type { CloseReason } from '../../pipeline/stream/close-reasons.ts';
import type { Answer } from '../answer.ts';
import { type BackoffOptions, backoffMs } from '../backoff.ts';
import type { ConnectionEnd, Delivery } from '../delivery.ts';
import {
  type OutgoingModules,
  type OutgoingOptions,
  type OutgoingOwner,
  OutgoingStream,
  type StreamDialler,
} from './outgoing-stream.ts';

export interface StreamCarrierOptions extends OutgoingOptions {
  /** Between attempts after a connection was lost. */
  readonly reconnect: BackoffOptions;
  /** Between attempts while the peer does not offer the stream, or breaks its rules. */
  readonly streamRetry: BackoffOptions;
  /** Most connections for small orders. */
  readonly streamConnections: number;
}

export interface StreamModules extends OutgoingModules {
  readonly events: StreamEvents;
}

export interface StreamCarrierOwner {
  settled(delivery: Delivery, answer: Answer): void;
  /** A connection has ended with these orders on it; the first `written` may have arrived. */
  unanswered(deliveries: readonly Delivery[], written: number, reason: ConnectionEnd): void;
  /** There may be room for orders that wait. */
  room(): void;
}

/** A connection that lived so long was a good one. */
const PROVEN_MS = 10_000;

/** What a near peer owes at most while the network's traffic flows: so much goes to the first connection. */
const FEW_BYTES = 16_384;
/** When even the one that owes least owes so much, another is opened. */
const MANY_BYTES = 32_768;
/** While the connection for large orders owes so much, more of them go as requests, which have connections enough. */
const MUCH_BYTES = 1 << 20;
/** A further connection that is not used for so long is closed. */
const IDLE_MS = 30_000;
/** Between a further connection that was lost and the next attempt. */
const EXTRA_RETRY_MS = 1_000;

/** One of the two connections that are always there with its way back. */
interface Lane {
  readonly large: boolean;
  stream: OutgoingStream | null;
  /** Attempts in a row that came to nothing, or did not last. */
  failures: number;
  timer: NodeJS.Timeout | null;
}

/** What else a connection may end for is a broken rule or a refusal: asking again at once would not help. */
const LOSSES: ReadonlySet<CloseReason> = new Set<CloseReason>([
  'normal',
  'shutdown',
  'lost',
  'connect_failed',
  'connect_timeout',
  'certificate_mismatch',
  'silent',
  'not_listed',
]);

export class StreamCarrier implements OutgoingOwner {
  readonly #name: string;
  readonly #options: StreamCarrierOptions;
  readonly #modules: StreamModules;
  readonly #owner: StreamCarrierOwner;
  readonly #small: Lane = { large: false, stream: null, failures: 0, timer: null };
  readonly #large: Lane = { large: true, stream: null, failures: 0, timer: null };
  /** Further ones for small orders, open or being opened. */
  readonly #extras: OutgoingStream[] = [];
  /** The last that was given a small order. */
  #filling: OutgoingStream | null = null;
  /** `performance.now()` before which none is dialled. */
  #nextExtraMs = 0;
  #dialler: StreamDialler;
  #closed = false;

  constructor(
    name: string,
    dialler: StreamDialler,
    options: StreamCarrierOptions,
    modules: StreamModules,
    owner: StreamCarrierOwner,
  ) {
    this.#name = name;
    this.#dialler = dialler;
    this.#options = options;
    this.#modules = modules;
    this.#owner = owner;
  }

  /** Connections that can carry orders. */
  get up(): number {
    return this.#streams().filter((stream) => stream.open).length;
  }

  /** Can it carry orders of one kind at least? */
  get isUp(): boolean {
    return this.#leastOwing() !== null || this.#openLarge() !== null;
  }

  /** Orders written and not settled. */
  get outstanding(): number {
    let sum = (this.#small.stream?.outstanding ?? 0) + (this.#large.stream?.outstanding ?? 0);
    for (const extra of this.#extras) sum += extra.outstanding;
    return sum;
  }

  /** Bytes of those, as the queue counts them. */
  get owedBytes(): number {
    return this.#streams().reduce((sum, { owedBytes }) => sum + owedBytes, 0);
  }

  /** How far the peer's clock is ahead of ours, microseconds; null when unknown. */
  get clockOffsetUs(): number | null {
    return this.#small.stream?.clockOffsetUs ?? null;
  }

  /** Begins to connect. */
  open(): void {
    this.#dial(this.#small);
  }

  /** @returns whether such an order goes over the stream, now or when there is room. */
  carries(delivery: Delivery): boolean {
    const stream = delivery.large ? this.#openLarge() : this.#leastOwing();
    if (delivery.large && stream !== null && stream.owedBytes >= MUCH_BYTES) return false;
    return stream?.takes(delivery.request.admitted.order.canonical.length) === true;
  }

  /** Sends an order that `carries` is true for. @returns false when there is no room. */
  write(delivery: Delivery): boolean {
    if (delivery.large) return this.#openLarge()?.write(delivery, performance.now()) === true;
    // Orders of one turn share a frame.
    if (this.#filling?.filling && this.#filling.write(delivery, performance.now())) return true;
    const stream = this.#leastOwing();
    this.#filling = stream;
    if (stream === null) return false;
    if (stream.owedBytes >= MANY_BYTES) this.#dialExtra();
    return stream.write(delivery, performance.now());
  }

  /** Asks a peer that had no stream again, without waiting for its time. */
  probe(): void {
    if (this.#small.timer === null || this.#closed) return;
    clearTimeout(this.#small.timer);
    this.#small.timer = null;
    this.#dial(this.#small);
  }

  /** Ends the connections and makes new ones another way. */
  replace(dialler: StreamDialler): void {
    this.#dialler = dialler;
    for (const lane of [this.#small, this.#large]) {
      lane.failures = 0;
      this.#end(lane, 'normal', 'replaced');
    }
    this.#endExtras('normal', 'replaced');
    this.#dial(this.#small);
  }

  /** Ends the connections for good. */
  close(): void {
    this.#closed = true;
    for (const lane of [this.#small, this.#large]) this.#end(lane, 'shutdown', 'shutdown');
    this.#endExtras('shutdown', 'shutdown');
  }

  // --- what the connections report ---

  streamOpened(stream: OutgoingStream): void {
    this.#modules.events.opened(this.#name, 'out');
    if (stream === this.#small.stream) this.#dial(this.#large);
    this.#owner.room();
  }

  sent(orders: number): void {
    this.#modules.events.orders(this.#name, 'out', orders);
  }

  settled(delivery: Delivery, answer: Answer): void {
    this.#owner.settled(delivery, answer);
  }

  streamRoom(): void {
    this.#owner.room();
  }

  streamEnded(
    stream: OutgoingStream,
    reason: CloseReason,
    byPeer: boolean,
    unanswered: Delivery[],
    written: number,
  ): void {
    this.#modules.events.closed(this.#name, 'out', reason, byPeer);
    if (this.#filling === stream) this.#filling = null;
    const lane = [this.#small, this.#large].find((one) => one.stream === stream);
    const extra = this.#extras.indexOf(stream);
    if (lane !== undefined) {
      lane.stream = null;
      const lasted = stream.openedAtMs > 0 && performance.now() - stream.openedAtMs >= PROVEN_MS;
      lane.failures = lasted ? 1 : lane.failures + 1;
      this.#retryLater(lane, LOSSES.has(reason) ? this.#options.reconnect : this.#options.streamRetry);
    } else if (extra >= 0) {
      this.#extras.splice(extra, 1);
      if (reason !== 'normal') this.#nextExtraMs = performance.now() + EXTRA_RETRY_MS;
    } else {
      // It was ended from here, where also is said what becomes of its orders.
      return;
    }
    this.#owner.unanswered(unanswered, written, endOf(reason));
    this.#owner.room();
  }

  #streams(): OutgoingStream[] {
    return [this.#small.stream, this.#large.stream, ...this.#extras].filter((stream) => stream !== null);
  }

  #openLarge(): OutgoingStream | null {
    return this.#large.stream?.open === true ? this.#large.stream : null;
  }

  /** The first that owes little, so that orders share frames and connections idle; else the one that owes least. */
  #leastOwing(): OutgoingStream | null {
    const first = this.#small.stream?.open === true ? this.#small.stream : null;
    if (this.#extras.length === 0 || (first !== null && first.owedBytes < FEW_BYTES)) return first;
    let best = first;
    for (const extra of this.#extras) {
      if (!extra.open) continue;
      if (extra.owedBytes < FEW_BYTES) return extra;
      if (best === null || extra.owedBytes < best.owedBytes) best = extra;
    }
    return best;
  }

  #dialExtra(): void {
    if (this.#extras.length + 1 >= this.#options.streamConnections) return;
    // One after the other: each may be enough.
    if (this.#extras.at(-1)?.openedAtMs === 0 || performance.now() < this.#nextExtraMs) return;
    try {
      this.#extras.push(new OutgoingStream(this.#dialler, this.#options, this.#modules, this, IDLE_MS));
    } catch {
      this.#nextExtraMs = performance.now() + EXTRA_RETRY_MS;
    }
  }

  #endExtras(reason: CloseReason, end: ConnectionEnd): void {
    for (const stream of this.#extras.splice(0)) this.#endStream(stream, reason, end);
  }

  #dial(lane: Lane): void {
    if (this.#closed || lane.stream !== null || lane.timer !== null) return;
    // Large ones wait for the small ones' connection to show that there is a stream at all.
    if (lane.large && this.#small.stream?.open !== true) return;
    try {
      lane.stream = new OutgoingStream(this.#dialler, this.#options, this.#modules, this);
    } catch {
      // Impossible options, as with requests: the pool says so too.
      lane.failures++;
      this.#retryLater(lane, this.#options.streamRetry);
    }
  }

  #retryLater(lane: Lane, backoff: BackoffOptions): void {
    if (this.#closed) return;
    lane.timer ??= setTimeout(
      () => {
        lane.timer = null;
        this.#dial(lane);
      },
      backoffMs(lane.failures, backoff),
    );
  }

  /** @param reason told to the peer. @param end what its orders are given back for */
  #end(lane: Lane, reason: CloseReason, end: ConnectionEnd): void {
    if (lane.timer !== null) clearTimeout(lane.timer);
    lane.timer = null;
    const { stream } = lane;
    if (stream === null) return;
    lane.stream = null;
    this.#endStream(stream, reason, end);
  }

  #endStream(stream: OutgoingStream, reason: CloseReason, end: ConnectionEnd): void {
    const orders = stream.takeBack();
    stream.close(reason);
    this.#owner.unanswered(orders.unanswered, orders.written, end);
  }
}

/** What a reason is called where ways to a target are counted together. */
function endOf(reason: CloseReason): ConnectionEnd {
  switch (reason) {
    case 'normal':
    case 'shutdown':
    case 'superseded':
      return 'closed';
    case 'lost':
      return 'connection_lost';
    case 'silent':
    case 'stalled':
      return 'response_timeout';
    case 'connect_failed':
    case 'connect_timeout':
    case 'certificate_mismatch':
      return reason;
    default:
      return 'protocol_error';
  }
}
