/** One stage of an order's way, or an alternative to it, ready to be timed. */

export interface MicroCase {
  /** What is done, and to how much of it. Cases of one stage do the same work. */
  readonly stage: string;
  /** How it is done. */
  readonly name: string;
  /** Whether the node does it so; else it is an alternative that was rejected. */
  readonly inUse: boolean;
  /** How often one call of `work` does it. */
  readonly ops: number;
  readonly work: () => unknown;
  /** Whether `work` returns a promise of something that is waited for. */
  readonly waits: boolean;
}

export interface MicroResult {
  readonly stage: string;
  readonly name: string;
  readonly inUse: boolean;
  readonly nsPerOp: number;
  /** On V8's heap and in buffers outside of it. */
  readonly bytesPerOp: number;
}

/** Does it once to each input; the inputs are made before the timed part. */
export function caseOf<I>(
  stage: string,
  name: string,
  inUse: boolean,
  inputs: readonly I[],
  work: (input: I) => unknown,
): MicroCase {
  return {
    stage,
    name,
    inUse,
    ops: inputs.length,
    waits: false,
    work() {
      let last: unknown;
      for (const input of inputs) last = work(input);
      return last;
    },
  };
}
