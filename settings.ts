/**
 * Every setting of a node in one table: environment name, flag, default, what is allowed, what it does.
 * `--help`, the README's table and the parser are made from it. Flags are the environment names in kebab
 * case and win over the environment. Names of v1 and v2 are kept (protocol section 1).
 */
import { parseOrderflowKey } from './identity/keys.ts';
import {
  address,
  brokers,
  flag,
  HTTP,
  HTTP_OR_HTTPS,
  hubUrl,
  integer,
  integerOr,
  listenAddress,
  names,
  oneOf,
  optionalUrl,
  type Setting,
  SettingError,
  setting,
  text,
  topicName,
} from './setting-kinds.ts';

export { SettingError } from './setting-kinds.ts';

/** What the archive can keep, less what an order can grow when it is written anew (escapes of its free text). */
const MAX_BODY_BYTES = 62_914_560;

/** With more, the streams of two such nodes would displace one another (ingress/stream/stream-server.ts). */
export const MAX_SHARDS = 8;

export const SETTINGS = {
  mode: oneOf(
    'MODE',
    ['node', 'sender'],
    'node',
    "node: in the VM, between wallets, peers and the builder. sender: in Flashbots' own infrastructure, shares what it is given to all builders of the internal list",
  ),
  userListenAddr: listenAddress(
    'USER_LISTEN_ADDR',
    '127.0.0.1:443',
    'user API: wallets, searchers, the operator',
  ),
  userTls: flag(
    'USER_TLS',
    true,
    "user API over HTTPS with the node's certificate; off when a TLS terminator stands in front",
  ),
  systemListenAddr: listenAddress(
    'SYSTEM_LISTEN_ADDR',
    '127.0.0.1:5544',
    'system API: peer nodes and Flashbots',
  ),
  certListenAddr: listenAddress(
    'CERT_LISTEN_ADDR',
    '127.0.0.1:14727',
    "GET /cert: the node's TLS certificate",
  ),
  metricsAddr: listenAddress('METRICS_ADDR', '127.0.0.1:8090', 'GET /metrics'),
  builderEndpoint: optionalUrl(
    'BUILDER_ENDPOINT',
    'http://127.0.0.1:8645',
    'local builder, JSON-RPC (rbuilder)',
    HTTP,
  ),
  builderReadyEndpoint: optionalUrl(
    'BUILDER_READY_ENDPOINT',
    'http://127.0.0.1:6070',
    'builder readiness, base URL; the node appends /readyz',
    HTTP_OR_HTTPS,
  ),
  rpcEndpoint: optionalUrl(
    'RPC_ENDPOINT',
    'http://127.0.0.1:8545',
    "execution client; taken so that v1's settings fit, not called: the archive needs no block number",
    HTTP_OR_HTTPS,
  ),
  hubEndpoint: hubUrl('BUILDER_CONFIGHUB_ENDPOINT', 'http://127.0.0.1:14892', 'BuilderHub', {
    aliases: ['BUILDERHUB_ENDPOINT'],
  }),
  peerPollSec: integer('PEER_POLL_SEC', 30, "seconds between two fetches of BuilderHub's list", 1, 3600),
  region: text('REGION', '', 'region registered at BuilderHub; empty = none'),
  flashbotsSigner: address(
    'FLASHBOTS_ORDERFLOW_SIGNER_ADDRESS',
    '0x5015Fa72E34f75A9eC64f44a4Fcf0837919D1bB7',
    "Flashbots' own signer, taken on the system API beside the listed peers",
  ),
  systemClientCert: oneOf(
    'SYSTEM_CLIENT_CERT',
    ['request', 'require'],
    'request',
    'client certificates on the system API: asked for and checked when shown, or demanded',
  ),
  dataDir: text('DATA_DIR', './data', 'directory of keys, certificate and the last list of peers'),
  ephemeral: flag('EPHEMERAL', false, 'keys and certificate in memory only, new at each start'),
  orderflowSignerKey: setting(
    'ORDERFLOW_SIGNER_KEY',
    '',
    "secp256k1 key to sign orders with (64 hex digits); empty = the node's own, made at the first start",
    '64 hex digits',
    (value) => (value === '' ? null : parseOrderflowKey(value)),
    { secret: true },
  ),
  certHosts: names(
    'CERT_HOSTS',
    '127.0.0.1,localhost',
    'every name and IP the node is reached by; they stand in its certificate',
  ),
  certDurationDays: integer('CERT_DURATION_DAYS', 365, 'validity of the certificate', 1, 3650),
  archiveDir: text('ARCHIVE_DIR', '', "directory of the archive's spool; empty = DATA_DIR/archive"),
  archiveRetentionHours: integer(
    'ARCHIVE_RETENTION_HOURS',
    168,
    'how long the archive keeps its segments',
    1,
    87_600,
  ),
  archiveMaxBytes: integer(
    'ARCHIVE_MAX_BYTES',
    274_877_906_944,
    'size at which the archive refuses new user orders (it never deletes within the retention)',
    1_048_576,
    Number.MAX_SAFE_INTEGER,
  ),
  archiveUnshippedMaxBytes: integer(
    'ARCHIVE_UNSHIPPED_MAX_BYTES',
    68_719_476_736,
    'bytes that the brokers do not have yet at which the archive refuses new user orders, until it is three quarters',
    1_048_576,
    Number.MAX_SAFE_INTEGER,
  ),
  archiveUnshippedMaxSec: integer(
    'ARCHIVE_UNSHIPPED_MAX_SEC',
    21_600,
    'age of the oldest order that the brokers do not have yet at which new user orders are refused, until it is three quarters',
    1,
    2_592_000,
  ),
  archiveCheckpointSec: integer(
    'ARCHIVE_CHECKPOINT_SEC',
    5,
    'seconds between two signed checkpoints of the archive while orders come',
    1,
    3600,
  ),
  kafkaBrokers: brokers(
    'KAFKA_BROKERS',
    'brokers that the archive is shipped to; empty = none, its segments are the archive',
  ),
  kafkaTopic: topicName(
    'KAFKA_TOPIC',
    'orders',
    'topic of the archive; made if it is not there, never altered',
  ),
  kafkaTopicPartitions: integer(
    'KAFKA_TOPIC_PARTITIONS',
    12,
    'partitions of the topic; each node writes to one',
    1,
    10_000,
  ),
  kafkaTopicReplication: integer('KAFKA_TOPIC_REPLICATION', 3, 'replicas of each partition', 1, 100),
  kafkaTopicMinInsync: integer(
    'KAFKA_TOPIC_MIN_INSYNC',
    2,
    'replicas that must have an order before it counts as shipped',
    1,
    100,
  ),
  kafkaTopicRetentionHours: integer(
    'KAFKA_TOPIC_RETENTION_HOURS',
    0,
    'how long the brokers keep orders; 0 = for ever',
    0,
    876_000,
  ),
  kafkaTls: flag('KAFKA_TLS', true, 'TLS to the brokers'),
  kafkaCaFile: text('KAFKA_CA_FILE', '', "PEM file of the brokers' authorities; empty = the system's"),
  kafkaCertFile: text(
    'KAFKA_CERT_FILE',
    '',
    'PEM file of the client certificate to show the brokers; empty = none',
  ),
  kafkaKeyFile: text('KAFKA_KEY_FILE', '', 'PEM file of its private key'),
  kafkaSasl: oneOf(
    'KAFKA_SASL',
    ['none', 'scram-sha-256', 'scram-sha-512'],
    'none',
    'how to log in at the brokers; only with TLS',
  ),
  kafkaUsername: text('KAFKA_USERNAME', '', 'user name at the brokers'),
  kafkaPassword: text('KAFKA_PASSWORD', '', 'password at the brokers', { secret: true }),
  kafkaCompression: oneOf(
    'KAFKA_COMPRESSION',
    ['zstd', 'gzip', 'none'],
    'zstd',
    'how batches to the brokers are compressed',
  ),
  shards: integerOr(
    'SHARDS',
    'auto',
    'threads that take orders, each with the whole way from the socket to the builder; the bounds of the node are divided among them. auto = one for each core that the process may use, as far as MEMORY_CEILING_BYTES allows; 1 outside Linux',
    1,
    MAX_SHARDS,
  ),
  maxRequestBodySizeBytes: integer(
    'MAX_REQUEST_BODY_SIZE_BYTES',
    31_457_280,
    'most bytes of one request body, after decompression',
    1024,
    MAX_BODY_BYTES,
  ),
  maxPendingBytes: integer(
    'MAX_PENDING_BYTES',
    268_435_456,
    'most bytes of request bodies being read, as many waiting for their turn, and as many of unknown peers waiting for a fresh hub list',
    1_048_576,
    1_099_511_627_776,
  ),
  maxWaitMs: integer(
    'MAX_WAIT_MS',
    10,
    'longest that an order may wait for its turn while more come than can be worked off; beyond it they are refused. Bursts, and connections that send seldom, have up to ten times as long',
    1,
    60_000,
  ),
  maxBurstWaitMs: integer(
    'MAX_BURST_WAIT_MS',
    1000,
    "the same for the first order of a connection in a second, in a burst that lasts no longer, and at all times for connections that wait for each answer and for peers' orders",
    1,
    60_000,
  ),
  maxConnections: integer(
    'MAX_CONNECTIONS',
    20_000,
    'most open connections of each API; the one idle longest is closed',
    16,
    1_000_000,
  ),
  memoryCeilingBytes: integer(
    'MEMORY_CEILING_BYTES',
    0,
    'most memory that the bounds may add up to: a node whose settings allow more does not start, and says which allow how much; 0 = no matter',
    0,
    Number.MAX_SAFE_INTEGER,
  ),
  maxUserRps: integer('MAX_USER_RPS', 0, 'most user orders per second; 0 = no limit', 0, 1_000_000),
  connPerPeer: integer('CONN_PER_PEER', 10, 'connections to each peer', 1, 100, {
    aliases: ['CONNECTIONS_PER_PEER'],
  }),
  peerQueueBytes: integer(
    'PEER_QUEUE_BYTES',
    67_108_864,
    'most bytes waiting for one peer',
    65_536,
    17_179_869_184,
  ),
  peersQueueBytes: integer(
    'PEERS_QUEUE_BYTES',
    1_073_741_824,
    'most bytes waiting for all peers together',
    65_536,
    17_179_869_184,
  ),
  peerQueueAgeMs: integer(
    'PEER_QUEUE_AGE_MS',
    45_000,
    'oldest order that is still sent to a peer; a peer learns of a new node up to 30 s late and refuses it until then',
    100,
    600_000,
  ),
  peerStream: flag(
    'PEER_STREAM',
    true,
    'order stream with peers that speak it; off = requests only, in both directions',
  ),
  streamWindowBytes: integer(
    'STREAM_WINDOW_BYTES',
    4_194_304,
    'most bytes of orders on one stream connection that a peer may send ahead of their being dealt with',
    65_536,
    1_073_741_824,
  ),
  builderConnections: integer('BUILDER_CONNECTIONS', 4, 'connections to the local builder', 1, 100),
  builderQueueBytes: integer(
    'BUILDER_QUEUE_BYTES',
    268_435_456,
    'most bytes waiting for the local builder',
    65_536,
    17_179_869_184,
  ),
  builderQueueAgeMs: integer(
    'BUILDER_QUEUE_AGE_MS',
    30_000,
    'oldest order that is still sent to the local builder',
    100,
    3_600_000,
  ),
  dedupeKeys: integer(
    'DEDUPE_KEYS',
    1_048_576,
    'most orders remembered to recognise duplicates',
    1024,
    16_777_216,
  ),
  dedupeSec: integer('DEDUPE_SEC', 60, 'how long an order is remembered', 1, 3600),
  txValidation: oneOf(
    'TX_VALIDATION',
    ['strict', 'off'],
    'strict',
    'check transactions of user orders statelessly, or take what v1 takes',
  ),
  systemTxValidation: oneOf(
    'SYSTEM_TX_VALIDATION',
    ['strict', 'off'],
    'off',
    'the same for orders from peers, which their origin node has checked',
  ),
  chainId: integer('CHAIN_ID', 1, 'chain that transactions must name', 1, Number.MAX_SAFE_INTEGER),
  httpReadTimeoutSec: integer(
    'HTTP_READ_TIMEOUT_SEC',
    60,
    'from the first byte of a request to its last; its head within 10',
    1,
    3600,
  ),
  httpWriteTimeoutSec: integer(
    'HTTP_WRITE_TIMEOUT_SEC',
    30,
    'how long a client may take to read its answers',
    1,
    3600,
  ),
  httpIdleTimeoutSec: integer('HTTP_IDLE_TIMEOUT_SEC', 3600, 'how long a connection may idle', 1, 86_400),
  drainTimeoutSec: integer('DRAIN_TIMEOUT_SEC', 10, 'how long SIGTERM waits for answers and queues', 1, 600),
  logJson: flag('LOG_JSON', true, 'log lines as JSON; off = the same for human eyes'),
  logDebug: flag('LOG_DEBUG', false, 'log each connection to builder and peers, too'),
  logService: text('LOG_SERVICE', 'orderflow', 'name of the service in each log line'),
} as const;

type SettingsTable = typeof SETTINGS;
export type SettingName = keyof SettingsTable;
export type Settings = {
  readonly [K in SettingName]: SettingsTable[K] extends Setting<infer T> ? T : never;
};

/** The flag of an environment name: USER_LISTEN_ADDR → --user-listen-addr. */
export function flagOf(env: string): string {
  return `--${env.toLowerCase().replaceAll('_', '-')}`;
}

/**
 * Reads flags, then the environment, then the defaults.
 * @throws SettingError naming the setting, where it came from and what is allowed (never a secret's value)
 */
export function readSettings(
  argv: readonly string[],
  env: Readonly<Record<string, string | undefined>>,
): Settings {
  const flags = readFlags(argv);
  const settings: Record<string, unknown> = {};
  for (const [name, entry] of Object.entries(SETTINGS) as [SettingName, Setting<unknown>][]) {
    settings[name] = readOne(entry, flags, env);
  }
  return settings as Settings;
}

function readOne(
  entry: Setting<unknown>,
  flags: ReadonlyMap<string, string>,
  env: Readonly<Record<string, string | undefined>>,
): unknown {
  let source = '';
  let given: string | undefined;
  for (const name of [entry.env, ...entry.aliases]) {
    given = flags.get(flagOf(name));
    source = flagOf(name);
    if (given !== undefined) break;
  }
  if (given === undefined) {
    for (const name of [entry.env, ...entry.aliases]) {
      given = env[name] === '' ? undefined : env[name];
      source = name;
      if (given !== undefined) break;
    }
  }
  const value = entry.parse(given ?? entry.default);
  if (value !== undefined) return value;
  const shown = entry.secret ? '(not shown)' : JSON.stringify(given);
  throw new SettingError(`${source}: ${shown} is not allowed; allowed is ${entry.allowed}`);
}

function readFlags(argv: readonly string[]): Map<string, string> {
  const known = new Map<string, Setting<unknown>>();
  for (const entry of Object.values(SETTINGS) as Setting<unknown>[]) {
    for (const name of [entry.env, ...entry.aliases]) known.set(flagOf(name), entry);
  }
  const flags = new Map<string, string>();
  for (let i = 0; i < argv.length; i += 1) {
    const argument = argv[i] ?? '';
    const equals = argument.indexOf('=');
    const name = equals === -1 ? argument : argument.slice(0, equals);
    const entry = known.get(name);
    if (entry === undefined) throw new SettingError(`${name}: no such flag; --help shows all of them`);
    if (equals !== -1) {
      flags.set(name, argument.slice(equals + 1));
    } else if (entry.allowed === 'true or false' && entry.parse(argv[i + 1] ?? '') === undefined) {
      flags.set(name, 'true');
    } else {
      i += 1;
      const value = argv[i];
      if (value === undefined)
        throw new SettingError(`${name}: a value is missing; allowed is ${entry.allowed}`);
      flags.set(name, value);
    }
  }
  return flags;
}

/** The settings in a form that can be sent to another thread. */
export type PackedSettings = Readonly<Record<string, unknown>>;

export function packSettings(settings: Settings): PackedSettings {
  return Object.fromEntries(
    Object.entries(settings).map(([name, value]) => [
      name,
      value instanceof URL ? { url: value.href } : value,
    ]),
  );
}

export function unpackSettings(packed: PackedSettings): Settings {
  return Object.fromEntries(
    Object.entries(packed).map(([name, value]) => [name, isPackedUrl(value) ? new URL(value.url) : value]),
  ) as Settings;
}

function isPackedUrl(value: unknown): value is { url: string } {
  return typeof value === 'object' && value !== null && 'url' in value;
}

/** One row for each setting, for `--help` and the README. */
export function settingRows(): {
  env: string;
  flag: string;
  default: string;
  help: string;
  allowed: string;
}[] {
  return (Object.values(SETTINGS) as Setting<unknown>[]).map((entry) => ({
    env: [entry.env, ...entry.aliases].join(', '),
    flag: flagOf(entry.env),
    default: entry.secret ? '(secret)' : entry.default,
    help: entry.help,
    allowed: entry.allowed,
  }));
}
