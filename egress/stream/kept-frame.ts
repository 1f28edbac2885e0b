/**
 * Memory for frames of orders that is used again: a departure to ten peers is ten frames of the same orders, each of some
 * 20 KB, and as much new memory for each departure costs more than filling it.
 *
 * Memory is used again once the socket has said that it is done with it, never after an error.
 */

/** A slice of orders of the usual size; larger frames get memory of their own. */
export const KEPT_FRAME_BYTES = 32 * 1024;
/** Most that are kept for later. */
const KEPT = 64;

const kept: KeptFrame[] = [];

export class KeptFrame {
  readonly memory = Buffer.allocUnsafeSlow(KEPT_FRAME_BYTES);
  /** For the socket that is given a part of the memory: one for all writes, so that a write makes no function. */
  readonly written = (error?: Error | null): void => {
    // The system may still be reading what could not be written.
    if (!error && kept.length < KEPT) kept.push(this);
  };

  /** @returns one that nobody else uses until its `written` is called. */
  static take(): KeptFrame {
    return kept.pop() ?? new KeptFrame();
  }
}
