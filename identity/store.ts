/**
 * Files that must survive a crash whole, some of them secret: written beside their place and renamed into it,
 * readable by the owner alone.
 *
 * Limits: one process writes a directory. The permission checks are those of POSIX and skipped on Windows.
 */
import { constants } from 'node:fs';
import { mkdir, open, rename, rm, stat } from 'node:fs/promises';
import { dirname } from 'node:path';

const OWNER_ONLY_DIRECTORY = 0o700;
const OWNER_ONLY_FILE = 0o600;
const READ_BY_OTHERS = 0o077;
const WRITTEN_BY_OTHERS = 0o022;
/** Keys, certificates and peer lists are far below this. */
const MAX_FILE_BYTES = 64 * 1024 * 1024;

const CHECKS_MODES = process.platform !== 'win32';

/**
 * Makes a directory for secrets (mode 0700) unless it is there.
 *
 * @throws Error when others may write into it, as they could put their own keys in place
 */
export async function prepareDirectory(path: string): Promise<void> {
  await mkdir(path, { recursive: true, mode: OWNER_ONLY_DIRECTORY });
  const { mode } = await stat(path);
  if (CHECKS_MODES && (mode & WRITTEN_BY_OTHERS) !== 0) {
    throw new Error(`others may write into ${path} (mode ${octal(mode)}): chmod 700 it`);
  }
}

/**
 * Reads a whole text file.
 *
 * @returns undefined if there is none
 */
export async function readText(path: string): Promise<string | undefined> {
  return read(path, 0);
}

/**
 * Reads a secret file.
 *
 * @returns undefined if there is none
 * @throws Error when others may read it
 */
export async function readSecret(path: string): Promise<string | undefined> {
  return read(path, READ_BY_OTHERS);
}

async function read(path: string, forbidden: number): Promise<string | undefined> {
  const file = await open(path, constants.O_RDONLY).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return undefined;
    throw error;
  });
  if (file === undefined) return undefined;
  try {
    const { mode, size } = await file.stat();
    if (CHECKS_MODES && (mode & forbidden) !== 0) {
      throw new Error(
        `others may read ${path} (mode ${octal(mode)}): chmod 600 it, or replace what it holds`,
      );
    }
    if (size > MAX_FILE_BYTES) throw new Error(`${path} is too big: ${size} bytes`);
    return await file.readFile('utf8');
  } finally {
    await file.close();
  }
}

/**
 * Puts a file in place in one step: after a crash at any moment the old content or the new one is there, whole.
 *
 * @param path two writes of one path must not overlap
 * @param mode permission bits; unless set, the file is readable by its owner alone
 */
export async function writeAtomically(
  path: string,
  content: string | Uint8Array,
  mode = OWNER_ONLY_FILE,
): Promise<void> {
  const temporary = `${path}.new`;
  // What a crash has left, or somebody has put there: it is never written into.
  await rm(temporary, { force: true });
  try {
    const file = await open(temporary, 'wx', OWNER_ONLY_FILE);
    try {
      await file.writeFile(content);
      await file.chmod(mode);
      await file.sync();
    } finally {
      await file.close();
    }
    await rename(temporary, path);
  } catch (error) {
    await rm(temporary, { force: true });
    throw error;
  }
  await syncDirectory(dirname(path));
}

/** Without this the rename itself may be lost. */
async function syncDirectory(path: string): Promise<void> {
  if (!CHECKS_MODES) return;
  const directory = await open(path, constants.O_RDONLY);
  try {
    await directory.sync();
  } finally {
    await directory.close();
  }
}

function octal(mode: number): string {
  return (mode & 0o777).toString(8).padStart(4, '0');
}
