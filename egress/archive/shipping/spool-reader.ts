/**
 * Reads the folder's records in order for the shipper, beside the node that writes them: only what is durable, in
 * batches of one epoch. Bytes behind the durable end are not even read: the writer may take them back and put others in
 * their place.
 */
import { errorCode } from '../failure.ts';
import type { ArchiveRecord } from '../record.ts';
import { SegmentScan } from '../scan.ts';
import { HeaderProblem, listNames, type SegmentName } from '../segment.ts';
import type { SpoolPosition } from './watermark.ts';

/** Records that belong together: one node, one epoch, one partition. */
export interface SpoolBatch {
  readonly partition: number;
  readonly epoch: number;
  /** Their values are their own. */
  readonly records: readonly ArchiveRecord[];
  /** Place behind the last one. */
  readonly end: SpoolPosition;
}

/** Told what cannot be read; reading goes on behind it. */
export type Damage = (segment: string, offset: number, message: string) => void;

interface Open {
  readonly segment: SegmentName;
  readonly scan: SegmentScan;
}

export class SpoolReader {
  readonly #dir: string;
  readonly #damage: Damage;
  /** Segments up to this name are done with, or unreadable. */
  #lastName = '';
  #open: Open | null = null;

  private constructor(dir: string, damage: Damage) {
    this.#dir = dir;
    this.#damage = damage;
  }

  /**
   * @param after the record to go on behind; null: at the oldest that is there.
   * @param durable how far may be read.
   * @returns the reader, and of the record before: its chain value, and the place behind it; null when it is not there.
   * @throws the error of the file system; Error when a segment is of a newer version.
   */
  static async open(
    dir: string,
    after: { readonly epoch: number; readonly sequence: number } | null,
    durable: SpoolPosition,
    damage: Damage,
  ): Promise<{
    readonly reader: SpoolReader;
    readonly chain: string | null;
    readonly position: SpoolPosition | null;
  }> {
    const reader = new SpoolReader(dir, damage);
    const nothing = { reader, chain: null, position: null };
    if (after === null) return nothing;
    const names = await reader.#names(durable);
    const holds = ({ epoch, firstSequence }: SegmentName) =>
      epoch === after.epoch && firstSequence <= after.sequence + 1;
    const first = names.findLast((name) => holds(name) || name.epoch < after.epoch);
    if (first === undefined) return nothing;
    reader.#lastName = first.name;
    if (first.epoch < after.epoch || !(await reader.#enter(first))) return nothing;
    const chain = await reader.#skipTo(after.sequence, durable);
    const end = reader.#open?.scan.offset ?? 0;
    return {
      reader,
      chain,
      position: { segment: first.name, end, epoch: after.epoch, sequence: after.sequence },
    };
  }

  /**
   * @param mostBytes of values; the last record may pass it.
   * @param durable how far may be read.
   * @returns the next records of one segment, at most `most`; null when all that is durable has been read.
   * @throws the error of the file system; Error when a segment is of a newer version.
   */
  async batch(most: number, mostBytes: number, durable: SpoolPosition): Promise<SpoolBatch | null> {
    for (;;) {
      if (this.#open === null && !(await this.#enterNext(durable))) return null;
      const at = this.#open;
      if (at === null) continue;
      const batch = await this.#fromSegment(at, most, mostBytes, durable);
      if (batch !== null) return batch;
      if (at.segment.name >= durable.segment) return null;
      await this.#leave();
    }
  }

  async close(): Promise<void> {
    await this.#leave();
  }

  async #fromSegment(
    { segment, scan }: Open,
    most: number,
    mostBytes: number,
    durable: SpoolPosition,
  ): Promise<SpoolBatch | null> {
    // Before the name is compared: the writer may have left the segment since.
    scan.readableBytes = segment.name === durable.segment ? durable.end : Number.POSITIVE_INFINITY;
    const records: ArchiveRecord[] = [];
    let bytes = 0;
    while (records.length < most && bytes < mostBytes) {
      const item = await scan.next();
      if (item === null) {
        const { problem } = scan;
        if (problem === null || records.length > 0) break;
        const resumed = await scan.resume();
        this.#damage(segment.name, problem.offset, problem.message);
        if (resumed === null) break;
        continue;
      }
      const { record } = item;
      records.push({ ...record, value: Buffer.from(record.value) });
      bytes += record.value.length;
    }
    const last = records.at(-1);
    if (last === undefined) return null;
    const { epoch, partition } = scan.header;
    const end = { segment: segment.name, end: scan.offset, epoch, sequence: last.sequence };
    return { partition, epoch, records, end };
  }

  /** Passes over the records up to a sequence. @returns the chain value there, null when that was not found. */
  async #skipTo(sequence: number, durable: SpoolPosition): Promise<string | null> {
    const at = this.#open;
    if (at === null) return null;
    const { segment, scan } = at;
    scan.readableBytes = segment.name === durable.segment ? durable.end : Number.POSITIVE_INFINITY;
    while (scan.nextSequence <= sequence) {
      // What is damaged here has been reported when it was shipped.
      if ((await scan.next()) === null && (scan.problem === null || (await scan.resume()) === null))
        return null;
    }
    return scan.nextSequence === sequence + 1 ? scan.chain : null;
  }

  async #enterNext(durable: SpoolPosition): Promise<boolean> {
    const next = (await this.#names(durable)).find(({ name }) => name > this.#lastName);
    if (next === undefined) return false;
    await this.#enter(next);
    return true;
  }

  /** Segments that may be read, oldest first: of one that the writer has just begun nothing is known to be durable. */
  async #names(durable: SpoolPosition): Promise<readonly SegmentName[]> {
    return (await listNames(this.#dir)).filter(({ name }) => name <= durable.segment);
  }

  /** @returns whether the segment can be read; if not, that has been reported and it is passed over. */
  async #enter(segment: SegmentName): Promise<boolean> {
    this.#lastName = segment.name;
    const scan = await SegmentScan.open(segment.path).catch((error: unknown) => {
      if (errorCode(error) === 'ENOENT') return null;
      throw error;
    });
    if (scan === null) return false;
    if (scan instanceof HeaderProblem) {
      if (scan.foreign) throw new Error(`${segment.path}: ${scan.message}`);
      this.#damage(segment.name, 0, scan.message);
      return false;
    }
    this.#open = { segment, scan };
    return true;
  }

  async #leave(): Promise<void> {
    const at = this.#open;
    this.#open = null;
    await at?.scan.close();
  }
}
