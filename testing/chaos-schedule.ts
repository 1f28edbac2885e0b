/** What is done to whom and when in a chaos run: made from a seed beforehand, so that a run can be repeated. */
import { SeededSource } from '../devnet/seeded.ts';
import type { OutageKind } from './chaos-process.ts';

/** Who is hit: one process, or all nodes at once as by a power cut. */
export type Victim =
  | { readonly role: 'node' | 'builder'; readonly index: number }
  | { readonly role: 'hub' | 'all nodes' };

export interface Blow {
  /** Since the begin of the traffic. */
  readonly atMs: number;
  readonly victim: Victim;
  readonly kind: OutageKind;
  /** How long it is frozen, or not there until it is started again. */
  readonly holdMs: number;
}

export interface ScheduleOptions {
  readonly seed: string;
  readonly durationMs: number;
  readonly nodes: number;
}

/** Shares of 100. */
const SHARES: readonly (readonly [share: number, role: Victim['role'], kind: OutageKind])[] = [
  [42, 'node', 'killed'],
  [8, 'node', 'stopped'],
  [12, 'node', 'frozen'],
  [14, 'builder', 'killed'],
  [6, 'builder', 'frozen'],
  [10, 'hub', 'killed'],
  [4, 'hub', 'frozen'],
  [4, 'all nodes', 'killed'],
];
const SHORTEST_PAUSE_MS = 200;
const LONGEST_PAUSE_MS = 3_400;
/** Below the time-out for answers (egress/target-options.ts): nothing is lost by a pause. */
const LONGEST_FREEZE_MS = 1_200;
const LONGEST_ABSENCE_MS = 1_500;

/** @returns the blows in order of time; whoever is away when his turn comes is spared. */
export function makeSchedule({ seed, durationMs, nodes }: ScheduleOptions): Blow[] {
  const random = new SeededSource(`${seed} schedule`);
  const between = (low: number, high: number): number => Math.round(low + random.unit() * (high - low));
  const blows: Blow[] = [];
  for (
    let atMs = between(500, 1_000);
    atMs < durationMs;
    atMs += between(SHORTEST_PAUSE_MS, LONGEST_PAUSE_MS)
  ) {
    const [role, kind] = pick(random.below(100));
    const victim: Victim =
      role === 'node' || role === 'builder' ? { role, index: random.below(nodes) } : { role };
    // Half of the ended ones are started again at once.
    const holdMs =
      kind === 'frozen'
        ? between(200, LONGEST_FREEZE_MS)
        : random.chance(0.5)
          ? 0
          : between(0, LONGEST_ABSENCE_MS);
    blows.push({ atMs, victim, kind, holdMs });
  }
  return blows;
}

function pick(number: number): [Victim['role'], OutageKind] {
  let rest = number;
  for (const [share, role, kind] of SHARES) {
    if (rest < share) return [role, kind];
    rest -= share;
  }
  throw new RangeError('the shares must add up to 100');
}
