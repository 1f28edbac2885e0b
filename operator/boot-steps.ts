/**
 * What the machine's start has come to, from the events that its programs report:
 *
 *     boot STEP running|done|failed [detail]
 *
 * Any program writes such a line into the FIFO. Only those of this start of the machine count.
 */

export type StepState = 'pending' | 'running' | 'done' | 'failed';

export interface BootStep {
  readonly name: string;
  readonly state: StepState;
  /** RFC 3339; empty while pending. */
  readonly since: string;
  readonly detail: string;
}

const LINE = /^boot ([A-Za-z0-9_][A-Za-z0-9_.-]{0,63}) (running|done|failed)(?: (.{0,500})|$)/su;
/** Beyond, new names are left out. */
const MAX_STEPS = 64;

export class BootSteps {
  readonly #steps = new Map<string, BootStep>();

  /** @param expected names shown as pending, in this order, before they are reported. */
  constructor(expected: readonly string[]) {
    for (const name of expected) this.#steps.set(name, { name, state: 'pending', since: '', detail: '' });
  }

  /** Takes any event; those that are no step change nothing. */
  observe({ receivedAt, message }: { receivedAt: string; message: string }): void {
    const match = LINE.exec(message);
    if (match === null) return;
    const [, name = '', state, detail = ''] = match;
    if (!this.#steps.has(name) && this.#steps.size >= MAX_STEPS) return;
    this.#steps.set(name, { name, state: state as StepState, since: receivedAt, detail });
  }

  list(): readonly BootStep[] {
    return [...this.#steps.values()];
  }
}
