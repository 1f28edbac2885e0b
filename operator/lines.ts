/**
 * Cuts a stream of bytes into lines: whatever the pieces, a line is what stands between two line feeds. A line is
 * kept until its end comes or `flush` takes it as it is; of one that is too long the beginning is kept.
 */

const LINE_FEED = 0x0a;

export class LineSplitter {
  readonly #maxBytes: number;
  readonly #onLine: (line: string) => void;
  #pieces: Buffer[] = [];
  #bytes = 0;
  #open = false;

  /** @param onLine called with each line, without its line feed; what is no UTF-8 in it is replaced */
  constructor(maxBytes: number, onLine: (line: string) => void) {
    this.#maxBytes = maxBytes;
    this.#onLine = onLine;
  }

  /** Whether the beginning of a line waits for its end. */
  get pending(): boolean {
    return this.#open;
  }

  /** @returns how many lines the piece has ended. */
  push(piece: Buffer): number {
    let lines = 0;
    let start = 0;
    for (;;) {
      const end = piece.indexOf(LINE_FEED, start);
      if (end === -1) break;
      this.#keep(piece.subarray(start, end));
      this.#emit();
      lines += 1;
      start = end + 1;
    }
    if (start < piece.length) this.#keep(piece.subarray(start));
    return lines;
  }

  /** Takes the beginning of a line as a whole one, if there is one. */
  flush(): void {
    if (this.#open) this.#emit();
  }

  #keep(bytes: Buffer): void {
    this.#open = true;
    const room = this.#maxBytes - this.#bytes;
    if (room <= 0 || bytes.length === 0) return;
    // The pieces of a stream share their memory with what is read next to nothing of: a copy keeps only the line.
    const kept = Buffer.from(bytes.subarray(0, room));
    this.#pieces.push(kept);
    this.#bytes += kept.length;
  }

  #emit(): void {
    const line = Buffer.concat(this.#pieces).toString('utf8');
    this.#pieces = [];
    this.#bytes = 0;
    this.#open = false;
    this.#onLine(line);
  }
}
