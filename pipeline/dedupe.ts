/**
 * The dedupe window: which orders this node has taken, and whether the archive holds them already.
 * v2's size (1,048,576 keys for 60 s, protocol section 5); one key is 32 bytes as hex text and covers
 * the whole canonical form and the signer. Bounded by count and by age, without timers: keys leave in
 * the order they came when newer ones arrive.
 *
 * The keys stand in arrays of numbers (digest-ring.ts), where the garbage collector has nothing to look at: as objects in
 * a map, 100,000 of them were what it was busy with, in pauses of up to 10 ms.
 */
import { DigestRing, NOWHERE } from './digest-ring.ts';

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

const STATES: readonly ArchiveState[] = ['none', 'pending', 'durable'];
/** Of a slot's state, besides two bits for the archive's. */
const STATE_BITS = 3;
const FORWARDED = 4;

/** The window of a node whose orders all pass through one thread. */
export class DedupeWindow implements OrderWindow {
  readonly #options: DedupeOptions;
  /** With the orders that are on their way to the archive, which somebody may wait for. */
  readonly #ring = new DigestRing<SeenOrder>();

  constructor(options: DedupeOptions) {
    this.#options = options;
  }

  get size(): number {
    return this.#ring.size;
  }

  find(key: string, nowUs: number): SeenOrder | null {
    const place = this.#ring.find(key);
    if (place === NOWHERE) return null;
    const receivedAtUs = this.#ring.time(place);
    if (nowUs - receivedAtUs > this.#options.windowUs) return null;
    const pending = this.#ring.value(place);
    if (pending !== null) return pending;
    const state = this.#ring.state(place);
    const seen = new SeenOrder(key, receivedAtUs);
    seen.archive = STATES[state & STATE_BITS] ?? 'none';
    seen.forwarded = (state & FORWARDED) !== 0;
    return seen;
  }

  /** Never null: nobody else is there. */
  add(key: string, receivedAtUs: number, archive: ArchiveState, forwarded = true): SeenOrder {
    this.#evict(receivedAtUs);
    const seen = new SeenOrder(key, receivedAtUs);
    seen.archive = archive;
    seen.forwarded = forwarded;
    const place = this.#ring.push(key, receivedAtUs, stateOf(seen));
    if (archive === 'pending') this.#ring.setValue(place, seen);
    return seen;
  }

  forward(seen: SeenOrder): boolean {
    const first = !seen.forwarded;
    seen.forwarded = true;
    if (first) this.#write(seen);
    return first;
  }

  append(seen: SeenOrder): boolean {
    const first = seen.archive === 'none';
    if (!first) return false;
    seen.archive = 'pending';
    const place = this.#write(seen);
    if (place !== NOWHERE) this.#ring.setValue(place, seen);
    return true;
  }

  wait(seen: SeenOrder, waiter: Waiter): void {
    seen.waiters ??= [];
    seen.waiters.push(waiter);
  }

  settle(seen: SeenOrder, error: Error | null): void {
    seen.archive = error === null ? 'durable' : 'none';
    const place = this.#write(seen);
    if (place !== NOWHERE) this.#ring.setValue(place, null);
    settle(seen, error);
  }

  /** @returns where it stands; nowhere when it has left, or another order has come under its key since. */
  #write(seen: SeenOrder): number {
    const place = this.#ring.find(seen.key);
    if (place === NOWHERE || this.#ring.time(place) !== seen.receivedAtUs) return NOWHERE;
    this.#ring.setState(place, stateOf(seen));
    return place;
  }

  #evict(nowUs: number): void {
    const ring = this.#ring;
    while (ring.length > 0) {
      const expired = nowUs - ring.time(ring.oldest) > this.#options.windowUs;
      if (!expired && ring.size < this.#options.maxKeys) return;
      ring.shift();
    }
  }
}

function stateOf({ archive, forwarded }: SeenOrder): number {
  return STATES.indexOf(archive) | (forwarded ? FORWARDED : 0);
}

/** After a failure the key stays: a retry is archived, but not forwarded a second time. */
export function settle(seen: SeenOrder, error: Error | null): void {
  const { waiters } = seen;
  seen.archive = error === null ? 'durable' : 'none';
  seen.waiters = null;
  for (const waiter of waiters ?? []) waiter(error);
}
