/**
 * The record that opens an epoch. An epoch is one unbroken sequence and hash chain; a new one begins only where
 * the old one cannot be carried on, and its first record says what is known of the one before, so that a reader
 * sees from the records alone whether orders may be missing in between.
 *
 * | a new epoch begins because | its opening record says |
 * | --- | --- |
 * | the folder holds no records | `"previous":"unknown"`: possible loss declared, if this node archived before |
 * | the last segment is damaged among records that were durable | the epoch before, its end `"unknown"`: possible loss declared |
 * | the node has another id than the one that wrote the folder | the epoch before and its end: nothing is missing |
 */

/** Header `control` of the opening record. */
export const EPOCH_CONTROL = 'epoch';

/** What is known of the epoch before: its node id, its name, and the s and h of its last record, null when not sure. */
export interface PreviousEpoch {
  readonly n: string;
  readonly e: number;
  readonly end: { readonly s: number; readonly h: string } | null;
}

const UNKNOWN = 'unknown';

/** Content of an opening record. `n` and `e` bind the hash chain to the node and the epoch. */
export interface EpochOpening {
  readonly n: string;
  readonly e: number;
  readonly previous: PreviousEpoch | 'unknown';
}

/** @returns the value of the opening record: JSON, keys in this order. */
export function encodeOpening(opening: EpochOpening): Buffer {
  const { previous } = opening;
  return Buffer.from(
    JSON.stringify({
      n: opening.n,
      e: opening.e,
      previous:
        previous === UNKNOWN
          ? UNKNOWN
          : { n: previous.n, e: previous.e, s: previous.end?.s ?? UNKNOWN, h: previous.end?.h ?? UNKNOWN },
    }),
  );
}

/** @returns the content of an opening record, or null when the value is none. */
export function decodeOpening(value: Buffer): EpochOpening | null {
  let parsed: unknown;
  try {
    parsed = JSON.parse(value.toString());
  } catch {
    return null;
  }
  if (!isObject(parsed) || typeof parsed.n !== 'string' || typeof parsed.e !== 'number') return null;
  const { n, e, previous } = parsed;
  if (previous === UNKNOWN) return { n, e, previous };
  if (!isObject(previous) || typeof previous.n !== 'string' || typeof previous.e !== 'number') return null;
  const { s, h } = previous;
  if (s === UNKNOWN && h === UNKNOWN) return { n, e, previous: { n: previous.n, e: previous.e, end: null } };
  if (typeof s !== 'number' || typeof h !== 'string') return null;
  return { n, e, previous: { n: previous.n, e: previous.e, end: { s, h } } };
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null;
}
