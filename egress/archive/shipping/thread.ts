/**
 * The shipper in a thread of its own, so that Kafka's share of the CPU, and whatever its client library does, stay away
 * from the orders. A thread that fails is started again; it finds its place as after a crash of the node.
 */
import { once } from 'node:events';
import { Worker } from 'node:worker_threads';
import { backoffMs } from '../../backoff.ts';
import { asError } from '../failure.ts';
import type { Spool } from '../spool.ts';
import type { EventCall, FromThread, ThreadStart, ToThread } from './messages.ts';
import type { ShipperEvents, ShipperOptions } from './shipper.ts';
import type { SpoolPosition } from './watermark.ts';

/** A running shipper. */
export interface Shipping {
  /** To be called when the spool has made something durable. */
  wake(): void;
  state(): ShippingState;
  /** Ships what is durable by now if that takes no longer than `graceMs`, then ends. */
  close(graceMs: number): Promise<void>;
}

export interface ShippingState {
  /** Whether the last word of the brokers was a good one. */
  readonly connected: boolean;
  /** Sequence of the last record of its epoch that the brokers have, 0 before the first. */
  readonly sequence: number;
}

export interface ShippingModules {
  readonly spool: Pick<Spool, 'durable' | 'shipped'>;
  readonly events: ShipperEvents;
  /** Another program for the thread, for tests. */
  readonly entry?: URL;
}

const BACKOFF = { baseMs: 500, maxMs: 30_000 };
/** Beyond its grace a thread that does not end is ended. */
const END_MS = 3000;

/** Starts shipping a spool's folder. Never throws: what goes wrong is told as an event, and tried again. */
export function startShipping(options: ShipperOptions, modules: ShippingModules): Shipping {
  const { spool, events, entry = new URL('./thread-main.ts', import.meta.url) } = modules;
  let worker: Worker | null = null;
  let asked: SpoolPosition | null = null;
  let connected = false;
  let sequence = 0;
  let failures = 0;
  let restart: NodeJS.Timeout | null = null;
  let closing: Promise<void> | null = null;

  function begin(): void {
    restart = null;
    asked = null;
    const start: ThreadStart = { options, durable: spool.durable };
    const started = new Worker(entry, { workerData: start });
    worker = started;
    started.on('message', (message: FromThread) => {
      if (message.kind === 'event') apply(message.call);
      else {
        asked = message.known;
        wake();
      }
    });
    // An 'error' is followed by 'exit'.
    started.on('error', (error: unknown) =>
      events.trouble('other', `the shipping thread has failed: ${asError(error).message}`),
    );
    started.once('exit', () => {
      worker = null;
      connected = false;
      if (closing !== null) return;
      failures += 1;
      restart = setTimeout(begin, backoffMs(failures, BACKOFF)).unref();
    });
  }

  function apply(call: EventCall): void {
    if (call.name === 'shipped' || call.name === 'skipped') {
      const [position] = call.args;
      sequence = position.sequence;
      failures = 0;
      spool.shipped(position);
    }
    if (call.name === 'connected' || call.name === 'shipped') connected = true;
    if (call.name === 'trouble') connected = false;
    // The name and the arguments belong together: EventCall.
    (events[call.name] as (...args: unknown[]) => void)(...call.args);
  }

  function wake(): void {
    if (asked === null || worker === null) return;
    const { durable } = spool;
    if (durable.epoch === asked.epoch && durable.sequence <= asked.sequence) return;
    asked = null;
    post({ kind: 'durable', durable });
  }

  function post(message: ToThread): void {
    worker?.postMessage(message);
  }

  async function end(graceMs: number): Promise<void> {
    if (restart !== null) clearTimeout(restart);
    const ending = worker;
    if (ending === null) return;
    const ended = once(ending, 'exit');
    post({ kind: 'close', durable: spool.durable, graceMs });
    const timer = setTimeout(() => void ending.terminate(), graceMs + END_MS);
    await ended;
    clearTimeout(timer);
  }

  begin();
  return {
    wake,
    state: () => ({ connected, sequence }),
    close(graceMs) {
      closing ??= end(graceMs);
      return closing;
    },
  };
}
