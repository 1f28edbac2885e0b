/**
 * The archive of a node, put together from its settings: the spool, its checkpoints, and the shipping of both to
 * brokers where some are configured.
 */
import { readFile } from 'node:fs/promises';
import { crc32 } from 'node:zlib';
import type { Registry } from 'prom-client';
import {
  type Archive,
  type KafkaOptions,
  openSpool,
  type ShipperEvents,
  type Shipping,
  SPOOL_DEFAULTS,
  type SpoolEvents,
  type SpoolState,
  spoolArchive,
  startCheckpoints,
  startShipping,
} from './egress/archive/index.ts';
import type { Signer } from './identity/signature.ts';
import { shippingMetrics } from './metrics/shipping-metrics.ts';
import { SettingError, type Settings } from './settings.ts';

export interface NodeArchive extends Omit<Archive, 'close'> {
  state(): SpoolState;
  /** Makes everything durable, ships it if that takes no longer than `graceMs`, and lets the folder go. */
  close(graceMs: number): Promise<void>;
}

export interface ArchiveModules {
  readonly signer: Signer;
  /** Unix µs. */
  readonly clock: () => number;
  readonly registry: Registry;
  readonly events: SpoolEvents;
  /** See openSpool. */
  readonly beforeCommit: () => void;
  /** Logs; the metrics are made here. */
  readonly shipping: Pick<ShipperEvents, Exclude<keyof ShipperEvents, 'shipped'>>;
}

/** Low marks are this part of the high ones. */
const LOW = 0.75;
const SEND_TIMEOUT_MS = 10_000;
/** Records that come one by one wait for each other this long before they are sent. */
const LINGER_MS = 50;
/** A record in Kafka beside its value: the record's headers, the canonical form's own words, the batch around it. */
const RECORD_OVERHEAD_BYTES = 2 * 1024 * 1024;

/**
 * Opens the spool and starts what goes with it; brokers need not be there.
 * @throws SettingError for settings that do not go together, or a file that cannot be read; what openSpool throws.
 */
export async function startArchive(
  { dir, settings }: { readonly dir: string; readonly settings: Settings },
  { signer, clock, registry, events, beforeCommit, shipping: reports }: ArchiveModules,
): Promise<NodeArchive> {
  const nodeId = signer.addressLower;
  const kafka = await kafkaOptions(settings, nodeId);
  let shipping: Shipping | null = null;
  const maxMs = settings.archiveUnshippedMaxSec * 1000;
  const maxUnshipped = settings.archiveUnshippedMaxBytes;
  const spool = await openSpool(
    {
      ...SPOOL_DEFAULTS,
      ...spoolBounds(settings.archiveMaxBytes),
      dir,
      nodeId,
      // The same node has the same partition, whatever it has forgotten.
      partition: crc32(nodeId) % settings.kafkaTopicPartitions,
      retentionMs: settings.archiveRetentionHours * 3_600_000,
      shipping:
        kafka === null
          ? null
          : {
              topic: kafka.topic,
              maxBytes: maxUnshipped,
              lowBytes: maxUnshipped * LOW,
              maxMs,
              lowMs: maxMs * LOW,
            },
    },
    {
      events: {
        ...events,
        committed(orders, bytes, seconds) {
          events.committed(orders, bytes, seconds);
          shipping?.wake();
        },
      },
      beforeCommit,
    },
  );
  const checkpoints = startCheckpoints(settings.archiveCheckpointSec * 1000, {
    spool,
    sign: (text) => signer.sign(text),
    now: clock,
  });
  if (kafka !== null) {
    const counted = shippingMetrics(registry, {
      spool: () => spool.state(),
      shipping: () => shipping?.state() ?? { connected: false, sequence: 0 },
    });
    shipping = startShipping(
      { dir, kafka, topic: topicOptions(settings), lingerMs: LINGER_MS },
      { spool, events: both(reports, counted) },
    );
  }
  let closed: Promise<void> | null = null;
  async function end(graceMs: number): Promise<void> {
    await checkpoints.close();
    // While the folder is still locked: nobody else writes to it, or ships it.
    await shipping?.close(graceMs);
    await spool.close();
  }
  const archive = spoolArchive(spool);
  return {
    append: (admitted, done) => archive.append(admitted, done),
    get accepting() {
      return archive.accepting;
    },
    get refusal() {
      return archive.refusal;
    },
    state: () => spool.state(),
    close(graceMs) {
      closed ??= end(graceMs);
      return closed;
    },
  };
}

function topicOptions(settings: Settings) {
  const hours = settings.kafkaTopicRetentionHours;
  return {
    partitions: settings.kafkaTopicPartitions,
    replicationFactor: settings.kafkaTopicReplication,
    minInsyncReplicas: settings.kafkaTopicMinInsync,
    retentionMs: hours === 0 ? -1 : hours * 3_600_000,
    maxMessageBytes: settings.maxRequestBodySizeBytes + RECORD_OVERHEAD_BYTES,
  };
}

/** @returns null when no brokers are configured. */
async function kafkaOptions(settings: Settings, nodeId: string): Promise<KafkaOptions | null> {
  const { kafkaBrokers, kafkaTopic, kafkaTls, kafkaSasl, kafkaCompression } = settings;
  if (kafkaBrokers.length === 0) return null;
  const [ca, cert, key] = await Promise.all([
    pem('KAFKA_CA_FILE', settings.kafkaCaFile),
    pem('KAFKA_CERT_FILE', settings.kafkaCertFile),
    pem('KAFKA_KEY_FILE', settings.kafkaKeyFile),
  ]);
  if ((cert === null) !== (key === null)) {
    throw new SettingError('KAFKA_CERT_FILE and KAFKA_KEY_FILE: both or neither');
  }
  if (kafkaSasl !== 'none' && !kafkaTls) throw new SettingError('KAFKA_SASL: needs KAFKA_TLS');
  if (kafkaSasl !== 'none' && (settings.kafkaUsername === '' || settings.kafkaPassword === '')) {
    throw new SettingError('KAFKA_USERNAME and KAFKA_PASSWORD: needed for KAFKA_SASL');
  }
  if (settings.kafkaTopicMinInsync > settings.kafkaTopicReplication) {
    throw new SettingError('KAFKA_TOPIC_MIN_INSYNC: at most KAFKA_TOPIC_REPLICATION');
  }
  return {
    brokers: kafkaBrokers,
    topic: kafkaTopic,
    clientId: `orderflow-${nodeId}`,
    tls: kafkaTls ? { ca: ca === null ? [] : [ca], cert, key } : null,
    sasl:
      kafkaSasl === 'none'
        ? null
        : { mechanism: kafkaSasl, username: settings.kafkaUsername, password: settings.kafkaPassword },
    compression: kafkaCompression,
    sendTimeoutMs: SEND_TIMEOUT_MS,
  };
}

async function pem(setting: string, path: string): Promise<string | null> {
  if (path === '') return null;
  try {
    return await readFile(path, 'utf8');
  } catch (error) {
    throw new SettingError(`${setting}: ${error instanceof Error ? error.message : String(error)}`);
  }
}

/** Sizes of the spool within its bound: in a small one, segments and what waits in memory are small too. */
function spoolBounds(maxBytes: number) {
  const { segmentBytes, maxPendingBytes } = SPOOL_DEFAULTS;
  return {
    maxBytes,
    lowBytes: Math.floor(maxBytes * 0.9),
    segmentBytes: Math.min(segmentBytes, Math.floor(maxBytes / 4)),
    maxPendingBytes: Math.min(maxPendingBytes, Math.floor(maxBytes / 4)),
  };
}

/** Each event to the log, and to the metrics where they count it. */
function both(
  reports: ArchiveModules['shipping'],
  counted: ReturnType<typeof shippingMetrics>,
): ShipperEvents {
  return {
    ...reports,
    shipped: counted.shipped,
    skipped(position, records) {
      reports.skipped(position, records);
      counted.skipped(position, records);
    },
    trouble(kind, message) {
      reports.trouble(kind, message);
      counted.trouble(kind, message);
    },
    lost(message) {
      reports.lost(message);
      counted.lost(message);
    },
    deadLetter(sequence, bytes) {
      reports.deadLetter(sequence, bytes);
      counted.deadLetter(sequence, bytes);
    },
  };
}
