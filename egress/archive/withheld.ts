/**
 * What stands in Kafka for a record that the brokers refused for good, because it is larger than they allow. The
 * record itself stays in the node's folder (shipping/dead-letters.ts); this one keeps its place in the sequence and its
 * chain value, so that a reader sees what is missing, where, and that everything around it is whole.
 */
import { hash } from 'node:crypto';

/** Header `control` of such a record. Its `h` is that of the record it stands for: not the hash of its own value. */
export const WITHHELD_CONTROL = 'withheld';

export interface Withheld {
  /** Bytes of the value that was refused, and its sha256 as 64 hex digits. */
  readonly bytes: number;
  readonly sha256: string;
}

/** @returns the value that stands for a refused one. */
export function encodeWithheld(value: Buffer): Buffer {
  return Buffer.from(JSON.stringify({ bytes: value.length, sha256: hash('sha256', value, 'hex') }));
}

/** @returns the content of such a record, or null when the value is none. */
export function decodeWithheld(value: Buffer): Withheld | null {
  let parsed: unknown;
  try {
    parsed = JSON.parse(value.toString());
  } catch {
    return null;
  }
  if (typeof parsed !== 'object' || parsed === null) return null;
  const { bytes, sha256 } = parsed as Partial<Record<keyof Withheld, unknown>>;
  return typeof bytes === 'number' && typeof sha256 === 'string' ? { bytes, sha256 } : null;
}
