/** Why an order of the stream was not taken, as a code: the kinds of errors.ts that matter to the sending node. */
import type { RejectionKind } from '../errors.ts';

export const REFUSAL = {
  /** It breaks a rule; sending it again does not help. */
  invalid: 1,
  /** The sender is not listed yet, or not any longer. */
  unknown_peer: 2,
  overloaded: 3,
  shutting_down: 4,
  internal: 5,
} as const;

export type Refusal = keyof typeof REFUSAL;

const BY_CODE: ReadonlyMap<number, Refusal> = new Map(
  (Object.entries(REFUSAL) as [Refusal, number][]).map(([refusal, code]) => [code, refusal]),
);

/** @returns what a received code means; an unknown one is a rule of a later version. */
export function refusalOf(code: number): Refusal {
  return BY_CODE.get(code) ?? 'invalid';
}

/** @returns the code by which a rejection is told. */
export function refusalCode(kind: RejectionKind): number {
  switch (kind) {
    case 'unknown_peer':
    case 'client_certificate':
      return REFUSAL.unknown_peer;
    case 'overloaded':
    case 'rate_limited':
    case 'archive_unavailable':
      return REFUSAL.overloaded;
    case 'shutting_down':
      return REFUSAL.shutting_down;
    case 'internal':
      return REFUSAL.internal;
    default:
      return REFUSAL.invalid;
  }
}
