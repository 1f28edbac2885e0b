/**
 * Reads a whole archive folder in order, oldest first, and checks what no segment can tell alone: that segments
 * follow each other without a gap and with one hash chain, and that each epoch begins as it should. What is wrong is
 * told as a finding with its segment and offset, and reading goes on behind it.
 *
 * Needs no lock: a node may be writing. Then it ends where the file ended when it got there.
 */
import { decodeOpening, EPOCH_CONTROL } from './epoch.ts';
import { errorCode } from './failure.ts';
import type { ArchiveRecord } from './record.ts';
import { type ScannedRecord, SegmentScan, wasDurable } from './scan.ts';
import {
  HeaderProblem,
  listSegments,
  SEGMENT_HEADER_BYTES,
  type SegmentFile,
  type SegmentHeader,
} from './segment.ts';

/** Something that a reader of the archive must know. */
export interface Finding {
  /** `problem`: records are missing, doubled or not what was written. `note`: as it may be. */
  readonly kind: 'problem' | 'note';
  readonly segment: string;
  readonly offset: number;
  readonly message: string;
}

/** A record and where it stands. */
export interface WalkedRecord extends ScannedRecord {
  readonly segment: string;
}

/** Where the segments read so far end; the chain is null where it is not known. */
interface Reached {
  readonly nodeId: string;
  readonly epoch: number;
  readonly nextSequence: number;
  readonly chain: string | null;
}

export class ArchiveWalk {
  readonly #files: readonly SegmentFile[];
  readonly #sinceUs: number;
  #report: (finding: Finding) => void = () => {};
  #bytesBefore = 0;
  #bytesHere = 0;
  /** Offset of a record whose value is not what its chain value was made from. */
  #altered: number | null = null;
  #reached: Reached | null = null;

  private constructor(files: readonly SegmentFile[], sinceUs: number) {
    this.#files = files;
    this.#sinceUs = sinceUs;
  }

  /**
   * @param sinceUs segments whose every record was received before this (unix µs) may be left out.
   * @throws the error of the file system when the folder cannot be read.
   */
  static async open(dir: string, sinceUs = 0): Promise<ArchiveWalk> {
    return new ArchiveWalk(await listSegments(dir), sinceUs);
  }

  get segments(): number {
    return this.#files.length;
  }

  get totalBytes(): number {
    return this.#files.reduce((sum, file) => sum + file.bytes, 0);
  }

  get doneBytes(): number {
    return this.#bytesBefore + this.#bytesHere;
  }

  /**
   * Every readable record that is what was written, control records included; to be read once. A value is valid until the next one is asked for.
   * @param report is told each finding, in the order of the records.
   * @throws the error of the file system; Error when a segment is of a newer version.
   */
  async *records(report: (finding: Finding) => void): AsyncGenerator<WalkedRecord, void, void> {
    this.#report = report;
    for (const [position, file] of this.#files.entries()) {
      const successor = this.#files[position + 1];
      if (!(await this.#isPast(successor))) yield* this.#segment(file, successor === undefined);
      this.#bytesBefore += file.bytes;
      this.#bytesHere = 0;
    }
  }

  /** Whether all records of a segment with this successor are older than what is asked for. */
  async #isPast(successor: SegmentFile | undefined): Promise<boolean> {
    if (successor === undefined || this.#sinceUs === 0 || this.#reached !== null) return false;
    const scan = await openOrNull(successor);
    if (scan === null || scan instanceof HeaderProblem) return false;
    await scan.close();
    return scan.header.openedAtUs < this.#sinceUs;
  }

  async *#segment(file: SegmentFile, last: boolean): AsyncGenerator<WalkedRecord, void, void> {
    const segment = file.name;
    const scan = await openOrNull(file);
    if (scan === null) {
      this.#find('note', segment, 0, 'deleted by retention meanwhile');
      this.#reached = null;
      return;
    }
    if (scan instanceof HeaderProblem) {
      if (scan.foreign) throw new Error(`${file.path}: ${scan.message}`);
      if (last && file.bytes <= SEGMENT_HEADER_BYTES) {
        this.#find('note', segment, 0, 'holds no record: cut off while it was made');
        return;
      }
      this.#find('problem', segment, 0, `${scan.message}; no record of this segment can be read`);
      this.#reached = null;
      return;
    }
    try {
      this.#checkStart(segment, scan.header);
      for (;;) {
        const item = await scan.next();
        if (item !== null) {
          this.#bytesHere = scan.offset;
          // Told already. As in a topic (reading/ledger.ts) nobody is given what was not written.
          const isAltered = item.offset === this.#altered;
          this.#altered = null;
          if (isAltered) continue;
          if (item.record.sequence === 1) this.#checkOpening(segment, item);
          yield { record: item.record, index: item.index, offset: item.offset, segment };
        } else if (!(await this.#passProblem(file, scan, last))) {
          break;
        }
      }
      const { nodeId, epoch } = scan.header;
      this.#reached = { nodeId, epoch, nextSequence: scan.nextSequence, chain: scan.chain };
    } finally {
      await scan.close();
    }
  }

  /** At the end of the readable bytes. @returns whether the scan can go on. */
  async #passProblem(file: SegmentFile, scan: SegmentScan, last: boolean): Promise<boolean> {
    const { problem, nextSequence } = scan;
    if (problem === null) return false;
    const { offset, message } = problem;
    if (last && (await isTornEnd(file.path))) {
      const bytes = file.bytes > offset ? `${file.bytes - offset} bytes` : 'what follows';
      this.#find('note', file.name, offset, `${bytes} at the end: being written, or never acknowledged`);
      return false;
    }
    const resumed = await scan.resume();
    if (resumed === null) {
      this.#find('problem', file.name, offset, `${message}; nothing readable follows in this segment`);
      return false;
    }
    if (resumed.late) return true;
    // The same record in its right place: what does not fit is its content.
    const isAltered = resumed.offset === offset && resumed.sequence === nextSequence;
    if (isAltered) this.#altered = offset;
    const goesOn = isAltered
      ? 'it is left out'
      : `reading goes on at offset ${resumed.offset}${missingText(nextSequence, resumed.sequence)}`;
    this.#find('problem', file.name, offset, `${message}; ${goesOn}`);
    return true;
  }

  #checkStart(segment: string, header: SegmentHeader): void {
    const reached = this.#reached;
    if (reached === null) {
      if (header.firstSequence > 1) {
        this.#find(
          'note',
          segment,
          0,
          `begins at sequence ${header.firstSequence}: what was before is not here`,
        );
      }
    } else if (reached.epoch !== header.epoch) {
      if (header.firstSequence !== 1) {
        this.#find('problem', segment, 0, `the epoch begins at sequence ${header.firstSequence}, not 1`);
      }
    } else if (header.firstSequence !== reached.nextSequence) {
      const missing = missingText(reached.nextSequence, header.firstSequence);
      const text = `begins at sequence ${header.firstSequence} where ${reached.nextSequence} must follow${missing}`;
      this.#find('problem', segment, 0, text);
    } else if (reached.chain !== null && header.chainBefore !== reached.chain) {
      this.#find('problem', segment, 0, 'the hash chain does not continue the segment before');
    }
  }

  /** The first record of an epoch: what it says of the epoch before must be what was read of it. */
  #checkOpening(segment: string, { record, offset }: ScannedRecord): void {
    const opening = record.control === EPOCH_CONTROL ? decodeOpening(record.value) : null;
    if (opening === null || opening.n !== record.nodeId || opening.e !== record.epoch) {
      this.#find('problem', segment, offset, 'the epoch has no valid opening record');
      return;
    }
    const { previous } = opening;
    const epoch = `epoch ${record.epoch} of node ${record.nodeId} opens`;
    if (previous === 'unknown') {
      this.#find('note', segment, offset, `${epoch}; nothing is known of an epoch before`);
    } else if (previous.end === null) {
      const text = `${epoch}; how far epoch ${previous.e} of node ${previous.n} went is unknown: orders may be missing`;
      this.#find('problem', segment, offset, text);
    } else {
      this.#find(
        'note',
        segment,
        offset,
        `${epoch} after epoch ${previous.e} of node ${previous.n}, sequence ${previous.end.s}`,
      );
      const reached = this.#reached;
      if (reached === null) return;
      const fits =
        previous.n === reached.nodeId &&
        previous.e === reached.epoch &&
        previous.end.s === reached.nextSequence - 1 &&
        (reached.chain === null || previous.end.h === reached.chain);
      if (!fits)
        this.#find('problem', segment, offset, 'the epoch before does not end as this opening record says');
    }
  }

  #find(kind: Finding['kind'], segment: string, offset: number, message: string): void {
    this.#report({ kind, segment, offset, message });
  }
}

/** Whether the bad bytes of a last segment are a torn end: nothing behind them proves that they had been durable. */
async function isTornEnd(path: string): Promise<boolean> {
  const scan = await SegmentScan.open(path);
  if (scan instanceof HeaderProblem) return false;
  try {
    while ((await scan.next()) !== null);
    return !(await wasDurable(scan, scan.nextSequence));
  } finally {
    await scan.close();
  }
}

async function openOrNull(file: SegmentFile): Promise<SegmentScan | HeaderProblem | null> {
  try {
    return await SegmentScan.open(file.path);
  } catch (error) {
    if (errorCode(error) === 'ENOENT') return null;
    throw error;
  }
}

function missingText(expected: number, found: number): string {
  if (found <= expected) return '';
  return found - expected === 1
    ? `; sequence ${expected} is missing`
    : `; sequences ${expected} to ${found - 1} are missing`;
}

/** @returns whether a record is an order, not a control record. */
export function isOrder(record: ArchiveRecord): boolean {
  return record.method !== null;
}
