/** Writes a checkpoint (checkpoint.ts) every few seconds in which orders came, once a minute in which none did, and at the end. */
import type { Spool } from './spool.ts';

export interface Checkpoints {
  /** Stops after a last one. */
  close(): Promise<void>;
}

export interface CheckpointModules {
  readonly spool: Pick<Spool, 'checkpoint' | 'state'>;
  /** Signs a text with the node's key (checkpoint.ts). */
  readonly sign: (text: string) => string;
  /** Unix µs. */
  readonly now: () => number;
}

/** A quiet node says this often that nothing has come. */
const QUIET_MS = 60_000;

/** @param everyMs time between two checkpoints of a busy node. */
export function startCheckpoints(everyMs: number, { spool, sign, now }: CheckpointModules): Checkpoints {
  /** Sequence of the last checkpoint, and how long ago it was. */
  let last = -1;
  let quietMs = 0;

  function write(): Promise<void> {
    return new Promise((resolve) => {
      // One that is refused, or not made durable, is no loss: orders are refused for the same reason, and that is told.
      spool.checkpoint(sign, now(), () => resolve());
      last = spool.state().lastSequence;
      quietMs = 0;
    });
  }

  const timer = setInterval(() => {
    quietMs += everyMs;
    if (spool.state().lastSequence !== last || quietMs >= QUIET_MS) void write();
  }, everyMs).unref();

  return {
    async close() {
      clearInterval(timer);
      if (spool.state().lastSequence !== last) await write();
    },
  };
}
