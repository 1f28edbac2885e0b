/** Which folder a command reads. */
import { join } from 'node:path';
import { asError, errorCode } from '../failure.ts';
import { ArchiveWalk } from '../walk.ts';
import { type Surroundings, UsageError } from './command.ts';

export const DIR_HELP = `  --dir DIR         folder of the archive (ARCHIVE_DIR, else DATA_DIR/archive, else ./data/archive: as the node's settings)`;

/** @returns the folder that the option names, else the one that a node with this environment writes. */
export function archiveDir(option: string | undefined, { env }: Surroundings): string {
  if (option !== undefined) return option;
  // Empty means not set, as in the node's settings.
  return env.ARCHIVE_DIR || join(env.DATA_DIR || './data', 'archive');
}

/**
 * Opens an archive folder to be read as a whole.
 * @throws UsageError when there is no archive.
 */
export async function openWalk(dir: string, sinceUs: number): Promise<ArchiveWalk> {
  const walk = await ArchiveWalk.open(dir, sinceUs).catch((error: unknown) => {
    throw noFolder(dir, error);
  });
  if (walk.segments === 0) throw new UsageError(`--dir: no archive in ${dir}`);
  return walk;
}

/** @returns the error to report when a folder cannot be read. */
export function noFolder(dir: string, error: unknown): Error {
  const code = errorCode(error);
  if (code === 'ENOENT' || code === 'ENOTDIR') return new UsageError(`--dir: no folder ${dir}`);
  return asError(error);
}
