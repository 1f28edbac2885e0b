/**
 * Does a node leak? Compares the last third of a long run with the third before it: the first third is for warming
 * up and for filling the windows that are bounded by time.
 */
import { median, slope } from './statistics.ts';

/** The process as the system sees it. */
export interface ProcessSample {
  readonly seconds: number;
  readonly rssBytes: number;
  readonly fds: number;
  readonly threads: number;
}

/** The node's own account, between two rounds: nothing is under way. */
export interface HeldSample {
  readonly seconds: number;
  /** Heap and buffers after a full garbage collection. */
  readonly liveBytes: number;
  /** Handles, requests and timers by kind. */
  readonly resources: Readonly<Record<string, number>>;
}

export interface Finding {
  readonly what: string;
  readonly before: number;
  readonly after: number;
  /** The most that it may be. */
  readonly limit: number;
  readonly flat: boolean;
}

export interface Verdict {
  readonly findings: readonly Finding[];
  /** Growth of RSS in MiB per hour over the last two thirds, by the median slope. */
  readonly rssSlopeMiBPerHour: number;
  /** What was not judged, and why. */
  readonly notJudged: readonly string[];
}

const MIB = 2 ** 20;
/** The allocator gives memory back when it likes: minutes are needed to tell that from a leak. */
const LEAST_SECONDS_FOR_RSS = 180;
const RSS_TOLERANCE = { share: 0.05, bytes: 24 * MIB };
const LIVE_TOLERANCE = { share: 0.05, bytes: 8 * MIB };
const COUNT_TOLERANCE = 8;

/** @param seconds length of the run */
export function soakVerdict(
  seconds: number,
  samples: readonly ProcessSample[],
  held: readonly HeldSample[],
): Verdict {
  const findings: Finding[] = [];
  const notJudged: string[] = [];
  const [middle, last] = thirds(seconds, samples);
  if (seconds < LEAST_SECONDS_FOR_RSS) {
    notJudged.push(`RSS: less than ${LEAST_SECONDS_FOR_RSS} s`);
  } else {
    addBytes(findings, 'RSS, MiB', middle, last, ({ rssBytes }) => rssBytes, RSS_TOLERANCE);
  }
  addCount(findings, 'file descriptors', middle, last, ({ fds }) => fds);
  addCount(findings, 'threads', middle, last, ({ threads }) => threads);

  const [heldMiddle, heldLast] = thirds(seconds, held);
  addBytes(
    findings,
    'live heap and buffers, MiB',
    heldMiddle,
    heldLast,
    ({ liveBytes }) => liveBytes,
    LIVE_TOLERANCE,
  );
  const kinds = new Set(held.flatMap(({ resources }) => Object.keys(resources)));
  for (const kind of [...kinds].sort())
    addCount(findings, `open: ${kind}`, heldMiddle, heldLast, ({ resources }) => resources[kind] ?? 0);
  for (const [name, part] of [
    ['process samples', last],
    ['checkpoints', heldLast],
  ] as const) {
    if (part.length === 0) notJudged.push(`no ${name} in the last third`);
  }
  const settled = samples.filter((sample) => sample.seconds >= seconds / 3);
  return {
    findings,
    rssSlopeMiBPerHour: (slope(settled.map((sample) => [sample.seconds, sample.rssBytes / MIB])) || 0) * 3600,
    notJudged,
  };
}

function thirds<S extends { readonly seconds: number }>(seconds: number, samples: readonly S[]): [S[], S[]] {
  const middle = samples.filter(
    (sample) => sample.seconds >= seconds / 3 && sample.seconds < (seconds * 2) / 3,
  );
  const last = samples.filter((sample) => sample.seconds >= (seconds * 2) / 3);
  return [middle, last];
}

function addBytes<S>(
  findings: Finding[],
  what: string,
  middle: readonly S[],
  last: readonly S[],
  pick: (sample: S) => number,
  tolerance: { readonly share: number; readonly bytes: number },
): void {
  if (middle.length === 0 || last.length === 0) return;
  const [before, after] = [median(middle.map(pick)), median(last.map(pick))];
  const limit = before + Math.max(before * tolerance.share, tolerance.bytes);
  findings.push({ what, before: before / MIB, after: after / MIB, limit: limit / MIB, flat: after <= limit });
}

/** Counts go up and down with what is under way: the most of each third is compared. */
function addCount<S>(
  findings: Finding[],
  what: string,
  middle: readonly S[],
  last: readonly S[],
  pick: (sample: S) => number,
): void {
  if (middle.length === 0 || last.length === 0) return;
  const [before, after] = [Math.max(...middle.map(pick)), Math.max(...last.map(pick))];
  const limit = before + COUNT_TOLERANCE;
  findings.push({ what, before, after, limit, flat: after <= limit });
}
