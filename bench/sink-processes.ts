/**
 * The builder's sink in one process and the peers' in another, as they are on machines of their own: a builder that shared
 * its thread with ten peers would note an order when their TLS lets it.
 */
import { type Child, startChild } from './child.ts';
import { type ProcessFigures, processFigures } from './process-figures.ts';
import type { SinkOptions } from './sink.ts';
import type { Received, SinksCalls } from './sinks.ts';

/** What the builder and the peers got of a part of the orders. */
export interface Arrivals {
  /** Per sink, the builder first: when each order came, microseconds of clock.ts, NaN = never. */
  readonly receivedUs: readonly Float64Array[];
  /** Orders that came again, all sinks together. */
  readonly duplicates: number;
  /** Orders of which a peer got other bytes than the builder, each peer counted; of those that are looked at (sink.ts). */
  readonly corrupted: number;
}

export class SinkProcesses {
  readonly #builder: Child<SinksCalls>;
  readonly #peers: Child<SinksCalls>;

  constructor() {
    const start = () => startChild<SinksCalls>(new URL('./sinks.ts', import.meta.url));
    this.#builder = start();
    this.#peers = start();
  }

  /** @returns the builder's port, then each peer's. */
  async start(builder: SinkOptions, peers: readonly SinkOptions[]): Promise<number[]> {
    return (
      await Promise.all([this.#builder.call('start', [builder]), this.#peers.call('start', peers)])
    ).flat();
  }

  /** Waits until every sink has at least `count` different orders, or nothing comes any more. */
  async settled(count: number): Promise<void> {
    await this.#both((sinks) => sinks.call('settled', count));
  }

  /** Of orders `from` … `from + count - 1`. */
  async received(from: number, count: number): Promise<Arrivals> {
    return arrivalsOf(await this.#both((sinks) => sinks.call('received', from, count)));
  }

  async reset(): Promise<void> {
    await this.#both((sinks) => sinks.call('reset'));
  }

  /** CPU time of both processes. */
  async cpuUs(): Promise<number> {
    const figures: ProcessFigures[] = await this.#both((sinks) => processFigures(sinks.pid));
    return figures.reduce((sum, { cpuUs }) => sum + cpuUs, 0);
  }

  async stop(): Promise<void> {
    await this.#both((sinks) => sinks.call('stop'));
  }

  async close(): Promise<void> {
    await this.#both((sinks) => sinks.close());
  }

  #both<T>(ask: (sinks: Child<SinksCalls>) => Promise<T>): Promise<[builder: T, peers: T]> {
    return Promise.all([ask(this.#builder), ask(this.#peers)]);
  }
}

/** @throws Error when the first has no sink */
export function arrivalsOf([builder, peers]: readonly [builder: Received, peers: Received]): Arrivals {
  return {
    receivedUs: [...builder.receivedUs, ...peers.receivedUs],
    duplicates: builder.duplicates + peers.duplicates,
    corrupted: corruptedOf(builder, peers),
  };
}

/** Of orders that came to the builder and to a peer. */
function corruptedOf(builder: Received, peers: Received): number {
  const [builderUs] = builder.receivedUs;
  const [builderSums] = builder.checksums;
  if (builderUs === undefined || builderSums === undefined) throw new Error('the sinks have no builder');
  let corrupted = 0;
  for (const [peer, peerUs] of peers.receivedUs.entries()) {
    for (let i = 0; i < builderUs.length; i++) {
      const came = !Number.isNaN(builderUs[i]) && !Number.isNaN(peerUs[i]);
      if (came && builderSums[i] !== peers.checksums[peer]?.[i]) corrupted++;
    }
  }
  return corrupted;
}
