/**
 * Kafka as the shipper sees it: one connection with an idempotent producer, and the reading of one partition. This is
 * the only file of the shipper that knows a client library.
 *
 * The library is kafkajs 2.2.4, pinned: the one that BuilderNet names, without a release since 2023. Filled anew, this
 * interface would stand on @platformatic/kafka, which costs a quarter of the CPU. What was found out about kafkajs, and
 * how this file deals with it:
 *
 * | kafkajs | here |
 * | --- | --- |
 * | its idempotence holds with one send under way only: two at once can lose an acknowledged record | `send` refuses a second one |
 * | it gives up after its own retries, as if the error were final | errors are told apart by the broker's own error code; the caller sends the same batch again |
 * | a broker that is frozen is never left, a timeout does not refresh the metadata | `send` has a deadline of its own; the caller opens a new connection |
 * | a request has one time limit, whatever its size: a large order over a slow line would never pass | for what is sent the limit grows with the bytes (`sendLimitMs`); what is read may take as long as bytes keep coming |
 * | a producer's sequence wraps wrongly after 2^31 records of a partition | `isWorn` long before; the caller opens a new connection |
 * | a record without a partition is given one anew on each retry | the partition is always given |
 * | the broker that it begins with is never left if that takes connections but does not answer | each attempt begins with the next one |
 * | it can read only as a member of a group | the partition is read with its own cluster class, which it keeps under a private symbol |
 * | closing waits for requests that are never answered | the sockets are ours and are destroyed |
 * | it sets a timer for every millisecond while there is nothing to do, with a negative time | it is kept from that (kafkajs-timers.ts) |
 * | it does not tell that a partition has another leader | `route` does |
 */
import { connect as connectTcp, type Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { connect as connectTls } from 'node:tls';
import {
  type Admin,
  type Kafka,
  type KafkaConfig,
  // A CommonJS module: of the values that it exports this way, Node finds only some.
  default as kafkajs,
  type Message,
  type Producer,
  type SASLOptions,
} from 'kafkajs';
import type { KafkaRecord, ReceivedKafkaRecord } from '../kafka-record.ts';
import { KafkaTrouble, troubleOf, withDeadline } from './kafka-trouble.ts';
import { stopIdleTimers } from './kafkajs-timers.ts';
import { zstdCodec } from './zstd.ts';

export type Compression = 'none' | 'gzip' | 'zstd';

/** Where the brokers are and how to speak to them: all that readers need (kafka-reader.ts, kafka-group.ts). */
export interface KafkaAccess {
  /** HOST:PORT. */
  readonly brokers: readonly string[];
  readonly topic: string;
  readonly clientId: string;
  /** Null: plain text. PEM texts; an empty list of authorities means the system's. */
  readonly tls: {
    readonly ca: readonly string[];
    readonly cert: string | null;
    readonly key: string | null;
  } | null;
  readonly sasl: {
    readonly mechanism: 'scram-sha-256' | 'scram-sha-512';
    readonly username: string;
    readonly password: string;
  } | null;
}

/** What the shipper needs. */
export interface KafkaOptions extends KafkaAccess {
  readonly compression: Compression;
  /**
   * Time in which a batch must be acknowledged before the connection is given up, ms; besides what it takes to send its
   * bytes at 1 MB/s.
   */
  readonly sendTimeoutMs: number;
}

/** What a topic is made of, as far as the archive cares; the names are Kafka's. */
export interface TopicDescription {
  readonly partitions: number;
  readonly replicationFactor: number;
  /** Null when the brokers do not let us see it. */
  readonly config: Readonly<Record<string, string>> | null;
}

/** A connection with a producer session of its own. Every method throws KafkaTrouble. */
export interface KafkaConnection {
  /** The topic; null when there is none. */
  describeTopic(): Promise<TopicDescription | null>;
  createTopic(description: TopicDescription): Promise<void>;
  /** Oldest offset that is there, and the one that the next record will get. */
  offsets(partition: number): Promise<{ readonly start: number; readonly end: number }>;
  /** Calls `each` for every record of a partition with from <= offset < to. */
  read(
    partition: number,
    from: number,
    to: number,
    each: (offset: number, record: ReceivedKafkaRecord) => void,
  ): Promise<void>;
  /**
   * Sends a batch and waits until all in-sync replicas have it. One at a time; the same batch may be sent again after a
   * failure other than `stalled` and is then written once.
   * @returns offset of the first record, null when the broker does not tell.
   */
  send(partition: number, records: readonly KafkaRecord[]): Promise<number | null>;
  /** Whether this producer has sent so much that it must be replaced. */
  readonly isWorn: boolean;
  /**
   * Which broker took the last batch, and over which connection. When it changes, the partition may have got another
   * leader, and that one may lack what was acknowledged.
   */
  readonly route: string;
  /** Ends it at once, whatever is under way. */
  close(): Promise<void>;
}

const { CompressionCodecs, CompressionTypes, ConfigResourceTypes, logLevel } = kafkajs;

/** Longest wait for an answer of a broker; TCP connects have 3 s. */
const REQUEST_TIMEOUT_MS = 5000;
const CONNECT_TIMEOUT_MS = 3000;
/** A broker that has not served a new connection by then is passed over. */
const OPEN_TIMEOUT_MS = REQUEST_TIMEOUT_MS + 1000;
/** Over a slower line, 8 Mbit/s, large orders are given up. */
const SLOWEST_BYTES_PER_MS = 1000;
/** A broker of whose answer nothing has come for so long is given up; one that slows its client down stays below that. */
const SILENCE_MS = 4 * REQUEST_TIMEOUT_MS;
/** kafkajs counts them in 31 bits. */
const MOST_RECORDS = 1_000_000_000;
const FETCH_BYTES = 4 * 1024 * 1024;
/** Pause after an answer of a broker that slows its client down. */
const SLOWED_MS = 100;
/** One record of 64 MiB must fit. */
const FETCH_MAX_BYTES = 80 * 1024 * 1024;

const CODECS = {
  none: CompressionTypes.None,
  gzip: CompressionTypes.GZIP,
  zstd: CompressionTypes.ZSTD,
} as const;

/**
 * Connects to the brokers and opens a producer session.
 * @throws KafkaTrouble.
 */
export async function connectKafka(options: KafkaOptions): Promise<KafkaConnection> {
  const first = anyOf(options.brokers);
  for (let tried = 1; ; tried += 1) {
    const connection = new KafkaJsConnection(createClient(options, first + tried), options);
    try {
      await connection.open();
      return connection;
    } catch (error) {
      await connection.close();
      const { kind } = troubleOf(error);
      if (tried >= options.brokers.length || kind === 'authentication') throw error;
    }
  }
}

/**
 * @param baseMs for a batch of no size.
 * @param bytes of values, before compression.
 * @returns how long a batch may take to be acknowledged, ms.
 */
function sendLimitMs(baseMs: number, bytes: number): number {
  return baseMs + bytes / SLOWEST_BYTES_PER_MS;
}

/** A client of the library and the sockets that it has open, which are destroyed to end it. */
export interface Client {
  readonly kafka: Kafka;
  /** The same, without time limits of its own: whoever uses it sets them. */
  readonly patient: Kafka;
  readonly sockets: ReadonlySet<Socket>;
  /** How many it has opened so far. */
  readonly opened: number;
}

/**
 * @param first index of the broker that each of its clusters begins with, counted round and round; default: any for the
 *   first cluster, and for each attempt after it the next one.
 * @returns a client that has not connected yet.
 */
export function createClient({ brokers, ...options }: KafkaAccess, first?: number): Client {
  let next = first ?? anyOf(brokers);
  const fromFirst = () => brokers.map((_, index) => brokers[(next + index) % brokers.length] ?? '');
  // kafkajs goes on from a list's first with its second: of one it takes that one.
  const oneByOne = () => {
    next += 1;
    return fromFirst().slice(0, 1);
  };
  CompressionCodecs[CompressionTypes.ZSTD] = () => zstdCodec;
  stopIdleTimers();
  const sockets = new Set<Socket>();
  let opened = 0;
  const config: KafkaConfig = {
    clientId: options.clientId,
    brokers: first === undefined ? oneByOne : fromFirst(),
    ssl: options.tls !== null,
    ...(options.sasl === null ? {} : { sasl: options.sasl as SASLOptions }),
    connectionTimeout: CONNECT_TIMEOUT_MS,
    authenticationTimeout: REQUEST_TIMEOUT_MS,
    requestTimeout: REQUEST_TIMEOUT_MS,
    retry: { retries: 2, initialRetryTime: 100, maxRetryTime: 1000 },
    logLevel: logLevel.NOTHING,
    socketFactory: ({ host, port, onConnect }) => {
      const socket = openSocket(options.tls, host, port, onConnect);
      sockets.add(socket);
      opened += 1;
      socket.once('close', () => sockets.delete(socket));
      return socket;
    },
  };
  return {
    kafka: new kafkajs.Kafka(config),
    patient: new kafkajs.Kafka({ ...config, enforceRequestTimeout: false }),
    sockets,
    get opened() {
      return opened;
    },
  };
}

function anyOf(list: readonly unknown[]): number {
  return Math.floor(Math.random() * list.length);
}

function openSocket(tls: KafkaAccess['tls'], host: string, port: number, onConnect: () => void): Socket {
  if (tls === null) return connectTcp({ host, port, noDelay: true, keepAlive: true }, onConnect);
  const { ca, cert, key } = tls;
  // An IP address is no server name (RFC 6066); it is checked against the certificate all the same.
  const servername = /^[\d.]+$|:/.test(host) ? {} : { servername: host };
  const socket = connectTls(
    {
      host,
      port,
      ...servername,
      minVersion: 'TLSv1.2',
      ...(ca.length === 0 ? {} : { ca: [...ca] }),
      ...(cert === null ? {} : { cert }),
      ...(key === null ? {} : { key }),
    },
    onConnect,
  );
  socket.setNoDelay(true);
  socket.setKeepAlive(true);
  return socket;
}

class KafkaJsConnection implements KafkaConnection {
  readonly #options: KafkaOptions;
  readonly #admin: Admin;
  readonly #producer: Producer;
  readonly #cluster: Cluster;
  readonly #client: Client;
  #sent = 0;
  #sending = false;
  /** HOST:PORT of the broker that answered last. */
  #leader = '';

  constructor(client: Client, options: KafkaOptions) {
    const { kafka, patient } = client;
    this.#options = options;
    this.#client = client;
    this.#admin = kafka.admin();
    this.#cluster = clusterOf(patient);
    this.#producer = patient.producer({
      idempotent: true,
      maxInFlightRequests: 1,
      allowAutoTopicCreation: false,
      createPartitioner:
        () =>
        ({ message }) =>
          message.partition ?? 0,
      retry: { retries: 2, initialRetryTime: 100, maxRetryTime: 1000 },
    });
    this.#producer.on(this.#producer.events.REQUEST, ({ payload }) => {
      if (payload.apiName === 'Produce') this.#leader = payload.broker;
    });
  }

  get route(): string {
    return `${this.#leader} ${this.#client.opened}`;
  }

  get isWorn(): boolean {
    return this.#sent > MOST_RECORDS;
  }

  async open(): Promise<void> {
    await this.#attempt(
      () => Promise.all([this.#admin.connect(), this.#producer.connect(), this.#cluster.connect()]),
      OPEN_TIMEOUT_MS,
    );
  }

  describeTopic(): Promise<TopicDescription | null> {
    const { topic } = this.#options;
    return this.#attempt(async () => {
      const all = await this.#partitions();
      if (all === null) return null;
      const config = await this.#admin
        .describeConfigs({
          includeSynonyms: false,
          resources: [{ type: ConfigResourceTypes.TOPIC, name: topic }],
        })
        .then(({ resources }) =>
          Object.fromEntries(
            (resources[0]?.configEntries ?? []).map(({ configName, configValue }) => [
              configName,
              configValue,
            ]),
          ),
        )
        .catch((error: unknown) => {
          if (troubleOf(error).kind === 'authorization') return null;
          throw error;
        });
      const replicationFactor = Math.min(...all.map(({ replicas }) => replicas.length));
      return { partitions: all.length, replicationFactor, config };
    });
  }

  createTopic({ partitions, replicationFactor, config }: TopicDescription): Promise<void> {
    const { topic } = this.#options;
    return this.#attempt(async () => {
      // Waiting for leaders is left to the caller's retries: kafkajs's own gives up at times.
      await this.#admin.createTopics({
        waitForLeaders: false,
        topics: [
          {
            topic,
            numPartitions: partitions,
            replicationFactor,
            configEntries: Object.entries(config ?? {}).map(([name, value]) => ({ name, value })),
          },
        ],
      });
    });
  }

  offsets(partition: number): Promise<{ readonly start: number; readonly end: number }> {
    return this.#attempt(async () => {
      const all = await this.#admin.fetchTopicOffsets(this.#options.topic);
      const found = all.find((entry) => entry.partition === partition);
      if (found === undefined)
        throw new KafkaTrouble('topic_missing', `the topic has no partition ${partition}`);
      return { start: Number(found.low), end: Number(found.high) };
    });
  }

  async read(
    partition: number,
    from: number,
    to: number,
    each: (offset: number, record: ReceivedKafkaRecord) => void,
  ): Promise<void> {
    const { topic } = this.#options;
    await this.#attempt(() => this.#cluster.addTargetTopic(topic));
    let next = from;
    while (next < to) {
      const answer = await this.#receive(() => this.#fetch(partition, next));
      const before = next;
      for (const message of answer?.messages ?? []) {
        const offset = Number(message.offset);
        // A fetch answers with whole batches: the first may begin earlier.
        if (offset < next) continue;
        if (offset >= to) return;
        each(offset, message);
        next = offset + 1;
      }
      // A broker that slows its client down (a quota) answers without the partition: that says nothing of what it holds.
      if (answer === null) await sleep(SLOWED_MS);
      // No data below the end: the rest are markers of the log, which are not delivered.
      else if (next === before && answer.messages.length === 0) return;
    }
  }

  async #fetch(partition: number, fetchOffset: number): Promise<FetchedPartition | null> {
    const { topic } = this.#options;
    await this.#cluster.refreshMetadataIfNecessary();
    const leader = this.#cluster
      .findTopicPartitionMetadata(topic)
      .find(({ partitionId }) => partitionId === partition)?.leader;
    if (leader === undefined || leader < 0)
      throw new KafkaTrouble('unreachable', 'the partition has no leader');
    const broker = await this.#cluster.findBroker({ nodeId: String(leader) });
    const { responses } = await broker.fetch({
      maxWaitTime: 100,
      minBytes: 1,
      maxBytes: FETCH_MAX_BYTES,
      isolationLevel: 0,
      topics: [
        { topic, partitions: [{ partition, fetchOffset: String(fetchOffset), maxBytes: FETCH_BYTES }] },
      ],
    });
    return responses[0]?.partitions[0] ?? null;
  }

  async send(partition: number, records: readonly KafkaRecord[]): Promise<number | null> {
    if (this.#sending) throw new Error('a batch is under way on this connection');
    this.#sending = true;
    const messages: Message[] = records.map(({ key, headers, value }) => ({
      key,
      headers: { ...headers },
      value,
      partition,
    }));
    const bytes = records.reduce((sum, { value }) => sum + value.length, 0);
    const limitMs = sendLimitMs(this.#options.sendTimeoutMs, bytes);
    try {
      const [answer] = await this.#attempt(
        () =>
          this.#producer.send({
            topic: this.#options.topic,
            acks: -1,
            // For the replicas, which get it one after another.
            timeout: sendLimitMs(REQUEST_TIMEOUT_MS, bytes),
            compression: CODECS[this.#options.compression],
            messages,
          }),
        limitMs,
      );
      this.#sent += records.length;
      const offset = Number(answer?.baseOffset ?? -1);
      return offset >= 0 ? offset : null;
    } finally {
      this.#sending = false;
    }
  }

  async close(): Promise<void> {
    const { sockets } = this.#client;
    // Nothing is worth waiting for: what is not acknowledged is sent again by the next connection.
    for (const socket of sockets) socket.destroy();
    const ended = Promise.allSettled([
      this.#producer.disconnect(),
      this.#admin.disconnect(),
      this.#cluster.disconnect(),
    ]);
    await withDeadline(ended, 1000).catch(() => {});
    for (const socket of sockets) socket.destroy();
  }

  async #partitions() {
    try {
      const { topics } = await this.#admin.fetchTopicMetadata({ topics: [this.#options.topic] });
      return topics[0]?.partitions ?? null;
    } catch (error) {
      if (troubleOf(error).kind === 'topic_missing') return null;
      throw error;
    }
  }

  /** Runs a call of the library for as long as bytes keep coming. @throws KafkaTrouble. */
  async #receive<T>(call: () => Promise<T>): Promise<T> {
    const answer = call();
    for (let before = this.#received(); ; before = this.#received()) {
      try {
        return await this.#attempt(() => answer, SILENCE_MS);
      } catch (error) {
        const isLate = error instanceof KafkaTrouble && error.kind === 'stalled';
        if (!isLate || this.#received() === before) throw error;
      }
    }
  }

  /** @returns bytes that have come over the connections which are open. */
  #received(): number {
    let bytes = 0;
    for (const socket of this.#client.sockets) bytes += socket.bytesRead;
    return bytes;
  }

  /** Runs a call of the library within a deadline. @throws KafkaTrouble. */
  async #attempt<T>(call: () => Promise<T>, timeoutMs = 4 * REQUEST_TIMEOUT_MS): Promise<T> {
    try {
      return await withDeadline(call(), timeoutMs);
    } catch (error) {
      throw troubleOf(error);
    }
  }
}

/** The part of kafkajs's cluster class that reading needs. */
export interface Cluster {
  connect(): Promise<void>;
  disconnect(): Promise<void>;
  addTargetTopic(topic: string): Promise<void>;
  refreshMetadataIfNecessary(): Promise<void>;
  findTopicPartitionMetadata(topic: string): readonly { partitionId: number; leader: number }[];
  findBroker(of: { nodeId: string }): Promise<{
    fetch(request: unknown): Promise<{
      responses: readonly {
        partitions: readonly FetchedPartition[];
      }[];
    }>;
  }>;
}

interface FetchedPartition {
  readonly highWatermark: string;
  readonly messages: readonly FetchedMessage[];
}

export interface FetchedMessage extends ReceivedKafkaRecord {
  readonly offset: string;
  /** A marker of the log, not a record. */
  readonly isControlRecord?: boolean;
}

const CREATE_CLUSTER = 'private:Kafka:createCluster';

export function clusterOf(kafka: Kafka): Cluster {
  const symbol = Object.getOwnPropertySymbols(kafka).find(
    ({ description }) => description === CREATE_CLUSTER,
  );
  const create: unknown = symbol === undefined ? undefined : Reflect.get(kafka, symbol);
  if (typeof create !== 'function')
    throw new Error(`kafkajs has no ${CREATE_CLUSTER}: not the pinned version`);
  return create({ allowAutoTopicCreation: false, metadataMaxAge: 60_000, maxInFlightRequests: 1 }) as Cluster;
}
