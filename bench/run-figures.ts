/** What one run of orders came to: latencies, rates, CPU, memory, pauses, and every order that went astray. */
import type { LoopFigures } from './hook-client.ts';
import { figuresOfWaits, type LatencyFigures, latencyFigures } from './latency.ts';
import type { RunResult } from './load-generator.ts';
import { type ProcessFigures, threadTimesBetween } from './process-figures.ts';
import type { Arrivals } from './sink-processes.ts';

export interface RunFigures {
  /** Orders that were due, that were sent, and that got a success. */
  readonly orders: number;
  readonly sent: number;
  readonly accepted: number;
  /** Answers that were no success, by status and text. */
  readonly refused: Readonly<Record<string, number>>;
  /** Sent, and no answer of any kind came. */
  readonly unanswered: number;
  /** Accepted orders per second, first sending to last answer. */
  readonly ordersPerSec: number;
  /** CPU of a whole process per accepted order, until builder and peers had all of them; null where unknown. */
  readonly cpuUsPerOrder: { readonly node: number | null; readonly load: number; readonly sinks: number };
  /** The node's by kind of thread. */
  readonly cpuUsPerOrderByThread: Readonly<Record<string, number>>;
  /** From when an order was due. */
  readonly toBuilder: LatencyFigures;
  readonly toAnswer: LatencyFigures;
  readonly toPeers: readonly LatencyFigures[];
  /** From when an order was due to its sending: no connection was free, or the generator itself was late. */
  readonly dueToSent: LatencyFigures;
  /** From when an order was sent: what the generator was late with is not in it. */
  readonly sentToBuilder: LatencyFigures;
  /** From when an order was sent to its success. */
  readonly sentToAnswer: LatencyFigures;
  /** From when an order was sent to its refusal. */
  readonly sentToRefusal: LatencyFigures;
  /** Orders with a success that the builder, or a peer (each counted), never got: must be 0. */
  readonly lostToBuilder: number;
  readonly lostToPeers: readonly number[];
  /** Orders that came to a sink twice. */
  readonly duplicates: number;
  /** Orders of which a peer got other bytes than the builder, of those that are looked at: must be 0. */
  readonly corrupted: number;
  /** Lateness of the event loop and pauses for garbage collection, all threads, milliseconds; null where unknown. */
  readonly loopDelay: LoopFigures['delay'] | null;
  readonly pauses: {
    readonly count: number;
    readonly totalMs: number;
    readonly p99Ms: number;
    readonly maxMs: number;
  } | null;
  /** Seconds since the start of the run, bytes. */
  readonly memory: readonly (readonly [seconds: number, bytes: number])[];
  readonly peakRssBytes: number | null;
}

export interface RunMeasurements {
  readonly result: RunResult;
  readonly received: Arrivals;
  readonly before: Used;
  readonly after: Used;
  /** One per thread of the node; none where it is not ours. */
  readonly loops: readonly LoopFigures[];
  readonly memory: readonly (readonly [number, number])[];
}

export interface Used {
  readonly node: ProcessFigures | null;
  readonly load: ProcessFigures;
  readonly sinks: Pick<ProcessFigures, 'cpuUs'>;
}

/** Puts a run's measurements together. */
export function figuresOf({ result, received, before, after, loops, memory }: RunMeasurements): RunFigures {
  const { dueUs, sentUs, answeredUs, refusedUs, refused } = result;
  const [builder, ...peers] = received.receivedUs;
  if (builder === undefined) throw new Error('the sinks have no builder');
  const toAnswer = latencyFigures(dueUs, answeredUs);
  const accepted = toAnswer.count;
  const sent = sentUs.reduce((count, time) => count + (Number.isNaN(time) ? 0 : 1), 0);
  const refusals = Object.values(refused).reduce((sum, count) => sum + count, 0);
  const lastAnswerUs = answeredUs.reduce((last, time) => (time > last ? time : last), 0);
  const firstSentUs = sentUs.reduce((first, time) => (time < first ? time : first), Number.POSITIVE_INFINITY);
  const tookUs = lastAnswerUs - firstSentUs;
  const perOrder = (us: number) => us / Math.max(1, accepted);
  const node =
    before.node === null || after.node === null ? null : { before: before.node, after: after.node };
  return {
    orders: dueUs.length,
    sent,
    accepted,
    refused,
    unanswered: Math.max(0, sent - accepted - refusals),
    ordersPerSec: tookUs > 0 ? (accepted / tookUs) * 1e6 : 0,
    cpuUsPerOrder: {
      node: node === null ? null : perOrder(node.after.cpuUs - node.before.cpuUs),
      load: perOrder(after.load.cpuUs - before.load.cpuUs),
      sinks: perOrder(after.sinks.cpuUs - before.sinks.cpuUs),
    },
    cpuUsPerOrderByThread:
      node === null
        ? {}
        : Object.fromEntries(
            Object.entries(threadTimesBetween(node.before, node.after)).map(([name, us]) => [
              name,
              perOrder(us),
            ]),
          ),
    toBuilder: latencyFigures(dueUs, builder),
    toAnswer,
    toPeers: peers.map((times) => latencyFigures(dueUs, times)),
    dueToSent: latencyFigures(dueUs, sentUs),
    sentToBuilder: latencyFigures(sentUs, builder),
    sentToAnswer: latencyFigures(sentUs, answeredUs),
    sentToRefusal: latencyFigures(sentUs, refusedUs),
    lostToBuilder: lostOf(answeredUs, builder),
    lostToPeers: peers.map((times) => lostOf(answeredUs, times)),
    duplicates: received.duplicates,
    corrupted: received.corrupted,
    loopDelay: worstOf(loops),
    pauses: loops.length === 0 ? null : pausesOf(loops),
    memory,
    peakRssBytes: node?.after.peakRssBytes ?? null,
  };
}

/** Acknowledged, and never arrived. */
function lostOf(answeredUs: Float64Array, receivedUs: Float64Array): number {
  return answeredUs.reduce(
    (lost, time, index) => lost + (!Number.isNaN(time) && Number.isNaN(receivedUs[index]) ? 1 : 0),
    0,
  );
}

/** Of several threads the one that was latest. */
function worstOf(loops: readonly LoopFigures[]): LoopFigures['delay'] | null {
  const delays = loops.map(({ delay }) => delay).sort((a, b) => b.p99 - a.p99);
  return delays[0] ?? null;
}

function pausesOf(loops: readonly LoopFigures[]): RunFigures['pauses'] {
  const { count, p99, max } = figuresOfWaits(Float64Array.from(loops.flatMap(({ pausesMs }) => pausesMs)));
  const totalMs = loops.reduce((sum, { pausesMs }) => sum + pausesMs.reduce((one, ms) => one + ms, 0), 0);
  return { count, totalMs, p99Ms: p99 ?? 0, maxMs: max ?? 0 };
}

/**
 * @param allowRefusals under an overload refusing is right, losing never is
 * @returns every loss, duplicate and refusal of a run in words; empty when there was none
 */
export function faultsOf(title: string, run: RunFigures, allowRefusals = false): string[] {
  const found: string[] = [];
  if (run.lostToBuilder > 0)
    found.push(`${title}: ${run.lostToBuilder} acknowledged orders never reached the builder`);
  for (const [index, lost] of run.lostToPeers.entries()) {
    if (lost > 0) found.push(`${title}: ${lost} acknowledged orders never reached peer ${index + 1}`);
  }
  if (run.duplicates > 0) found.push(`${title}: ${run.duplicates} came twice`);
  if (run.corrupted > 0)
    found.push(`${title}: ${run.corrupted} came to a peer with other bytes than to the builder`);
  if (run.unanswered > 0) found.push(`${title}: ${run.unanswered} got no answer`);
  if (allowRefusals) return found;
  for (const [text, count] of Object.entries(run.refused)) found.push(`${title}: ${count} × ${text}`);
  if (run.accepted === 0) found.push(`${title}: no order was accepted`);
  return found;
}
