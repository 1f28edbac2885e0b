/**
 * Takes the folder's records to Kafka, in order, each once as far as one side can see to it. One batch is under way at a
 * time; it is sent until all in-sync replicas have it; then the watermark moves. What is not known for sure, after a
 * crash or a broken connection, is read back from the partition.
 *
 * | what happens | what the shipper does |
 * | --- | --- |
 * | too few replicas, not allowed, a connection broken for less than 5 s | sends the same batch again with the same producer, for ever, 0.2 s to 5 s apart |
 * | brokers away for longer, no answer in time, the leader frozen or moved | new connection with fresh metadata; reads the partition's tail, goes on behind what is there |
 * | the producer's session is lost, or it was replaced | the same |
 * | topic missing, never shipped to | makes it |
 * | topic missing, shipped to before | an alarm; waits until somebody has made it: never makes it anew in silence |
 * | the partition is shorter than the watermark, or holds something else there | an alarm; ships again what is retained and not there |
 * | another leader takes a batch, or the same over another connection, or after a pause | looks first whether it has what was acknowledged before |
 * | the partition holds records of this epoch that the folder does not know | an alarm; ships nothing: the folder is not what it was |
 * | a batch is too large | halves of it; a single record becomes a dead letter, and a note keeps its place |
 * | damage in a segment | an alarm; goes on behind it, so that readers see the gap |
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { backoffMs } from '../../backoff.ts';
import { asError, errorCode } from '../failure.ts';
import { fromKafka, type ReceivedKafkaRecord, toKafka, withheldInPlaceOf } from '../kafka-record.ts';
import type { ArchiveRecord } from '../record.ts';
import { WITHHELD_CONTROL } from '../withheld.ts';
import { keepDeadLetter } from './dead-letters.ts';
import { connectKafka, type KafkaConnection, type KafkaOptions } from './kafka-client.ts';
import { KafkaTrouble, type TroubleKind } from './kafka-trouble.ts';
import { type SpoolBatch, SpoolReader } from './spool-reader.ts';
import { checkTopic, newTopic, type TopicOptions } from './topic.ts';
import { readWatermark, type SpoolPosition, type Watermark, writeWatermark } from './watermark.ts';

export interface ShipperOptions {
  /** The spool's folder. */
  readonly dir: string;
  readonly kafka: KafkaOptions;
  readonly topic: TopicOptions;
  /** After a batch that was not full, wait this long for more, ms. */
  readonly lingerMs: number;
}

/** Why nothing can be shipped just now. `topic_unfit`, `diverged` and `disk` need a human. */
export type ShippingTrouble = TroubleKind | 'topic_unfit' | 'diverged' | 'disk';

/** Told what happens, for logs and metrics. Must not throw. */
export interface ShipperEvents {
  /** A connection is ready and the topic is fit. */
  connected(): void;
  /** The brokers have acknowledged a batch; `position` is behind it. */
  shipped(position: SpoolPosition, records: number, bytes: number, seconds: number): void;
  /** Records that were found in the partition and are not sent again. */
  skipped(position: SpoolPosition, records: number): void;
  trouble(kind: ShippingTrouble, message: string): void;
  topicCreated(topic: string): void;
  /** The topic is not as asked for; it is used as it is. */
  topicDiffers(differences: readonly string[]): void;
  /** The brokers do not have what they have acknowledged. */
  lost(message: string): void;
  /** A record was refused for good. */
  deadLetter(sequence: number, bytes: number): void;
  /** A segment cannot be read as it was written. */
  unreadable(segment: string, offset: number, message: string): void;
}

/** The node that writes the folder. */
export interface DurableSource {
  /** The place up to which it may be read. */
  durable(): SpoolPosition;
  /** Resolves when there is more than that, or the signal fires. */
  beyond(position: SpoolPosition, signal: AbortSignal): Promise<void>;
}

export interface ShipperModules {
  readonly source: DurableSource;
  readonly events: ShipperEvents;
  readonly connect?: (options: KafkaOptions) => Promise<KafkaConnection>;
}

const MOST_RECORDS = 100;
/** Of values, before compression: below Kafka's own limit of a batch, 1 MB, with headers and all. */
const MOST_BYTES = 512 * 1024;
const BACKOFF = { baseMs: 200, maxMs: 5000 };
/** A connection on which brokers cannot be reached for so long is replaced: its metadata may be why. */
const UNREACHABLE_MS = 5000;
/** How often the watermark is written at most. */
const WATERMARK_MS = 1000;
/** After such a pause the leader may have changed twice, and be on the same connection. */
const PAUSE_MS = 5000;

/** A reason to stop that the brokers did not give. */
class NotShippable extends Error {
  readonly kind: ShippingTrouble;

  constructor(kind: ShippingTrouble, message: string) {
    super(message);
    this.kind = kind;
  }
}

export class Shipper {
  readonly #options: ShipperOptions;
  readonly #modules: ShipperModules;
  readonly #stop = new AbortController();
  readonly #running: Promise<void>;
  #watermark: Watermark | null = null;
  /** Whether there was a watermark when this run began: without one, a partition is read from its beginning. */
  #hadWatermark = false;
  #savedAt = 0;
  #unsaved = false;
  /** Failed attempts since something worked. */
  #failures = 0;
  #differences = '';
  /** By what way, and when (monotonic ms), the last batch was acknowledged whose leader is known to have all before it. */
  #route = '';
  #routeAt = 0;

  /** Begins at once. */
  constructor(options: ShipperOptions, modules: ShipperModules) {
    this.#options = options;
    this.#modules = modules;
    this.#running = this.#run();
  }

  /** Ships what is durable by now if that takes no longer than `graceMs`, then ends. */
  async close(graceMs: number): Promise<void> {
    const { source } = this.#modules;
    const until = source.durable();
    const deadline = performance.now() + graceMs;
    while (!this.#isShipped(until) && performance.now() < deadline && !this.#stop.signal.aborted) {
      await sleep(Math.min(20, graceMs));
    }
    this.#stop.abort();
    await this.#running;
  }

  #isShipped({ epoch, sequence }: SpoolPosition): boolean {
    const at = this.#watermark;
    return at !== null && (at.epoch > epoch || (at.epoch === epoch && at.sequence >= sequence));
  }

  async #run(): Promise<void> {
    const { dir, kafka } = this.#options;
    const { signal } = this.#stop;
    let loaded = false;
    while (!signal.aborted) {
      try {
        if (!loaded) {
          this.#watermark = await readWatermark(dir, kafka.topic);
          this.#hadWatermark = this.#watermark !== null;
          loaded = true;
        }
        await this.#session();
      } catch (error) {
        await this.#fail(error);
      }
    }
    await this.#save(true);
  }

  /** Reports a failure and waits before the next attempt. */
  async #fail(thrown: unknown): Promise<void> {
    if (this.#stop.signal.aborted) return;
    this.#modules.events.trouble(kindOf(thrown), asError(thrown).message);
    this.#failures += 1;
    await this.#pause(backoffMs(this.#failures, BACKOFF));
  }

  /** Waits, or until the shipper is stopped. */
  async #pause(ms: number): Promise<void> {
    await sleep(ms, undefined, { signal: this.#stop.signal }).catch(() => {});
  }

  /** One connection, from its opening until it fails or the shipper is stopped. */
  async #session(): Promise<void> {
    const { kafka, lingerMs } = this.#options;
    const { source, events, connect = connectKafka } = this.#modules;
    const { signal } = this.#stop;
    const connection = await connect(kafka);
    // A send under way is not waited for when the shipper stops.
    const onStop = () => void connection.close();
    signal.addEventListener('abort', onStop, { once: true });
    let reader: SpoolReader | null = null;
    try {
      reader = await this.#openReader(connection);
      this.#route = '';
      events.connected();
      let known = source.durable();
      while (!signal.aborted && !connection.isWorn) {
        const batch = await reader.batch(MOST_RECORDS, MOST_BYTES, known);
        if (batch === null) {
          await this.#save(true);
          await source.beyond(known, signal);
        } else if (batch.epoch !== this.#watermark?.epoch) {
          await this.#enterEpoch(connection, batch);
          await reader.close();
          reader = await this.#openReader(connection);
        } else {
          await this.#ship(connection, batch);
          if (batch.records.length < MOST_RECORDS) {
            await this.#pause(lingerMs);
          }
        }
        known = source.durable();
      }
    } finally {
      signal.removeEventListener('abort', onStop);
      await reader?.close();
      await connection.close();
    }
  }

  /** Looks at the topic, finds out what the partition has, and opens the folder behind that. */
  async #openReader(connection: KafkaConnection): Promise<SpoolReader> {
    const { dir } = this.#options;
    const { source, events } = this.#modules;
    const watermark = this.#watermark;
    await this.#seeToTopic(connection, watermark?.partition ?? 0);
    const after = watermark === null ? null : await this.#findShipped(connection, watermark);
    const durable = source.durable();
    const { reader, chain, position } = await SpoolReader.open(
      dir,
      after,
      durable,
      (segment, offset, message) => events.unreadable(segment, offset, message),
    );
    if (after === null || watermark === null) {
      // Nothing to go on from: every epoch that is retained is looked for in its partition.
      this.#watermark = null;
      this.#hadWatermark = false;
      return reader;
    }
    const isAhead = after.epoch === durable.epoch && after.sequence > durable.sequence;
    if (isAhead || (chain !== null && after.chain !== '' && chain !== after.chain)) {
      await reader.close();
      throw new NotShippable(
        'diverged',
        `the partition holds sequence ${after.sequence} of epoch ${after.epoch}, which the folder ${
          isAhead ? 'has not reached' : 'holds otherwise'
        }: the folder is not the one that was shipped`,
      );
    }
    this.#watermark = { ...after, ...position };
    const skipped = after.sequence - watermark.sequence;
    if (skipped > 0) events.skipped(this.#watermark, skipped);
    return reader;
  }

  /**
   * The topic is there and fit for a partition, or it is made.
   * @throws NotShippable when it is not fit, or has gone.
   */
  async #seeToTopic(connection: KafkaConnection, partition: number): Promise<void> {
    const { kafka, topic } = this.#options;
    const { events } = this.#modules;
    let found = await connection.describeTopic();
    if (found === null && (this.#watermark?.chain ?? '') !== '') {
      throw new NotShippable(
        'topic_missing',
        `the topic ${kafka.topic} is gone; it is not made anew, because orders had been shipped to it`,
      );
    }
    if (found === null) {
      // Another node may be doing the same, so only its absence afterwards is an error.
      const failure = await connection.createTopic(newTopic(topic)).then(
        () => null,
        (error: unknown) => asError(error),
      );
      for (let attempt = 1; found === null; attempt += 1) {
        found = await connection.describeTopic();
        if (found === null && (failure !== null || attempt > 20)) {
          throw failure ?? new NotShippable('topic_missing', `the topic ${kafka.topic} does not appear`);
        }
        if (found === null) await this.#pause(100);
      }
      if (failure === null) events.topicCreated(kafka.topic);
    }
    const { unfit, different } = checkTopic(found, topic, partition);
    if (unfit.length > 0) {
      throw new NotShippable('topic_unfit', `the topic ${kafka.topic} cannot be used: ${unfit.join('; ')}`);
    }
    const text = different.join('\n');
    if (text !== this.#differences && different.length > 0) events.topicDiffers(different);
    this.#differences = text;
  }

  /**
   * Reads the partition from the watermark's offset on.
   * @returns the watermark moved to the last record of its epoch that is there; null when none is, and some had been.
   */
  async #findShipped(connection: KafkaConnection, watermark: Watermark): Promise<Watermark | null> {
    const { partition, node, epoch, sequence, chain, offset } = watermark;
    const { start, end } = await connection.offsets(partition);
    const hadSome = chain !== '';
    let isThere = !hadSome || offset < start;
    const found: { last: Watermark | null } = { last: hadSome ? null : watermark };
    const isNext = (next: number) => {
      // What the brokers' retention has deleted had been there.
      if (found.last === null) return start > 0 || next === 1;
      return next === found.last.sequence + 1;
    };
    const look = (from: number) =>
      connection.read(partition, from, end, (at, received) => {
        const record = fromKafka(received);
        if (typeof record === 'string' || record.nodeId !== node || record.epoch !== epoch) return;
        const isMark = found.last === null && at === offset && record.sequence <= sequence;
        if (isMark) isThere = true;
        // Behind a hole nothing counts: what is missing is sent again with all that follows it.
        if (!isMark && !isNext(record.sequence)) return;
        found.last = { ...watermark, sequence: record.sequence, chain: record.chain, offset: at };
      });
    const { events } = this.#modules;
    await look(Math.max(start, offset));
    if (!isThere) {
      const place = `partition ${partition} does not hold at offset ${offset}`;
      events.lost(`${place} what its brokers have acknowledged`);
      found.last = null;
      await look(start);
    }
    // Past Kafka's own retention: it was there.
    else if (found.last === null) found.last = watermark;
    else if (found.last.sequence < sequence) {
      const reached = `partition ${partition} ends at sequence ${found.last.sequence} of epoch ${epoch}`;
      events.lost(`${reached}, its brokers have acknowledged ${sequence}`);
    }
    return found.last;
  }

  /** Before the first record of an epoch is sent, the watermark says where in its partition to look for it. */
  async #enterEpoch(
    connection: KafkaConnection,
    { partition, epoch, records, end }: SpoolBatch,
  ): Promise<void> {
    const first = records[0];
    if (first === undefined) throw new Error('a batch without records');
    await this.#seeToTopic(connection, partition);
    const offsets = await connection.offsets(partition);
    this.#watermark = {
      topic: this.#options.kafka.topic,
      node: first.nodeId,
      partition,
      epoch,
      sequence: first.sequence - 1,
      segment: end.segment,
      end: 0,
      chain: '',
      offset: this.#hadWatermark ? offsets.end : offsets.start,
    };
    await this.#save(true);
  }

  async #ship(connection: KafkaConnection, batch: SpoolBatch): Promise<void> {
    const { records, partition, end } = batch;
    const last = records.at(-1);
    const watermark = this.#watermark;
    if (last === undefined || watermark === null) throw new Error('a batch outside of an epoch');
    const started = performance.now();
    const offset = await this.#deliver(connection, partition, records);
    const seconds = (performance.now() - started) / 1000;
    await this.#seeToLeader(connection, watermark);
    this.#watermark = { ...watermark, ...end, chain: last.chain, offset: offset ?? watermark.offset };
    this.#unsaved = true;
    const bytes = records.reduce((sum, { value }) => sum + value.length, 0);
    this.#modules.events.shipped(end, records.length, bytes, seconds);
    await this.#save(false);
  }

  /**
   * A leader that came to it uncleanly takes what comes next without a word about what it lacks, also from an idempotent
   * producer that it has never heard of. So whenever it may be another one, it is asked for the last record before.
   * @throws KafkaTrouble when it does not have it: the next session finds out what there is.
   */
  async #seeToLeader(connection: KafkaConnection, { partition, offset, ...last }: Watermark): Promise<void> {
    const { route } = connection;
    const now = performance.now();
    if (last.chain !== '' && (route !== this.#route || now - this.#routeAt > PAUSE_MS)) {
      const { start } = await connection.offsets(partition);
      let isThere = offset < start;
      await connection.read(partition, Math.max(start, offset), offset + 1, (_at, received) => {
        isThere ||= isUpTo(last, received);
      });
      if (!isThere) {
        throw new KafkaTrouble('producer_lost', 'the leader of the partition lacks what was acknowledged');
      }
    }
    this.#route = route;
    this.#routeAt = now;
  }

  /**
   * Sends records until they are acknowledged: the same batch on the same connection.
   * @returns the offset of the last one, null when the brokers do not tell.
   * @throws KafkaTrouble when the connection must be replaced.
   */
  async #deliver(
    connection: KafkaConnection,
    partition: number,
    records: readonly ArchiveRecord[],
  ): Promise<number | null> {
    const { events } = this.#modules;
    const { signal } = this.#stop;
    const batch = records.map(toKafka);
    let reachableUntil = performance.now();
    for (;;) {
      try {
        const first = await connection.send(partition, batch);
        this.#failures = 0;
        return first === null ? null : first + records.length - 1;
      } catch (error) {
        const kind = error instanceof KafkaTrouble ? error.kind : null;
        if (kind === 'too_large') return await this.#deliverInParts(connection, partition, records, error);
        if (kind === null || NEW_CONNECTION.has(kind) || signal.aborted) throw error;
        if (kind !== 'unreachable') reachableUntil = performance.now();
        else if (performance.now() - reachableUntil > UNREACHABLE_MS) throw error;
        this.#failures += 1;
        events.trouble(kind, asError(error).message);
        await this.#pause(backoffMs(this.#failures, BACKOFF));
        if (signal.aborted) throw error;
      }
    }
  }

  async #deliverInParts(
    connection: KafkaConnection,
    partition: number,
    records: readonly ArchiveRecord[],
    cause: unknown,
  ): Promise<number | null> {
    const half = Math.ceil(records.length / 2);
    const [record] = records;
    if (records.length > 1) {
      await this.#deliver(connection, partition, records.slice(0, half));
      return this.#deliver(connection, partition, records.slice(half));
    }
    if (record === undefined || record.control === WITHHELD_CONTROL) throw cause;
    await keepDeadLetter(this.#options.dir, record);
    this.#modules.events.deadLetter(record.sequence, record.value.length);
    return this.#deliver(connection, partition, [withheldInPlaceOf(record)]);
  }

  /** Writes the watermark when it is time. A disk that does not take it costs reading at the next start, no more. */
  async #save(now: boolean): Promise<void> {
    const watermark = this.#watermark;
    const due = performance.now() - this.#savedAt >= WATERMARK_MS;
    if (watermark === null || !(now || due) || !(this.#unsaved || watermark.chain === '')) return;
    try {
      await writeWatermark(this.#options.dir, watermark);
      this.#savedAt = performance.now();
      this.#unsaved = false;
    } catch (error) {
      this.#modules.events.trouble('disk', asError(error).message);
    }
  }
}

/** Whether a record is of the watermark's epoch and not behind it. */
function isUpTo(
  { node, epoch, sequence }: Pick<Watermark, 'node' | 'epoch' | 'sequence'>,
  received: ReceivedKafkaRecord,
): boolean {
  const record = fromKafka(received);
  return (
    typeof record !== 'string' &&
    record.nodeId === node &&
    record.epoch === epoch &&
    record.sequence <= sequence
  );
}

function kindOf(thrown: unknown): ShippingTrouble {
  if (thrown instanceof KafkaTrouble || thrown instanceof NotShippable) return thrown.kind;
  return errorCode(thrown) === undefined ? 'other' : 'disk';
}

/** After these the producer's place in its own sequence is not sure, or its metadata is stale. */
const NEW_CONNECTION: ReadonlySet<TroubleKind> = new Set(['stalled', 'producer_lost', 'topic_missing']);
