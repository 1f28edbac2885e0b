/** A progress bar on a terminal: how much is read of all. Nothing where there is no terminal. */
import type { Surroundings } from './command.ts';

type Terminal = Surroundings['stderr'];

const WIDTH = 30;
const EVERY_MS = 100;

export class Progress {
  readonly #stream: Terminal | null;
  readonly #total: number;
  readonly #unit: 'bytes' | 'records';
  #drawnAt = 0;

  constructor(stream: Terminal, total: number, unit: 'bytes' | 'records') {
    this.#stream = stream.isTTY === true ? stream : null;
    this.#total = Math.max(1, total);
    this.#unit = unit;
  }

  /** Draws, at most ten times a second. */
  update(done: number): void {
    if (this.#stream === null) return;
    const now = performance.now();
    if (now - this.#drawnAt < EVERY_MS) return;
    this.#drawnAt = now;
    const share = Math.min(1, done / this.#total);
    const filled = Math.round(share * WIDTH);
    const bar = '#'.repeat(filled) + '.'.repeat(WIDTH - filled);
    const percent = String(Math.floor(share * 100)).padStart(3);
    const counts =
      this.#unit === 'bytes'
        ? `${megabytes(done)} of ${megabytes(this.#total)} MB`
        : `${done} of ${this.#total} records`;
    this.#stream.write(`\r[${bar}] ${percent} %  ${counts}`);
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
