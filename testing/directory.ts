/** A directory of its own for one test, removed at its end. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { onTestFinished } from 'vitest';

/** @returns the path of a new empty directory */
export async function temporaryDirectory(): Promise<string> {
  const path = await mkdtemp(join(tmpdir(), 'orderflow-'));
  onTestFinished(() => rm(path, { recursive: true, force: true }));
  return path;
}
