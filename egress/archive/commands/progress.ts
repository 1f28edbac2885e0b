/** A progress bar on a terminal: bytes read of bytes in all. Nothing where there is no terminal. */
import type { Surroundings } from './command.ts';

type Terminal = Surroundings['stderr'];

const WIDTH = 30;
const EVERY_MS = 100;

export class Progress {
  readonly #stream: Terminal | null;
  readonly #total: number;
  #drawnAt = 0;

  constructor(stream: Terminal, totalBytes: number) {
    this.#stream = stream.isTTY === true ? stream : null;
    this.#total = Math.max(1, totalBytes);
  }

  /** Draws, at most ten times a second. */
  update(doneBytes: number): void {
    if (this.#stream === null) return;
    const now = performance.now();
    if (now - this.#drawnAt < EVERY_MS) return;
    this.#drawnAt = now;
    const share = Math.min(1, doneBytes / this.#total);
    const filled = Math.round(share * WIDTH);
    const bar = '#'.repeat(filled) + '.'.repeat(WIDTH - filled);
    const percent = String(Math.floor(share * 100)).padStart(3);
    this.#stream.write(`\r[${bar}] ${percent} %  ${megabytes(doneBytes)} of ${megabytes(this.#total)} MB`);
  }

  /** Removes the bar from its line, so that text can be printed; the next update draws it again. */
  clear(): void {
    if (this.#drawnAt === 0) return;
    this.#stream?.write('\r\u001b[K');
    this.#drawnAt = 0;
  }
}

function megabytes(bytes: number): string {
  return (bytes / 1e6).toFixed(1);
}
