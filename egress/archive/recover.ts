/**
 * Opening a folder: finds where the last run ended and decides how to go on. Only the last segment is read
 * through (64 MB by default); of the others only the headers, `archive verify` reads all.
 *
 * | found | what follows |
 * | --- | --- |
 * | nothing | a new epoch |
 * | a last segment without a record (the crash came while it was made) | it is removed, the one before goes on |
 * | a torn end of the last segment | cut off, reported with its bytes: it was never acknowledged |
 * | a bad record that had been durable | reported; left as it is; a new epoch that declares possible loss |
 * | a bad header of an older segment | reported; left as it is; the epoch goes on |
 * | segments of a newer version, or no folder | the start is refused |
 *
 * A torn end is told from damage by the frames' index: a commit is written only after the one before is
 * durable, so a whole frame behind the bad place whose commit began later proves that the bad record had been
 * durable. Damage inside the very last commit looks like a torn end; only what stands outside of the folder
 * (the shipped copy) can tell these apart.
 */
import { type FileHandle, open, stat, unlink } from 'node:fs/promises';
import type { PreviousEpoch } from './epoch.ts';
import { type ScanProblem, SegmentScan, wasDurable } from './scan.ts';
import {
  HeaderProblem,
  listSegments,
  SEGMENT_HEADER_BYTES,
  type SegmentFile,
  syncDirectory,
} from './segment.ts';

/** What opening a folder may have to report. */
export interface RecoveryEvents {
  /** Bytes at the end of the last segment were no whole record and have been cut off. */
  tornTail(segment: string, offset: number, bytes: number): void;
  /** Bytes that had been durable are not what was written: an alarm for a human. */
  damage(segment: string, offset: number, message: string): void;
}

/** A segment with the time that dates it. */
export interface DatedSegment {
  readonly file: SegmentFile;
  readonly openedAtUs: number;
}

/** The segment that is carried on, open for writing; everything in it is durable. */
export interface ActiveSegment extends DatedSegment {
  readonly handle: FileHandle;
  readonly end: number;
  readonly nodeId: string;
  readonly epoch: number;
  readonly nextSequence: number;
  readonly chain: string;
  /** Latest received-at of the epoch, unix µs. */
  readonly newestUs: number;
  readonly partition: number;
}

/** How to go on. */
export interface Recovery {
  /** Segments that are complete and only kept, oldest first. */
  readonly sealed: readonly DatedSegment[];
  /** Null when a new epoch must begin. */
  readonly active: ActiveSegment | null;
  /** For the opening record when `active` is null. */
  readonly previous: PreviousEpoch | 'unknown';
  /** The highest epoch that the folder names, 0 for none: a new one must be above it. */
  readonly lastEpoch: number;
}

/**
 * Reads a locked folder and repairs its end (see the table above).
 * @param nodeId the writer's; an epoch of another node is not carried on.
 * @throws an Error that names the file when a segment is of a newer version; the error of the file system.
 */
export async function recover(dir: string, nodeId: string, events: RecoveryEvents): Promise<Recovery> {
  const files = await listSegments(dir);
  const lastEpoch = Math.max(0, ...files.map((file) => file.epoch));
  // Once a segment behind it has been there, the last one was complete and cannot have a torn end.
  let complete = false;
  for (;;) {
    const last = files.at(-1);
    if (last === undefined) return { sealed: [], active: null, previous: 'unknown', lastEpoch };
    const end = await readEnd(last, complete, events);
    if (end === 'empty') {
      await unlink(last.path);
      await syncDirectory(dir);
      files.pop();
      complete = true;
      continue;
    }
    if (end.kind === 'damaged') {
      events.damage(last.name, end.problem.offset, end.problem.message);
      const previous: PreviousEpoch = { n: end.nodeId, e: last.epoch, end: null };
      // Its own damage has just been reported.
      const sealed = [...(await dateAll(files.slice(0, -1), events)), await date(last, null)];
      return { sealed, active: null, previous, lastEpoch };
    }
    const { active } = end;
    if (active.nodeId !== nodeId) {
      await active.handle.close();
      const { nodeId: n, epoch: e, nextSequence, chain: h } = active;
      return {
        sealed: await dateAll(files, events),
        active: null,
        previous: { n, e, end: { s: nextSequence - 1, h } },
        lastEpoch,
      };
    }
    return { sealed: await dateAll(files.slice(0, -1), events), active, previous: 'unknown', lastEpoch };
  }
}

type SegmentEnd =
  | 'empty'
  | { readonly kind: 'damaged'; readonly nodeId: string; readonly problem: ScanProblem }
  | { readonly kind: 'sound'; readonly active: ActiveSegment };

/** Reads a last segment through, cuts a torn end off and makes the rest durable. */
async function readEnd(file: SegmentFile, complete: boolean, events: RecoveryEvents): Promise<SegmentEnd> {
  const scan = await openScan(file);
  if (scan instanceof HeaderProblem) {
    // The header is durable before the first record is written, so no record was lost with this one.
    if (file.bytes <= SEGMENT_HEADER_BYTES) return 'empty';
    const problem: ScanProblem = { kind: 'damaged', offset: 0, message: scan.message };
    return { kind: 'damaged', nodeId: 'unknown', problem };
  }
  try {
    const { header } = scan;
    let newestUs = header.openedAtUs;
    for (let item = await scan.next(); item !== null; item = await scan.next()) {
      newestUs = Math.max(newestUs, item.record.receivedAtUs);
    }
    const { problem, offset: end, nextSequence } = scan;
    const chain = scan.chain ?? header.chainBefore;
    if (problem !== null && (complete || (await wasDurable(scan, nextSequence)))) {
      return { kind: 'damaged', nodeId: header.nodeId, problem };
    }
    if (end === SEGMENT_HEADER_BYTES) return 'empty';
    const handle = await open(file.path, 'r+');
    const { size } = await handle.stat();
    if (size > end) {
      await handle.truncate(end);
      // Without a problem it was room that the writer had made ahead.
      if (problem !== null) events.tornTail(file.name, end, size - end);
    }
    // Whole records may still be in the page cache only: what follows must not rest on them before they are durable.
    await handle.sync();
    const { nodeId, epoch, openedAtUs, partition } = header;
    return {
      kind: 'sound',
      active: { file, openedAtUs, handle, end, nodeId, epoch, nextSequence, chain, newestUs, partition },
    };
  } finally {
    await scan.close();
  }
}

async function openScan(file: SegmentFile): Promise<SegmentScan | HeaderProblem> {
  const scan = await SegmentScan.open(file.path);
  if (scan instanceof HeaderProblem) {
    if (scan.foreign) throw new Error(`${file.path}: ${scan.message}`);
    return scan;
  }
  if (scan.header.epoch === file.epoch && scan.header.firstSequence === file.firstSequence) return scan;
  await scan.close();
  return new HeaderProblem('the segment header and the file name differ');
}

async function dateAll(files: readonly SegmentFile[], events: RecoveryEvents): Promise<DatedSegment[]> {
  const dated: DatedSegment[] = [];
  for (const file of files) dated.push(await date(file, events));
  return dated;
}

/** @param events is told of a bad header; null when that is known. */
async function date(file: SegmentFile, events: RecoveryEvents | null): Promise<DatedSegment> {
  const scan = await openScan(file);
  if (scan instanceof HeaderProblem) {
    events?.damage(file.name, 0, scan.message);
    // Kept as long as its last change says: the next best date.
    return { file, openedAtUs: (await stat(file.path)).mtimeMs * 1000 };
  }
  await scan.close();
  return { file, openedAtUs: scan.header.openedAtUs };
}
