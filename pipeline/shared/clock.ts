/**
 * The node's clock where several threads give receive times: as clock.ts, strictly increasing over all of them, so
 * that of two bundles that came one after the other the later has the greater replacement nonce, whichever threads
 * took them (protocol section 4). One anchor and the last time given stand in shared memory.
 */
import type { Clock } from '../clock.ts';

/** Drift between the monotonic and the system clock above which the anchor is set anew, in milliseconds. */
const MAX_DRIFT_MS = 2;
const LAST = 0;
const ANCHOR = 1;

/** Made by the thread that starts the others. */
export function clockMemory(): SharedArrayBuffer {
  const memory = new SharedArrayBuffer(16);
  Atomics.store(new BigInt64Array(memory), ANCHOR, anchorUs(Date.now(), monotonicMs()));
  return memory;
}

/**
 * @param memory of clockMemory, the same in all threads
 * @param wallMs unix milliseconds, whole numbers
 * @returns a clock with microsecond steps, anchored to the system clock
 */
export function createSharedClock(memory: SharedArrayBuffer, wallMs: () => number = Date.now): Clock {
  const cells = new BigInt64Array(memory);
  return () => {
    const monotonic = monotonicMs();
    const wall = wallMs();
    let anchor = Atomics.load(cells, ANCHOR);
    const drift = wall - (Number(anchor) / 1000 + monotonic);
    if (drift > MAX_DRIFT_MS || drift < -MAX_DRIFT_MS) {
      anchor = anchorUs(wall, monotonic);
      Atomics.store(cells, ANCHOR, anchor);
    }
    const now = anchor + BigInt(Math.floor(monotonic * 1000));
    for (;;) {
      const last = Atomics.load(cells, LAST);
      const next = now > last ? now : last + 1n;
      if (Atomics.compareExchange(cells, LAST, last, next) === last) return Number(next);
    }
  };
}

/** Each thread's `performance.now` counts from the thread's own start; this is the same in all of them. */
const ORIGIN_MS = Number(process.hrtime.bigint()) / 1e6 - performance.now();

function monotonicMs(): number {
  return ORIGIN_MS + performance.now();
}

function anchorUs(wall: number, monotonic: number): bigint {
  return BigInt(Math.round((wall - monotonic) * 1000));
}
