/** Opens an archive to be read from one place to another: a spool folder or a Kafka topic, the same either way. */
import type { KafkaAccess } from '../shipping/kafka-client.ts';
import { connectReader } from '../shipping/kafka-reader.ts';
import { ArchiveWalk } from '../walk.ts';
import { FolderSource } from './folder-source.ts';
import { Inspector } from './inspector.ts';
import { KafkaSource, rangesSince } from './kafka-source.ts';
import type { ArchiveSource } from './source.ts';

/** A spool folder, or a topic. */
export type Where = { readonly dir: string } | { readonly access: KafkaAccess };

export interface OpenArchiveOptions {
  /** What was received before this (unix µs) may be left out; default 0: all is read. */
  readonly sinceUs?: number;
  /** Check signatures of checkpoints and transactions, and each order's form, hash and signer. Default true. */
  readonly inspect?: boolean;
}

/**
 * Opens an archive; it is read to where it ends now.
 * @throws the error of the file system when the folder cannot be read; KafkaTrouble.
 */
export async function openArchive(
  where: Where,
  { sinceUs = 0, inspect = true }: OpenArchiveOptions = {},
): Promise<ArchiveSource> {
  const inspector = inspect ? new Inspector() : null;
  if ('dir' in where) return new FolderSource(await ArchiveWalk.open(where.dir, sinceUs), inspector);
  const reader = await connectReader(where.access);
  try {
    return new KafkaSource(reader, await rangesSince(reader, sinceUs), inspector);
  } catch (error) {
    await reader.close();
    throw error;
  }
}
