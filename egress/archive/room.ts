/** Tells whether a disk that was full has room again, by using it: free space as a number knows no quotas. */
import { constants } from 'node:fs';
import { open, unlink } from 'node:fs/promises';
import { join } from 'node:path';

/** A killed node may leave it behind. */
export const ROOM_FILE = 'room';

/**
 * Writes and syncs a file of `bytes` bytes in the folder and removes it again.
 * @returns whether that worked.
 */
export async function hasRoom(dir: string, bytes: number): Promise<boolean> {
  const path = join(dir, ROOM_FILE);
  try {
    const file = await open(path, constants.O_WRONLY | constants.O_CREAT | constants.O_TRUNC, 0o600);
    try {
      await file.writeFile(Buffer.alloc(bytes));
      await file.sync();
    } finally {
      await file.close();
    }
    return true;
  } catch {
    return false;
  } finally {
    await unlink(path).catch(() => {});
  }
}
