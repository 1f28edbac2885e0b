import { chmod, mkdir, readdir, readFile, stat, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { temporaryDirectory } from '../testing/directory.ts';
import { prepareDirectory, readSecret, readText, writeAtomically } from './store.ts';

async function modeOf(path: string): Promise<number> {
  return (await stat(path)).mode & 0o777;
}

describe('directory', () => {
  test('is made for its owner alone, with those above it', async () => {
    const path = join(await temporaryDirectory(), 'a', 'b');
    await prepareDirectory(path);
    expect(await modeOf(path)).toBe(0o700);
    await prepareDirectory(path);
  });

  test.each([0o777, 0o770, 0o707, 0o702])('one that others may write into (%o) is refused', async (mode) => {
    const path = await temporaryDirectory();
    await chmod(path, mode);
    await expect(prepareDirectory(path)).rejects.toThrow(
      `others may write into ${path} (mode 0${mode.toString(8)})`,
    );
  });

  test('one that others may look at is taken, as the files in it are closed', async () => {
    const path = await temporaryDirectory();
    await chmod(path, 0o755);
    await prepareDirectory(path);
  });

  test('a file in its place is an error', async () => {
    const path = join(await temporaryDirectory(), 'file');
    await writeFile(path, '');
    await expect(prepareDirectory(path)).rejects.toThrow('EEXIST');
  });
});

describe('files', () => {
  test('what was written is read, by its owner alone', async () => {
    const path = join(await temporaryDirectory(), 'secret');
    expect(await readSecret(path)).toBeUndefined();
    await writeAtomically(path, 'one');
    expect(await readSecret(path)).toBe('one');
    await writeAtomically(path, 'two');
    expect(await readSecret(path)).toBe('two');
    expect(await modeOf(path)).toBe(0o600);
  });

  test.each([0o644, 0o640, 0o604, 0o601, 0o660])(
    'a secret that others may read (%o) is refused',
    async (mode) => {
      const path = join(await temporaryDirectory(), 'secret');
      await writeFile(path, 'content', { mode: 0o600 });
      await chmod(path, mode);
      await expect(readSecret(path)).rejects.toThrow(`others may read ${path} (mode 0${mode.toString(8)})`);
      expect(await readText(path)).toBe('content');
    },
  );

  test('the modes of a linked file count, not those of the link', async () => {
    const directory = await temporaryDirectory();
    await writeFile(join(directory, 'target'), 'x', { mode: 0o644 });
    await symlink('target', join(directory, 'link'));
    await expect(readSecret(join(directory, 'link'))).rejects.toThrow('others may read');
  });

  test('what a crash left half written is not seen, and is overwritten and closed to others', async () => {
    const directory = await temporaryDirectory();
    const path = join(directory, 'secret');
    await writeAtomically(path, 'whole');
    await writeFile(`${path}.new`, 'half of a longer te', { mode: 0o644 });
    expect(await readSecret(path)).toBe('whole');
    await writeAtomically(path, 'next');
    expect(await readSecret(path)).toBe('next');
    expect(await readdir(directory)).toEqual(['secret']);
  });

  test('when writing fails the old content stays', async () => {
    const directory = await temporaryDirectory();
    const path = join(directory, 'secret');
    await writeAtomically(path, 'old');
    await mkdir(`${path}.new`);
    await expect(writeAtomically(path, 'new')).rejects.toThrow();
    expect(await readFile(path, 'utf8')).toBe('old');
  });
});
