/** Time as the identity room sees it, so that tests can move it on by hand. */

export interface Timer {
  /** Unix milliseconds. */
  now(): number;
  /**
   * Runs `action` once.
   *
   * @param delayMs at most 2^31 - 1
   * @returns a function that cancels it
   */
  after(delayMs: number, action: () => void): () => void;
}

/** The machine's time. A waiting action does not keep the process alive. */
export const systemTimer: Timer = {
  now: Date.now,
  after(delayMs, action) {
    const timeout = setTimeout(action, delayMs).unref();
    return () => clearTimeout(timeout);
  },
};

/** Resolves after a time, or at once when `signal` aborts. */
export function pause(timer: Timer, delayMs: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) {
      resolve();
      return;
    }
    const end = () => {
      cancel();
      signal.removeEventListener('abort', end);
      resolve();
    };
    const cancel = timer.after(delayMs, end);
    signal.addEventListener('abort', end, { once: true });
  });
}
