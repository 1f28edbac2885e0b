/**
 * Whether the archive takes orders, and if not, why: a set of reasons, open when it is empty. What each reason
 * means, when it comes and when it goes:
 *
 * | reason | closed when | open again when | a retry can help |
 * | --- | --- | --- | --- |
 * | pending | more than maxPendingBytes wait to become durable | half of it | yes |
 * | bytes | the segments reach maxBytes and none is past its retention | they fall to lowBytes | yes |
 * | unshipped | the brokers lack maxUnshippedBytes, or records older than maxUnshippedMs | both fall to their low marks | yes |
 * | disk_full | the disk or the quota is full on write | there is room again, tried every probeMs | yes |
 * | failed | any other error of the disk | the node is restarted | no |
 * | closing | the spool is being closed | never | yes, at the restarted node |
 */

export type GateReason = 'pending' | 'bytes' | 'unshipped' | 'disk_full' | 'failed' | 'closing';

/** What the sender is told; the gravest reason first. */
const MESSAGES: readonly (readonly [GateReason, string])[] = [
  ['failed', 'the archive has failed and must be restarted'],
  ['closing', 'the archive is shutting down'],
  ['disk_full', 'the disk of the archive is full, try again later'],
  ['bytes', 'the archive is full, try again later'],
  ['unshipped', 'the brokers of the archive are behind, try again later'],
  ['pending', 'the archive is behind, try again in a second'],
];

/** The error of an order that was not archived. Its message is fit for the order's sender. */
export class SpoolError extends Error {
  override readonly name = 'SpoolError';
  readonly reason: GateReason | 'malformed';

  constructor(reason: GateReason | 'malformed', message: string) {
    super(message);
    this.reason = reason;
  }
}

/** Told about each change of the gate. */
export interface GateEvents {
  /** Orders are refused from now on, or for one more reason; `cause` is the disk's error if there is one. */
  gateClosed(reason: GateReason, cause: Error | null): void;
  /** Orders are taken again. */
  gateOpened(): void;
}

export class Gate {
  readonly #events: GateEvents;
  readonly #reasons = new Set<GateReason>();
  #reason: GateReason | null = null;
  #refusal: SpoolError | null = null;

  constructor(events: GateEvents) {
    this.#events = events;
  }

  /** Null while open, else the error for whoever comes: one object for all, since refusals come in thousands. */
  get refusal(): SpoolError | null {
    return this.#refusal;
  }

  /** Null while open, else the gravest reason. */
  get reason(): GateReason | null {
    return this.#reason;
  }

  has(reason: GateReason): boolean {
    return this.#reasons.has(reason);
  }

  close(reason: GateReason, cause: Error | null = null): void {
    if (this.#reasons.has(reason)) return;
    this.#reasons.add(reason);
    this.#choose();
    this.#events.gateClosed(reason, cause);
  }

  open(reason: GateReason): void {
    if (!this.#reasons.delete(reason)) return;
    this.#choose();
    if (this.#refusal === null) this.#events.gateOpened();
  }

  #choose(): void {
    const gravest = MESSAGES.find(([reason]) => this.#reasons.has(reason));
    this.#reason = gravest?.[0] ?? null;
    this.#refusal = gravest === undefined ? null : new SpoolError(gravest[0], gravest[1]);
  }
}
