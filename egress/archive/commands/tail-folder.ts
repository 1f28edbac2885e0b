/** `archive tail` of a spool folder. */
import { errorCode } from '../failure.ts';
import { follow, type Position } from '../follow.ts';
import { SegmentScan } from '../scan.ts';
import { HeaderProblem, listSegments, type SegmentFile } from '../segment.ts';
import { UsageError } from './command.ts';
import { type LineSink, orderLine } from './lines.ts';
import type { Selection } from './select.ts';
import type { TailOptions } from './tail.ts';
import { noFolder } from './where.ts';

/**
 * Prints the last orders of a spool folder, then follows it.
 * @throws UsageError when there is no archive.
 */
export async function tailFolder(
  dir: string,
  { selection, lines, wait, sink, signal, report }: TailOptions,
): Promise<void> {
  const files = await listSegments(dir).catch((error: unknown) => {
    throw noFolder(dir, error);
  });
  if (files.length === 0 && !wait) throw new UsageError(`--dir: no archive in ${dir}`);
  const start =
    lines === null
      ? await firstSince(files, selection.sinceUs, report)
      : await printLast(files, selection, lines, sink, report);
  await sink.flush();
  for await (const { record } of follow(dir, start, wait, signal, report)) {
    if (!selection.matches(record)) continue;
    await sink.write(orderLine(record));
    // A live view: nothing is held back while the reader keeps up.
    await sink.flush();
  }
}

/**
 * Prints the last orders that are wanted, reading segments backwards until there are enough.
 * @returns the end of the newest segment, from where to follow; null when there is none.
 */
async function printLast(
  files: readonly SegmentFile[],
  selection: Selection,
  wanted: number,
  sink: LineSink,
  report: (message: string) => void,
): Promise<Position | null> {
  const blocks: string[][] = [];
  let missing = wanted;
  let newest: Position | null = null;
  for (const file of files.toReversed()) {
    const scan = await openScan(file, report);
    if (scan === null) continue;
    const { openedAtUs } = scan.header;
    const block = await lastOf(scan, file, selection, missing, report);
    if (newest === null) newest = { segment: file, scan };
    else await scan.close();
    blocks.push(block);
    missing -= block.length;
    if (missing === 0 || openedAtUs < selection.sinceUs) break;
  }
  for (const line of blocks.toReversed().flat()) await sink.write(line);
  return newest;
}

/** @returns the lines of the last `count` wanted orders of a segment; the scan stands at its end then. */
async function lastOf(
  scan: SegmentScan,
  file: SegmentFile,
  selection: Selection,
  count: number,
  report: (message: string) => void,
): Promise<string[]> {
  const lines: string[] = [];
  for (;;) {
    for (let item = await scan.next(); item !== null; item = await scan.next()) {
      if (count === 0 || !selection.matches(item.record)) continue;
      lines.push(orderLine(item.record));
      // Cut in bulk: shifting one by one would move the whole list for each.
      if (lines.length > 2 * count + 1000) lines.splice(0, lines.length - count);
    }
    const { problem } = scan;
    const resumed = problem === null ? null : await scan.resume();
    if (problem === null || resumed === null) break;
    if (!resumed.late)
      report(`${file.name} at ${problem.offset}: ${problem.message}; goes on at ${scan.offset}`);
  }
  return lines.slice(Math.max(0, lines.length - count));
}

/** @returns the beginning of the first segment that may hold orders since a time. */
async function firstSince(
  files: readonly SegmentFile[],
  sinceUs: number,
  report: (message: string) => void,
): Promise<Position | null> {
  for (const file of files.toReversed()) {
    const scan = await openScan(file, report);
    if (scan === null) continue;
    if (scan.header.openedAtUs < sinceUs || file === files[0]) return { segment: file, scan };
    await scan.close();
  }
  return null;
}

async function openScan(file: SegmentFile, report: (message: string) => void): Promise<SegmentScan | null> {
  const scan = await SegmentScan.open(file.path).catch((error: unknown) => {
    if (errorCode(error) === 'ENOENT') return new HeaderProblem('deleted by retention meanwhile');
    throw error;
  });
  if (!(scan instanceof HeaderProblem)) return scan;
  if (scan.foreign) throw new Error(`${file.path}: ${scan.message}`);
  report(`${file.name} at 0: ${scan.message}`);
  return null;
}
