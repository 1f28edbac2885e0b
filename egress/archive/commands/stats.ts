/** `archive stats`: what an archive holds, in numbers. */
import { isOrder } from '../walk.ts';
import { type Command, EXIT, parseOptions, UsageError } from './command.ts';
import { findingLine, isoTime, openReading, plural } from './reading.ts';
import { parseSelection, SELECT_HELP, SELECT_OPTIONS } from './select.ts';
import { WHERE_HELP, WHERE_OPTIONS, whereOf } from './where.ts';

const OPTIONS = {
  ...WHERE_OPTIONS,
  ...SELECT_OPTIONS,
  top: { type: 'string' },
  json: { type: 'boolean' },
} as const;

const DEFAULT_TOP = 10;
/** Signers that are counted; further ones are counted together. */
const MAX_SIGNERS = 1_000_000;
const OTHERS = 'others';

interface Count {
  orders: number;
  bytes: number;
}

export const statsCommand: Command = {
  name: 'stats',
  summary: 'count orders by method, node and signer',
  help: `Usage: npm run archive -- stats [options]

Reads the archive and counts its orders and their bytes, by method, node and signer, with sizes and rate.

${WHERE_HELP}
${SELECT_HELP}
  --top N           signers to name, those with the most orders first (default ${DEFAULT_TOP})
  --json            the same as one JSON object

Exit code: 0 done, 1 interrupted or a problem was found (printed), 2 wrong usage.`,

  async run(args, surroundings) {
    const values = parseOptions(args, OPTIONS);
    const top = parseTop(values.top);
    const { stdout, stderr, signal } = surroundings;
    const selection = parseSelection(values, surroundings.now());
    const reading = await openReading(
      {
        where: await whereOf(values, surroundings),
        selection,
        inspect: false,
        onFinding: (finding) => {
          if (finding.kind === 'problem') stderr.write(findingLine(finding));
        },
      },
      surroundings,
    );
    const tally = new Tally();
    try {
      for await (const record of reading.records()) {
        if (isOrder(record) && selection.matches(record)) {
          const { method, nodeId, signer, value, receivedAtUs } = record;
          tally.add(method ?? '', nodeId, signer ?? '', value.length, receivedAtUs);
        }
      }
    } finally {
      await reading.end();
    }
    if (signal.aborted) stderr.write('interrupted: not everything was read\n');
    const { problems, source } = reading;
    const found = {
      ...tally.summary(top),
      duplicates: source.duplicates,
      problems,
    };
    stdout.write(values.json === true ? `${JSON.stringify(found)}\n` : render(found));
    return problems > 0 || signal.aborted ? EXIT.problem : EXIT.ok;
  },
};

function parseTop(text: string | undefined): number {
  if (text === undefined) return DEFAULT_TOP;
  if (!/^\d{1,6}$/.test(text)) throw new UsageError(`--top: '${text}' is no number from 0 to 999999`);
  return Number(text);
}

/** Sizes are counted in steps of 1/16 of a power of two: a quantile is at most 5 % too high. */
const STEPS = 16;

class Tally {
  readonly #methods = new Map<string, Count>();
  readonly #nodes = new Map<string, Count>();
  readonly #signers = new Map<string, Count>();
  readonly #sizes = new Map<number, number>();
  #orders = 0;
  #bytes = 0;
  #oldestUs = Number.POSITIVE_INFINITY;
  #newestUs = 0;

  add(method: string, node: string, signer: string, bytes: number, receivedAtUs: number): void {
    this.#orders += 1;
    this.#bytes += bytes;
    this.#oldestUs = Math.min(this.#oldestUs, receivedAtUs);
    this.#newestUs = Math.max(this.#newestUs, receivedAtUs);
    count(this.#methods, method, bytes);
    count(this.#nodes, node, bytes);
    const known = this.#signers.size < MAX_SIGNERS || this.#signers.has(signer);
    count(this.#signers, known ? signer : OTHERS, bytes);
    const step = Math.ceil(Math.log2(Math.max(1, bytes)) * STEPS);
    this.#sizes.set(step, (this.#sizes.get(step) ?? 0) + 1);
  }

  summary(top: number) {
    const seconds = this.#orders === 0 ? 0 : (this.#newestUs - this.#oldestUs) / 1e6;
    return {
      orders: this.#orders,
      bytes: this.#bytes,
      from: this.#orders === 0 ? null : isoTime(this.#oldestUs),
      to: this.#orders === 0 ? null : isoTime(this.#newestUs),
      ordersPerSecond: seconds > 0 ? Number((this.#orders / seconds).toFixed(3)) : null,
      orderBytes: { p50: this.#quantile(0.5), p90: this.#quantile(0.9), p99: this.#quantile(0.99) },
      methods: ranked(this.#methods),
      nodes: ranked(this.#nodes),
      signers: this.#signers.size,
      topSigners: ranked(this.#signers).slice(0, top),
    };
  }

  #quantile(share: number): number | null {
    let left = Math.ceil(share * this.#orders);
    for (const [step, orders] of [...this.#sizes].toSorted(([a], [b]) => a - b)) {
      left -= orders;
      if (left <= 0) return Math.round(2 ** (step / STEPS));
    }
    return null;
  }
}

function count(counts: Map<string, Count>, name: string, bytes: number): void {
  const known = counts.get(name);
  if (known === undefined) {
    counts.set(name, { orders: 1, bytes });
  } else {
    known.orders += 1;
    known.bytes += bytes;
  }
}

function ranked(counts: ReadonlyMap<string, Count>) {
  return [...counts]
    .map(([name, { orders, bytes }]) => ({ name, orders, bytes }))
    .toSorted((a, b) => b.orders - a.orders || (a.name < b.name ? -1 : 1));
}

type Found = ReturnType<Tally['summary']> & { readonly duplicates: number; readonly problems: number };

function render(found: Found): string {
  const { orders, bytes, from, to, ordersPerSecond, orderBytes, methods, nodes, signers, topSigners } = found;
  const lines = [`${plural(orders, 'order')}, ${bytes} bytes`];
  if (from !== null && to !== null) {
    lines.push(
      `received from ${from} to ${to}${ordersPerSecond === null ? '' : `, ${ordersPerSecond} per second`}`,
    );
    lines.push(`bytes per order: p50 ${orderBytes.p50}, p90 ${orderBytes.p90}, p99 ${orderBytes.p99}`);
  }
  lines.push(`${plural(found.duplicates, 'duplicate')} left out, ${plural(found.problems, 'problem')} found`);
  const tables = [
    ['method', methods],
    ['node', nodes],
    [`signer (${signers} in all)`, topSigners],
  ] as const;
  for (const [title, rows] of tables) {
    if (rows.length === 0) continue;
    const width = Math.max(title.length, ...rows.map(({ name }) => name.length));
    lines.push('', `${title.padEnd(width)}  ${'orders'.padStart(10)}  ${'bytes'.padStart(14)}`);
    for (const row of rows) {
      lines.push(
        `${row.name.padEnd(width)}  ${String(row.orders).padStart(10)}  ${String(row.bytes).padStart(14)}`,
      );
    }
  }
  return `${lines.join('\n')}\n`;
}
