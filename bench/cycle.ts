/**
 * Uses a set of orders again and again. A node that has seen an order takes it for a duplicate until its dedupe window
 * has gone by, so an order comes again only after that.
 */
import type { Rig } from './rig.ts';
import type { RunFigures } from './run-figures.ts';

/** Settings of a node that forgets orders soon: for runs that need more orders than there is room for. */
export const FORGETFUL_SEC = 1;
export const FORGETFUL = { DEDUPE_SEC: String(FORGETFUL_SEC) };

export interface CycleOptions {
  readonly set: string;
  /** Orders in the set. */
  readonly length: number;
  /** The node's dedupe window. */
  readonly forgottenAfterMs: number;
}

/** Beyond the window: the node's clock and ours are read at different moments. */
const MARGIN_MS = 100;

export class Cycle {
  readonly #rig: Pick<Rig, 'run'>;
  readonly #options: CycleOptions;
  #next = 0;
  #used: { readonly from: number; readonly to: number; readonly endedMs: number }[] = [];

  constructor(rig: Pick<Rig, 'run'>, options: CycleOptions) {
    this.#rig = rig;
    this.#options = options;
  }

  /**
   * Runs with the next orders; waits before that until the node has forgotten them.
   * @param count at most the length of the set
   * @param rate null for the closed loop
   */
  async run(count: number, rate: number | null, stopWhenDue = false): Promise<RunFigures> {
    const { set, length, forgottenAfterMs } = this.#options;
    if (this.#next + count > length) this.#next = 0;
    const from = this.#next;
    const to = from + count;
    this.#next = to;
    const again = this.#used.filter((part) => part.from < to && part.to > from);
    const lastUsedMs = Math.max(0, ...again.map(({ endedMs }) => endedMs));
    const waitMs = again.length === 0 ? 0 : lastUsedMs + forgottenAfterMs + MARGIN_MS - performance.now();
    if (waitMs > 0) await new Promise((resolve) => setTimeout(resolve, waitMs));
    const figures = await this.#rig.run({ set, from, count }, rate === null ? null : { rate, stopWhenDue });
    const now = performance.now();
    this.#used = this.#used.filter(({ endedMs }) => now - endedMs < forgottenAfterMs + MARGIN_MS);
    this.#used.push({ from, to, endedMs: now });
    return figures;
  }
}
