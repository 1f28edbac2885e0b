/**
 * The reader's rule: what of a stream of records is new, what has been there before, and what is missing. A stream
 * may repeat records (a shipper that died between the broker's acknowledgement and its own note of it sends again),
 * and it shows from the records alone when one is missing, altered or forged.
 *
 * Per (node, epoch), with s the sequence that must come next:
 *
 * | record | chain value | is | a reader |
 * | --- | --- | --- | --- |
 * | s | follows from the one before | new | delivers it |
 * | s | does not follow | altered or forged | drops it, problem; s is missing |
 * | below s | as seen before, or too old to compare | a duplicate | drops it |
 * | below s | another one than seen before | a conflict: two records claim one place | drops it, problem |
 * | below s | was missing until now | late | delivers it, problem; drops it where it does not follow from a record that is known |
 * | above s | | new, and what is between is missing | delivers it, problem |
 *
 * The first record that is seen of an epoch is taken as it is: reading may begin anywhere. Memory: the chain values of
 * the last {@link REMEMBERED} records and at most {@link MAX_GAPS} gaps per epoch, the newest {@link MAX_EPOCHS} epochs.
 */
import { decodeOpening, EPOCH_CONTROL } from '../epoch.ts';
import { type ArchiveRecord, CHAIN_START, chainAfter } from '../record.ts';
import { WITHHELD_CONTROL } from '../withheld.ts';

/** What can be found. Problems: `gap`, `late`, `altered`, `conflict`, `opening`, `withheld`, and of single records below. */
export type FindingCode =
  | 'gap'
  | 'late'
  | 'altered'
  | 'conflict'
  | 'opening'
  | 'withheld'
  /** A record that is none. */
  | 'malformed'
  /** The partition goes on at an earlier offset. */
  | 'rewound'
  /** A checkpoint that is not signed by its node, or states what is not so. */
  | 'checkpoint'
  /** An order whose transactions, hash or signer are not what they should be. */
  | 'order'
  /** Notes. */
  | 'begins'
  | 'epoch';

/** Told for each thing found about a record. `problem`: something is missing or not what was written. */
export type ReportRecord = (
  kind: 'problem' | 'note',
  code: FindingCode,
  record: ArchiveRecord,
  message: string,
) => void;

type Inspect = (record: ArchiveRecord) => void;

/** What a reader does with a record. */
export type Verdict = 'deliver' | 'duplicate' | 'drop';

/** Chain values kept per epoch to compare duplicates with; a shipper repeats at most a batch. */
const REMEMBERED = 256;
const MAX_GAPS = 64;
const MAX_EPOCHS = 1024;

type Gap = readonly [first: number, last: number];

/** How far an epoch has been read. */
interface Progress {
  readonly nodeId: string;
  readonly epoch: number;
  /** Sequence of the newest record read, and its chain value; the value is null where it is not to be trusted. */
  sequence: number;
  chain: string | null;
  /** Missing until now, oldest first. */
  readonly gaps: Gap[];
  /** Chain values of the newest records, by sequence. */
  readonly seen: Map<number, string>;
}

export class Ledger {
  readonly #epochs = new Map<string, Progress>();
  readonly #report: ReportRecord;
  /** The epoch of the record before: nearly always that of the next. */
  #latest: Progress | null = null;
  #duplicates = 0;

  constructor(report: ReportRecord) {
    this.#report = report;
  }

  /** Duplicates dropped so far. */
  get duplicates(): number {
    return this.#duplicates;
  }

  /**
   * Accounts for a record, control records included. What `report` throws comes out of here, and then the record counts
   * as not read.
   * @param inspect is called with a record that is about to be delivered; what it throws counts the same.
   */
  take(record: ArchiveRecord, inspect: Inspect = () => {}): Verdict {
    const progress = this.#progressOf(record);
    if (progress === null) return this.#begin(record, inspect);
    return record.sequence <= progress.sequence
      ? this.#again(progress, record, inspect)
      : this.#advance(progress, record, inspect);
  }

  /** What is needed to go on later with the next record: see {@link Ledger.resume}. */
  save(): SavedEpoch[] {
    return [...this.#epochs.values()].map(({ nodeId, epoch, sequence, chain, gaps }) => ({
      nodeId,
      epoch,
      sequence,
      chain,
      gaps: [...gaps],
    }));
  }

  /** A ledger that goes on where another was saved. Duplicates from before that are dropped without comparing. */
  static resume(saved: readonly SavedEpoch[], report: ReportRecord): Ledger {
    const ledger = new Ledger(report);
    for (const { nodeId, epoch, sequence, chain, gaps } of saved) {
      const seen = new Map<number, string>();
      if (chain !== null) seen.set(sequence, chain);
      ledger.#epochs.set(key(nodeId, epoch), { nodeId, epoch, sequence, chain, gaps: [...gaps], seen });
    }
    return ledger;
  }

  #progressOf(record: ArchiveRecord): Progress | null {
    const latest = this.#latest;
    if (latest !== null && latest.epoch === record.epoch && latest.nodeId === record.nodeId) return latest;
    const name = key(record.nodeId, record.epoch);
    const progress = this.#epochs.get(name);
    if (progress === undefined) return null;
    // The newest stay longest.
    this.#epochs.delete(name);
    this.#epochs.set(name, progress);
    this.#latest = progress;
    return progress;
  }

  #begin(record: ArchiveRecord, inspect: Inspect): Verdict {
    const { nodeId, epoch, sequence } = record;
    if (sequence > 1) {
      const message = `reading of ${epochName(record)} begins at sequence ${sequence}`;
      this.#report('note', 'begins', record, message);
    } else {
      this.#checkOpening(record);
    }
    const chain = sequence === 1 ? CHAIN_START : null;
    const progress: Progress = { nodeId, epoch, sequence: sequence - 1, chain, gaps: [], seen: new Map() };
    const verdict = this.#advance(progress, record, inspect);
    this.#epochs.set(key(nodeId, epoch), progress);
    this.#latest = progress;
    if (this.#epochs.size > MAX_EPOCHS) {
      const [oldest] = this.#epochs.keys();
      if (oldest !== undefined) this.#epochs.delete(oldest);
    }
    return verdict;
  }

  /** The expected record, or one behind a gap. */
  #advance(progress: Progress, record: ArchiveRecord, inspect: Inspect): Verdict {
    const { sequence, chain } = record;
    const expected = progress.sequence + 1;
    const gap: Gap | null = sequence > expected ? [expected, sequence - 1] : null;
    if (gap !== null) {
      this.#report('problem', 'gap', record, `${sequences(gap, epochName(record))} missing`);
    }
    const altered = gap === null && this.#isAltered(progress.chain, record);
    if (!altered) inspect(record);
    // Whoever may write to the topic could else put a forgery before a record, which would then count as its second.
    const missing: Gap | null = altered ? [sequence, sequence] : gap;
    if (missing !== null && progress.gaps.length < MAX_GAPS) progress.gaps.push(missing);
    progress.sequence = sequence;
    // After a break either of two chain values may be the wrong one, so that the next record is not held against it.
    progress.chain = altered ? null : chain;
    if (!altered) remember(progress.seen, sequence, chain);
    return altered ? 'drop' : 'deliver';
  }

  /** @param chain value before the record; null: not known. */
  #isAltered(chain: string | null, record: ArchiveRecord): boolean {
    const { sequence } = record;
    if (record.control === WITHHELD_CONTROL) {
      // Its chain value is that of the record it stands for.
      const message = `the order at sequence ${sequence} of ${epochName(record)} was too large for the brokers; its node has it`;
      this.#report('problem', 'withheld', record, message);
      return false;
    }
    if (chain === null || chainAfter(chain, sequence, record.value) === record.chain) return false;
    const message = `sequence ${sequence} of ${epochName(record)} is not what was written: the hash chain breaks`;
    this.#report('problem', 'altered', record, message);
    return true;
  }

  /** A record from before: a duplicate, a conflict or a late one. */
  #again(progress: Progress, record: ArchiveRecord, inspect: Inspect): Verdict {
    const { sequence, chain } = record;
    const at = gapOf(progress, sequence);
    const gap = progress.gaps[at];
    if (gap !== undefined) {
      const before = sequence === 1 ? CHAIN_START : (progress.seen.get(sequence - 1) ?? null);
      if (this.#isAltered(before, record)) return 'drop';
      const message = `sequence ${sequence} of ${epochName(record)}, missing until now, comes late`;
      this.#report('problem', 'late', record, message);
      inspect(record);
      progress.gaps.splice(at, 1, ...without(gap, sequence));
      remember(progress.seen, sequence, chain);
      return 'deliver';
    }
    const known = progress.seen.get(sequence);
    if (known === undefined || known === chain) {
      this.#duplicates += 1;
      return 'duplicate';
    }
    const message = `two different records claim sequence ${sequence} of ${epochName(record)}; the first counts`;
    this.#report('problem', 'conflict', record, message);
    return 'drop';
  }

  /** What the first record of an epoch says of the epoch before must be what was read of it. */
  #checkOpening(record: ArchiveRecord): void {
    const opening = record.control === EPOCH_CONTROL ? decodeOpening(record.value) : null;
    if (opening === null || opening.n !== record.nodeId || opening.e !== record.epoch) {
      this.#report('problem', 'opening', record, `${epochName(record)} has no valid opening record`);
      return;
    }
    const { previous } = opening;
    const opens = `${epochName(record)} opens`;
    if (previous === 'unknown') {
      this.#report('note', 'epoch', record, `${opens}; nothing is known of an epoch before`);
      return;
    }
    const before = `epoch ${previous.e} of node ${previous.n}`;
    if (previous.end === null) {
      const message = `${opens}; how far ${before} went is unknown: orders may be missing`;
      this.#report('problem', 'opening', record, message);
      return;
    }
    this.#report('note', 'epoch', record, `${opens} after ${before}, sequence ${previous.end.s}`);
    const reached = this.#epochs.get(key(previous.n, previous.e));
    if (reached === undefined) return;
    if (reached.sequence < previous.end.s) {
      const gap: Gap = [reached.sequence + 1, previous.end.s];
      this.#report('problem', 'gap', record, `${sequences(gap, before)} missing at its end`);
    } else if (reached.sequence > previous.end.s || (reached.chain ?? previous.end.h) !== previous.end.h) {
      this.#report(
        'problem',
        'opening',
        record,
        `${before} does not end as the opening record after it says`,
      );
    }
  }
}

/** The state of one epoch between two readings. */
export interface SavedEpoch {
  readonly nodeId: string;
  readonly epoch: number;
  /** Sequence of the newest record read. */
  readonly sequence: number;
  /** Its chain value, 32 hex digits; null: not known. */
  readonly chain: string | null;
  readonly gaps: readonly Gap[];
}

function remember(seen: Map<number, string>, sequence: number, chain: string): void {
  seen.set(sequence, chain);
  // A map hands out its keys in the order in which they came.
  if (seen.size > REMEMBERED) {
    const [oldest] = seen.keys();
    if (oldest !== undefined) seen.delete(oldest);
  }
}

/** @returns index of the gap that a sequence lies in, -1 when it lies in none. */
function gapOf({ gaps }: Progress, sequence: number): number {
  return gaps.findIndex(([first, last]) => sequence >= first && sequence <= last);
}

function without([first, last]: Gap, sequence: number): Gap[] {
  const rest: Gap[] = [];
  if (first < sequence) rest.push([first, sequence - 1]);
  if (sequence < last) rest.push([sequence + 1, last]);
  return rest;
}

function key(nodeId: string, epoch: number): string {
  return `${nodeId} ${epoch}`;
}

function epochName({ nodeId, epoch }: ArchiveRecord): string {
  return `epoch ${epoch} of node ${nodeId}`;
}

function sequences([first, last]: Gap, of: string): string {
  return first === last ? `sequence ${first} of ${of} is` : `sequences ${first} to ${last} of ${of} are`;
}
