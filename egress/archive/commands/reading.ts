/** Reading an archive from one place to another for a command: findings printed, progress shown, interruption told. */
import type { Where } from '../reading/open-archive.ts';
import type { ArchiveSource, SourceFinding } from '../reading/source.ts';
import type { ArchiveRecord } from '../record.ts';
import type { Surroundings } from './command.ts';
import { Progress } from './progress.ts';
import type { Selection } from './select.ts';
import { openSource } from './where.ts';

export const INSPECT_OPTIONS = { 'no-inspect': { type: 'boolean' } } as const;

export const INSPECT_HELP = `  --no-inspect      leave out what is checked of single records: signatures of checkpoints and transactions, each order's
                    form, hash and signer (some 60 µs per transaction)`;

export interface ReadingOptions {
  readonly where: Where;
  readonly selection: Selection;
  readonly inspect: boolean;
  /** Told each finding; the progress bar is out of the way. */
  readonly onFinding: (finding: SourceFinding) => void;
}

/** A reading under way. */
export interface Reading {
  readonly source: ArchiveSource;
  /** Problems found so far. */
  readonly problems: number;
  /** Every record, selected or not; a value is valid until the next is asked for. */
  records(): AsyncGenerator<ArchiveRecord, void, void>;
  /** Removes the progress bar and lets the archive go. */
  end(): Promise<void>;
}

/** Opens the archive. @throws UsageError when there is none; KafkaTrouble. */
export async function openReading(options: ReadingOptions, surroundings: Surroundings): Promise<Reading> {
  const { where, selection, inspect, onFinding } = options;
  const source = await openSource(where, selection.sinceUs, inspect);
  const progress = new Progress(surroundings.stderr, source.total, source.unit);
  let problems = 0;
  return {
    source,
    get problems() {
      return problems;
    },
    async *records() {
      const records = source.records((finding) => {
        if (finding.kind === 'problem') problems += 1;
        progress.clear();
        onFinding(finding);
      }, surroundings.signal);
      for await (const record of records) {
        progress.update(source.done);
        yield record;
      }
      progress.clear();
    },
    async end() {
      progress.clear();
      await source.close();
    },
  };
}

/** @returns the line that tells a finding. */
export function findingLine({ kind, place, message }: SourceFinding): string {
  return `${kind === 'problem' ? 'PROBLEM' : 'note'}  ${place}: ${message}\n`;
}

/** @returns `1 order`, `2 orders`. */
export function plural(count: number, noun: string): string {
  return `${count} ${noun}${count === 1 ? '' : 's'}`;
}

/** @returns a unix time in µs as text, UTC. */
export function isoTime(unixUs: number): string {
  return new Date(unixUs / 1000).toISOString();
}
