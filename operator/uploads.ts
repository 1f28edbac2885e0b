/**
 * Files that the operator may replace: bounded, checked, and put in place in one step, so that whoever reads one sees
 * the old or the new, whole, whatever happens meanwhile.
 */
import { basename, resolve } from 'node:path';
import { writeAtomically } from '../identity/store.ts';
import type { UploadConfig } from './config.ts';
import { checkUpload } from './upload-checks.ts';

export type UploadOutcome =
  | { readonly kind: 'stored'; readonly file: string; readonly bytes: number }
  | { readonly kind: 'refused'; readonly reason: string }
  | { readonly kind: 'failed'; readonly error: Error };

export class Uploads {
  readonly #configs: ReadonlyMap<string, UploadConfig>;
  /** The last write of each path: two of one file would meet in the file beside it. */
  readonly #writing = new Map<string, Promise<unknown>>();

  constructor(configs: ReadonlyMap<string, UploadConfig>) {
    this.#configs = configs;
  }

  /** @returns undefined when there is no such upload. */
  find(name: string): UploadConfig | undefined {
    return this.#configs.get(name);
  }

  list(): readonly { name: string; config: UploadConfig }[] {
    return [...this.#configs].map(([name, config]) => ({ name, config }));
  }

  /** Never rejects. */
  async store(config: UploadConfig, content: Buffer): Promise<UploadOutcome> {
    const reason = checkUpload(config.check, content);
    if (reason !== undefined) return { kind: 'refused', reason };
    const path = resolve(config.path);
    const before = this.#writing.get(path) ?? Promise.resolve();
    const write = before
      .then(() => writeAtomically(path, content, config.mode))
      .then(
        (): UploadOutcome => ({ kind: 'stored', file: basename(path), bytes: content.length }),
        (error: unknown): UploadOutcome => ({
          kind: 'failed',
          error: error instanceof Error ? error : new Error(String(error)),
        }),
      );
    this.#writing.set(path, write);
    const outcome = await write;
    if (this.#writing.get(path) === write) this.#writing.delete(path);
    return outcome;
  }

  /** Resolves when nothing is being written. */
  async close(): Promise<void> {
    await Promise.all(this.#writing.values());
  }
}
