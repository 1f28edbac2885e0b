/**
 * From what a partition holds to the orders in it: each record is decoded, held against the reader's rule (ledger.ts)
 * and inspected (inspector.ts). One of these per partition; a group's member and the commands share it.
 */
import { CHECKPOINT_CONTROL } from '../checkpoint.ts';
import { fromKafka } from '../kafka-record.ts';
import type { ArchiveRecord } from '../record.ts';
import type { FetchedRecord } from '../shipping/kafka-reader.ts';
import { type ArchiveFinding, findingOf } from './findings.ts';
import type { Inspector } from './inspector.ts';
import { Ledger } from './ledger.ts';
import { decodePosition, encodePosition } from './position.ts';

export interface PartitionReaderParts {
  /** Told each finding before the record counts as read; what it throws comes out of {@link PartitionReader.read}. */
  readonly report: (finding: ArchiveFinding) => void;
  /** Null: orders and checkpoints are not inspected. */
  readonly inspector: Inspector | null;
}

export class PartitionReader {
  readonly #partition: number;
  readonly #parts: PartitionReaderParts;
  readonly #ledger: Ledger;
  /** Offset of the record being read. */
  #offset = 0;
  #next: number | null;

  /** @param position where another reader of this partition stood (position.ts); null: reading begins wherever it begins. */
  constructor(partition: number, position: string | null, parts: PartitionReaderParts) {
    this.#partition = partition;
    this.#parts = parts;
    const saved = position === null ? null : decodePosition(position);
    this.#next = saved?.offset ?? null;
    this.#ledger = Ledger.resume(saved?.epochs ?? [], (kind, code, record, message) => {
      parts.report(findingOf(kind, code, { partition, offset: this.#offset }, record, message));
    });
  }

  /** Offset of the next record; null before the first when there was no position. */
  get next(): number | null {
    return this.#next;
  }

  get duplicates(): number {
    return this.#ledger.duplicates;
  }

  /**
   * Reads the next record.
   * @returns it when it is new, control records included; null when it is a duplicate or cannot be trusted.
   */
  read({ offset, record: received }: FetchedRecord): ArchiveRecord | null {
    const place = { partition: this.#partition, offset };
    if (this.#next !== null && offset < this.#next) {
      const message = `reading was at offset ${this.#next} and goes on at ${offset}: the topic was made anew, or has lost its end`;
      this.#parts.report(findingOf('problem', 'rewound', place, null, message));
    }
    this.#offset = offset;
    const record = fromKafka(received);
    if (typeof record === 'string') {
      const message = `no record of the archive: ${record}`;
      this.#parts.report(findingOf('problem', 'malformed', place, null, message));
      this.#next = offset + 1;
      return null;
    }
    const verdict = this.#ledger.take(record, this.#inspect);
    this.#next = offset + 1;
    return verdict === 'deliver' ? record : null;
  }

  /** @returns where reading stands, as text: behind the last record read. */
  position(): string {
    return encodePosition({ offset: this.#next ?? 0, epochs: this.#ledger.save() });
  }

  readonly #inspect = (record: ArchiveRecord): void => {
    const { inspector, report } = this.#parts;
    if (inspector === null) return;
    const isCheckpoint = record.control === CHECKPOINT_CONTROL;
    if (!isCheckpoint && record.method === null) return;
    const problem = isCheckpoint ? inspector.checkpointProblem(record) : inspector.orderProblem(record);
    if (problem === null) return;
    const place = { partition: this.#partition, offset: this.#offset };
    const code = isCheckpoint ? 'checkpoint' : 'order';
    const where = `sequence ${record.sequence} of epoch ${record.epoch} of node ${record.nodeId}`;
    report(findingOf('problem', code, place, record, `${where}: ${problem}`));
  };
}
