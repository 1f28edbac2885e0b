/**
 * The queue between the sockets and the pipeline's intake: requests whose bodies have been read wait here for their
 * turn, one connection after the other, so that a connection that sends a thousand at once delays its own. As
 * many as the intake works off in one turn of the event loop are handed over in each.
 *
 * Big bodies cost up to 45 ms a MiB (measured, JSON made for the purpose), so they have a lane of their own: one in
 * a turn, and before the next what is small and came meanwhile gets as much time as the big one took.
 *
 * Bounded by bytes and, through the connections, by number; at the bound the newest request is refused.
 */
import { Listed, OrderedList } from '../pipeline/ordered-list.ts';

export interface FairQueueOptions {
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

/** From this size on a body is big; p99 of the orders in the field is 40 KB. */
export const BIG_BODY_BYTES = 64 * 1024;
/** Requests handed over in one turn: what the intake works off in one. */
const SLICE_LENGTH = 8;
/** Bytes handed over in one turn, so that a slice of bodies just below big ones is a short one. */
const SLICE_BYTES = 128 * 1024;

interface Waiting<T> {
  readonly item: T;
  readonly bytes: number;
}

/** Requests of one connection in one lane, in order of arrival. */
class Source<T> extends Listed {
  items: (Waiting<T> | undefined)[] = [];
  head = 0;

  /** @returns the oldest; there is one. */
  shift(): Waiting<T> | undefined {
    const next = this.items[this.head];
    // What has left must not live on because its place does.
    this.items[this.head] = undefined;
    this.head += 1;
    if (this.head === this.items.length || this.head > 64) {
      this.items = this.items.slice(this.head);
      this.head = 0;
    }
    return next;
  }
}

/** Takes from one source after the other. */
class Lane<T> {
  readonly #sources = new WeakMap<object, Source<T>>();
  /** Those with requests, in the order of their turns. */
  readonly #turns = new OrderedList<Source<T>>();
  length = 0;

  push(key: object, item: T, bytes: number): void {
    let source = this.#sources.get(key);
    if (source === undefined) {
      source = new Source();
      this.#sources.set(key, source);
    }
    source.items.push({ item, bytes });
    if (!this.#turns.has(source)) this.#turns.add(source);
    this.length += 1;
  }

  /** @returns the next, or undefined when it is empty. */
  shift(): Waiting<T> | undefined {
    const source = this.#turns.first;
    if (source === undefined) return undefined;
    const next = source.shift();
    this.length -= 1;
    if (source.items.length > 0) this.#turns.add(source);
    else this.#turns.delete(source);
    return next;
  }
}

export class FairQueue<T> {
  readonly #options: FairQueueOptions;
  readonly #submit: (item: T) => void;
  readonly #schedule: (callback: () => void) => void;
  readonly #now: () => number;
  readonly #onTurn = () => this.#turn();
  readonly #small = new Lane<T>();
  readonly #big = new Lane<T>();
  #bytes = 0;
  #scheduled = false;
  /** Handed over in this turn. */
  #submitted = 0;
  #submittedBytes = 0;
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
    return this.#small.length + this.#big.length;
  }

  /**
   * Hands a request over, at once if nothing waits.
   *
   * @param source whose turns it takes: its connection.
   * @returns false when the bound is reached.
   */
  offer(source: object, item: T, bytes: number): boolean {
    const big = bytes > BIG_BODY_BYTES;
    if (this.#draining) {
      this.#submit(item);
      return true;
    }
    if (this.length === 0 && !big && this.#mayTake(bytes)) {
      this.#hand(item, bytes);
    } else {
      if (this.#bytes > 0 && this.#bytes + bytes > this.#options.maxBytes) return false;
      this.#bytes += bytes;
      (big ? this.#big : this.#small).push(source, item, bytes);
    }
    if (!this.#scheduled) {
      this.#scheduled = true;
      this.#schedule(this.#onTurn);
    }
    return true;
  }

  /** Hands over at once what comes from now on. @returns when all that waited has been handed over too. */
  drain(): Promise<void> {
    this.#draining = true;
    if (this.length === 0) return Promise.resolve();
    return new Promise((resolve) => {
      this.#drained = resolve;
    });
  }

  #mayTake(bytes: number): boolean {
    return (
      this.#bigSince === 0 &&
      this.#submitted < SLICE_LENGTH &&
      (this.#submitted === 0 || this.#submittedBytes + bytes <= SLICE_BYTES)
    );
  }

  #hand(item: T, bytes: number): void {
    this.#submitted += 1;
    this.#submittedBytes += bytes;
    this.#submit(item);
  }

  #turn(): void {
    this.#scheduled = false;
    this.#submitted = 0;
    this.#submittedBytes = 0;
    if (this.#bigSince !== 0) {
      const now = this.#now();
      this.#smallUntil = 2 * now - this.#bigSince;
      this.#bigSince = 0;
    }
    if (this.#big.length > 0 && (this.#small.length === 0 || this.#now() >= this.#smallUntil)) {
      this.#handBig();
    } else {
      this.#handSlice();
    }
    if (this.length === 0 && this.#drained !== null) {
      this.#drained();
      this.#drained = null;
    }
    if (this.length > 0 || this.#submitted > 0) {
      this.#scheduled = true;
      this.#schedule(this.#onTurn);
    }
  }

  #handBig(): void {
    const next = this.#big.shift();
    if (next === undefined) return;
    this.#bytes -= next.bytes;
    this.#bigSince = this.#now();
    this.#hand(next.item, next.bytes);
  }

  #handSlice(): void {
    while (this.#small.length > 0 && this.#mayTake(0)) {
      const next = this.#small.shift();
      if (next === undefined) return;
      this.#bytes -= next.bytes;
      this.#hand(next.item, next.bytes);
      if (this.#submittedBytes > SLICE_BYTES) return;
    }
  }
}
