/**
 * Reads an archive folder from some place on and, at its end, waits for what a node writes next.
 *
 * What is seen may be a moment younger than its acknowledgement. A node whose disk runs full takes unacknowledged
 * records back and gives their sequence numbers to later orders; that is reported, and the later ones are delivered.
 */
import { type FSWatcher, watch } from 'node:fs';
import { errorCode } from './failure.ts';
import { type ScannedRecord, SegmentScan } from './scan.ts';
import { HeaderProblem, listNames, type SegmentName } from './segment.ts';

const POLL_MS = 500;

/** Resolves when something in a folder may have changed: told by the kernel where it can, else twice a second. */
class FolderWatch {
  #watcher: FSWatcher | null = null;
  #changed = false;
  #wake: (() => void) | null = null;
  readonly #timer: NodeJS.Timeout;

  constructor(dir: string, signal: AbortSignal) {
    const notice = () => {
      this.#changed = true;
      this.#wake?.();
    };
    this.#timer = setInterval(notice, POLL_MS);
    signal.addEventListener('abort', notice, { once: true });
    try {
      this.#watcher = watch(dir, notice);
      this.#watcher.on('error', () => this.#watcher?.close());
    } catch {
      // No watches left in the kernel: the timer alone.
    }
  }

  async wait(): Promise<void> {
    if (!this.#changed) {
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
    this.#wake = null;
    this.#changed = false;
  }

  close(): void {
    clearInterval(this.#timer);
    this.#watcher?.close();
  }
}

/** A scan and the segment it reads. */
export interface Position {
  readonly segment: SegmentName;
  readonly scan: SegmentScan;
}

/**
 * Delivers the records from a position on. The scan is closed at the end.
 * @param start where to begin; null: at the first segment that appears.
 * @param wait whether to wait at the end of the folder; else that is the end.
 * @param report is told, in one sentence with segment and offset, what could not be read.
 * @throws the error of the file system; Error when a segment is of a newer version.
 */
export async function* follow(
  dir: string,
  start: Position | null,
  wait: boolean,
  signal: AbortSignal,
  report: (message: string) => void,
): AsyncGenerator<ScannedRecord, void, void> {
  let at = start;
  let lastName = start?.segment.name ?? '';
  /** Offset of bad bytes that a second reading has confirmed. */
  let readAgainAt = -1;
  const folder = wait ? new FolderWatch(dir, signal) : null;
  try {
    while (!signal.aborted) {
      for (
        let item = (await at?.scan.next()) ?? null;
        item !== null;
        item = (await at?.scan.next()) ?? null
      ) {
        yield item;
        if (signal.aborted) return;
      }
      const next = (await listNames(dir)).find(({ name }) => name > lastName);
      if (next !== undefined) {
        // The segment is complete now, but was perhaps not when its end was read.
        const item = (await at?.scan.next()) ?? null;
        if (item !== null) {
          yield item;
          continue;
        }
        if (at !== null && (await passProblem(at, report))) continue;
        await at?.scan.close();
        lastName = next.name;
        at = await openSegment(next, at, report);
        continue;
      }
      if (folder === null) {
        if (at !== null && at.scan.problem?.kind === 'damaged' && (await passProblem(at, report))) continue;
        return;
      }
      if (at !== null && (await isStale(at.scan, readAgainAt))) {
        at = await readAgain(at, report);
        readAgainAt = at?.scan.offset ?? -1;
        continue;
      }
      if (at?.scan.problem?.kind === 'damaged' && (await passProblem(at, report))) continue;
      await folder.wait();
    }
  } finally {
    folder?.close();
    await at?.scan.close();
  }
}

/** Goes on behind bad bytes. @returns whether anything follows them. */
async function passProblem({ segment, scan }: Position, report: (message: string) => void): Promise<boolean> {
  const { problem } = scan;
  if (problem === null) return false;
  const resumed = await scan.resume();
  if (resumed === null) return false;
  if (!resumed.late)
    report(`${segment.name} at ${problem.offset}: ${problem.message}; goes on at ${scan.offset}`);
  return true;
}

async function openSegment(
  segment: SegmentName,
  before: Position | null,
  report: (message: string) => void,
): Promise<Position | null> {
  const scan = await SegmentScan.open(segment.path).catch((error: unknown) => {
    if (errorCode(error) === 'ENOENT') return new HeaderProblem('deleted by retention meanwhile');
    throw error;
  });
  if (scan instanceof HeaderProblem) {
    if (scan.foreign) throw new Error(`${segment.path}: ${scan.message}`);
    report(`${segment.name} at 0: ${scan.message}`);
    return null;
  }
  const expected = before?.scan.nextSequence;
  if (before?.segment.epoch === segment.epoch && expected !== segment.firstSequence) {
    report(`${segment.name} at 0: begins at sequence ${segment.firstSequence} where ${expected} must follow`);
  }
  return { segment, scan };
}

/** Whether a segment may have been cut back since it was read. */
async function isStale(scan: SegmentScan, readAgainAt: number): Promise<boolean> {
  if (scan.problem?.kind === 'damaged' && scan.offset !== readAgainAt) return true;
  return (await scan.size()) < scan.offset;
}

/** Reads a segment anew up to what was delivered, or to where it was cut back. */
async function readAgain(at: Position, report: (message: string) => void): Promise<Position | null> {
  const { segment } = at;
  const { nextSequence } = at.scan;
  await at.scan.close();
  const scan = await SegmentScan.open(segment.path);
  if (scan instanceof HeaderProblem) {
    report(`${segment.name} at 0: ${scan.message}`);
    return null;
  }
  while (scan.nextSequence < nextSequence && (await scan.next()) !== null);
  if (scan.nextSequence < nextSequence && scan.problem === null) {
    report(`${segment.name} at ${scan.offset}: what followed was taken back, it was never acknowledged`);
  }
  return { segment, scan };
}
