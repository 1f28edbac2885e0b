/** The bounds of a target that builder and peers share, with their defaults. */
import type { TargetOptions } from './target.ts';

const KIB = 1024;
const MIB = 1024 * KIB;

/** Bounds that hold unless set otherwise. */
const TARGET_DEFAULTS: TargetOptions = {
  connections: 4,
  warmConnections: 1,
  // Deep enough for a round trip of 100 ms at 500 orders/s on one connection.
  maxOutstanding: 64,
  maxOutstandingBytes: MIB,
  maxBufferedBytes: 256 * KIB,
  connectTimeoutMs: 3_000,
  responseTimeoutMs: 5_000,
  maxHeaderBytes: 16 * KIB,
  // An answer is a hash or an error: more of it than this is of no use.
  maxBodyBytes: 8 * KIB,
  // More than twice the largest order (30 MiB), or ten thousand of the mean (6.9 KB).
  queueBytes: 64 * MIB,
  queueAgeMs: 30_000,
  // At most this late a target that was away for long is back in use: a sixth of a slot.
  reconnect: { baseMs: 100, maxMs: 2_000 },
  retry: { baseMs: 100, maxMs: 2_000 },
  // A peer that has just got other software is asked as soon as its requests' connection comes back.
  streamConnections: 8,
  streamRetry: { baseMs: 1_000, maxMs: 30_000 },
  // A target at work answers within a round trip.
  closeStallMs: 1_000,
};

/** @returns the defaults, then those of the kind of target, then what is set. */
export function mergeTargetOptions(kind: Partial<TargetOptions>, set: Partial<TargetOptions>): TargetOptions {
  const merged = { ...TARGET_DEFAULTS, ...kind, ...set };
  return { ...merged, warmConnections: Math.min(merged.warmConnections, merged.connections) };
}
