/**
 * The watermark: how far the folder has been shipped, in one small file beside the segments. It may be a second old:
 * the shipper reads the partition from its offset on and finds what came after. Without it everything that is retained
 * is looked for in the partition from its beginning, and sent if it is not there.
 */
import { open, readFile, rename } from 'node:fs/promises';
import { join } from 'node:path';
import { errorCode } from '../failure.ts';

/** A place between two records of the folder. */
export interface SpoolPosition {
  readonly segment: string;
  /** Offset in the segment, bytes. */
  readonly end: number;
  readonly epoch: number;
  /** Of the last record before it; 0 at the beginning of an epoch. */
  readonly sequence: number;
}

export interface Watermark extends SpoolPosition {
  readonly topic: string;
  readonly node: string;
  readonly partition: number;
  /** Chain value of the last record; empty when there is none. */
  readonly chain: string;
  /** Offset in the partition of a record not behind the last one, or where the first one goes. */
  readonly offset: number;
}

const FILE = 'shipped.json';
const VERSION = 1;

/**
 * @param topic a watermark of another topic says nothing.
 * @returns null when there is none, or the file does not hold one.
 * @throws the error of the file system.
 */
export async function readWatermark(dir: string, topic: string): Promise<Watermark | null> {
  let parsed: unknown;
  try {
    parsed = JSON.parse(await readFile(join(dir, FILE), 'utf8'));
  } catch (error) {
    if (errorCode(error) === 'ENOENT' || error instanceof SyntaxError) return null;
    throw error;
  }
  return isWatermark(parsed) && parsed.topic === topic ? parsed : null;
}

/** Replaces the file in one step. @throws the error of the file system. */
export async function writeWatermark(dir: string, watermark: Watermark): Promise<void> {
  const path = join(dir, FILE);
  const file = await open(`${path}.new`, 'w', 0o600);
  try {
    await file.writeFile(`${JSON.stringify({ version: VERSION, ...watermark })}\n`);
    await file.datasync();
  } finally {
    await file.close();
  }
  await rename(`${path}.new`, path);
}

function isWatermark(parsed: unknown): parsed is Watermark {
  if (typeof parsed !== 'object' || parsed === null) return false;
  const fields = parsed as Partial<Record<keyof Watermark | 'version', unknown>>;
  const { version, topic, node, segment, chain } = fields;
  const numbers = [fields.end, fields.epoch, fields.sequence, fields.partition, fields.offset];
  return (
    version === VERSION &&
    [topic, node, segment, chain].every((text) => typeof text === 'string') &&
    numbers.every((number) => Number.isSafeInteger(number) && Number(number) >= 0)
  );
}
