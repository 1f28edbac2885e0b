/**
 * The archive's consumer: a member of a consumer group that yields the archived orders of the topic, each new, whole and
 * inspected, and commits how far it got once they have been processed. `orderflow/archive` is this.
 *
 * | mode | progress is kept | an order may be processed twice |
 * | --- | --- | --- |
 * | at least once | by the brokers, after processing | after a crash or a rebalance, those since the last commit |
 * | effectively once | by the application, in one transaction with its results ({@link Positions}) | never |
 *
 * What has been asked for counts as processed when the next is asked for. In both modes nothing is lost: a batch that a
 * rebalance took away is read again by whoever has the partition now. Memory is bounded by what one fetch brings (8 MiB
 * plus one record); brokers are asked for more once that is processed.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { Observable } from 'rxjs';
import type { Address, Hex } from '../../../pipeline/order.ts';
import { asError } from '../failure.ts';
import type { ArchiveRecord } from '../record.ts';
import type { KafkaAccess } from '../shipping/kafka-client.ts';
import { type GroupBatch, type GroupMember, joinGroup } from '../shipping/kafka-group.ts';
import type { FetchedRecord } from '../shipping/kafka-reader.ts';
import { isPassing } from '../shipping/kafka-trouble.ts';
import { type ArchiveFinding, ArchiveProblem } from './findings.ts';
import { Inspector } from './inspector.ts';
import { PartitionReader } from './partition-reader.ts';
import { decodePosition, type Position } from './position.ts';

/** An archived order. */
export interface ArchivedOrder {
  readonly nodeId: string;
  /** Unix µs at which the epoch was opened; names it. */
  readonly epoch: number;
  /** 1, 2, 3 … per node and epoch; control records take numbers too. */
  readonly sequence: number;
  /** Chain value, 32 hex digits. */
  readonly chain: string;
  /** Unix µs. */
  readonly receivedAtUs: number;
  readonly method: string;
  /** Account that the order counts for. */
  readonly signer: Address;
  /** Bundle hash or transaction hash; null where the method has none. */
  readonly hash: Hex | null;
  /** The canonical request, byte for byte. */
  readonly value: Buffer;
  readonly partition: number;
  readonly offset: number;
}

/** Orders of one partition, one after another. */
export interface OrderBatch {
  readonly partition: number;
  readonly orders: readonly ArchivedOrder[];
  /** Position behind these orders, and the one that must be stored now; opaque text of at most 4 KB. See {@link Positions}. */
  readonly position: string;
  readonly previous: string | null;
  /** To be called when the position stored was not `previous`: these orders were not processed; what is stored is loaded anew. */
  reject(): void;
}

/**
 * Where an application keeps positions in effectively-once mode. For each batch it must, in **one** transaction: check
 * that the position stored for the partition is still `batch.previous` (null: none is), write its results, and store
 * `batch.position`. If the check fails, another member had the partition meanwhile: roll back and `batch.reject()`.
 */
export interface Positions {
  /** @returns what is stored for a partition, null when nothing is. */
  load(partition: number): string | null | Promise<string | null>;
}

export interface ArchiveConsumerOptions extends KafkaAccess {
  readonly groupId: string;
  /** Effectively-once mode: where the application keeps positions. Without: at least once. */
  readonly positions?: Positions;
  /**
   * Told what is found. By default the first problem ends reading with {@link ArchiveProblem}: everything before it has been
   * delivered. `continue`: goes on; altered records, conflicts and what is no record are left out, the rest is delivered.
   */
  readonly onFinding?: (finding: ArchiveFinding) => 'continue' | 'stop';
  /** Check signatures of checkpoints and transactions, and each order's form, hash and signer. Default true. */
  readonly inspect?: boolean;
  /** Where to begin in a partition without a position. Default oldest. */
  readonly from?: 'oldest' | 'newest';
  /** Time between commits, ms. Default 1000. */
  readonly commitMs?: number;
  /** After this much silence a member's partitions go to others, ms. Default 30,000. */
  readonly sessionTimeoutMs?: number;
}

export interface ArchiveConsumer extends AsyncDisposable {
  /** Orders one by one, at least once. Leaving the loop closes the consumer. @throws ArchiveProblem, KafkaTrouble. */
  orders(): AsyncGenerator<ArchivedOrder, void, void>;
  /** Orders in batches of at most `most` (default 100) of one partition. Leaving the loop closes the consumer. */
  batches(most?: number): AsyncGenerator<OrderBatch, void, void>;
  /**
   * The batches as an Observable: `process` is given one at a time, and the next when its promise has resolved; its results
   * are emitted. Unsubscribing closes the consumer.
   */
  observe<T>(process: (batch: OrderBatch) => T | Promise<T>, most?: number): Observable<T>;
  /** Duplicates dropped so far. */
  readonly duplicates: number;
  /** Commits what has been processed and leaves the group. */
  close(): Promise<void>;
}

/** Joins the group. @throws KafkaTrouble when the brokers cannot be reached or refuse. */
export async function consumeArchive(options: ArchiveConsumerOptions): Promise<ArchiveConsumer> {
  const consumer = new GroupConsumer(options);
  await consumer.open();
  return consumer;
}

/** How far a partition has been read, as long as it is this member's. */
interface PartitionState {
  readonly reader: PartitionReader;
  /** Position behind what has been processed; null: nothing yet. */
  processed: string | null;
  /** The same as last committed. */
  committed: string | null;
}

/** A batch of the brokers between its arrival and its end. */
interface Task {
  readonly state: PartitionState;
  readonly partition: number;
  readonly records: readonly FetchedRecord[];
  /** Taken away: nothing more of it may be delivered. */
  revoked: boolean;
  /** Settled when it is processed, or let go after it was revoked. */
  readonly ended: PromiseWithResolvers<void>;
  complete: boolean;
  /** Whether some of its orders are being processed. */
  inHand: boolean;
}

/** How long closing waits for the orders in hand, ms. */
const IN_HAND_MS = 5000;
/** Heartbeats per session timeout. */
const HEARTBEAT_SHARE = 10;
const DEFAULT_BATCH = 100;
/** Time between two notes of how far a long batch has got, ms. */
const NOTE_MS = 100;
/** Pause before brokers that are away are asked again how far the group is, ms. */
const AWAY_MS = 500;

/** Thrown by the report of a finding to stop before its record. */
class Stop extends Error {
  readonly finding: ArchiveFinding;

  constructor(finding: ArchiveFinding) {
    super(finding.message);
    this.finding = finding;
  }
}

class GroupConsumer implements ArchiveConsumer {
  readonly #options: ArchiveConsumerOptions;
  readonly #inspector: Inspector | null;
  readonly #heartbeatMs: number;
  #member: GroupMember | null = null;
  #states = new Map<number, PartitionState>();
  /** Positions of partitions of which a batch was given up half-way, for when it comes again. */
  #left = new Map<number, string>();
  #waiting: Task[] = [];
  #current: Task | null = null;
  #wake: (() => void) | null = null;
  #failure: Error | null = null;
  #iterating = false;
  #closing: Promise<void> | null = null;
  #committing: Promise<Error | null> = Promise.resolve(null);
  #isCommitting = false;
  #commitTimer: NodeJS.Timeout | null = null;
  #duplicatesBefore = 0;

  constructor(options: ArchiveConsumerOptions) {
    this.#options = options;
    this.#inspector = options.inspect === false ? null : new Inspector();
    this.#heartbeatMs = Math.max(100, Math.floor((options.sessionTimeoutMs ?? 30_000) / HEARTBEAT_SHARE));
  }

  async open(): Promise<void> {
    const { from = 'oldest', sessionTimeoutMs = 30_000, commitMs = 1000 } = this.#options;
    this.#member = await joinGroup(
      { ...this.#options, from, sessionTimeoutMs, heartbeatMs: this.#heartbeatMs },
      {
        assigned: () => this.#assigned(),
        batch: (batch) => this.#batch(batch),
        failed: (error) => this.#fail(error),
      },
    );
    this.#commitTimer = setInterval(() => {
      // Behind one that brokers do not answer, others would pile up.
      if (!this.#isCommitting) void this.#commit();
    }, commitMs);
  }

  get duplicates(): number {
    let count = this.#duplicatesBefore;
    for (const { reader } of this.#states.values()) count += reader.duplicates;
    return count;
  }

  async *orders(): AsyncGenerator<ArchivedOrder, void, void> {
    if (this.#options.positions !== undefined) {
      throw new Error('effectively once: batches() tells the positions to store with the results');
    }
    for await (const { orders } of this.batches(1)) yield* orders;
  }

  async *batches(most = DEFAULT_BATCH): AsyncGenerator<OrderBatch, void, void> {
    if (!Number.isInteger(most) || most < 1) throw new RangeError('most: a whole number above 0');
    if (this.#iterating) throw new Error('one loop at a time reads a consumer');
    this.#iterating = true;
    try {
      for (let task = await this.#nextTask(); task !== null; task = await this.#nextTask()) {
        yield* this.#deliver(task, most);
      }
      if (this.#failure !== null) throw this.#failure;
    } catch (error) {
      this.#failure ??= asError(error);
      throw error;
    } finally {
      await this.close().catch((error: unknown) => {
        // What ended the loop says more than what came of it.
        if (this.#failure === null) throw error;
      });
    }
  }

  observe<T>(process: (batch: OrderBatch) => T | Promise<T>, most = DEFAULT_BATCH): Observable<T> {
    return new Observable((subscriber) => {
      const run = async () => {
        for await (const batch of this.batches(most)) {
          const result = await process(batch);
          subscriber.next(result);
          if (subscriber.closed) break;
        }
      };
      run().then(
        () => subscriber.complete(),
        (error: unknown) => subscriber.error(error),
      );
      return () => {
        this.close().catch((error: unknown) => this.#fail(asError(error)));
      };
    });
  }

  close(): Promise<void> {
    this.#closing ??= this.#end();
    return this.#closing;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  async #end(): Promise<void> {
    if (this.#commitTimer !== null) clearInterval(this.#commitTimer);
    this.#revokeAll();
    this.#wake?.();
    const inHand = this.#current?.ended.promise;
    if (inHand !== undefined) await Promise.race([inHand, sleep(IN_HAND_MS, undefined, { ref: false })]);
    if (this.#current !== null) release(this.#current);
    const failure = await this.#commit();
    await this.#member?.close();
    if (failure !== null) throw failure;
  }

  #fail(reason: Error): void {
    this.#failure ??= reason;
    // Else the brokers' side would go on fetching; the loop that reads is told of the failure, whatever closing brings.
    this.close().catch(() => {});
  }

  /** A new assignment: what was known of the partitions may be outdated. */
  #assigned(): void {
    this.#revokeAll();
    this.#duplicatesBefore = this.duplicates;
    this.#states = new Map();
    this.#left = new Map();
  }

  #revokeAll(): void {
    for (const task of this.#waiting) release(task);
    this.#waiting = [];
    const current = this.#current;
    if (current === null) return;
    // Orders in hand are waited for: nobody else should begin with them meanwhile.
    if (current.inHand) current.revoked = true;
    else release(current);
  }

  /** The brokers' side: sees a batch through. @returns whether it was processed to its end. */
  async #batch(batch: GroupBatch): Promise<boolean> {
    if (this.#closing !== null || this.#failure !== null) return false;
    let state: PartitionState | null;
    try {
      state = await this.#stateFor(batch);
    } catch (error) {
      if (isPassing(error)) await sleep(AWAY_MS);
      else this.#fail(asError(error));
      // Where brokers were away, it comes again.
      return false;
    }
    if (state === null) return false;
    const task: Task = {
      state,
      partition: batch.partition,
      records: batch.records,
      revoked: false,
      ended: Promise.withResolvers(),
      complete: false,
      inHand: false,
    };
    this.#waiting.push(task);
    this.#wake?.();
    const beat = setInterval(() => {
      void batch.heartbeat().then((alive) => {
        if (!alive) this.#revokeAll();
      });
    }, this.#heartbeatMs);
    try {
      await task.ended.promise;
    } finally {
      clearInterval(beat);
    }
    // Last chance to tell how far it got before the partition is somebody else's.
    if (!(await batch.heartbeat()) || !task.complete) await this.#commit();
    if (!task.complete) this.#leave(batch.partition, state);
    return task.complete;
  }

  /** Forgets how far a batch was read that is given up: what counts is how far it was processed. */
  #leave(partition: number, state: PartitionState): void {
    if (this.#states.get(partition) !== state) return;
    this.#states.delete(partition);
    this.#duplicatesBefore += state.reader.duplicates;
    if (state.processed !== null) this.#left.set(partition, state.processed);
  }

  /** @returns the state of the batch's partition; null when reading goes on elsewhere in it. */
  async #stateFor({ partition, records }: GroupBatch): Promise<PartitionState | null> {
    const known = this.#states.get(partition);
    if (known !== undefined) return known;
    const states = this.#states;
    const { position, begin } = await this.#loadPosition(partition);
    // Assigned anew while it was loaded.
    if (states !== this.#states) return null;
    const reader = new PartitionReader(partition, position, {
      report: (finding) => this.#report(finding),
      inspector: this.#inspector,
    });
    const committed = this.#left.delete(partition) ? null : position;
    const state: PartitionState = { reader, processed: position, committed };
    states.set(partition, state);
    if (begin === null || records[0]?.offset === begin) return state;
    this.#member?.seek(partition, begin);
    return null;
  }

  /** @returns what is known of the partition, and the offset to begin at; null: where the brokers begin. */
  async #loadPosition(partition: number): Promise<{ position: string | null; begin: number | null }> {
    const { positions, from = 'oldest' } = this.#options;
    if (positions !== undefined) {
      const position = await positions.load(partition);
      if (position !== null) return { position, begin: readable(partition, position).offset };
      // The application has nothing of this partition, whatever the group has committed.
      const bounds = await this.#member?.bounds(partition);
      return { position, begin: (from === 'oldest' ? bounds?.start : bounds?.end) ?? null };
    }
    const left = this.#left.get(partition);
    if (left !== undefined) return { position: left, begin: readable(partition, left).offset };
    const committed = await this.#member?.committed(partition);
    if (committed === undefined || committed.offset === null) return { position: null, begin: null };
    // Somebody may have set the group's offset with other tools: then reading begins there, with nothing known.
    const known = decodePosition(committed.metadata)?.offset === committed.offset;
    return { position: known ? committed.metadata : null, begin: committed.offset };
  }

  async #nextTask(): Promise<Task | null> {
    for (;;) {
      if (this.#closing !== null || this.#failure !== null) return null;
      const task = this.#waiting.shift();
      if (task !== undefined) return task;
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
      this.#wake = null;
    }
  }

  /** The application's side: hands out what is in a task. */
  async *#deliver(task: Task, most: number): AsyncGenerator<OrderBatch, void, void> {
    this.#current = task;
    const { state, partition } = task;
    const { reader } = state;
    const keepsPositions = this.#options.positions !== undefined;
    let notedAt = performance.now();
    let orders: ArchivedOrder[] = [];
    let stop: Stop | null = null;
    try {
      for (let index = 0; ; index += 1) {
        const fetched = task.records[index];
        if (fetched !== undefined && stop === null) {
          try {
            const record = reader.read(fetched);
            if (record !== null && record.method !== null)
              orders.push(orderOf(record, partition, fetched.offset));
          } catch (error) {
            if (!(error instanceof Stop)) throw error;
            stop = error;
          }
        }
        const last = fetched === undefined || stop !== null;
        if (orders.length > 0 && (orders.length >= most || last)) {
          const position = keepsPositions ? reader.position() : '';
          const previous = keepsPositions ? state.processed : null;
          task.inHand = true;
          let rejected = false;
          yield { partition, orders, position, previous, reject: () => (rejected = true) };
          task.inHand = false;
          // The batch comes again, with what is stored then.
          if (rejected) return;
          orders = [];
          if (keepsPositions) state.processed = position;
        }
        const now = performance.now();
        if (!keepsPositions && orders.length === 0 && (last || task.revoked || now - notedAt >= NOTE_MS)) {
          notedAt = now;
          state.processed = reader.position();
        }
        if (task.revoked || this.#closing !== null) return;
        if (last) break;
      }
      task.complete = stop === null;
      if (stop !== null) throw new ArchiveProblem(stop.finding);
    } finally {
      this.#current = null;
      release(task);
    }
  }

  #report(finding: ArchiveFinding): void {
    const { onFinding } = this.#options;
    const decision = onFinding?.(finding) ?? (finding.kind === 'problem' ? 'stop' : 'continue');
    if (decision === 'stop') throw new Stop(finding);
  }

  /**
   * Commits what has been processed since the last time; one commit at a time.
   * @returns why it failed, else null. Brokers that are away come back, and the next commit covers this one.
   */
  #commit(): Promise<Error | null> {
    this.#committing = this.#committing.then(async () => {
      this.#isCommitting = true;
      try {
        for (const [partition, state] of this.#states) await this.#commitPartition(partition, state);
        return null;
      } catch (error) {
        return asError(error);
      } finally {
        this.#isCommitting = false;
      }
    });
    return this.#committing;
  }

  async #commitPartition(partition: number, state: PartitionState): Promise<void> {
    const { processed, committed } = state;
    if (processed === null || processed === committed) return;
    const { offset } = readable(partition, processed);
    if ((await this.#member?.commit(partition, offset, processed)) === true) state.committed = processed;
  }
}

/** @throws Error when a position is none of ours: to begin anew would count orders twice. */
function readable(partition: number, position: string): Position {
  const read = decodePosition(position);
  if (read === null) throw new Error(`the position stored for partition ${partition} cannot be read`);
  return read;
}

function release(task: Task): void {
  task.revoked = true;
  task.ended.resolve();
}

function orderOf(record: ArchiveRecord, partition: number, offset: number): ArchivedOrder {
  const { nodeId, epoch, sequence, chain, receivedAtUs, method, signer, hash, value } = record;
  return {
    nodeId,
    epoch,
    sequence,
    chain,
    receivedAtUs,
    method: method ?? '',
    signer: signer ?? '0x',
    hash,
    value,
    partition,
    offset,
  };
}
