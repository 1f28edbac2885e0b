/**
 * One process of a network under chaos: it is killed, stopped or frozen for a while and started again with the same
 * files and ports, and every such outage is recorded with its times. An end that nobody asked for is a fault.
 */
import type { ChildProcess } from '../devnet/child-process.ts';

/** `killed`: SIGKILL. `stopped`: SIGTERM, so that it drains. `frozen`: SIGSTOP, SIGCONT later. */
export type OutageKind = 'killed' | 'stopped' | 'frozen';

/** A time in which a process did not work. */
export interface Outage {
  readonly kind: OutageKind;
  /** Unix ms, just before the signal was sent. */
  readonly from: number;
  /** Unix ms, when the process had ended: one that drains goes on for a while. Infinity for `frozen`. */
  endedAt: number;
  /** Unix ms, when it was ready again; Infinity while it lasts. */
  until: number;
}

/** Unix time in ms, with fractions, that never goes back: all times of a run. */
export function unixMs(): number {
  return performance.timeOrigin + performance.now();
}

export class ChaosProcess {
  readonly name: string;
  readonly outages: Outage[] = [];
  /** What went wrong, a sentence each. */
  readonly faults: string[] = [];
  /** Milliseconds that each start took until the process was ready. */
  readonly startsMs: number[] = [];
  /** Milliseconds that each stop by SIGTERM took until the process had ended. */
  readonly stopsMs: number[] = [];
  /** Of all processes that it has been. */
  readonly pids: number[] = [];
  readonly #launch: () => Promise<ChildProcess>;
  #process: ChildProcess | null = null;
  #back: Promise<void> = Promise.resolve();
  #expected: number | string | null = null;

  /** @param launch starts the process and resolves when it is ready */
  constructor(name: string, launch: () => Promise<ChildProcess>) {
    this.name = name;
    this.#launch = launch;
  }

  /** Is it down or frozen? */
  get away(): boolean {
    return this.outages.at(-1)?.until === Number.POSITIVE_INFINITY;
  }

  /** Resolves when no outage is under way; never rejects. */
  get back(): Promise<void> {
    return this.#back;
  }

  /** The process that it is now. */
  get process(): ChildProcess {
    if (this.#process === null) throw new Error(`${this.name} has not been started`);
    return this.#process;
  }

  /** @throws when it does not become ready */
  async start(): Promise<void> {
    const startedAt = unixMs();
    this.#expected = null;
    const process = await this.#launch();
    this.#process = process;
    this.pids.push(process.pid);
    this.startsMs.push(unixMs() - startedAt);
    void process.ended.then((outcome) => {
      if (outcome !== this.#expected) this.faults.push(`${this.name} ended with ${outcome}`);
    });
  }

  /**
   * One outage: puts the process out of work, and back after `holdMs` (a killed or stopped one needs its start besides).
   * @returns when it works again; never rejects, a failed start is a fault
   */
  outage(kind: OutageKind, holdMs: number): Promise<void> {
    this.#back = this.#outage(kind, holdMs);
    return this.#back;
  }

  async #outage(kind: OutageKind, holdMs: number): Promise<void> {
    const never = Number.POSITIVE_INFINITY;
    const outage: Outage = { kind, from: unixMs(), endedAt: never, until: never };
    this.outages.push(outage);
    if (kind === 'frozen') {
      this.process.freeze();
      await delay(holdMs);
      this.process.thaw();
    } else {
      await this.#end(kind);
      outage.endedAt = unixMs();
      await delay(holdMs);
      try {
        await this.start();
      } catch (error) {
        this.faults.push(error instanceof Error ? error.message : String(error));
        return;
      }
    }
    outage.until = unixMs();
  }

  /** Stops it for good. */
  async stop(): Promise<void> {
    if (this.#process?.running === true) await this.#end('stopped');
  }

  async #end(kind: 'killed' | 'stopped'): Promise<void> {
    this.#expected = kind === 'killed' ? 'SIGKILL' : 0;
    if (kind === 'killed') {
      this.process.kill();
      await this.process.ended;
    } else {
      const begunAt = unixMs();
      await this.process.stop();
      this.stopsMs.push(unixMs() - begunAt);
    }
  }
}

export function delay(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
