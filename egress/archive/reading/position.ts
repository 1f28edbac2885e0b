/**
 * Where a reader of a partition stands, as one line of text: the offset of the next record and, per epoch, what the
 * reader's rule needs (ledger.ts). It is stored as the metadata of the committed offset, or by the application with its
 * own results, so that a restart or a rebalance neither loses nor repeats an order unnoticed.
 *
 * Form: `1;<offset>` then per epoch `;<node>,<epoch>,<sequence>,<chain>[,<first>-<last> …]`, numbers in base 36, the
 * chain value in base64url or empty when unknown. ASCII: brokers bound metadata in bytes (4,096 by default, {@link MAX_POSITION_BYTES}).
 */
import { isNodeId } from '../record.ts';
import type { SavedEpoch } from './ledger.ts';

/** A broker's default limit of an offset's metadata (offset.metadata.max.bytes): about 45 epochs. */
export const MAX_POSITION_BYTES = 4096;

const VERSION = '1';

export interface Position {
  /** Offset of the next record to read. */
  readonly offset: number;
  /** Oldest first. */
  readonly epochs: readonly SavedEpoch[];
}

/** @returns the text; the epochs that were not read for longest are left out where it would pass the limit. */
export function encodePosition({ offset, epochs }: Position): string {
  let text = '';
  const head = `${VERSION};${offset.toString(36)}`;
  for (const epoch of epochs.toReversed()) {
    const next = `;${encodeEpoch(epoch)}${text}`;
    if (head.length + next.length > MAX_POSITION_BYTES) break;
    text = next;
  }
  return head + text;
}

/** @returns the position, or null when the text is none of ours. */
export function decodePosition(text: string): Position | null {
  const [version, offsetText = '', ...rest] = text.split(';');
  const offset = decodeNumber(offsetText);
  if (version !== VERSION || offset === null) return null;
  const epochs: SavedEpoch[] = [];
  for (const part of rest) {
    const epoch = decodeEpoch(part);
    if (epoch === null) return null;
    epochs.push(epoch);
  }
  return { offset, epochs };
}

function encodeEpoch({ nodeId, epoch, sequence, chain, gaps }: SavedEpoch): string {
  const link = chain === null ? '' : Buffer.from(chain, 'hex').toString('base64url');
  const missing = gaps.map(([first, last]) => `,${first.toString(36)}-${last.toString(36)}`).join('');
  return `${nodeId},${epoch.toString(36)},${sequence.toString(36)},${link}${missing}`;
}

function decodeEpoch(text: string): SavedEpoch | null {
  const [nodeId = '', epochText = '', sequenceText = '', link = '', ...missing] = text.split(',');
  const epoch = decodeNumber(epochText);
  const sequence = decodeNumber(sequenceText);
  if (!isNodeId(nodeId) || epoch === null || sequence === null || !/^(?:[\w-]{22})?$/.test(link)) return null;
  const gaps: [number, number][] = [];
  for (const part of missing) {
    const [firstText = '', lastText = ''] = part.split('-');
    const first = decodeNumber(firstText);
    const last = decodeNumber(lastText);
    if (first === null || last === null || first > last) return null;
    gaps.push([first, last]);
  }
  const chain = link === '' ? null : Buffer.from(link, 'base64url').toString('hex');
  return { nodeId, epoch, sequence, chain, gaps };
}

function decodeNumber(text: string): number | null {
  const value = /^[0-9a-z]{1,11}$/.test(text) ? Number.parseInt(text, 36) : Number.NaN;
  return Number.isSafeInteger(value) ? value : null;
}
