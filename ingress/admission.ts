/**
 * How long an order may have to wait for its turn; one that would wait longer is refused at once, before its body is read
 * and its signature checked, so that sending it again, here or at another node, works. After the "controlled delay" of Facebook's
 * servers (Maurer, "Fail at Scale", ACM Queue 2015), which is after CoDel (RFC 8289): a queue that was empty a
 * moment ago is a burst and is taken, one that has not been for long means that more comes than can be worked off, and
 * then waiting helps nobody.
 *
 * A connection that has nothing waiting, and is within its share (shares.ts), has more time than one that sends on: its order
 * is refused only where a second of work from many such connections is before it.
 *
 * Judged by the wait that is ahead, when the order comes, not by the one behind it, at its turn: what has been read has
 * cost the most of what refusing saves, and who has waited is served better by an answer late than by the same wait and
 * none.
 */

export interface AdmissionOptions {
  /** While more comes than can be worked off, ms. */
  readonly maxWaitMs: number;
  /** In a burst, and of peers' orders, ms. */
  readonly maxBurstWaitMs: number;
}

/** Times `maxWaitMs`: what those that send on may wait in a burst, and the others when it is none. */
const PATIENCE = 5;
/** Times `maxWaitMs`: what those that send on do in that time is a burst. */
const BURST = 10;

/**
 * @param sparing has nothing waiting and is within its share
 * @param sinceEmptyMs since nothing waited last
 * @returns ms that the order may have to wait
 */
export function longestWait(options: AdmissionOptions, sparing: boolean, sinceEmptyMs: number): number {
  const { maxWaitMs, maxBurstWaitMs } = options;
  const patientMs = Math.min(PATIENCE * maxWaitMs, maxBurstWaitMs);
  if (sparing) return sinceEmptyMs <= maxBurstWaitMs ? maxBurstWaitMs : patientMs;
  return sinceEmptyMs <= BURST * maxWaitMs ? patientMs : maxWaitMs;
}
