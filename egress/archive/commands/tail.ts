/** `archive tail`: the last orders, then each new one as it is archived. */
import { errorCode } from '../failure.ts';
import { follow, type Position } from '../follow.ts';
import { SegmentScan } from '../scan.ts';
import { HeaderProblem, listSegments, type SegmentFile } from '../segment.ts';
import { type Command, EXIT, parseOptions, UsageError } from './command.ts';
import { archiveDir, DIR_HELP, noFolder } from './folder.ts';
import { LineSink, orderLine } from './lines.ts';
import { parseSelection, SELECT_HELP, SELECT_OPTIONS, type Selection } from './select.ts';

const OPTIONS = {
  ...SELECT_OPTIONS,
  dir: { type: 'string' },
  lines: { type: 'string', short: 'n' },
  follow: { type: 'boolean' },
  'no-follow': { type: 'boolean' },
} as const;

const DEFAULT_LINES = 10;
const MAX_LINES = 1_000_000;

export const tailCommand: Command = {
  name: 'tail',
  summary: 'print the last orders and follow what is archived',
  help: `Usage: npm run archive -- tail [options]

Prints the last orders as one JSON line each, then every new one as it is archived, until interrupted.

${DIR_HELP}
  -n, --lines N     begin with the last N orders (default ${DEFAULT_LINES}; with --since: all since then)
  --no-follow       end after the last order
${SELECT_HELP}
                    With --until, following ends at that time.

Exit code: 0 done, 1 something could not be read (printed), 2 wrong usage.`,

  async run(args, surroundings) {
    const values = parseOptions(args, OPTIONS);
    const selection = parseSelection(values, surroundings.now());
    const lines = parseLines(values.lines);
    const { stderr, stdout } = surroundings;
    let problems = 0;
    const report = (message: string) => {
      problems += 1;
      stderr.write(`${message}\n`);
    };

    const dir = archiveDir(values.dir, surroundings);
    const files = await listSegments(dir).catch((error: unknown) => {
      throw noFolder(dir, error);
    });
    const remainingMs = selection.untilUs / 1000 - surroundings.now();
    const wait = values['no-follow'] !== true && remainingMs > 0;
    if (files.length === 0 && !wait) throw new UsageError(`--dir: no archive in ${dir}`);

    const sink = new LineSink(stdout);
    const all = lines === null && values.since !== undefined;
    const start = all
      ? await firstSince(files, selection.sinceUs, report)
      : await printLast(files, selection, lines ?? DEFAULT_LINES, sink, report);
    await sink.flush();

    const ended = new AbortController();
    const signal = AbortSignal.any([surroundings.signal, sink.closing, ended.signal]);
    const timer = endTimer(remainingMs, ended);
    try {
      for await (const { record } of follow(dir, start, wait, signal, report)) {
        if (!selection.matches(record)) continue;
        await sink.write(orderLine(record));
        // A live view: nothing is held back while the reader keeps up.
        await sink.flush();
      }
    } finally {
      clearTimeout(timer);
    }
    return problems === 0 ? EXIT.ok : EXIT.problem;
  },
};

function parseLines(text: string | undefined): number | null {
  if (text === undefined) return null;
  if (!/^\d+$/.test(text) || Number(text) > MAX_LINES) {
    throw new UsageError(`--lines: '${text}' is no number from 0 to ${MAX_LINES}`);
  }
  return Number(text);
}

/** A timer that ends following; none beyond what a timer can hold (24 days). */
function endTimer(remainingMs: number, ended: AbortController): NodeJS.Timeout | undefined {
  return remainingMs < 2 ** 31 ? setTimeout(() => ended.abort(), Math.max(0, remainingMs)) : undefined;
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
    if (problem === null || (await scan.resume()) === null) break;
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
