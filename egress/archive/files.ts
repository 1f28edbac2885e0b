/**
 * The system calls on which durability rests, as promises, in one place: tests put failing ones here.
 *
 * The callback functions of node:fs rather than those of a FileHandle: half the CPU per commit, measured.
 */
import { fdatasync, ftruncate, write } from 'node:fs';

export interface SpoolFiles {
  /** Writes `length` bytes from the start of `buffer` + `offset`; @returns how many were written, maybe fewer. */
  write(fd: number, buffer: Buffer, offset: number, length: number, position: number): Promise<number>;
  /** fdatasync. */
  sync(fd: number): Promise<void>;
  truncate(fd: number, length: number): Promise<void>;
  /** Writes `length` zeros, at most {@link MAX_ZEROS}; @returns how many were written, maybe fewer. */
  zero(fd: number, position: number, length: number): Promise<number>;
}

export const MAX_ZEROS = 1 << 20;
const ZEROS = Buffer.alloc(MAX_ZEROS);

/** The real ones. Each rejects with the error of the system call. */
export const systemFiles: SpoolFiles = {
  write(fd, buffer, offset, length, position) {
    return new Promise((resolve, reject) => {
      write(fd, buffer, offset, length, position, (error, written) =>
        error === null ? resolve(written) : reject(error),
      );
    });
  },
  sync(fd) {
    return new Promise((resolve, reject) => {
      fdatasync(fd, (error) => (error === null ? resolve() : reject(error)));
    });
  },
  truncate(fd, length) {
    return new Promise((resolve, reject) => {
      ftruncate(fd, length, (error) => (error === null ? resolve() : reject(error)));
    });
  },
  zero(fd, position, length) {
    return systemFiles.write(fd, ZEROS, 0, length, position);
  },
};
