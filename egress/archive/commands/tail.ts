/** `archive tail`: the last orders, then each new one as it is archived. */
import { type Command, EXIT, parseOptions, UsageError } from './command.ts';
import { LineSink } from './lines.ts';
import { parseSelection, SELECT_HELP, SELECT_OPTIONS, type Selection } from './select.ts';
import { tailFolder } from './tail-folder.ts';
import { tailTopic } from './tail-topic.ts';
import { WHERE_HELP, WHERE_OPTIONS, whereOf } from './where.ts';

const OPTIONS = {
  ...WHERE_OPTIONS,
  ...SELECT_OPTIONS,
  lines: { type: 'string', short: 'n' },
  follow: { type: 'boolean' },
  'no-follow': { type: 'boolean' },
} as const;

const DEFAULT_LINES = 10;
const MAX_LINES = 1_000_000;

/** What a tail prints, of whatever archive. */
export interface TailOptions {
  readonly selection: Selection;
  /** How many of the last orders to begin with; null: all that the selection's time allows. */
  readonly lines: number | null;
  /** Whether to wait at the end. */
  readonly wait: boolean;
  readonly sink: LineSink;
  /** Ends it. */
  readonly signal: AbortSignal;
  /** Told, in one sentence with its place, what could not be read or is missing. */
  readonly report: (message: string) => void;
}

export const tailCommand: Command = {
  name: 'tail',
  summary: 'print the last orders and follow what is archived',
  help: `Usage: npm run archive -- tail [options]

Prints the last orders as one JSON line each, then every new one as it is archived, until interrupted. Gaps and altered
records are told on standard error.

${WHERE_HELP}
  -n, --lines N     begin with the last N orders (default ${DEFAULT_LINES}; with --since: all since then)
  --no-follow       end after the last order
${SELECT_HELP}
                    With --until, following ends at that time.

Exit code: 0 done, 1 something could not be read or is missing (printed), 2 wrong usage.`,

  async run(args, surroundings) {
    const values = parseOptions(args, OPTIONS);
    const selection = parseSelection(values, surroundings.now());
    const lines = parseLines(values.lines) ?? (values.since === undefined ? DEFAULT_LINES : null);
    const { stderr, stdout } = surroundings;
    let problems = 0;
    const report = (message: string) => {
      problems += 1;
      stderr.write(`${message}\n`);
    };
    const where = await whereOf(values, surroundings);
    const remainingMs = selection.untilUs / 1000 - surroundings.now();
    const wait = values['no-follow'] !== true && remainingMs > 0;
    const sink = new LineSink(stdout);
    const ended = new AbortController();
    const signal = AbortSignal.any([surroundings.signal, sink.closing, ended.signal]);
    const timer = endTimer(wait, remainingMs, ended);
    const options = { selection, lines, wait, sink, signal, report };
    try {
      await ('dir' in where ? tailFolder(where.dir, options) : tailTopic(where.access, options));
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
function endTimer(wait: boolean, remainingMs: number, ended: AbortController): NodeJS.Timeout | undefined {
  return wait && remainingMs < 2 ** 31 ? setTimeout(() => ended.abort(), remainingMs) : undefined;
}
