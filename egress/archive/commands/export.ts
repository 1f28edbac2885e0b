/** `archive export`: the archived orders as NDJSON or Parquet. */
import { createWriteStream } from 'node:fs';
import { open } from 'node:fs/promises';
import type { Writable } from 'node:stream';
import { finished } from 'node:stream/promises';
import { asError, errorCode } from '../failure.ts';
import type { ArchiveRecord } from '../record.ts';
import { type Command, EXIT, parseOptions, type Surroundings, UsageError } from './command.ts';
import { LineSink, orderLine } from './lines.ts';
import { ParquetFile } from './parquet.ts';
import { findingLine, INSPECT_HELP, INSPECT_OPTIONS, openReading } from './reading.ts';
import { parseSelection, SELECT_HELP, SELECT_OPTIONS } from './select.ts';
import { WHERE_HELP, WHERE_OPTIONS, whereOf } from './where.ts';

const OPTIONS = {
  ...WHERE_OPTIONS,
  ...SELECT_OPTIONS,
  ...INSPECT_OPTIONS,
  output: { type: 'string', short: 'o' },
  format: { type: 'string' },
} as const;

export const exportCommand: Command = {
  name: 'export',
  summary: 'write the archived orders as NDJSON or Parquet',
  help: `Usage: npm run archive -- export [options]

Writes the archived orders, oldest first, one JSON line or one row each, and checks on the way what verify checks. Altered
records are left out.

${WHERE_HELP}
${SELECT_HELP}
${INSPECT_HELP}
  -o, --output FILE write to FILE, which must not exist yet, instead of standard output
  --format FORMAT   ndjson or parquet (default: parquet for a FILE that ends so, else ndjson); parquet needs --output

Exit code: 0 done, 1 interrupted or a problem was found (printed; readable orders are written all the same),
2 wrong usage.`,

  async run(args, surroundings) {
    const values = parseOptions(args, OPTIONS);
    const selection = parseSelection(values, surroundings.now());
    const { output } = values;
    const { stderr, signal } = surroundings;
    const format = formatOf(values.format, output);
    const where = await whereOf(values, surroundings);
    const reading = await openReading(
      {
        where,
        selection,
        inspect: values['no-inspect'] !== true,
        onFinding: (finding) => {
          if (finding.kind === 'problem') stderr.write(findingLine(finding));
        },
      },
      surroundings,
    );
    let orders = 0;
    try {
      const file = await openOutput(format, output, surroundings);
      for await (const record of reading.records()) {
        if (file.closed || signal.aborted) break;
        if (!selection.matches(record)) continue;
        await file.write(record);
        orders += 1;
      }
      await file.end();
    } finally {
      await reading.end();
    }
    if (signal.aborted) stderr.write('interrupted: the output is not complete\n');
    const { problems } = reading;
    if (output !== undefined || problems > 0) {
      stderr.write(`${orders} orders written, ${problems} problems found\n`);
    }
    return problems > 0 || signal.aborted ? EXIT.problem : EXIT.ok;
  },
};

type Format = 'ndjson' | 'parquet';

/** Where orders are written to. */
interface Output {
  /** Whether nobody reads any more. */
  readonly closed: boolean;
  write(record: ArchiveRecord): Promise<void>;
  end(): Promise<void>;
}

function formatOf(option: string | undefined, output: string | undefined): Format {
  const format = option ?? (output?.endsWith('.parquet') === true ? 'parquet' : 'ndjson');
  if (format !== 'ndjson' && format !== 'parquet') {
    throw new UsageError(`--format: '${format}' is neither ndjson nor parquet`);
  }
  if (format === 'parquet' && output === undefined) throw new UsageError('--format: parquet needs --output');
  return format;
}

async function openOutput(
  format: Format,
  path: string | undefined,
  { stdout }: Surroundings,
): Promise<Output> {
  if (path === undefined) return lines(stdout, false);
  try {
    const file = await open(path, 'wx', 0o600);
    if (format === 'ndjson') return lines(createWriteStream(path, { fd: file, flags: 'w' }), true);
    await file.close();
  } catch (error) {
    throw new UsageError(
      `--output: ${errorCode(error) === 'EEXIST' ? `${path} exists already` : asError(error).message}`,
    );
  }
  const parquet = new ParquetFile(path);
  return { closed: false, write: (record) => parquet.write(record), end: () => parquet.end() };
}

function lines(stream: Writable, ours: boolean): Output {
  const sink = new LineSink(stream);
  return {
    get closed() {
      return sink.closed;
    },
    write: (record) => sink.write(orderLine(record)),
    async end() {
      await sink.flush();
      if (!ours) return;
      stream.end();
      await finished(stream);
    },
  };
}
