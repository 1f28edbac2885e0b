/**
 * Requests that wait for their turn, by the connection they came on: one lane of the fair queue, which takes from one
 * connection after the other.
 */
import { Listed, OrderedList } from '../pipeline/ordered-list.ts';
import { Asker } from './shares.ts';

export interface Waiting<T> {
  readonly item: T;
  readonly bytes: number;
  readonly workUs: number;
}

/** Requests of one connection in one lane, in order of arrival. */
export class Source<T> extends Listed {
  readonly asker = new Asker();
  /** It is in the lane of known connections, or would be; changed while nothing of it is in any lane. */
  known = false;
  /** When it will have been there for a while: after its first turn. */
  knownFromMs = Number.POSITIVE_INFINITY;
  workUs = 0;
  #items: (Waiting<T> | undefined)[] = [];
  #head = 0;

  get length(): number {
    return this.#items.length - this.#head;
  }

  push(waiting: Waiting<T>): void {
    this.#items.push(waiting);
    this.workUs += waiting.workUs;
  }

  /** @returns the oldest; there is one. */
  shift(): Waiting<T> {
    const next = this.#items[this.#head] as Waiting<T>;
    // What has left must not live on because its place does.
    this.#items[this.#head] = undefined;
    this.#head += 1;
    this.workUs -= next.workUs;
    if (this.#head === this.#items.length || this.#head > 64) {
      this.#items = this.#items.slice(this.#head);
      this.#head = 0;
    }
    return next;
  }
}

export class Lane<T> {
  /** Those with requests, in the order of their turns. */
  readonly #turns = new OrderedList<Source<T>>();
  length = 0;
  workUs = 0;
  /** When nothing waited last. */
  emptyMs = 0;

  push(source: Source<T>, waiting: Waiting<T>): void {
    source.push(waiting);
    if (!this.#turns.has(source)) this.#turns.add(source);
    this.length += 1;
    this.workUs += waiting.workUs;
  }

  /** @returns of whom it is the turn, out of the lane with all it has waiting; undefined when it is empty. */
  next(): Source<T> | undefined {
    const source = this.#turns.first;
    if (source === undefined) return undefined;
    this.#turns.delete(source);
    this.length -= source.length;
    this.workUs -= source.workUs;
    return source;
  }

  /** Puts a source behind all others, with what it still has waiting. */
  return(source: Source<T>): void {
    if (source.length === 0) return;
    this.#turns.add(source);
    this.length += source.length;
    this.workUs += source.workUs;
  }

  /** Connections that have requests in it. */
  get sources(): number {
    return this.#turns.size;
  }

  /**
   * @param refilled others send on, so that each round is as long as the one that waits now
   * @returns the work that is before the next request of a source, µs: rounds of one request of each
   */
  before(source: Source<T>, refilled: boolean): number {
    if (this.length === 0) return 0;
    const rounds = ((source.length + 1) * this.#turns.size) / this.length;
    return this.workUs * (refilled ? rounds : Math.min(1, rounds));
  }
}
