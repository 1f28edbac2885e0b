/**
 * A Kafka topic as an archive to be read: all its partitions from one time or place to where they end now, merged by the
 * time at which orders were received, or on and on as records arrive. Reads as no group's member and commits nothing.
 *
 * Memory is bounded: per partition what one fetch brings (1 MiB or one record). Brokers that are away for a while are waited for.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { asError } from '../failure.ts';
import type { ArchiveRecord } from '../record.ts';
import type { Fetched, KafkaReader, OffsetRange } from '../shipping/kafka-reader.ts';
import { isPassing, KafkaTrouble } from '../shipping/kafka-trouble.ts';
import type { ArchiveFinding } from './findings.ts';
import type { Inspector } from './inspector.ts';
import { PartitionReader } from './partition-reader.ts';
import type { ArchiveSource, ReportSource } from './source.ts';

/** A record may carry a Kafka timestamp that much before it was received, by the clocks of its node and of the brokers. */
const CLOCK_SLACK_MS = 60_000;
/** How long brokers that do not answer are asked again where reading has an end; else for ever. */
const PATIENCE_MS = 60_000;
const RETRY_MS = 500;

/** @returns for each partition what is there from a time on (unix µs; 0: all), to where it ends now. */
export async function rangesSince(reader: KafkaReader, sinceUs: number): Promise<Map<number, OffsetRange>> {
  const ranges = new Map(await reader.offsets());
  if (sinceUs === 0) return ranges;
  const starts = await reader.offsetsAt(sinceUs / 1000 - CLOCK_SLACK_MS);
  for (const [partition, { start, end }] of ranges) {
    ranges.set(partition, { start: Math.min(end, Math.max(start, starts.get(partition) ?? start)), end });
  }
  return ranges;
}

export class KafkaSource implements ArchiveSource {
  readonly unit = 'records';
  readonly #reader: KafkaReader;
  readonly #ranges: ReadonlyMap<number, OffsetRange>;
  readonly #inspector: Inspector | null;
  readonly #partitions = new Map<number, PartitionReader>();
  #report: ReportSource = () => {};
  #done = 0;

  /** @param inspector null: records are not inspected. */
  constructor(reader: KafkaReader, ranges: ReadonlyMap<number, OffsetRange>, inspector: Inspector | null) {
    this.#reader = reader;
    this.#ranges = ranges;
    this.#inspector = inspector;
  }

  get parts(): string {
    return `${this.#ranges.size} partition${this.#ranges.size === 1 ? '' : 's'}`;
  }

  get total(): number {
    let total = 0;
    for (const { start, end } of this.#ranges.values()) total += end - start;
    return total;
  }

  get done(): number {
    return this.#done;
  }

  get duplicates(): number {
    let count = 0;
    for (const { duplicates } of this.#partitions.values()) count += duplicates;
    return count;
  }

  async *records(report: ReportSource, signal: AbortSignal): AsyncGenerator<ArchiveRecord, void, void> {
    this.#report = report;
    const streams: Stream[] = [];
    for (const [partition, { start, end }] of this.#ranges) {
      if (start < end)
        streams.push(new Stream(this.#fetches(partition, start, end, signal), this.#partition(partition)));
    }
    await Promise.all(streams.map((stream) => stream.advance()));
    for (;;) {
      let first: Stream | null = null;
      for (const stream of streams) {
        if (stream.head === null) continue;
        if (first?.head == null || stream.head.receivedAtUs < first.head.receivedAtUs) first = stream;
      }
      if (first?.head == null || signal.aborted) return;
      yield first.head;
      await first.advance();
    }
  }

  /** Goes on behind the ranges, in the order in which records arrive, until the signal fires. */
  async *follow(report: ReportSource, signal: AbortSignal): AsyncGenerator<ArchiveRecord, void, void> {
    this.#report = report;
    const arrived: {
      readonly partition: number;
      readonly fetched: Fetched;
      readonly consumed: () => void;
    }[] = [];
    const state: { wake: (() => void) | null; failure: Error | null } = { wake: null, failure: null };
    const stopped = new AbortController();
    const both = AbortSignal.any([signal, stopped.signal]);
    const pump = async (partition: number, from: number) => {
      for await (const fetched of this.#fetches(partition, from, null, both)) {
        if (fetched.records.length === 0) continue;
        const { promise, resolve } = Promise.withResolvers<void>();
        arrived.push({ partition, fetched, consumed: resolve });
        state.wake?.();
        await promise;
      }
    };
    const pumps = [...this.#ranges].map(([partition, { end }]) =>
      pump(partition, end).catch((error: unknown) => {
        state.failure ??= asError(error);
        state.wake?.();
      }),
    );
    const onAbort = () => state.wake?.();
    signal.addEventListener('abort', onAbort, { once: true });
    try {
      while (!signal.aborted && state.failure === null) {
        const next = arrived.shift();
        if (next === undefined) {
          await new Promise<void>((resolve) => {
            state.wake = resolve;
          });
          state.wake = null;
          continue;
        }
        const partition = this.#partition(next.partition);
        for (const fetched of next.fetched.records) {
          const record = partition.read(fetched);
          if (record !== null) yield record;
        }
        next.consumed();
      }
      if (state.failure !== null) throw state.failure;
    } finally {
      signal.removeEventListener('abort', onAbort);
      stopped.abort();
      for (const { consumed } of arrived) consumed();
      await Promise.all(pumps);
    }
  }

  close(): Promise<void> {
    return this.#reader.close();
  }

  #partition(partition: number): PartitionReader {
    const known = this.#partitions.get(partition);
    if (known !== undefined) return known;
    const made = new PartitionReader(partition, null, {
      report: (finding) => this.#find(finding),
      inspector: this.#inspector,
    });
    this.#partitions.set(partition, made);
    return made;
  }

  #find({ kind, partition, offset, message }: ArchiveFinding): void {
    this.#report({ kind, place: `partition ${partition} at ${offset}`, message });
  }

  /** Fetches a partition from an offset up to another, or on and on when that is null. */
  async *#fetches(
    partition: number,
    from: number,
    to: number | null,
    signal: AbortSignal,
  ): AsyncGenerator<Fetched, void, void> {
    let next = from;
    let failingSince: number | null = null;
    const last = to ?? Number.POSITIVE_INFINITY;
    while (!signal.aborted && next < last) {
      let fetched: Fetched;
      try {
        fetched = await this.#reader.fetch(partition, next);
        failingSince = null;
      } catch (error) {
        if (signal.aborted) return;
        if (!(error instanceof KafkaTrouble)) throw error;
        if (error.kind === 'out_of_range') {
          next = await this.#oldest(partition, next);
          continue;
        }
        const now = performance.now();
        if (!isPassing(error)) throw error;
        if (failingSince === null) {
          failingSince = now;
          this.#report({
            kind: 'note',
            place: `partition ${partition} at ${next}`,
            message: `waits: ${error.message}`,
          });
        }
        if (to !== null && now - failingSince > PATIENCE_MS) throw error;
        await sleep(RETRY_MS);
        continue;
      }
      const records = to === null ? fetched.records : fetched.records.filter(({ offset }) => offset < to);
      // Below the end without a record: markers of the log, which are not delivered.
      const end = fetched.next === next && to !== null && fetched.end >= to ? to : fetched.next;
      if (to !== null) this.#done += Math.min(to, end) - next;
      next = end;
      yield { ...fetched, records };
    }
  }

  /** The oldest offset that is left of a partition from which one is gone. */
  async #oldest(partition: number, offset: number): Promise<number> {
    const range = (await this.#reader.offsets()).get(partition);
    if (range === undefined)
      throw new KafkaTrouble('topic_missing', `the topic has no partition ${partition} any more`);
    const place = `partition ${partition} at ${offset}`;
    const message =
      range.start > offset
        ? `offsets ${offset} to ${range.start - 1} were deleted by the brokers' retention meanwhile`
        : `the partition ends at offset ${range.end}: it was made anew, or has lost its end`;
    this.#report({ kind: 'problem', place, message });
    // What is there again of what has been read is recognised.
    return range.start;
  }
}

/** The records of one partition, one ahead. */
class Stream {
  /** The next record; null at the end. */
  head: ArchiveRecord | null = null;
  readonly #fetches: AsyncGenerator<Fetched, void, void>;
  readonly #partition: PartitionReader;
  #fetched: Fetched | null = null;
  #index = 0;

  constructor(fetches: AsyncGenerator<Fetched, void, void>, partition: PartitionReader) {
    this.#fetches = fetches;
    this.#partition = partition;
  }

  async advance(): Promise<void> {
    for (;;) {
      const fetched = this.#fetched?.records[this.#index];
      this.#index += 1;
      if (fetched !== undefined) {
        this.head = this.#partition.read(fetched);
        if (this.head !== null) return;
        continue;
      }
      const { value, done } = await this.#fetches.next();
      if (done === true) {
        this.head = null;
        return;
      }
      this.#fetched = value;
      this.#index = 0;
    }
  }
}
