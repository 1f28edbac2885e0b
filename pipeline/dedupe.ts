/**
 * The dedupe window: which orders this node has taken, and whether the archive holds them already.
 * v2's size (1,048,576 keys for 60 s, protocol section 5); one key is 32 bytes as hex text and covers
 * the whole canonical form and the signer. Bounded by count and by age, without timers: keys leave in
 * the order they came when newer ones arrive.
 *
 * The order of arrival is kept beside the map: going through the map for its oldest key passes all slots whose keys
 * have left since it last grew, which at 2,000 orders/s for 60 s took 100 µs per order.
 */

/**
 * Where an order stands with the archive:
 * - `none`: the archive does not hold it (it came from a peer, or an append failed)
 * - `pending`: appended, not yet durable
 * - `durable`: a user may be told that it was accepted
 */
export type ArchiveState = 'none' | 'pending' | 'durable';

/** Told once what became of a pending append: null when the order is durable. */
export type Waiter = (error: Error | null) => void;

/** What the window remembers of one order. */
export class SeenOrder {
  readonly key: string;
  readonly receivedAtUs: number;
  archive: ArchiveState = 'none';
  /** False for an order of an earlier run, or of a thread that failed: nobody knows whether builder and peers got it. */
  forwarded = true;
  waiters: Waiter[] | null = null;

  constructor(key: string, receivedAtUs: number) {
    this.key = key;
    this.receivedAtUs = receivedAtUs;
  }
}

/**
 * The window as the pipeline uses it: {@link DedupeWindow} where one thread has all orders, shared memory where
 * several do. A step that only one may take says whether it was this caller; who comes second looks again.
 */
export interface OrderWindow {
  /** Keys held now; some may be past their age until the next insert. */
  readonly size: number;
  /** @returns the order with this key if it came within the window, else null. */
  find(key: string, nowUs: number): SeenOrder | null;
  /**
   * Takes an order into the window, which its caller has not found there.
   * @param forwarded see SeenOrder; true unless set
   * @returns null when somebody else has just done so.
   */
  add(key: string, receivedAtUs: number, archive: ArchiveState, forwarded?: boolean): SeenOrder | null;
  /** Marks an order as forwarded. @returns whether it was not before. */
  forward(seen: SeenOrder): boolean;
  /** Marks an order that the archive does not hold as on its way there. @returns whether it was not before. */
  append(seen: SeenOrder): boolean;
  /** Has `waiter` told what becomes of a pending order. */
  wait(seen: SeenOrder, waiter: Waiter): void;
  /** The archive's word on a pending order; tells who waits. */
  settle(seen: SeenOrder, error: Error | null): void;
}

export interface DedupeOptions {
  /** Most keys held; the oldest leaves when one more comes. */
  readonly maxKeys: number;
  /** Age at which a key leaves, in microseconds. */
  readonly windowUs: number;
}

/** The window of a node whose orders all pass through one thread. */
export class DedupeWindow implements OrderWindow {
  readonly #options: DedupeOptions;
  readonly #seen = new Map<string, SeenOrder>();
  /** In order of arrival from #oldest on; what has expired and come again is in it twice. */
  #arrivals: SeenOrder[] = [];
  #oldest = 0;

  constructor(options: DedupeOptions) {
    this.#options = options;
  }

  get size(): number {
    return this.#seen.size;
  }

  find(key: string, nowUs: number): SeenOrder | null {
    const seen = this.#seen.get(key);
    if (seen === undefined || nowUs - seen.receivedAtUs > this.#options.windowUs) return null;
    return seen;
  }

  /** Never null: nobody else is there. */
  add(key: string, receivedAtUs: number, archive: ArchiveState, forwarded = true): SeenOrder {
    this.#evict(receivedAtUs);
    const seen = new SeenOrder(key, receivedAtUs);
    seen.archive = archive;
    seen.forwarded = forwarded;
    this.#seen.set(key, seen);
    this.#arrivals.push(seen);
    return seen;
  }

  forward(seen: SeenOrder): boolean {
    const first = !seen.forwarded;
    seen.forwarded = true;
    return first;
  }

  append(seen: SeenOrder): boolean {
    const first = seen.archive === 'none';
    if (first) seen.archive = 'pending';
    return first;
  }

  wait(seen: SeenOrder, waiter: Waiter): void {
    seen.waiters ??= [];
    seen.waiters.push(waiter);
  }

  settle(seen: SeenOrder, error: Error | null): void {
    settle(seen, error);
  }

  #evict(nowUs: number): void {
    for (let seen = this.#arrivals[this.#oldest]; seen !== undefined; seen = this.#arrivals[this.#oldest]) {
      const expired = nowUs - seen.receivedAtUs > this.#options.windowUs;
      if (!expired && this.#seen.size < this.#options.maxKeys) break;
      if (this.#seen.get(seen.key) === seen) this.#seen.delete(seen.key);
      this.#oldest += 1;
    }
    if (this.#oldest > 1024 && this.#oldest > this.#arrivals.length / 2) {
      this.#arrivals = this.#arrivals.slice(this.#oldest);
      this.#oldest = 0;
    }
  }
}

/** After a failure the key stays: a retry is archived, but not forwarded a second time. */
export function settle(seen: SeenOrder, error: Error | null): void {
  const { waiters } = seen;
  seen.archive = error === null ? 'durable' : 'none';
  seen.waiters = null;
  for (const waiter of waiters ?? []) waiter(error);
}
