/** One archived order as one line of JSON, and a sink for many of them that waits for slow readers. */
import type { Writable } from 'node:stream';
import type { ArchiveRecord } from '../record.ts';

/**
 * One line, without the line break: headers first, then the order as it was sent on.
 * `t` is unix µs; `time` is the same for people. The order's text is taken over, so integers keep all digits.
 */
export function orderLine(record: ArchiveRecord): string {
  const head = JSON.stringify({
    n: record.nodeId,
    e: record.epoch,
    s: record.sequence,
    h: record.chain,
    t: record.receivedAtUs,
    time: new Date(record.receivedAtUs / 1000).toISOString(),
    method: record.method,
    signer: record.signer,
    hash: record.hash,
  });
  return `${head.slice(0, -1)},"order":${record.value.toString()}}`;
}

const FLUSH_BYTES = 64 * 1024;

/** Writes lines to a stream in blocks, at the reader's pace. */
export class LineSink {
  readonly #stream: Writable;
  #text = '';
  readonly #closing = new AbortController();
  #error: Error | null = null;
  #wake: (() => void) | null = null;

  constructor(stream: Writable) {
    this.#stream = stream;
    stream.on('error', (error: NodeJS.ErrnoException) => {
      // `| head` has read enough: not an error of ours.
      if (error.code !== 'EPIPE') this.#error = error;
      this.#closing.abort();
      this.#wake?.();
    });
    stream.on('drain', () => this.#wake?.());
  }

  /** Whether nobody reads any more. */
  get closed(): boolean {
    return this.#closing.signal.aborted;
  }

  /** Fires when nobody reads any more. */
  get closing(): AbortSignal {
    return this.#closing.signal;
  }

  /** Adds one line. @throws the error of the stream. */
  async write(line: string): Promise<void> {
    this.#text += `${line}\n`;
    if (this.#text.length >= FLUSH_BYTES) await this.flush();
  }

  /** Hands over what is held back and waits until the reader can take more. @throws the error of the stream. */
  async flush(): Promise<void> {
    const text = this.#text;
    this.#text = '';
    if (text !== '' && !this.closed && !this.#stream.write(text)) {
      while (!this.closed && this.#stream.writableNeedDrain) {
        await new Promise<void>((resolve) => {
          this.#wake = resolve;
        });
      }
    }
    if (this.#error !== null) throw this.#error;
  }
}
