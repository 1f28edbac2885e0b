/**
 * The node's clock where several threads give receive times: as clock.ts, strictly increasing over all of them, so
 * that of two bundles that came one after the other the later has the greater replacement nonce, whichever threads
 * took them (protocol section 4). One anchor and the last time given stand in shared memory.
 *
 * An order is given one time and asks for a dozen more, of which only its durations and its age come: those are read
 * without touching what the threads share.
 */
import type { Clock } from '../clock.ts';

/** Drift between the monotonic and the system clock above which the anchor is set anew, in milliseconds. */
const MAX_DRIFT_MS = 2;
/** How often the system clock and the anchor are looked at. */
const LOOK_MS = 1;
const LAST = 0;
const ANCHOR = 1;

/** Made by the thread that starts the others. */
export function clockMemory(): SharedArrayBuffer {
  const memory = new SharedArrayBuffer(16);
  Atomics.store(new BigInt64Array(memory), ANCHOR, anchorUs(Date.now(), monotonicMs()));
  return memory;
}

/** Two ways to ask one clock with microsecond steps, anchored to the system clock. */
export interface SharedClock {
  /** A time that no thread was given before, later than all of those. */
  readonly give: Clock;
  /** What time it is: not before what this thread was given last. */
  readonly read: Clock;
}

/**
 * @param memory of clockMemory, the same in all threads
 * @param wallMs unix milliseconds, whole numbers
 * @param monotonic milliseconds with fractions, the same in all threads
 */
export function createSharedClock(
  memory: SharedArrayBuffer,
  wallMs: () => number = Date.now,
  monotonic: () => number = monotonicMs,
): SharedClock {
  const cells = new BigInt64Array(memory);
  let anchor = 0;
  let looked = Number.NEGATIVE_INFINITY;
  let given = 0;
  const look = (elapsed: number) => {
    looked = elapsed;
    const wall = wallMs();
    anchor = Number(Atomics.load(cells, ANCHOR));
    const drift = wall - (anchor / 1000 + elapsed);
    if (drift > MAX_DRIFT_MS || drift < -MAX_DRIFT_MS) {
      const anew = anchorUs(wall, elapsed);
      anchor = Number(anew);
      Atomics.store(cells, ANCHOR, anew);
    }
  };
  const now = () => {
    const elapsed = monotonic();
    if (elapsed - looked >= LOOK_MS) look(elapsed);
    return anchor + Math.floor(elapsed * 1000);
  };
  return {
    give() {
      const us = BigInt(now());
      for (;;) {
        const last = Atomics.load(cells, LAST);
        const next = us > last ? us : last + 1n;
        if (Atomics.compareExchange(cells, LAST, last, next) !== last) continue;
        given = Number(next);
        return given;
      }
    },
    read: () => Math.max(given, now()),
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
