/** The sinks' process: one builder over plain HTTP and any number of peers over TLS, see sink.ts. */
import { serveParent } from './child.ts';
import { type Sink, startSink } from './sink.ts';

export interface Received {
  /** Per sink, the builder first: when each order came, microseconds of clock.ts, NaN = never. */
  readonly receivedUs: Float64Array[];
  /** Orders that came again, all sinks together. */
  readonly duplicates: number;
  /** Orders of which a peer got other bytes than the builder, each peer counted; of those that are looked at (sink.ts). */
  readonly corrupted: number;
}

/** Nothing new in this time: what is missing will not come. */
const QUIET_MS = 5_000;
const LOOK_MS = 20;

let sinks: Sink[] = [];

const calls = {
  /**
   * @param peers with a `streamKey` those that take the order stream beside requests
   * @returns the builder's port, then each peer's.
   */
  async start(
    orders: number,
    peers: readonly { key: string; cert: string; streamKey?: Uint8Array }[],
    where: { readonly host?: string } = {},
  ): Promise<number[]> {
    const ofRecords = peers.some(({ streamKey }) => streamKey !== undefined);
    sinks = await Promise.all([
      startSink({ orders, ofRecords }),
      ...peers.map(({ streamKey, ...tls }) =>
        startSink({ orders, ofRecords, tls, ...where, ...(streamKey === undefined ? {} : { streamKey }) }),
      ),
    ]);
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
      duplicates: sinks.reduce((sum, sink) => sum + sink.duplicates, 0),
      corrupted: corruptedOf(sinks, from, count),
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

/** Of orders that came to the builder and to a peer. */
function corruptedOf([builder, ...peers]: readonly Sink[], from: number, count: number): number {
  if (builder === undefined) return 0;
  let corrupted = 0;
  for (const peer of peers) {
    for (let i = from; i < from + count; i++) {
      const came = !Number.isNaN(builder.receivedUs[i]) && !Number.isNaN(peer.receivedUs[i]);
      if (came && builder.checksums[i] !== peer.checksums[i]) corrupted++;
    }
  }
  return corrupted;
}
export type SinksCalls = typeof calls;

serveParent(calls);
