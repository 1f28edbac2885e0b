/**
 * Reading the topic without being a member of a group: any partition, from any offset, at the reader's pace. Nothing is
 * committed and nothing but read rights are needed. The commands read this way.
 *
 * kafkajs reads only as a group's member; as in kafka-client.ts its own cluster class is used underneath. What a broker
 * does not answer is asked again with fresh metadata by the caller (reading/kafka-source.ts).
 */
import type { Admin } from 'kafkajs';
import type { ReceivedKafkaRecord } from '../kafka-record.ts';
import { type Client, type Cluster, clusterOf, createClient, type KafkaAccess } from './kafka-client.ts';
import { KafkaTrouble, troubleOf, withDeadline } from './kafka-trouble.ts';

/** A record and its offset in its partition. */
export interface FetchedRecord {
  readonly offset: number;
  readonly record: ReceivedKafkaRecord;
}

/** What one fetch brought; no records when there are none yet. */
export interface Fetched {
  readonly records: readonly FetchedRecord[];
  /** Offset to go on from. */
  readonly next: number;
  /** Offset that the next record of the partition will get, as of this fetch. */
  readonly end: number;
}

/** Offsets of a partition: the oldest that is there, and the one that the next record will get. */
export interface OffsetRange {
  readonly start: number;
  readonly end: number;
}

/** Every method throws KafkaTrouble. */
export interface KafkaReader {
  /** All partitions of the topic. @throws KafkaTrouble `topic_missing` too. */
  offsets(): Promise<ReadonlyMap<number, OffsetRange>>;
  /** Per partition the offset of the first record with a Kafka timestamp at or after a time (unix ms); the end if there is none. */
  offsetsAt(unixMs: number): Promise<ReadonlyMap<number, number>>;
  /**
   * Fetches from an offset on, a few MB at most; waits up to {@link MAX_WAIT_MS} for the first record.
   * @throws KafkaTrouble `out_of_range` when the offset is not there any more.
   */
  fetch(partition: number, offset: number): Promise<Fetched>;
  /** Ends it at once. */
  close(): Promise<void>;
}

const DEADLINE_MS = 15_000;
const MAX_WAIT_MS = 500;
/** Per partition and fetch. */
const FETCH_BYTES = 1024 * 1024;
/** One record of 64 MiB must fit. */
const FETCH_MAX_BYTES = 80 * 1024 * 1024;

/** Connects to the brokers. @throws KafkaTrouble. */
export async function connectReader(access: KafkaAccess): Promise<KafkaReader> {
  const client = createClient(access);
  for (let tried = 1; ; tried += 1) {
    const reader = new KafkaJsReader(client, access.topic);
    try {
      await reader.open();
      return reader;
    } catch (error) {
      await reader.close();
      if (tried >= access.brokers.length || troubleOf(error).kind === 'authentication') throw error;
    }
  }
}

class KafkaJsReader implements KafkaReader {
  readonly #client: Client;
  readonly #topic: string;
  readonly #admin: Admin;
  /** One connection per partition: a fetch that waits for records holds up what comes behind it on its connection. */
  readonly #clusters = new Map<number, Promise<Cluster>>();

  constructor(client: Client, topic: string) {
    this.#client = client;
    this.#topic = topic;
    this.#admin = client.kafka.admin();
  }

  open(): Promise<void> {
    return attempt(() => this.#admin.connect());
  }

  offsets(): Promise<ReadonlyMap<number, OffsetRange>> {
    return attempt(async () => {
      const found = await this.#admin.fetchTopicOffsets(this.#topic);
      const ranges = found.map(
        ({ partition, low, high }) => [partition, { start: Number(low), end: Number(high) }] as const,
      );
      return new Map(ranges.toSorted(([a], [b]) => a - b));
    });
  }

  offsetsAt(unixMs: number): Promise<ReadonlyMap<number, number>> {
    return attempt(async () => {
      const found = await this.#admin.fetchTopicOffsetsByTimestamp(
        this.#topic,
        Math.max(0, Math.floor(unixMs)),
      );
      return new Map(found.map(({ partition, offset }) => [partition, Number(offset)]));
    });
  }

  async fetch(partition: number, offset: number): Promise<Fetched> {
    const topic = this.#topic;
    try {
      return await attempt(async () => {
        const cluster = await this.#clusterFor(partition);
        await cluster.refreshMetadataIfNecessary();
        const leader = cluster
          .findTopicPartitionMetadata(topic)
          .find(({ partitionId }) => partitionId === partition)?.leader;
        if (leader === undefined || leader < 0) {
          throw new KafkaTrouble('unreachable', `partition ${partition} has no leader`);
        }
        const broker = await cluster.findBroker({ nodeId: String(leader) });
        const { responses } = await broker.fetch({
          maxWaitTime: MAX_WAIT_MS,
          minBytes: 1,
          maxBytes: FETCH_MAX_BYTES,
          isolationLevel: 0,
          topics: [
            { topic, partitions: [{ partition, fetchOffset: String(offset), maxBytes: FETCH_BYTES }] },
          ],
        });
        const answer = responses[0]?.partitions[0];
        const records: FetchedRecord[] = [];
        let next = offset;
        for (const message of answer?.messages ?? []) {
          const at = Number(message.offset);
          // A fetch answers with whole batches: the first may begin earlier.
          if (at < next) continue;
          next = at + 1;
          if (message.isControlRecord !== true) records.push({ offset: at, record: message });
        }
        return { records, next, end: Number(answer?.highWatermark ?? next) };
      });
    } catch (error) {
      // Whatever went wrong, the next fetch begins with a new connection and fresh metadata.
      const cluster = this.#clusters.get(partition);
      this.#clusters.delete(partition);
      void cluster?.then((old) => old.disconnect()).catch(() => {});
      throw error;
    }
  }

  async close(): Promise<void> {
    const clusters = [...this.#clusters.values()];
    for (const socket of this.#client.sockets) socket.destroy();
    const ended = Promise.allSettled([
      this.#admin.disconnect(),
      ...clusters.map(async (cluster) => (await cluster).disconnect()),
    ]);
    await withDeadline(ended, 1000).catch(() => {});
    for (const socket of this.#client.sockets) socket.destroy();
  }

  #clusterFor(partition: number): Promise<Cluster> {
    const known = this.#clusters.get(partition);
    if (known !== undefined) return known;
    const made = this.#connectCluster();
    this.#clusters.set(partition, made);
    return made;
  }

  async #connectCluster(): Promise<Cluster> {
    const cluster = clusterOf(this.#client.kafka);
    await cluster.connect();
    await cluster.addTargetTopic(this.#topic);
    return cluster;
  }
}

async function attempt<T>(call: () => Promise<T>): Promise<T> {
  try {
    return await withDeadline(call(), DEADLINE_MS);
  } catch (error) {
    throw troubleOf(error);
  }
}
