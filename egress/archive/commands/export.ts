/** `archive export`: the archived orders as NDJSON. */
import { createWriteStream } from 'node:fs';
import type { Writable } from 'node:stream';
import { finished } from 'node:stream/promises';
import { type Command, EXIT, parseOptions, type Surroundings, UsageError } from './command.ts';
import { archiveDir, DIR_HELP, openWalk } from './folder.ts';
import { LineSink, orderLine } from './lines.ts';
import { Progress } from './progress.ts';
import { parseSelection, SELECT_HELP, SELECT_OPTIONS } from './select.ts';

const OPTIONS = {
  ...SELECT_OPTIONS,
  dir: { type: 'string' },
  output: { type: 'string', short: 'o' },
} as const;

export const exportCommand: Command = {
  name: 'export',
  summary: 'write the archived orders as NDJSON',
  help: `Usage: npm run archive -- export [options]

Writes one JSON line per archived order, oldest first, and checks checksums, sequence and hash chain on the way.

${DIR_HELP}
${SELECT_HELP}
  -o, --output FILE write to FILE, which must not exist yet, instead of standard output

Exit code: 0 done, 1 interrupted or a problem was found (printed; readable orders are written all the same),
2 wrong usage.`,

  async run(args, surroundings) {
    const values = parseOptions(args, OPTIONS);
    const selection = parseSelection(values, surroundings.now());
    const { stderr, signal } = surroundings;
    const walk = await openWalk(archiveDir(values.dir, surroundings), selection.sinceUs);
    const output = await openOutput(values.output, surroundings);
    const sink = new LineSink(output);
    const progress = new Progress(stderr, walk.totalBytes);
    let orders = 0;
    let problems = 0;
    const records = walk.records(({ kind, segment, offset, message }) => {
      if (kind !== 'problem') return;
      problems += 1;
      progress.clear();
      stderr.write(`PROBLEM  ${segment} at ${offset}: ${message}\n`);
    });
    for await (const { record } of records) {
      if (sink.closed || signal.aborted) break;
      progress.update(walk.doneBytes);
      if (!selection.matches(record)) continue;
      await sink.write(orderLine(record));
      orders += 1;
    }
    await sink.flush();
    if (values.output !== undefined) {
      output.end();
      await finished(output);
    }
    progress.clear();
    if (signal.aborted) stderr.write('interrupted: the output is not complete\n');
    if (values.output !== undefined || problems > 0) {
      stderr.write(`${orders} orders written, ${problems} problems found\n`);
    }
    return problems > 0 || signal.aborted ? EXIT.problem : EXIT.ok;
  },
};

async function openOutput(file: string | undefined, { stdout }: Surroundings): Promise<Writable> {
  if (file === undefined) return stdout;
  const stream = createWriteStream(file, { flags: 'wx', mode: 0o600 });
  await new Promise<void>((resolve, reject) => {
    stream.once('open', () => resolve());
    stream.once('error', (error: NodeJS.ErrnoException) => {
      reject(
        new UsageError(`--output: ${error.code === 'EEXIST' ? `${file} exists already` : error.message}`),
      );
    });
  });
  return stream;
}
