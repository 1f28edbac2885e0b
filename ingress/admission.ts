/**
 * How long an order may have to wait for its turn; one that would wait longer is refused at once, before its body is read
 * and its signature checked, so that sending it again, here or at another node, works. After the "controlled delay" of Facebook's
 * servers (Maurer, "Fail at Scale", ACM Queue 2015), which is after CoDel (RFC 8289): a queue that was empty a
 * moment ago is a burst and is taken, one that has not been for long means that more comes than can be worked off, and
 * then waiting helps nobody.
 *
 * Those who send on without waiting for answers are refused first; the others have so much more time that a flood of those
 * cannot take it up.
 *
 * Judged by the wait that is ahead, when the order comes, not by the one behind it, at its turn: what has been read has
 * cost most of what refusing saves, and who has waited is served better by a late answer than by the same wait and
 * none.
 */

export interface AdmissionOptions {
  /** While more comes than can be worked off, ms. */
  readonly maxWaitMs: number;
  /** In a burst, and of peers' orders, ms. */
  readonly maxBurstWaitMs: number;
}

/**
 * How a connection sends. All but the first have no order waiting.
 *
 * - `on and on`: without waiting for answers.
 * - `one at a time`: the next when it has its answer.
 * - `within its share`: seldom enough that all who send could send as much (shares.ts).
 * - `afresh`: for the first time, or for the first time in a second.
 */
export type Manner = 'on and on' | 'one at a time' | 'within its share' | 'afresh';

/** Times `maxWaitMs`: what each may wait when it is no burst. */
const PATIENCE = {
  'on and on': 1,
  'within its share': 10,
  afresh: 10,
} satisfies Partial<Record<Manner, number>>;
/** Times `maxWaitMs`: what those that send on may wait in a burst of theirs, and how long that may last. */
const BURST_WAIT = 5;
const BURST = 20;

/**
 * @param sinceEmptyMs since nothing waited last
 * @returns ms that an order may have to wait
 */
export function longestWait(options: AdmissionOptions, manner: Manner, sinceEmptyMs: number): number {
  const { maxWaitMs, maxBurstWaitMs } = options;
  // Who waits for answers cannot make the queue longer than by one: refused, he would only ask again.
  if (manner === 'one at a time') return maxBurstWaitMs;
  if (manner === 'afresh' && sinceEmptyMs <= maxBurstWaitMs) return maxBurstWaitMs;
  if (manner === 'on and on' && sinceEmptyMs <= BURST * maxWaitMs) return BURST_WAIT * maxWaitMs;
  return PATIENCE[manner] * maxWaitMs;
}
