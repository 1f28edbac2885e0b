/** Reads what a builder stand-in with `--journal` has taken, over all its restarts. */
import { readFile } from 'node:fs/promises';
import type { BuilderRecord } from './builder-stand-in.ts';

/** @returns its orders, oldest first; none when there is no such file yet. Sequences begin anew with each restart. */
export async function readBuilderJournal(file: string): Promise<BuilderRecord[]> {
  const text = await readFile(file, 'utf8').catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return '';
    throw error;
  });
  return text
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line) as BuilderRecord);
}
