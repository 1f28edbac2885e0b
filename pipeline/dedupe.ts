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

/** What the window remembers of one order. `W` waits for the outcome of a pending append. */
export class SeenOrder<W> {
  readonly key: string;
  readonly receivedAtUs: number;
  archive: ArchiveState = 'none';
  /** False for an order of an earlier run: the archive holds it, but nobody knows whether builder and peers got it. */
  forwarded = true;
  waiters: W[] | null = null;

  constructor(key: string, receivedAtUs: number) {
    this.key = key;
    this.receivedAtUs = receivedAtUs;
  }
}

export interface DedupeOptions {
  /** Most keys held; the oldest leaves when one more comes. */
  readonly maxKeys: number;
  /** Age at which a key leaves, in microseconds. */
  readonly windowUs: number;
}

export class DedupeWindow<W> {
  readonly #options: DedupeOptions;
  readonly #seen = new Map<string, SeenOrder<W>>();
  /** In order of arrival from #oldest on; what has expired and come again is in it twice. */
  #arrivals: SeenOrder<W>[] = [];
  #oldest = 0;

  constructor(options: DedupeOptions) {
    this.#options = options;
  }

  /** Keys held now; some may be past their age until the next insert. */
  get size(): number {
    return this.#seen.size;
  }

  /** @returns the order with this key if it came within the window, else null. */
  find(key: string, nowUs: number): SeenOrder<W> | null {
    const seen = this.#seen.get(key);
    if (seen === undefined || nowUs - seen.receivedAtUs > this.#options.windowUs) return null;
    return seen;
  }

  /** Takes an order into the window. The caller has looked it up before. */
  add(key: string, receivedAtUs: number): SeenOrder<W> {
    this.#evict(receivedAtUs);
    const seen = new SeenOrder<W>(key, receivedAtUs);
    this.#seen.set(key, seen);
    this.#arrivals.push(seen);
    return seen;
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
