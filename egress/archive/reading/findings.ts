/** What readers find, with the place where they found it. */
import type { ArchiveRecord } from '../record.ts';
import type { FindingCode } from './ledger.ts';

/** Something that a reader of the archive must know. The message holds names and numbers, never an order. */
export interface ArchiveFinding {
  /** `problem`: records are missing, doubled in conflict, or not what was written. `note`: as it may be. */
  readonly kind: 'problem' | 'note';
  readonly code: FindingCode;
  /** Of the Kafka topic. */
  readonly partition: number;
  /** Of the record at which it was found. */
  readonly offset: number;
  /** Absent when the record could not be read at all. */
  readonly nodeId: string | null;
  readonly epoch: number | null;
  readonly sequence: number | null;
  readonly message: string;
}

/** Reading was stopped by a problem; everything before it has been delivered, nothing behind it. */
export class ArchiveProblem extends Error {
  override readonly name = 'ArchiveProblem';
  readonly finding: ArchiveFinding;

  constructor(finding: ArchiveFinding) {
    super(`partition ${finding.partition}, offset ${finding.offset}: ${finding.message}`);
    this.finding = finding;
  }
}

export function findingOf(
  kind: ArchiveFinding['kind'],
  code: FindingCode,
  place: { readonly partition: number; readonly offset: number },
  record: ArchiveRecord | null,
  message: string,
): ArchiveFinding {
  return {
    kind,
    code,
    partition: place.partition,
    offset: place.offset,
    nodeId: record?.nodeId ?? null,
    epoch: record?.epoch ?? null,
    sequence: record?.sequence ?? null,
    message,
  };
}
