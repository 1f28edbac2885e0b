/** Helpers for the shipper's tests: a spool with its shipper, and what a partition holds after the reader's rule. */
import { onTestFinished } from 'vitest';
import { asError } from '../failure.ts';
import { fromKafka } from '../kafka-record.ts';
import type { ArchiveRecord } from '../record.ts';
import { chainAfter } from '../record.ts';
import { connectKafka, type KafkaOptions } from '../shipping/kafka-client.ts';
import {
  type DurableSource,
  Shipper,
  type ShipperEvents,
  type ShipperModules,
  type ShipperOptions,
} from '../shipping/shipper.ts';
import type { Spool } from '../spool.ts';
import { order, orderNumber } from './orders.ts';

export function kafkaOptions(brokers: readonly string[], topic: string, more: Partial<KafkaOptions> = {}) {
  return {
    brokers,
    topic,
    clientId: 'orderflow-tests',
    tls: null,
    sasl: null,
    compression: 'zstd',
    sendTimeoutMs: 10_000,
    ...more,
  } satisfies KafkaOptions;
}

const TEST_TOPIC = {
  partitions: 3,
  replicationFactor: 1,
  minInsyncReplicas: 1,
  retentionMs: 3_600_000,
  maxMessageBytes: 2_000_000,
} as const;

export function shipperOptions(
  dir: string,
  kafka: KafkaOptions,
  more: Partial<ShipperOptions> = {},
): ShipperOptions {
  return { dir, kafka, topic: TEST_TOPIC, lingerMs: 5, ...more };
}

/** Events kept as text, and a way to wait for one: `trouble topic_missing …`. */
interface SeenEvents extends ShipperEvents {
  readonly seen: string[];
  /** Resolves with the first event, from the beginning on, that the pattern fits. */
  until(pattern: RegExp): Promise<string>;
}

function seenEvents(): SeenEvents {
  const seen: string[] = [];
  const waiting = new Set<() => void>();
  const note = (text: string) => {
    seen.push(text);
    for (const look of waiting) look();
  };
  return {
    seen,
    until(pattern) {
      return new Promise((resolve) => {
        const look = () => {
          const found = seen.find((text) => pattern.test(text));
          if (found === undefined) return;
          waiting.delete(look);
          resolve(found);
        };
        waiting.add(look);
        look();
      });
    },
    connected: () => note('connected'),
    shipped: ({ sequence }, records) => note(`shipped ${sequence} (${records})`),
    skipped: ({ sequence }, records) => note(`skipped ${sequence} (${records})`),
    trouble: (kind, message) => note(`trouble ${kind} ${message}`),
    topicCreated: (topic) => note(`topicCreated ${topic}`),
    topicDiffers: (differences) => note(`topicDiffers ${differences.join('; ')}`),
    lost: (message) => note(`lost ${message}`),
    deadLetter: (sequence, bytes) => note(`deadLetter ${sequence} ${bytes}`),
    unreadable: (segment, offset, message) => note(`unreadable ${segment} ${offset} ${message}`),
  };
}

export interface TestShipper {
  readonly events: SeenEvents;
  /** Resolves when everything that is durable now has been shipped. */
  caughtUp(): Promise<void>;
  /** Ends it at once. */
  stop(): Promise<void>;
}

/** Ships a spool's folder until the test ends. */
export function startTestShipper(
  spool: Spool,
  options: ShipperOptions,
  modules: Partial<Pick<ShipperModules, 'connect'>> = {},
): TestShipper {
  const events = seenEvents();
  let shipped = 0;
  const waiting = new Set<() => void>();
  const reached = (position: { readonly sequence: number }) => {
    shipped = position.sequence;
    for (const look of waiting) look();
  };
  const shipper = new Shipper(options, {
    ...modules,
    source: sourceOf(spool),
    events: {
      ...events,
      shipped(position, records, bytes, seconds) {
        spool.shipped(position);
        events.shipped(position, records, bytes, seconds);
        reached(position);
      },
      skipped(position, records) {
        spool.shipped(position);
        events.skipped(position, records);
        reached(position);
      },
    },
  });
  let ended: Promise<void> | null = null;
  const stop = () => {
    ended ??= shipper.close(0);
    return ended;
  };
  onTestFinished(stop);
  return {
    events,
    stop,
    caughtUp() {
      const { sequence } = spool.durable;
      return new Promise((resolve) => {
        const look = () => {
          if (shipped < sequence) return;
          waiting.delete(look);
          resolve();
        };
        waiting.add(look);
        look();
      });
    },
  };
}

/** The spool in the shipper's own thread; looked at every few milliseconds. */
function sourceOf(spool: Spool): DurableSource {
  return {
    durable: () => spool.durable,
    beyond: (known, signal) =>
      new Promise((resolve) => {
        const timer = setInterval(() => {
          const { epoch, sequence } = spool.durable;
          if (!signal.aborted && epoch === known.epoch && sequence <= known.sequence) return;
          clearInterval(timer);
          resolve();
        }, 2);
      }),
  };
}

/** What a partition holds. */
export interface PartitionContent {
  readonly records: readonly ArchiveRecord[];
  /** Numbers of the orders after the reader's rule (FORMAT.md), in the order of the records. */
  readonly numbers: readonly number[];
  readonly duplicates: number;
  /** Gaps, breaks of the chain, duplicates that differ, records that are none. */
  readonly problems: readonly string[];
}

/** Reads a partition from its beginning and applies the reader's rule. */
export async function readPartition(options: KafkaOptions, partition: number): Promise<PartitionContent> {
  const connection = await connectWithRetries(options);
  const records: ArchiveRecord[] = [];
  const problems: string[] = [];
  try {
    const { start, end } = await connection.offsets(partition);
    await connection.read(partition, start, end, (offset, received) => {
      const record = fromKafka(received);
      if (typeof record === 'string') problems.push(`offset ${offset}: ${record}`);
      else records.push(record);
    });
  } finally {
    await connection.close();
  }
  return { ...afterReaderRule(records, problems), records };
}

/** After a cluster's troubles the first connection may meet a broker that is not there yet. */
async function connectWithRetries(options: KafkaOptions) {
  for (let attempt = 1; ; attempt += 1) {
    try {
      return await connectKafka(options);
    } catch (error) {
      if (attempt === 10) throw asError(error);
    }
  }
}

function afterReaderRule(records: readonly ArchiveRecord[], problems: string[]) {
  const numbers: number[] = [];
  const epochs = new Map<string, { chains: Map<number, string>; next: number; chain: string }>();
  let duplicates = 0;
  for (const record of records) {
    const { nodeId, epoch, sequence, chain, control, value } = record;
    const key = `${nodeId} ${epoch}`;
    const state = epochs.get(key) ?? { chains: new Map(), next: sequence, chain: '' };
    epochs.set(key, state);
    if (sequence < state.next) {
      duplicates += 1;
      if (state.chains.get(sequence) !== chain)
        problems.push(`sequence ${sequence} is there twice and differs`);
      continue;
    }
    if (sequence > state.next) problems.push(`sequences ${state.next} to ${sequence - 1} are missing`);
    else if (
      state.chain !== '' &&
      control !== 'withheld' &&
      chainAfter(state.chain, sequence, value) !== chain
    ) {
      problems.push(`the chain breaks at ${sequence}`);
    }
    state.chains.set(sequence, chain);
    state.next = sequence + 1;
    state.chain = chain;
    const number = orderNumber(record);
    if (number !== null) numbers.push(number);
  }
  return { numbers, duplicates, problems };
}

/** Orders that keep coming until they are stopped, one every 2 ms. */
export interface Flow {
  /** Numbers of the orders whose senders have been told of success. */
  readonly acknowledged: readonly number[];
  /** Resolves when every answer is there. */
  stop(): Promise<void>;
}

export function startFlow(spool: Spool, first = 1): Flow {
  const acknowledged: number[] = [];
  const answers: Promise<void>[] = [];
  let next = first;
  const timer = setInterval(() => {
    const n = next;
    next += 1;
    answers.push(
      new Promise((resolve) => {
        spool.append(order(n, 200), (error) => {
          if (error === null) acknowledged.push(n);
          resolve();
        });
      }),
    );
  }, 2);
  onTestFinished(() => clearInterval(timer));
  return {
    acknowledged,
    async stop() {
      clearInterval(timer);
      await Promise.all(answers);
    },
  };
}
