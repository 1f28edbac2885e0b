/**
 * How much of the folder the brokers do not have yet, in bytes and in age. Bytes are counted as if the segments were
 * one long file. Ages come from the monotonic clock: a mark now and then notes how far the folder had grown by when.
 */
import type { SpoolPosition } from './shipping/watermark.ts';

/** Marks kept for the longest age that matters; an age is right to one part in this many. */
const MARKS = 256;

interface Mark {
  /** What is at this place of the long file or behind it came at `atMs` or later. */
  readonly place: number;
  readonly atMs: number;
}

export class Unshipped {
  readonly #spacingMs: number;
  /** Segments that are not shipped as a whole, oldest first, and where each begins in the long file. */
  #segments: { readonly name: string; readonly begin: number }[] = [];
  #marks: Mark[] = [];
  #end = 0;
  #shipped = 0;

  /** @param longestMs age at which something is done about it. */
  constructor(longestMs: number) {
    this.#spacingMs = longestMs / MARKS;
  }

  get bytes(): number {
    return this.#end - this.#shipped;
  }

  /** @returns milliseconds since the oldest record that the brokers do not have was written; 0 when there is none. */
  ageMs(nowMs: number): number {
    const oldest = this.#marks[0];
    return this.bytes === 0 || oldest === undefined ? 0 : nowMs - oldest.atMs;
  }

  /** A segment begins. @param nowMs when its first record came. */
  begin(name: string, nowMs: number): void {
    this.#segments.push({ name, begin: this.#end });
    this.#mark(nowMs);
  }

  /** The newest segment has grown to this size. */
  grow(size: number, nowMs: number): void {
    this.#mark(nowMs);
    this.#end = (this.#segments.at(-1)?.begin ?? 0) + size;
  }

  /** The brokers have everything up to a place. */
  ship({ segment, end }: Pick<SpoolPosition, 'segment' | 'end'>): void {
    while ((this.#segments[1]?.name ?? '~') <= segment) this.#segments.shift();
    const first = this.#segments[0];
    if (first === undefined || first.name > segment) return;
    // Of a segment that is not here any more nothing is left to ship.
    const place = first.name === segment ? first.begin + end : (this.#segments[1]?.begin ?? this.#end);
    this.#shipped = Math.min(this.#end, Math.max(this.#shipped, place));
    while ((this.#marks[1]?.place ?? Number.POSITIVE_INFINITY) <= this.#shipped) this.#marks.shift();
  }

  #mark(atMs: number): void {
    // After silence the marks of what was shipped say nothing.
    if (this.bytes === 0) this.#marks = [];
    const last = this.#marks.at(-1);
    if (last !== undefined && last.place === this.#end) return;
    if (last === undefined || atMs - last.atMs >= this.#spacingMs)
      this.#marks.push({ place: this.#end, atMs });
  }
}
