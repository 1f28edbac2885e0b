/** A spool folder as an archive to be read: what walk.ts checks, and the inspection of each record. */
import { CHECKPOINT_CONTROL } from '../checkpoint.ts';
import type { ArchiveRecord } from '../record.ts';
import type { ArchiveWalk } from '../walk.ts';
import type { Inspector } from './inspector.ts';
import type { ArchiveSource, ReportSource } from './source.ts';

export class FolderSource implements ArchiveSource {
  readonly unit = 'bytes';
  readonly duplicates = 0;
  readonly #walk: ArchiveWalk;
  readonly #inspector: Inspector | null;

  /** @param inspector null: records are not inspected. */
  constructor(walk: ArchiveWalk, inspector: Inspector | null) {
    this.#walk = walk;
    this.#inspector = inspector;
  }

  get parts(): string {
    const { segments } = this.#walk;
    return `${segments} segment${segments === 1 ? '' : 's'}`;
  }

  get total(): number {
    return this.#walk.totalBytes;
  }

  get done(): number {
    return this.#walk.doneBytes;
  }

  async *records(report: ReportSource, signal: AbortSignal): AsyncGenerator<ArchiveRecord, void, void> {
    const records = this.#walk.records(({ kind, segment, offset, message }) => {
      report({ kind, place: `${segment} at ${offset}`, message });
    });
    for await (const { record, segment, offset } of records) {
      if (signal.aborted) return;
      const problem = this.#inspector === null ? null : inspect(this.#inspector, record);
      if (problem !== null) {
        const message = `sequence ${record.sequence}: ${problem}`;
        report({ kind: 'problem', place: `${segment} at ${offset}`, message });
      }
      yield record;
    }
  }

  async close(): Promise<void> {
    // The walk closes its files itself.
  }
}

/** @returns what is wrong with a record in itself, or null. */
function inspect(inspector: Inspector, record: ArchiveRecord): string | null {
  if (record.control === CHECKPOINT_CONTROL) return inspector.checkpointProblem(record);
  return record.method === null ? null : inspector.orderProblem(record);
}
