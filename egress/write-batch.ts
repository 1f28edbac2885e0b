/**
 * Requests that leave together on one connection, put together in one buffer: one write of it costs the socket half of
 * what a vector of their parts does, which TLS would copy together anyway, into memory that is new each time.
 *
 * A buffer is used again once the socket has said that it is done with it. What a slow reader makes wait does not
 * belong here: bodies are shared by all targets, copies of them are not.
 */
import type { Socket } from 'node:net';

/** Two TLS records, or a slice of orders of the usual size. */
const BATCH_BYTES = 32 * 1024;
/** Most that are kept for later. */
const KEPT = 64;

const kept: WriteBatch[] = [];

export class WriteBatch {
  readonly #buffer = Buffer.allocUnsafeSlow(BATCH_BYTES);
  #bytes = 0;
  #requests = 0;
  #onWritten: ((requests: number) => void) | null = null;
  /** One for all writes, so that a write makes no function. */
  readonly #done = (error?: Error | null): void => {
    // The system may still be reading what could not be written.
    if (error) return;
    this.#onWritten?.(this.#requests);
    this.giveBack();
  };

  /** @returns an empty one. */
  static take(): WriteBatch {
    return kept.pop() ?? new WriteBatch();
  }

  /** Put in so far. */
  get bytes(): number {
    return this.#bytes;
  }

  get empty(): boolean {
    return this.#requests === 0;
  }

  /**
   * Puts a request in.
   * @param headStart and `headEnd`: its head in two parts, ASCII
   * @returns false when there is no room for it
   */
  add(headStart: string, headEnd: string, body: Buffer): boolean {
    const end = this.#bytes + headStart.length + headEnd.length + body.length;
    if (end > BATCH_BYTES) return false;
    const buffer = this.#buffer;
    let at = this.#bytes;
    at += buffer.write(headStart, at, 'latin1');
    at += buffer.write(headEnd, at, 'latin1');
    body.copy(buffer, at);
    this.#bytes = end;
    this.#requests++;
    return true;
  }

  /**
   * Writes it, and gives it back when the socket is done with it.
   * @param onWritten called with the number of requests once all their bytes have left the process
   */
  write(socket: Socket, onWritten: (requests: number) => void): void {
    this.#onWritten = onWritten;
    socket.write(this.#buffer.subarray(0, this.#bytes), this.#done);
  }

  /** Empties it for the next who takes one; its owner must not use it any more. */
  giveBack(): void {
    this.#bytes = 0;
    this.#requests = 0;
    this.#onWritten = null;
    if (kept.length < KEPT) kept.push(this);
  }
}
