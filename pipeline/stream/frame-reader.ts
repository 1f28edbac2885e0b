/**
 * Cuts a byte stream into frames. What lies whole in a chunk is handed on as a view of it; what does not is
 * collected in a buffer that grows with the bytes that have come, never with the length that a header claims.
 */
import type { CloseReason } from './close-reasons.ts';
import { FRAME, HEADER_BYTES, MAX_CONTROL_BYTES } from './frames.ts';

/**
 * @param payload a view: of the chunk, or of what was collected
 * @param own its memory was collected for this frame alone, and may be kept; of a chunk only who gave it knows
 * @returns why the connection must end, or null
 */
export type OnFrame = (type: number, payload: Buffer, own: boolean) => CloseReason | null;

const EMPTY = Buffer.alloc(0);
const FIRST_BYTES = 4096;
/** More of it is not kept for the next frame. */
const MOST_REUSED_BYTES = 64 * 1024;

export class FrameReader {
  /** Longest payload of an orders frame; a frame of another type is never longer than {@link MAX_CONTROL_BYTES}. */
  maxOrdersBytes: number;
  readonly #onFrame: OnFrame;
  readonly #reuses: boolean;
  /** A frame that has begun: its first `#have` bytes. */
  #partial = EMPTY;
  #have = 0;

  /** @param reuses frames are collected in the same memory, none has it as its own */
  constructor(maxOrdersBytes: number, onFrame: OnFrame, reuses = false) {
    this.maxOrdersBytes = maxOrdersBytes;
    this.#onFrame = onFrame;
    this.#reuses = reuses;
  }

  /** Bytes of a frame that has begun and not ended. */
  get pending(): number {
    return this.#have;
  }

  /** Forgets a frame that has begun. */
  clear(): void {
    this.#partial = EMPTY;
    this.#have = 0;
  }

  /** @returns why the connection must end, or null; nothing may be pushed after a reason. */
  push(chunk: Buffer): CloseReason | null {
    let at = 0;
    while (at < chunk.length) {
      if (this.#have === 0) {
        const end = wholeFrame(chunk, at);
        if (end > 0) {
          if (!this.#mayBe(chunk, at)) return 'oversized';
          const reason = this.#onFrame(chunk[at] ?? 0, chunk.subarray(at + HEADER_BYTES, end), false);
          if (reason !== null) return reason;
          at = end;
          continue;
        }
      }
      const needed = this.#have < HEADER_BYTES ? HEADER_BYTES : frameBytes(this.#partial, 0);
      const taken = Math.min(needed - this.#have, chunk.length - at);
      this.#collect(chunk, at, taken, needed);
      at += taken;
      if (this.#have < HEADER_BYTES) return null;
      if (!this.#mayBe(this.#partial, 0)) return 'oversized';
      if (this.#have < frameBytes(this.#partial, 0)) continue;
      const reason = this.#finish();
      if (reason !== null) return reason;
    }
    return null;
  }

  #finish(): CloseReason | null {
    const payload = this.#partial.subarray(HEADER_BYTES, this.#have);
    const type = this.#partial[0] ?? 0;
    if (this.#reuses && this.#partial.length <= MOST_REUSED_BYTES) this.#have = 0;
    else this.clear();
    return this.#onFrame(type, payload, !this.#reuses);
  }

  #mayBe(bytes: Buffer, at: number): boolean {
    const limit = bytes[at] === FRAME.orders ? this.maxOrdersBytes : MAX_CONTROL_BYTES;
    return bytes.readUInt32BE(at + 1) <= limit;
  }

  #collect(chunk: Buffer, at: number, length: number, needed: number): void {
    const have = this.#have + length;
    if (have > this.#partial.length) {
      const grown = Buffer.allocUnsafe(
        Math.max(HEADER_BYTES, Math.min(needed, Math.max(FIRST_BYTES, 2 * have))),
      );
      this.#partial.copy(grown, 0, 0, this.#have);
      this.#partial = grown;
    }
    chunk.copy(this.#partial, this.#have, at, at + length);
    this.#have = have;
  }
}

/** @returns where the frame that begins at `at` ends in the chunk, 0 when it does not. */
function wholeFrame(chunk: Buffer, at: number): number {
  if (chunk.length - at < HEADER_BYTES) return 0;
  const end = at + frameBytes(chunk, at);
  return end <= chunk.length ? end : 0;
}

function frameBytes(bytes: Buffer, at: number): number {
  return HEADER_BYTES + bytes.readUInt32BE(at + 1);
}
