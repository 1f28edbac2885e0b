/** Which orders a command shows: by method, signer, node and time received. */
import { METHODS } from '../../../pipeline/order.ts';
import type { ArchiveRecord } from '../record.ts';
import { isOrder } from '../walk.ts';
import { UsageError } from './command.ts';

/** The options of a selection, for parseOptions. */
export const SELECT_OPTIONS = {
  method: { type: 'string', multiple: true },
  signer: { type: 'string', multiple: true },
  node: { type: 'string', multiple: true },
  since: { type: 'string' },
  until: { type: 'string' },
} as const;

export const SELECT_HELP = `  --method NAME     only this method (${METHODS.filter((method) => method !== 'bid_subsidiseBlock').join(', ')}); may be repeated
  --signer ADDRESS  only orders of this signer; may be repeated
  --node ID         only orders that this node archived; may be repeated
  --since TIME      only orders received at or after TIME
  --until TIME      only orders received before TIME
                    TIME is 2025-06-30, 2025-06-30T12:00:00 (UTC unless a zone is given), or an age: 90s, 15m, 6h, 2d`;

/** A parsed selection. Times in unix µs. */
export interface Selection {
  readonly sinceUs: number;
  readonly untilUs: number;
  /** Whether a record is an order that is wanted. */
  matches(record: ArchiveRecord): boolean;
}

interface SelectionValues {
  readonly method?: string[] | undefined;
  readonly signer?: string[] | undefined;
  readonly node?: string[] | undefined;
  readonly since?: string | undefined;
  readonly until?: string | undefined;
}

/**
 * @param nowMs the moment that ages count from, unix ms.
 * @throws UsageError naming the option whose value is wrong.
 */
export function parseSelection(values: SelectionValues, nowMs: number): Selection {
  const methods = new Set(values.method);
  for (const method of methods) {
    if (!(METHODS as readonly string[]).includes(method)) {
      throw new UsageError(`--method: '${method}' is none of ${METHODS.join(', ')}`);
    }
  }
  const signers = new Set(values.signer?.map((signer) => signer.toLowerCase()));
  for (const signer of signers) {
    if (!/^0x[0-9a-f]{40}$/.test(signer)) {
      throw new UsageError(`--signer: '${signer}' is no address (0x and 40 hex digits)`);
    }
  }
  // Node ids are told apart to the letter; an address may be given with its checksum.
  const nodes = new Set(values.node?.flatMap((node) => [node, node.toLowerCase()]));
  const sinceUs = values.since === undefined ? 0 : parseTime('--since', values.since, nowMs);
  const untilUs =
    values.until === undefined ? Number.POSITIVE_INFINITY : parseTime('--until', values.until, nowMs);
  if (sinceUs >= untilUs) throw new UsageError('--since: must be before --until');
  return {
    sinceUs,
    untilUs,
    matches: (record) =>
      isOrder(record) &&
      record.receivedAtUs >= sinceUs &&
      record.receivedAtUs < untilUs &&
      (methods.size === 0 || methods.has(record.method ?? '')) &&
      (signers.size === 0 || signers.has(record.signer ?? '')) &&
      (nodes.size === 0 || nodes.has(record.nodeId)),
  };
}

const AGE_UNITS: Readonly<Record<string, number>> = { s: 1, m: 60, h: 3600, d: 86_400 };

/** @returns unix µs. */
function parseTime(option: string, text: string, nowMs: number): number {
  const age = /^(\d{1,9})([smhd])$/.exec(text);
  if (age !== null) return (nowMs - Number(age[1]) * (AGE_UNITS[age[2] ?? ''] ?? 0) * 1000) * 1000;
  const date = /^\d{4}-\d\d-\d\d(?:T\d\d:\d\d(?::\d\d(?:\.\d+)?)?(Z|[+-]\d\d:\d\d)?)?$/.exec(text);
  if (date !== null) {
    // JavaScript takes a time without a zone for local time.
    const ms = Date.parse(text.includes('T') && date[1] === undefined ? `${text}Z` : text);
    // It also takes 30 February, for 2 March.
    const [year = 0, month = 0, day = 0] = text.slice(0, 10).split('-').map(Number);
    const isDay = new Date(Date.UTC(year, month - 1, day)).getUTCDate() === day;
    if (isDay && !Number.isNaN(ms)) return ms * 1000;
  }
  throw new UsageError(
    `${option}: '${text}' is no time (2025-06-30, 2025-06-30T12:00:00Z, 90s, 15m, 6h, 2d)`,
  );
}
