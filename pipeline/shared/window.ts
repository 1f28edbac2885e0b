/**
 * The dedupe window of all threads of a node (table.ts): an order that comes to two of them is forwarded and archived
 * once. A thread keeps its own orders that are on their way to the archive besides, with who waits for them.
 *
 * What becomes of a pending order is written by the thread that owns the archive (`settled`), so that it holds
 * although the thread that took the order has ended. A duplicate that came to another thread looks again every other millisecond.
 */
import { type ArchiveState, type OrderWindow, SeenOrder, settle, type Waiter } from '../dedupe.ts';
import { DigestRing, NOWHERE, readDigest } from '../digest-ring.ts';
import { SharedTable, type TableMemory, tableMemory, VALUE } from './table.ts';

/** The word of a slot: two bits of the archive's state, one for forwarded, eight for the thread. */
const STATES: readonly ArchiveState[] = ['none', 'pending', 'durable'];
const STATE_BITS = 3;
const PENDING = 1;
const DURABLE = 2;
const FORWARDED = 4;
const OWNER_SHIFT = 8;
const LOOK_MS = 2;
/** How the count of the window's keys is kept: by the second in which they came. */
const SECOND_US = 1e6;

export interface SharedWindowOptions {
  readonly memory: TableMemory;
  /** This thread's number (SharedTable). */
  readonly owner: number;
  /** Age at which an order is forgotten, in microseconds. */
  readonly windowUs: number;
  /** Unix microseconds, for looking again. */
  readonly clock: () => number;
}

/** @param maxKeys most orders remembered */
export function windowMemory(maxKeys: number): TableMemory {
  return tableMemory(maxKeys);
}

interface Remote {
  readonly key: string;
  readonly waiter: Waiter;
}

export class SharedWindow implements OrderWindow {
  readonly #table: SharedTable;
  readonly #options: SharedWindowOptions;
  readonly #key = new Int32Array(4);
  /** As what #key was read: an order is looked for and then added. */
  #keyText = '';
  /** Orders of this thread that are on their way to the archive; not a map: see ordered-list.ts. */
  readonly #pending = new DigestRing<SeenOrder>();
  #remote: Remote[] = [];
  #look: NodeJS.Timeout | null = null;
  /** Orders that this thread has taken in, by second, oldest first. */
  readonly #counts: { readonly second: number; count: number }[] = [];

  constructor(options: SharedWindowOptions) {
    this.#options = options;
    this.#table = new SharedTable(options.memory, options.owner);
  }

  /** Keys that this thread has added and that are within the window. */
  get size(): number {
    const [first] = this.#counts;
    if (first === undefined) return 0;
    this.#forget(this.#options.clock());
    return this.#counts.reduce((sum, { count }) => sum + count, 0);
  }

  find(key: string, nowUs: number): SeenOrder | null {
    const own = this.#ownPending(key);
    if (own !== null) return own;
    const bucket = this.#lock(key);
    const at = this.#live(bucket, nowUs);
    const receivedAtUs = at < 0 ? 0 : this.#table.time(at);
    const state = at < 0 ? 0 : this.#state(at);
    this.#table.unlock(bucket);
    if (at < 0) return null;
    const seen = new SeenOrder(key, receivedAtUs);
    seen.archive = STATES[state & STATE_BITS] ?? 'none';
    seen.forwarded = (state & FORWARDED) !== 0;
    return seen;
  }

  add(key: string, receivedAtUs: number, archive: ArchiveState, forwarded = true): SeenOrder | null {
    const state =
      STATES.indexOf(archive) | (forwarded ? FORWARDED : 0) | (this.#options.owner << OWNER_SHIFT);
    const bucket = this.#lock(key);
    const known = this.#table.find(bucket, this.#key);
    const live = known >= 0 && receivedAtUs - this.#table.time(known) <= this.#options.windowUs;
    if (!live) {
      const at = known >= 0 ? known : this.#table.take(bucket, this.#key);
      this.#table.words[at + VALUE] = state;
      this.#table.date(at, receivedAtUs);
    }
    this.#table.unlock(bucket);
    if (live) return null;
    this.#count(receivedAtUs);
    const seen = new SeenOrder(key, receivedAtUs);
    seen.archive = archive;
    seen.forwarded = forwarded;
    if (archive === 'pending') this.#keep(seen);
    return seen;
  }

  forward(seen: SeenOrder): boolean {
    const claimed = this.#change(seen, (state) => ((state & FORWARDED) === 0 ? state | FORWARDED : null));
    if (claimed) seen.forwarded = true;
    return claimed;
  }

  append(seen: SeenOrder): boolean {
    const { owner } = this.#options;
    const claimed = this.#change(seen, (state) =>
      (state & STATE_BITS) === 0 ? (state & FORWARDED) | PENDING | (owner << OWNER_SHIFT) : null,
    );
    if (claimed) {
      seen.archive = 'pending';
      this.#keep(seen);
    }
    return claimed;
  }

  wait(seen: SeenOrder, waiter: Waiter): void {
    if (this.#ownPending(seen.key) === seen) {
      seen.waiters ??= [];
      seen.waiters.push(waiter);
      return;
    }
    this.#remote.push({ key: seen.key, waiter });
    this.#look ??= setInterval(() => this.#lookAgain(), LOOK_MS);
  }

  settle(seen: SeenOrder, error: Error | null): void {
    this.#drop(seen);
    // What is durable the archive's thread has written; an order that failed may never have come there.
    if (error !== null) this.settled(seen.key, this.#options.owner, false);
    settle(seen, error);
  }

  /** Writes what became of a pending order of a thread. */
  settled(key: string, owner: number, durable: boolean): void {
    const bucket = this.#lock(key);
    const at = this.#table.find(bucket, this.#key);
    if (at >= 0) {
      const state = this.#state(at);
      if ((state & STATE_BITS) === PENDING && state >>> OWNER_SHIFT === owner) {
        this.#table.words[at + VALUE] = (state & ~STATE_BITS) | (durable ? DURABLE : 0);
      }
    }
    this.#table.unlock(bucket);
  }

  /**
   * A thread has ended without notice: what it had taken and not got to the archive is not archived, and that, like all
   * that it took from `sinceUs` on, not forwarded: whoever sends it again has it archived and forwarded.
   * @param arrived whether a pending order is with the archive, by its first 128 bits in hex
   */
  abandoned(owner: number, sinceUs: number, arrived: (key: string) => boolean): void {
    const { words } = this.#table;
    this.#table.each((at) => {
      const state = this.#state(at);
      if (state >>> OWNER_SHIFT !== owner) return;
      const lost = (state & STATE_BITS) === PENDING && !arrived(this.#hex(at));
      let next = lost ? state & ~STATE_BITS : state;
      if (lost || this.#table.time(at) >= sinceUs) next &= ~FORWARDED;
      words[at + VALUE] = next;
    });
  }

  /** Ends the timer; who waits is told nothing. */
  close(): void {
    if (this.#look !== null) clearInterval(this.#look);
    this.#look = null;
  }

  #ownPending(key: string): SeenOrder | null {
    const place = this.#pending.find(key);
    return place === NOWHERE ? null : this.#pending.value(place);
  }

  #keep(seen: SeenOrder): void {
    this.#pending.setValue(this.#pending.push(seen.key, seen.receivedAtUs, 0), seen);
  }

  /** Orders get to the archive in about the order in which they came. */
  #drop({ key }: SeenOrder): void {
    const pending = this.#pending;
    const place = pending.find(key);
    if (place !== NOWHERE) pending.setValue(place, null);
    while (pending.length > 0 && pending.value(pending.oldest) === null) pending.shift();
  }

  #lock(key: string): number {
    if (key !== this.#keyText) {
      readDigest(key, this.#key);
      this.#keyText = key;
    }
    return this.#table.lock(this.#key);
  }

  /** @returns the slot of the locked key if it is within the window, else -1. */
  #live(bucket: number, nowUs: number): number {
    const at = this.#table.find(bucket, this.#key);
    return at >= 0 && nowUs - this.#table.time(at) <= this.#options.windowUs ? at : -1;
  }

  #state(at: number): number {
    return this.#table.words[at + VALUE] ?? 0;
  }

  #hex(at: number): string {
    let hex = '';
    for (let word = 0; word < 4; word++)
      hex += ((this.#table.words[at + word] ?? 0) >>> 0).toString(16).padStart(8, '0');
    return hex;
  }

  /** @param next gives the new state, or null when it is not this caller's to change */
  #change({ key }: SeenOrder, next: (state: number) => number | null): boolean {
    const bucket = this.#lock(key);
    const at = this.#table.find(bucket, this.#key);
    const state = at < 0 ? null : next(this.#state(at));
    if (state !== null) this.#table.words[at + VALUE] = state;
    this.#table.unlock(bucket);
    return state !== null;
  }

  #lookAgain(): void {
    const now = this.#options.clock();
    const waiting = this.#remote;
    this.#remote = [];
    for (const { key, waiter } of waiting) {
      const seen = this.find(key, now);
      if (seen?.archive === 'pending') this.#remote.push({ key, waiter });
      else waiter(seen?.archive === 'durable' ? null : new Error('try again'));
    }
    if (this.#remote.length === 0) this.close();
  }

  #count(atUs: number): void {
    const second = Math.floor(atUs / SECOND_US);
    const last = this.#counts.at(-1);
    if (last?.second === second) last.count += 1;
    else {
      this.#forget(atUs);
      this.#counts.push({ second, count: 1 });
    }
  }

  #forget(nowUs: number): void {
    const oldest = (nowUs - this.#options.windowUs) / SECOND_US - 1;
    while (this.#counts[0] !== undefined && this.#counts[0].second < oldest) this.#counts.shift();
  }
}
