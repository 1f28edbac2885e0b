/** An archive to be read from one place to another, whatever holds it: a spool folder (folder-source.ts) or a Kafka topic (kafka-source.ts). */
import type { ArchiveRecord } from '../record.ts';

/** Something that a reader must know, and where it was found. */
export interface SourceFinding {
  /** `problem`: records are missing, doubled in conflict, or not what was written. `note`: as it may be. */
  readonly kind: 'problem' | 'note';
  /** `NAME.segment at OFFSET` or `partition P at OFFSET`. */
  readonly place: string;
  readonly message: string;
}

export type ReportSource = (finding: SourceFinding) => void;

export interface ArchiveSource {
  /** What it consists of: `3 segments`, `12 partitions`. */
  readonly parts: string;
  /** How much there is to read, and how much has been; in `unit`. */
  readonly total: number;
  readonly done: number;
  readonly unit: 'bytes' | 'records';
  /** Duplicates left out so far. */
  readonly duplicates: number;
  /**
   * Every record that is new and whole, control records included, to be read once. A value is valid until the next one is
   * asked for. Ends early when the signal fires.
   */
  records(report: ReportSource, signal: AbortSignal): AsyncGenerator<ArchiveRecord, void, void>;
  close(): Promise<void>;
}
