/**
 * The durable spool: appends orders to segment files by group commit. One write with its fdatasync is under way
 * at a time; what arrives meanwhile is the next commit. An order's sender may be told of success only when its
 * `done(null)` has been called: from then on the order survives `kill -9` and a power cut.
 *
 * Opened by open.ts; read back by scan.ts (segments) and, across segments, by read.ts. What closes the gate, and
 * what opens it again, is gate.ts's table.
 */
import { Batch, type Done, tell } from './batch.ts';
import { CHECKPOINT_CONTROL, encodeCheckpoint } from './checkpoint.ts';
import { asError } from './failure.ts';
import { Gate, type GateEvents, type GateReason, SpoolError } from './gate.ts';
import type { Lock } from './lock.ts';
import {
  chainAfter,
  controlHeaders,
  frameBytes,
  headerPrefix,
  isEncodable,
  type OrderRecord,
  orderHeaders,
} from './record.ts';
import type { RecoveryEvents } from './recover.ts';
import type { Clock, Retention } from './retention.ts';
import { hasRoom } from './room.ts';
import { SEGMENT_HEADER_BYTES } from './segment.ts';
import type { SpoolPosition } from './shipping/watermark.ts';
import type { Unshipped } from './unshipped.ts';
import { DiskFullError, type SegmentWriter } from './writer.ts';

/** Settings of a spool; times in milliseconds. Defaults: SPOOL_DEFAULTS. */
export interface SpoolOptions {
  /** The folder; made with mode 0700 if it is not there. */
  readonly dir: string;
  /** `n` of every record: 1 to 64 letters, digits, dots, underscores, colons, dashes. */
  readonly nodeId: string;
  /** Partition of the Kafka topic that an epoch opened now belongs to, with or without brokers; one carried on keeps its own. */
  readonly partition: number;
  /** A segment is closed before it would grow beyond this. */
  readonly segmentBytes: number;
  /** Age of its newest record from which on a complete segment is deleted. */
  readonly retentionMs: number;
  /** High mark: from this size of all segments on orders are refused. */
  readonly maxBytes: number;
  /** Low mark: at this size they are taken again. At least segmentBytes + maxPendingBytes. */
  readonly lowBytes: number;
  /** Bytes that may wait in memory to become durable. */
  readonly maxPendingBytes: number;
  /** Room that a disk must have again, after it was full, before orders are taken. */
  readonly roomBytes: number;
  /** How often a full disk is looked at. */
  readonly probeMs: number;
  /** Set where a shipper takes the records to brokers: then nothing is deleted before they have it. */
  readonly shipping: ShippingMarks | null;
}

/** How far the brokers may be behind: at a high mark orders are refused, at both low marks they are taken again. */
export interface ShippingMarks {
  /** Topic that the shipper's watermark must be of. */
  readonly topic: string;
  readonly maxBytes: number;
  readonly lowBytes: number;
  readonly maxMs: number;
  readonly lowMs: number;
}

export const SPOOL_DEFAULTS = {
  partition: 0,
  segmentBytes: 64 * 1024 * 1024,
  retentionMs: 24 * 3600 * 1000,
  maxBytes: 64 * 1024 ** 3,
  lowBytes: 60 * 1024 ** 3,
  maxPendingBytes: 64 * 1024 * 1024,
  roomBytes: 1024 * 1024,
  probeMs: 1000,
  shipping: null,
} as const satisfies Omit<SpoolOptions, 'dir' | 'nodeId'>;

/** Told what happens, for logs and metrics. Must not throw. */
export interface SpoolEvents extends RecoveryEvents, GateEvents {
  /** A commit became durable: that many orders, and perhaps a checkpoint; `seconds` from its write to the end of its sync. */
  committed(orders: number, bytes: number, seconds: number): void;
  /** Retention deleted a segment. */
  segmentDeleted(segment: string): void;
  /** Retention could not delete; it tries again. */
  retentionFailed(error: Error): void;
}

/** A view of the spool for readiness and metrics. */
export interface SpoolState {
  readonly accepting: boolean;
  readonly reason: GateReason | null;
  /** All segments and what waits in memory. */
  readonly bytes: number;
  readonly pendingBytes: number;
  readonly epoch: number;
  /** Sequence of the last record appended, and of the last durable one. */
  readonly lastSequence: number;
  readonly durableSequence: number;
  /** Age of the oldest segment that is still there. */
  readonly oldestRecordAgeMs: number;
  /** What the brokers do not have yet; null without brokers. */
  readonly unshipped: { readonly bytes: number; readonly ageMs: number } | null;
}

/** Where a spool begins: what open.ts found or made. Everything up to it is durable. */
export interface SpoolStart {
  readonly epoch: number;
  readonly sequence: number;
  readonly chain: string;
  /** Latest received-at of the epoch, unix µs. */
  readonly newestUs: number;
  readonly partition: number;
}

/** What a spool works with. */
export interface SpoolParts {
  readonly lock: Lock;
  readonly writer: SegmentWriter;
  readonly retention: Retention;
  /** Null without brokers. */
  readonly unshipped: Unshipped | null;
  readonly clock: Clock;
  readonly events: SpoolEvents;
  /** What it appends is in the commit that is about to begin. */
  readonly beforeCommit: () => void;
}

/** How often segments past their retention are looked for, at most. */
const RETENTION_CHECK_MS = 60_000;
/** A segment is left after this part of the retention, so that no order stays longer than that beyond it. */
const AGE_OF_SEGMENT = 1 / 4;
/**
 * Between the beginnings of two commits. Each costs two system calls and three threads' wake-ups, some 100 µs whatever it
 * holds: at 2,000 orders/s a third of all that an order costs.
 */
const PACE_MS = 1;
/** How often the age of what is not shipped is looked at. */
const AGE_CHECK_MS = 1000;

export class Spool {
  readonly #options: SpoolOptions;
  readonly #parts: SpoolParts;
  readonly #gate: Gate;
  readonly #epoch: number;
  readonly #prefix: string;
  readonly #partition: number;
  readonly #retentionTimer: NodeJS.Timeout;
  readonly #ageTimer: NodeJS.Timeout | null;
  #probeTimer: NodeJS.Timeout | null = null;
  #probing: Promise<void> | null = null;

  /** Last record appended. */
  #sequence: number;
  #chain: string;
  /** Last record that is durable; to it the two above go back when a commit is given up. */
  #durableSequence: number;
  #durableChain: string;
  #newestUs: number;
  /** Monotonic ms of the active segment's first record. */
  #activeOpenedAt: number;
  /** Monotonic ms, not before the last record that is durable. */
  #newestAt: number;
  /** Monotonic ms at which the last commit began. */
  #commitAt = Number.NEGATIVE_INFINITY;

  #filling = new Batch();
  /** The batch being written, or the empty one that is next to be filled. */
  #resting = new Batch();
  #pendingBytes = 0;
  #scheduled = false;
  #running: Promise<void> | null = null;
  #expiring: Promise<void> | null = null;
  #closed: Promise<void> | null = null;

  /** Use openSpool (open.ts). */
  constructor(
    options: SpoolOptions,
    parts: SpoolParts,
    start: SpoolStart,
    shipped: SpoolPosition | null = null,
  ) {
    this.#options = options;
    this.#parts = parts;
    this.#gate = new Gate(parts.events);
    this.#epoch = start.epoch;
    this.#prefix = headerPrefix(options.nodeId, start.epoch);
    this.#partition = start.partition;
    this.#sequence = this.#durableSequence = start.sequence;
    this.#chain = this.#durableChain = start.chain;
    this.#newestUs = start.newestUs;
    this.#activeOpenedAt = parts.retention.monotonicOf(parts.writer.segment.openedAtUs);
    this.#newestAt = parts.retention.monotonicOf(start.newestUs);
    const every = Math.min(RETENTION_CHECK_MS, Math.max(10, options.retentionMs / 10));
    this.#retentionTimer = setInterval(() => {
      this.#leaveOldSegment();
      this.#expire();
    }, every).unref();
    const { shipping } = options;
    this.#ageTimer =
      shipping === null
        ? null
        : setInterval(() => this.#checkUnshipped(), Math.min(AGE_CHECK_MS, shipping.maxMs / 10)).unref();
    if (shipped !== null) this.shipped(shipped);
    this.#checkUnshipped();
    this.#checkMarks();
    this.#expire();
  }

  /** Null while orders are taken, else why not. */
  get refusal(): SpoolError | null {
    return this.#gate.refusal;
  }

  /**
   * Appends an order. Never throws; `done` is called exactly once and never before this returns.
   * @param done gets null once the order is durable, or a SpoolError when it will not be archived: then the order's
   *   sender must not be told of success.
   */
  append(record: OrderRecord, done: Done): void {
    const refusal = this.#gate.refusal;
    if (refusal !== null) {
      process.nextTick(done, refusal);
      return;
    }
    if (!isEncodable(record)) {
      process.nextTick(done, new SpoolError('malformed', 'the order cannot be archived'));
      return;
    }
    const sequence = this.#sequence + 1;
    const chain = chainAfter(this.#chain, sequence, record.value);
    this.#filling.orders += 1;
    this.#add(
      sequence,
      chain,
      orderHeaders(this.#prefix, sequence, chain, record),
      record.value,
      record.receivedAtUs,
      done,
    );
  }

  /**
   * Appends a checkpoint: a signed statement of the record before it. Left out while orders are refused.
   * @param sign as in checkpoint.ts.
   * @param atUs unix µs.
   */
  checkpoint(sign: (text: string) => string, atUs: number, done: Done): void {
    const refusal = this.#gate.refusal;
    if (refusal !== null) {
      process.nextTick(done, refusal);
      return;
    }
    const value = encodeCheckpoint(
      { n: this.#options.nodeId, e: this.#epoch, s: this.#sequence, h: this.#chain, t: atUs },
      sign,
    );
    const sequence = this.#sequence + 1;
    const chain = chainAfter(this.#chain, sequence, value);
    this.#add(
      sequence,
      chain,
      controlHeaders(this.#prefix, sequence, chain, atUs, CHECKPOINT_CONTROL),
      value,
      atUs,
      done,
    );
  }

  #add(
    sequence: number,
    chain: string,
    headers: string,
    value: Buffer,
    receivedAtUs: number,
    done: Done,
  ): void {
    this.#filling.add(sequence, headers, value, receivedAtUs, done);
    this.#sequence = sequence;
    this.#chain = chain;
    this.#pendingBytes += frameBytes(headers, value);
    this.#checkMarks();
    this.#schedule();
  }

  /** The place up to which everything is durable. */
  get durable(): SpoolPosition {
    const { name: segment, end } = this.#parts.writer.segment;
    return { segment, end, epoch: this.#epoch, sequence: this.#durableSequence };
  }

  /** The brokers have everything up to a place. */
  shipped(position: SpoolPosition): void {
    const { retention, unshipped, events } = this.#parts;
    unshipped?.ship(position);
    retention.shippedUpTo(position.segment).catch((error: Error) => events.retentionFailed(error));
    this.#checkUnshipped();
  }

  state(): SpoolState {
    const { retention, unshipped, clock } = this.#parts;
    const { reason } = this.#gate;
    return {
      accepting: reason === null,
      reason,
      bytes: this.#bytes(),
      pendingBytes: this.#pendingBytes,
      epoch: this.#epoch,
      lastSequence: this.#sequence,
      durableSequence: this.#durableSequence,
      oldestRecordAgeMs: clock.monotonic() - (retention.oldestOpenedAt ?? this.#activeOpenedAt),
      unshipped:
        unshipped === null ? null : { bytes: unshipped.bytes, ageMs: unshipped.ageMs(clock.monotonic()) },
    };
  }

  /** Refuses new orders, makes the pending ones durable, releases the folder. May be called again. */
  close(): Promise<void> {
    this.#closed ??= this.#shutDown();
    return this.#closed;
  }

  #bytes(): number {
    return this.#parts.retention.bytes + this.#parts.writer.segment.end + this.#pendingBytes;
  }

  #checkMarks(): void {
    const { maxBytes, lowBytes, maxPendingBytes } = this.#options;
    if (this.#pendingBytes > maxPendingBytes) this.#gate.close('pending');
    else if (this.#pendingBytes <= maxPendingBytes / 2) this.#gate.open('pending');
    const bytes = this.#bytes();
    if (bytes >= maxBytes) this.#gate.close('bytes');
    else if (bytes <= lowBytes) this.#gate.open('bytes');
  }

  #checkUnshipped(): void {
    const { unshipped, clock } = this.#parts;
    const { shipping } = this.#options;
    if (unshipped === null || shipping === null) return;
    const { bytes } = unshipped;
    const ageMs = unshipped.ageMs(clock.monotonic());
    if (bytes >= shipping.maxBytes || ageMs >= shipping.maxMs) this.#gate.close('unshipped');
    else if (bytes <= shipping.lowBytes && ageMs <= shipping.lowMs) this.#gate.open('unshipped');
  }

  /**
   * A commit begins after the events of this turn of the loop, so that orders that came together go together, and not at
   * once after another.
   */
  #schedule(): void {
    if (this.#scheduled || this.#running !== null) return;
    this.#scheduled = true;
    const begin = () => {
      this.#parts.beforeCommit();
      this.#scheduled = false;
      this.#start();
    };
    if (this.#isEarly()) setTimeout(begin, PACE_MS);
    else setImmediate(begin);
  }

  #isEarly(): boolean {
    const { clock } = this.#parts;
    return clock.monotonic() - this.#commitAt < PACE_MS && !this.#gate.has('closing');
  }

  #start(): void {
    if (this.#running !== null || this.#filling.records === 0) return;
    this.#running = this.#commitAll().finally(() => {
      this.#running = null;
      if (this.#filling.records > 0) this.#schedule();
    });
  }

  /** Commits until nothing is left, or the next one would be early. Never rejects. */
  async #commitAll(): Promise<void> {
    let durable: readonly Done[] = [];
    for (;;) {
      const batch = this.#filling;
      if (batch.records === 0 || (durable.length > 0 && this.#isEarly())) {
        tell(durable, null);
        durable = [];
        // Being told, they may have appended more.
        if (this.#filling.records === 0 || this.#isEarly()) return;
        continue;
      }
      if (durable.length > 0) this.#parts.beforeCommit();
      this.#filling = this.#resting;
      this.#resting = batch;
      // The disk works while those of the last commit are told.
      const commit = this.#commit(batch);
      tell(durable, null);
      durable = [];
      const error = await commit;
      if (error !== null) {
        await this.#giveUp(batch, error);
        return;
      }
      durable = batch.take();
    }
  }

  /** Makes a batch durable. @returns the error when that failed. */
  async #commit(batch: Batch): Promise<Error | null> {
    const { writer, clock, events } = this.#parts;
    const started = clock.monotonic();
    this.#commitAt = started;
    const { length, orders, newestUs } = batch;
    const sequence = this.#sequence;
    const chain = this.#chain;
    try {
      const { end } = writer.segment;
      if (end + length > this.#options.segmentBytes && end > SEGMENT_HEADER_BYTES) await this.#roll(newestUs);
      await writer.commit(batch.buffer, length);
    } catch (error) {
      return asError(error);
    }
    this.#durableSequence = sequence;
    this.#durableChain = chain;
    this.#newestUs = Math.max(this.#newestUs, newestUs);
    this.#newestAt = clock.monotonic();
    this.#pendingBytes -= length;
    this.#parts.unshipped?.grow(writer.segment.end, this.#newestAt);
    this.#checkMarks();
    this.#checkUnshipped();
    events.committed(orders, length, (clock.monotonic() - started) / 1000);
    return null;
  }

  /** Few orders fill no segment: it ends by its age. When that fails it is tried again at the next check. */
  #leaveOldSegment(): void {
    const { writer, clock, events } = this.#parts;
    const age = clock.monotonic() - this.#activeOpenedAt;
    const isOld =
      age >= this.#options.retentionMs * AGE_OF_SEGMENT && writer.segment.end > SEGMENT_HEADER_BYTES;
    if (!isOld || this.#running !== null || this.refusal !== null) return;
    this.#running = this.#roll(this.#newestUs)
      .catch((error: unknown) => events.retentionFailed(asError(error)))
      .finally(() => {
        this.#running = null;
        this.#start();
      });
  }

  async #roll(batchNewestUs: number): Promise<void> {
    const { writer, retention, clock } = this.#parts;
    const { name, end } = writer.segment;
    await writer.roll({
      nodeId: this.#options.nodeId,
      epoch: this.#epoch,
      firstSequence: this.#durableSequence + 1,
      chainBefore: this.#durableChain,
      openedAtUs: Math.max(this.#newestUs, batchNewestUs),
      partition: this.#partition,
    });
    retention.keep(name, end, this.#activeOpenedAt, this.#newestAt);
    this.#parts.unshipped?.begin(writer.segment.name, clock.monotonic());
    this.#activeOpenedAt = clock.monotonic();
    this.#expire();
  }

  /**
   * A commit failed: nobody of it, nor of what came after it, is acknowledged. When the disk was full and what was
   * written can be taken back, the spool is as if they had never come and may go on later; otherwise it never does.
   */
  async #giveUp(batch: Batch, error: Error): Promise<void> {
    // Closed before anything is awaited, so nothing is appended to a sequence that is taken back.
    this.#gate.close(error instanceof DiskFullError ? 'disk_full' : 'failed', error);
    const waiting = [...batch.take(), ...this.#filling.take()];
    const { writer } = this.#parts;
    if (this.#gate.has('failed')) {
      await writer.abandon();
    } else {
      await writer.takeBack().catch((reason: Error) => this.#gate.close('failed', reason));
    }
    this.#sequence = this.#durableSequence;
    this.#chain = this.#durableChain;
    this.#pendingBytes = 0;
    this.#checkMarks();
    tell(waiting, this.#gate.refusal);
    if (!this.#gate.has('failed')) this.#probeLater();
  }

  #probeLater(): void {
    if (this.#gate.has('closing')) return;
    this.#probeTimer = setTimeout(() => {
      this.#probing = hasRoom(this.#options.dir, this.#options.roomBytes).then((room) => {
        if (room) this.#gate.open('disk_full');
        else this.#probeLater();
      });
    }, this.#options.probeMs).unref();
  }

  #expire(): void {
    const { retention, events } = this.#parts;
    this.#expiring ??= retention
      .expire()
      .then((deleted) => {
        for (const segment of deleted) events.segmentDeleted(segment);
        this.#checkMarks();
      })
      .catch((error: Error) => events.retentionFailed(error))
      .finally(() => {
        this.#expiring = null;
      });
  }

  async #shutDown(): Promise<void> {
    this.#gate.close('closing');
    clearInterval(this.#retentionTimer);
    if (this.#ageTimer !== null) clearInterval(this.#ageTimer);
    if (this.#probeTimer !== null) clearTimeout(this.#probeTimer);
    for (this.#start(); this.#running !== null; this.#start()) await this.#running;
    await this.#probing;
    await this.#expiring;
    await this.#parts.writer.close().catch(() => {});
    this.#parts.lock.release();
  }
}
