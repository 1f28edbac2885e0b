/**
 * Reading the topic as a member of a consumer group: who reads which partition is the brokers' to decide, how far each
 * has been read is committed to them. Nothing is committed but what {@link GroupMember.commit} is given.
 *
 * kafkajs's consumer, its traps and what is done about them:
 *
 * | kafkajs | here |
 * | --- | --- |
 * | it hands records over and commits by itself | both is switched off: a batch is handed over once the one before is done |
 * | a group that rebalances is noticed by a heartbeat, which only batches under way send | `heartbeat` tells, and the batch ends |
 * | after an error it restarts itself, or ends with an event | an end is told as `failed` |
 * | asks a coordinator that is frozen for 20 s, and each time again | a commit is waited for no longer than 5 s |
 * | its heartbeats follow the wall clock: set back, they stop for as long, and the member is out of its group unawares | nothing: its commits are refused, so what it reads comes again after a restart; READING.md says so |
 */
import type { Admin, Batch, Consumer, EachBatchPayload } from 'kafkajs';
import { type Client, createClient, type KafkaAccess } from './kafka-client.ts';
import type { FetchedRecord, OffsetRange } from './kafka-reader.ts';
import { KafkaTrouble, troubleOf, withDeadline } from './kafka-trouble.ts';

export interface GroupOptions extends KafkaAccess {
  readonly groupId: string;
  /** Where to begin in a partition of which the group has committed nothing. */
  readonly from: 'oldest' | 'newest';
  /** A member that is not heard of for this long loses its partitions. */
  readonly sessionTimeoutMs: number;
  readonly heartbeatMs: number;
}

/** A run of records of one partition. */
export interface GroupBatch {
  readonly partition: number;
  readonly records: readonly FetchedRecord[];
  /**
   * To be called while the batch takes its time: tells the brokers that this member lives.
   * @returns false when the partitions are being dealt out anew: the batch must end.
   */
  heartbeat(): Promise<boolean>;
}

/** What a member does with what it is told. */
export interface GroupHandler {
  /** These partitions are this member's from now on, and no others. No batch is under way. */
  assigned(partitions: readonly number[]): void;
  /**
   * @returns true: go on behind this batch; false: it was given up and comes again, from its beginning or from where `seek`
   *   was called to. Must not throw.
   */
  batch(batch: GroupBatch): Promise<boolean>;
  /** The member is out for good. */
  failed(error: KafkaTrouble): void;
}

/** How far a group has read a partition. */
export interface Committed {
  /** Offset of the next record; null: nothing committed. */
  readonly offset: number | null;
  readonly metadata: string;
}

export interface GroupMember {
  /** @throws KafkaTrouble. */
  committed(partition: number): Promise<Committed>;
  /** What the partition holds now. @throws KafkaTrouble. */
  bounds(partition: number): Promise<OffsetRange>;
  /**
   * @param offset of the next record to read.
   * @param metadata text that is kept with it, at most 4,096 bytes by default.
   * @returns false when the partition is no longer this member's. @throws KafkaTrouble.
   */
  commit(partition: number, offset: number, metadata: string): Promise<boolean>;
  /** Goes on from this offset. */
  seek(partition: number, offset: number): void;
  /** Leaves the group; batches under way must end by themselves. */
  close(): Promise<void>;
}

const MAX_WAIT_MS = 250;
const FETCH_BYTES_PER_PARTITION = 1024 * 1024;
const FETCH_BYTES = 8 * 1024 * 1024;
const CONCURRENT_PARTITIONS = 64;
const LEAVE_MS = 5000;
const COMMIT_MS = 5000;

/** Joins a group. @throws KafkaTrouble when the brokers cannot be reached or refuse. */
export async function joinGroup(options: GroupOptions, handler: GroupHandler): Promise<GroupMember> {
  const member = new KafkaJsMember(createClient(options), options, handler);
  try {
    await member.open();
    return member;
  } catch (error) {
    await member.close();
    throw troubleOf(error);
  }
}

/** Answers of a coordinator to a member whose partitions are, or are about to be, somebody else's. */
const NOT_OURS: ReadonlySet<unknown> = new Set([
  'REBALANCE_IN_PROGRESS',
  'ILLEGAL_GENERATION',
  'UNKNOWN_MEMBER_ID',
  'FENCED_INSTANCE_ID',
]);

function isNotOurs(error: unknown): boolean {
  return error instanceof Error && NOT_OURS.has((error as Error & { readonly type?: unknown }).type);
}

class KafkaJsMember implements GroupMember {
  readonly #client: Client;
  readonly #options: GroupOptions;
  readonly #handler: GroupHandler;
  readonly #consumer: Consumer;
  readonly #admin: Admin;

  constructor(client: Client, options: GroupOptions, handler: GroupHandler) {
    this.#client = client;
    this.#options = options;
    this.#handler = handler;
    this.#admin = client.kafka.admin();
    this.#consumer = client.kafka.consumer({
      groupId: options.groupId,
      sessionTimeout: options.sessionTimeoutMs,
      rebalanceTimeout: Math.max(60_000, options.sessionTimeoutMs),
      heartbeatInterval: options.heartbeatMs,
      maxWaitTimeInMs: MAX_WAIT_MS,
      maxBytesPerPartition: FETCH_BYTES_PER_PARTITION,
      maxBytes: FETCH_BYTES,
      allowAutoTopicCreation: false,
    });
  }

  async open(): Promise<void> {
    const { topic, from } = this.#options;
    const consumer = this.#consumer;
    await this.#admin.connect();
    consumer.on(consumer.events.GROUP_JOIN, ({ payload }) => {
      this.#handler.assigned(payload.memberAssignment[topic] ?? []);
    });
    consumer.on(consumer.events.CRASH, ({ payload }) => {
      if (!payload.restart) this.#handler.failed(troubleOf(payload.error));
    });
    await consumer.connect();
    await consumer.subscribe({ topic, fromBeginning: from === 'oldest' });
    await consumer.run({
      autoCommit: false,
      eachBatchAutoResolve: false,
      partitionsConsumedConcurrently: CONCURRENT_PARTITIONS,
      eachBatch: (payload) => this.#onBatch(payload),
    });
  }

  async committed(partition: number): Promise<Committed> {
    const { topic, groupId } = this.#options;
    try {
      const [found] = await this.#admin.fetchOffsets({ groupId, topics: [topic] });
      const entry = found?.partitions.find((candidate) => candidate.partition === partition);
      const offset = Number(entry?.offset ?? -1);
      return { offset: offset < 0 ? null : offset, metadata: entry?.metadata ?? '' };
    } catch (error) {
      throw troubleOf(error);
    }
  }

  async bounds(partition: number): Promise<OffsetRange> {
    try {
      const found = await this.#admin.fetchTopicOffsets(this.#options.topic);
      const entry = found.find((candidate) => candidate.partition === partition);
      if (entry === undefined)
        throw new KafkaTrouble('topic_missing', `the topic has no partition ${partition}`);
      return { start: Number(entry.low), end: Number(entry.high) };
    } catch (error) {
      throw troubleOf(error);
    }
  }

  async commit(partition: number, offset: number, metadata: string): Promise<boolean> {
    const { topic } = this.#options;
    try {
      const committed = this.#consumer.commitOffsets([
        { topic, partition, offset: String(offset), metadata },
      ]);
      await withDeadline(committed, COMMIT_MS);
      return true;
    } catch (error) {
      if (isNotOurs(error)) return false;
      throw troubleOf(error);
    }
  }

  seek(partition: number, offset: number): void {
    this.#consumer.seek({ topic: this.#options.topic, partition, offset: String(offset) });
  }

  async close(): Promise<void> {
    await withDeadline(this.#consumer.disconnect(), LEAVE_MS).catch(() => {
      // The brokers do not answer: they will miss this member's heartbeats.
    });
    await withDeadline(this.#admin.disconnect(), LEAVE_MS).catch(() => {
      // Its sockets are destroyed all the same.
    });
    for (const socket of this.#client.sockets) socket.destroy();
  }

  async #onBatch(payload: EachBatchPayload): Promise<void> {
    const { batch } = payload;
    // Thrown on to kafkajs, which joins the group again.
    let rebalance: unknown = null;
    const done = await this.#handler.batch({
      partition: batch.partition,
      records: recordsOf(batch),
      async heartbeat() {
        try {
          await payload.heartbeat();
          return true;
        } catch (error) {
          rebalance = error;
          return false;
        }
      },
    });
    // First: after an error that leaves the partition to this member, kafkajs goes on behind what is resolved.
    if (done) payload.resolveOffset(batch.lastOffset());
    if (rebalance !== null) throw rebalance as Error;
  }
}

function recordsOf(batch: Batch): FetchedRecord[] {
  return batch.messages.map((message) => ({ offset: Number(message.offset), record: message }));
}
