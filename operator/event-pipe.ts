/**
 * Reads events from a FIFO, one per line. The FIFO is opened for reading and writing, so that it never ends when its
 * last writer goes: nothing spins, and a line that one writer begins and another ends is whole. A beginning whose
 * end does not come becomes an event of its own after a while.
 *
 * Limits: Linux; a missing FIFO is made by mkfifo(1). What stands in the kernel's buffer (64 KiB) when this
 * process is killed is lost, as no reader is left.
 */
import { execFile } from 'node:child_process';
import { closeSync, constants, fstatSync, openSync } from 'node:fs';
import { Socket } from 'node:net';
import { promisify } from 'node:util';
import { LineSplitter } from './lines.ts';

export interface EventPipeOptions {
  readonly path: string;
  /** Permission bits of a FIFO that has to be made. */
  readonly mode: number;
  /** How long the beginning of a line waits for its end. */
  readonly fragmentMs: number;
  readonly maxLineBytes: number;
}

export interface EventPipeModules {
  readonly onLine: (line: string) => void;
  /** Reading failed; it goes on with the FIFO opened again. */
  readonly onError: (error: Error) => void;
}

export interface EventPipe {
  /** Takes what has been read so far, also a line without an end. */
  close(): Promise<void>;
}

/** A flood of lines waits in the FIFO, and so do its writers, but nobody else. */
const LINES_PER_SECOND = 2000;
const BURST_LINES = 1000;
/** So many bytes count as a line: a megabyte a second. */
const LINE_BYTES = 512;
const REOPEN_MS = 1000;
const MKFIFO_TIMEOUT_MS = 5000;

/** @throws Error naming the path when it is no FIFO, or there is none and none can be made */
export async function startEventPipe(
  options: EventPipeOptions,
  modules: EventPipeModules,
): Promise<EventPipe> {
  const pipe = new Reader(options, modules);
  await pipe.open();
  return pipe;
}

class Reader implements EventPipe {
  readonly #options: EventPipeOptions;
  readonly #modules: EventPipeModules;
  readonly #lines: LineSplitter;
  #socket: Socket | null = null;
  #fragmentTimer: NodeJS.Timeout | null = null;
  #resumeTimer: NodeJS.Timeout | null = null;
  #reopenTimer: NodeJS.Timeout | null = null;
  /** Lines that may come now. */
  #credit = BURST_LINES;
  #creditAt = performance.now();
  #closed = false;

  constructor(options: EventPipeOptions, modules: EventPipeModules) {
    this.#options = options;
    this.#modules = modules;
    this.#lines = new LineSplitter(options.maxLineBytes, modules.onLine);
  }

  async open(): Promise<void> {
    const fd = await openFifo(this.#options);
    if (this.#closed) {
      closeSync(fd);
      return;
    }
    const socket = new Socket({ fd, readable: true, writable: false });
    this.#socket = socket;
    socket.on('data', (piece: Buffer) => this.#take(socket, piece));
    socket.on('error', (error) => this.#modules.onError(error));
    socket.on('close', () => {
      if (this.#socket !== socket) return;
      this.#socket = null;
      this.#reopenLater();
    });
  }

  async close(): Promise<void> {
    this.#closed = true;
    for (const timer of [this.#fragmentTimer, this.#resumeTimer, this.#reopenTimer]) {
      if (timer !== null) clearTimeout(timer);
    }
    const socket = this.#socket;
    this.#socket = null;
    if (socket !== null) {
      const closed = new Promise((resolve) => socket.once('close', resolve));
      socket.destroy();
      await closed;
    }
    this.#lines.flush();
  }

  #take(socket: Socket, piece: Buffer): void {
    const lines = this.#lines.push(piece);
    if (this.#fragmentTimer !== null) clearTimeout(this.#fragmentTimer);
    this.#fragmentTimer = this.#lines.pending
      ? setTimeout(() => this.#lines.flush(), this.#options.fragmentMs).unref()
      : null;
    const now = performance.now();
    const earned = ((now - this.#creditAt) / 1000) * LINES_PER_SECOND;
    this.#credit = Math.min(BURST_LINES, this.#credit + earned) - lines - piece.length / LINE_BYTES;
    this.#creditAt = now;
    if (this.#credit >= 0) return;
    socket.pause();
    this.#resumeTimer = setTimeout(() => socket.resume(), (-this.#credit / LINES_PER_SECOND) * 1000);
  }

  #reopenLater(): void {
    if (this.#closed) return;
    this.#reopenTimer = setTimeout(() => {
      this.open().catch((error: unknown) => {
        this.#modules.onError(error instanceof Error ? error : new Error(String(error)));
        this.#reopenLater();
      });
    }, REOPEN_MS).unref();
  }
}

async function openFifo({ path, mode }: EventPipeOptions): Promise<number> {
  try {
    return openExisting(path);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
  }
  try {
    await promisify(execFile)('mkfifo', ['-m', mode.toString(8), '--', path], { timeout: MKFIFO_TIMEOUT_MS });
  } catch (error) {
    const { stderr, message } = error as Error & { stderr?: string };
    throw new Error(`there is no FIFO ${path}, and it could not be made: ${(stderr || message).trim()}`, {
      cause: error,
    });
  }
  return openExisting(path);
}

function openExisting(path: string): number {
  const fd = openSync(path, constants.O_RDWR | constants.O_NONBLOCK | constants.O_NOFOLLOW);
  if (fstatSync(fd).isFIFO()) return fd;
  closeSync(fd);
  throw new Error(`file ${path} is not a named pipe`);
}
