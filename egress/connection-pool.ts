/**
 * The connections to one target: keeps a few warm, opens more while all are busy, and comes back after a
 * loss with exponential back-off and jitter.
 *
 * A target that fails is asked with little: one connection, and on it one order, then two, four … as it
 * answers, until it has proven itself. So a target that is dead, or accepts
 * and resets, or never answers, costs the same few system calls a second whatever the flow of orders.
 */
import { type BackoffOptions, backoffMs } from './backoff.ts';
import type { ConnectionEnd, Delivery } from './delivery.ts';
import {
  type ConnectionOptions,
  type ConnectionOwner,
  type Dialler,
  PipelinedConnection,
} from './pipelined-connection.ts';

export interface ConnectionPoolOptions extends ConnectionOptions {
  /** Most connections; more than `warmConnections` only while all others have an order outstanding. */
  readonly connections: number;
  /** Connections kept open while there is nothing to send. */
  readonly warmConnections: number;
  /** Between failed connections. */
  readonly reconnect: BackoffOptions;
}

export interface ConnectionPoolOwner {
  connected(): void;
  disconnected(reason: ConnectionEnd): void;
  /**
   * Orders have got the same answer.
   * @param body valid only during the call
   */
  answered(deliveries: readonly Delivery[], status: number, body: Buffer): void;
  /**
   * A connection has ended with these orders on it.
   * @param written so many of them, from the front, may have arrived
   */
  unanswered(deliveries: readonly Delivery[], written: number, reason: ConnectionEnd): void;
  /** There may be room for orders that wait. */
  room(): void;
}

export type Connection = PipelinedConnection<Delivery>;

/** A connection has proven itself after so many answers, or after it has answered and lived so long. */
const PROVEN_ANSWERS = 64;
const PROVEN_MS = 1_000;
/** An idle connection that the server closes after so long, as servers do, is no failure. */
const IDLE_MS = 10_000;

export class ConnectionPool implements ConnectionOwner<Delivery> {
  readonly #owner: ConnectionPoolOwner;
  readonly #options: ConnectionPoolOptions;
  readonly #connections: Connection[] = [];
  #dialler: Dialler;
  #connecting = 0;
  #outstanding = 0;
  /** Of these, larger than what a connection may have unanswered beside others. */
  #oversize = 0;
  /** Failed rounds in a row: no connection has proven itself since the first of them. */
  #failures = 0;
  #timer: NodeJS.Timeout | null = null;
  /** While its connections are being ended, none is opened and none written to. */
  /** Has orders that have not been flushed. */
  #filling: Connection | null = null;
  #ending = false;

  constructor(dialler: Dialler, options: ConnectionPoolOptions, owner: ConnectionPoolOwner) {
    this.#dialler = dialler;
    this.#options = options;
    this.#owner = owner;
  }

  /** Connections that can carry orders. */
  get up(): number {
    return this.#connections.length - this.#connecting;
  }

  /** Orders written and not answered, on all connections. */
  get outstanding(): number {
    return this.#outstanding;
  }

  /**
   * Writes to the connection with the fewest orders outstanding, and until the next `flush` to the same one: orders
   * that leave together share a system call and a wake-up of the far end, which cost more than an order itself.
   * @returns false when none has room
   */
  write(delivery: Delivery, headStart: string): boolean {
    if (this.#oversize > 0 && this.#isOversize(delivery)) return false;
    const connection = this.#choose(delivery.bytes);
    if (connection === null) return false;
    const { request } = delivery;
    // May throw, before anything is counted.
    const headerEnd = request.headerEnd();
    this.#outstanding++;
    if (this.#isOversize(delivery)) this.#oversize++;
    connection.write(delivery, headStart, headerEnd, request.admitted.order.canonical, performance.now());
    return true;
  }

  /** Sends what has been written since the last call. */
  flush(): void {
    const connection = this.#filling;
    this.#filling = null;
    connection?.flush();
  }

  /**
   * Opens what is missing, unless a failure is being waited out.
   * @param busy one connection more than the warm ones is wanted
   */
  open(busy: boolean): void {
    while (this.#mayDial(busy)) this.#dial();
  }

  /** Ends all connections and opens new ones another way; failures so far are forgotten. */
  replace(dialler: Dialler): void {
    this.#dialler = dialler;
    this.#endAll('replaced');
    this.#failures = 0;
    this.#ending = false;
    this.open(false);
    this.#owner.room();
  }

  /** Ends all connections for good. */
  close(): void {
    this.#endAll('shutdown');
  }

  // --- what connections report ---

  opened(connection: Connection): void {
    this.#connecting--;
    this.#owner.connected();
    if (connection.open) this.#owner.room();
  }

  answered(connection: Connection, deliveries: readonly Delivery[], status: number, body: Buffer): void {
    this.#outstanding -= deliveries.length;
    for (const delivery of deliveries) if (this.#isOversize(delivery)) this.#oversize--;
    if (this.#failures > 0 && hasProvenItself(connection)) {
      this.#failures = 0;
      this.open(false);
    }
    this.#owner.answered(deliveries, status, body);
    this.#owner.room();
  }

  drained(): void {
    this.#owner.room();
  }

  ended(connection: Connection, reason: ConnectionEnd, unanswered: Delivery[], written: number): void {
    this.#connections.splice(this.#connections.indexOf(connection), 1);
    if (this.#filling === connection) this.#filling = null;
    if (connection.openedAtMs === 0) this.#connecting--;
    this.#outstanding -= unanswered.length;
    for (const delivery of unanswered) if (this.#isOversize(delivery)) this.#oversize--;
    if (!this.#ending && isFailure(connection, reason, unanswered.length)) this.#backOff();
    this.#owner.disconnected(reason);
    this.#owner.unanswered(unanswered, written, reason);
    if (this.#ending) return;
    this.open(false);
    this.#owner.room();
  }

  /** Of such orders one at a time is under way: with each connection full of one, a target that takes nothing would cost 300 MiB. */
  #isOversize(delivery: Delivery): boolean {
    return delivery.bytes > this.#options.maxOutstandingBytes;
  }

  #choose(bytes: number): Connection | null {
    const filling = this.#filling;
    if (filling?.canTake(bytes, this.#window(filling))) return filling;
    this.flush();
    const connection = this.#leastBusy(bytes);
    this.#filling = connection;
    // The next order should find an idle connection rather than wait behind this one's answer.
    if (connection !== null && connection.outstanding > 0) this.open(true);
    return connection;
  }

  #leastBusy(bytes: number): Connection | null {
    if (this.#ending) return null;
    let best: Connection | null = null;
    for (const connection of this.#connections) {
      if (!connection.canTake(bytes, this.#window(connection))) continue;
      if (connection.outstanding === 0) return connection;
      if (best === null || connection.outstanding < best.outstanding) best = connection;
    }
    return best;
  }

  #window(connection: Connection): number {
    return this.#failures === 0 ? this.#options.maxOutstanding : 1 + connection.answered;
  }

  #mayDial(busy: boolean): boolean {
    const { connections, warmConnections } = this.#options;
    const count = this.#connections.length;
    if (this.#ending || this.#timer !== null || count >= connections) return false;
    if (this.#failures > 0) return count === 0;
    return count < warmConnections || (busy && this.#connecting === 0);
  }

  #dial(): void {
    try {
      this.#connections.push(new PipelinedConnection(this.#dialler, this, this.#options));
      this.#connecting++;
    } catch {
      // Impossible options (a port out of range, an own certificate that does not parse): as good as down.
      this.#backOff();
      this.#owner.disconnected('connect_failed');
    }
  }

  #backOff(): void {
    // Connections that fail together are one failure.
    if (this.#timer !== null) return;
    this.#failures++;
    this.#timer = setTimeout(
      () => {
        this.#timer = null;
        this.open(false);
        this.#owner.room();
      },
      backoffMs(this.#failures, this.#options.reconnect),
    );
  }

  #endAll(reason: ConnectionEnd): void {
    this.#ending = true;
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#timer = null;
    // Each takes itself off the list.
    for (const connection of this.#connections.slice()) connection.destroy(reason);
  }
}

function hasProvenItself(connection: Connection): boolean {
  return (
    connection.answered >= PROVEN_ANSWERS ||
    (connection.answered > 0 && performance.now() - connection.openedAtMs >= PROVEN_MS)
  );
}

/** Does this end speak against the target, so that the next attempt waits? */
function isFailure(connection: Connection, reason: ConnectionEnd, unanswered: number): boolean {
  if (reason !== 'closed' && reason !== 'connection_lost') return true;
  if (connection.openedAtMs === 0) return true;
  const idle = unanswered === 0 && performance.now() - connection.openedAtMs >= IDLE_MS;
  return !idle && !hasProvenItself(connection);
}
