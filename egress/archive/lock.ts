/**
 * The exclusive lock on a spool folder: one writer at a time, across processes, threads and network
 * namespaces of a machine, released by the kernel when the holder dies in whatever way.
 *
 * Node offers no flock or fcntl; SQLite does: an exclusive transaction on `<dir>/lock` is an fcntl lock. The
 * file stays empty and must never be opened by other means in the same process: closing any descriptor of it
 * would drop the lock (POSIX). Readers need no lock.
 */
import { closeSync, openSync } from 'node:fs';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { asError, errorCode } from './failure.ts';

const SQLITE_BUSY = 5;

/** A held lock. */
export interface Lock {
  /** Gives the lock back; must be called once. */
  release(): void;
}

/**
 * Takes the lock of a folder, without waiting.
 * @throws an Error that names the folder when another writer has it; the error of the file system otherwise.
 */
export function lockFolder(dir: string): Lock {
  const path = join(dir, 'lock');
  createPrivate(path);
  const database = new DatabaseSync(path, { timeout: 0 });
  try {
    database.exec('PRAGMA locking_mode = EXCLUSIVE; BEGIN EXCLUSIVE');
  } catch (error) {
    database.close();
    if (error instanceof Error && 'errcode' in error && error.errcode === SQLITE_BUSY) {
      throw new Error(`the archive folder ${dir} is in use by another process`, { cause: error });
    }
    throw new Error(`the archive folder ${dir} cannot be locked: ${asError(error).message}`, {
      cause: error,
    });
  }
  return { release: () => database.close() };
}

/** SQLite would make the file readable to all. Only a file that is not there yet is opened here. */
function createPrivate(path: string): void {
  try {
    closeSync(openSync(path, 'wx', 0o600));
  } catch (error) {
    if (errorCode(error) !== 'EEXIST') throw error;
  }
}
