/** The clock that all processes of a bench share: CLOCK_MONOTONIC, which is one per machine on Linux. */

/** @returns microseconds since an arbitrary start, the same in every process of this machine. */
export function nowUs(): number {
  const [seconds, nanoseconds] = process.hrtime();
  return seconds * 1e6 + nanoseconds / 1e3;
}
