/** A process of sinks: a builder over plain HTTP, or peers over TLS, see sink.ts. */
import { serveParent } from './child.ts';
import { type Sink, type SinkOptions, startSink } from './sink.ts';

/** Of each sink of the process, in the order of their start. */
export interface Received {
  /** When each order came, microseconds of clock.ts, NaN = never. */
  readonly receivedUs: Float64Array[];
  /** Sink.checksums */
  readonly checksums: Uint32Array[];
  /** Orders that came again, all sinks together. */
  readonly duplicates: number;
}

/** Nothing new in this time: what is missing will not come. */
const QUIET_MS = 5_000;
const LOOK_MS = 20;

let sinks: Sink[] = [];

const calls = {
  /** @returns the port of each. */
  async start(options: readonly SinkOptions[]): Promise<number[]> {
    sinks = await Promise.all(options.map(startSink));
    return sinks.map((sink) => sink.port);
  },
  /** Waits until every sink has at least `count` different orders, or nothing comes any more. */
  async settled(count: number): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    let before = -1;
    let quietSince = performance.now();
    const look = setInterval(() => {
      const total = sinks.reduce((sum, sink) => sum + sink.distinct, 0);
      if (total !== before) quietSince = performance.now();
      before = total;
      const complete = sinks.every((sink) => sink.distinct >= count);
      if (complete || performance.now() - quietSince > QUIET_MS) resolve();
    }, LOOK_MS);
    await promise;
    clearInterval(look);
  },
  /** Of orders `from` … `from + count - 1`. */
  received(from: number, count: number): Received {
    return {
      receivedUs: sinks.map((sink) => sink.receivedUs.slice(from, from + count)),
      checksums: sinks.map((sink) => sink.checksums.slice(from, from + count)),
      duplicates: sinks.reduce((sum, sink) => sum + sink.duplicates, 0),
    };
  },
  reset(): void {
    for (const sink of sinks) sink.reset();
  },
  async stop(): Promise<void> {
    await Promise.all(sinks.map((sink) => sink.close()));
    sinks = [];
  },
};

export type SinksCalls = typeof calls;

serveParent(calls);
