/** The real file calls, some of which fail on demand, or wait until they are let go. */
import { type SpoolFiles, systemFiles } from '../files.ts';

export type FileCall = keyof SpoolFiles;

export interface FailingFiles extends SpoolFiles {
  /** Lets the next `times` calls of one kind fail with a system error code. */
  fail(call: FileCall, code: string, times?: number): void;
  /** Lets the next write do only `bytes` bytes, then fail with the code: a disk that fills up. */
  fillUpAfter(bytes: number, code: string): void;
  /** Holds every sync back until the returned function is called. */
  holdSyncs(): () => void;
  /** How often each call was made. */
  readonly calls: Record<FileCall, number>;
}

export function failingFiles(): FailingFiles {
  const failures: Record<FileCall, string[]> = { write: [], sync: [], truncate: [], zero: [] };
  const calls = { write: 0, sync: 0, truncate: 0, zero: 0 };
  let room: number | null = null;
  let held: Promise<void> | null = null;

  const enter = (call: FileCall) => {
    calls[call] += 1;
    const code = failures[call].shift();
    if (code !== undefined) throw Object.assign(new Error(`${code} at ${call}`), { code });
  };

  return {
    calls,
    fail: (call, code, times = 1) => void failures[call].push(...Array<string>(times).fill(code)),
    fillUpAfter(bytes, code) {
      room = bytes;
      failures.write = [code];
    },
    holdSyncs() {
      const { promise, resolve } = Promise.withResolvers<void>();
      held = promise;
      return () => {
        held = null;
        resolve();
      };
    },
    async write(fd, buffer, offset, length, position) {
      if (room !== null) {
        const fitting = Math.min(room, length);
        room = null;
        calls.write += 1;
        return systemFiles.write(fd, buffer, offset, fitting, position);
      }
      enter('write');
      return systemFiles.write(fd, buffer, offset, length, position);
    },
    async sync(fd) {
      await held;
      enter('sync');
      await systemFiles.sync(fd);
    },
    async truncate(fd, length) {
      enter('truncate');
      await systemFiles.truncate(fd, length);
    },
    async zero(fd, position, length) {
      enter('zero');
      return systemFiles.zero(fd, position, length);
    },
  };
}
