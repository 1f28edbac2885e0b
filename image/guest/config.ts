/**
 * The configuration that a node gets from the hub: its schema, and the files that services read. Values are placed
 * by the target format's own quoting, never by text substitution. Keys that no service here reads are kept out.
 */
import { isIP, isIPv4 } from 'node:net';
import { BROKER_FILES, brokersProblem, certificatesProblem, keyProblem, pairProblem } from './brokers.ts';
import { environmentFile, quoted } from './formats.ts';
import { operatorToml } from './operator-config.ts';

/** A file to write, owned by root, mode 0400. */
export interface Rendered {
  /** Relative to the target folder. */
  readonly path: string;
  readonly text: string;
}

/** The configuration lacks something or holds what cannot be; names keys, never values. */
export class ConfigError extends Error {
  readonly keys: readonly string[];

  constructor(problems: readonly { readonly key: string; readonly problem: string }[]) {
    super(problems.map(({ key, problem }) => `${key}: ${problem}`).join('; '));
    this.name = 'ConfigError';
    this.keys = problems.map(({ key }) => key);
  }
}

interface Field {
  readonly key: string;
  /** Used when the hub names none; without it the key is required. */
  readonly fallback?: string | number | readonly string[];
  /** Why the value cannot be, or null. */
  readonly check: (value: unknown) => string | null;
}

const text =
  (pattern: RegExp, allowed: string) =>
  (value: unknown): string | null =>
    typeof value === 'string' && pattern.test(value) ? null : `must be ${allowed}`;
const count = (value: unknown): string | null =>
  Number.isSafeInteger(value) && (value as number) >= 1 ? null : 'must be a whole number above 0';
const list =
  (item: RegExp, allowed: string) =>
  (value: unknown): string | null =>
    Array.isArray(value) &&
    value.length <= 10_000 &&
    value.every((one) => typeof one === 'string' && item.test(one))
      ? null
      : `must be a list of ${allowed}`;
const addresses = (value: unknown): string | null =>
  Array.isArray(value) && value.length <= 10_000 && value.every(isAddressEntry)
    ? null
    : 'must be a list of IP addresses, each with the name of its sender after a space if it has one';

/** Every address there is. */
export const ANYWHERE = '0.0.0.0/0';

/** `ADDRESS` or `ADDRESS/BITS`; the machine speaks IPv4 alone. */
const networks = (value: unknown): string | null =>
  Array.isArray(value) && value.length <= 1000 && value.every(isNetwork)
    ? null
    : 'must be a list of IPv4 addresses and networks';

function isNetwork(value: unknown): boolean {
  if (typeof value !== 'string') return false;
  const [address = '', bits = '32', ...more] = value.split('/');
  return isIPv4(address) && /^(?:\d|[12]\d|3[0-2])$/u.test(bits) && more.length === 0;
}

/** `ADDRESS` or `ADDRESS NAME`. */
function isAddressEntry(value: unknown): boolean {
  if (typeof value !== 'string') return false;
  const [address = '', name = 'unknown', ...more] = value.split(' ');
  return isIP(address) !== 0 && /^[\w.-]{1,64}$/u.test(name) && more.length === 0;
}

const RATES = ['conn_rate', 'total_conn', 'bytes_in_rate', 'http_req_rate'] as const;
/** Per source: connections per 10 s, open connections, bytes per minute, requests per 10 s. */
const RATE_DEFAULTS: Readonly<Record<(typeof RATES)[number], readonly [number, number]>> = {
  conn_rate: [100, 1000],
  total_conn: [100, 1000],
  bytes_in_rate: [100_000_000, 1_000_000_000],
  http_req_rate: [1000, 100_000],
};

/** Where systemd puts the node's credentials. */
const NODE_CREDENTIALS = '/run/credentials/orderflow-proxy.service';

const SECRET_KEY = /^(?:0x)?[0-9a-f]{64}$/u;

const CLIENT_CERTIFICATE = 'flowproxy.kafka.client_cert';
const CLIENT_KEY = 'flowproxy.kafka.client_key';

const FIELDS: readonly Field[] = [
  {
    key: 'instance_name',
    check: text(/^[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?$/u, 'a host name of one label'),
  },
  // 32 bytes: a shorter or empty key would make a disk that anybody opens.
  { key: 'disk_encryption.key', check: text(/^(?:[0-9a-f]{2}){32,64}$/u, 'at least 64 hex digits') },
  { key: 'flowproxy.builder_region', fallback: '', check: text(/^[\x20-\x7e]{0,64}$/u, 'printable ASCII') },
  {
    key: 'flowproxy.flashbots_orderflow_signing_address',
    fallback: '0x5015Fa72E34f75A9eC64f44a4Fcf0837919D1bB7',
    check: text(/^0x[0-9a-fA-F]{40}$/u, '0x and 40 hex digits'),
  },
  {
    key: 'flowproxy.cert_hosts',
    fallback: ['localhost', '127.0.0.1'],
    check: list(/^[\w.:-]{1,253}$/u, 'DNS names and IP addresses'),
  },
  // None: the segments on the data disk are the archive.
  { key: 'flowproxy.kafka.brokers', fallback: [], check: brokersProblem },
  {
    key: 'flowproxy.kafka.topic',
    fallback: 'orders',
    check: text(/^(?!\.{1,2}$)[\w.-]{1,249}$/u, '1 to 249 letters, digits, dots, underscores, dashes'),
  },
  // None: the authorities of the web vouch for the brokers.
  { key: 'flowproxy.kafka.ca', fallback: '', check: certificatesProblem },
  { key: CLIENT_CERTIFICATE, fallback: '', check: certificatesProblem },
  { key: CLIENT_KEY, fallback: '', check: keyProblem },
  ...RATES.flatMap((rate) => [
    { key: `haproxy.rate_limit_${rate}_regular`, fallback: RATE_DEFAULTS[rate][0], check: count },
    { key: `haproxy.rate_limit_${rate}_privileged`, fallback: RATE_DEFAULTS[rate][1], check: count },
  ]),
  { key: 'haproxy.rate_limit_privileged_ips', fallback: [], check: addresses },
  { key: 'operator_cidrs', fallback: [ANYWHERE], check: networks },
  {
    key: 'operator_api.password_hash',
    fallback: '',
    check: text(
      /^(?:|\$argon2id\$[\w$=,+/.-]{20,300}|[0-9a-f]{64})$/u,
      'a line of `operator-api hash-password`, or 64 hex digits',
    ),
  },
];

/** Read where the image has a builder. */
const BUILDER_FIELDS: readonly Field[] = [
  { key: 'github_token', fallback: '', check: text(/^[\x21-\x7e]{0,256}$/u, 'printable ASCII') },
  { key: 'rbuilder.coinbase_secret_key', check: text(SECRET_KEY, '64 hex digits') },
  { key: 'rbuilder.relay_secret_key', check: text(SECRET_KEY, '64 hex digits') },
  { key: 'rbuilder.extra_data', fallback: '', check: text(/^[\x20-\x7e]{0,32}$/u, 'printable ASCII') },
  {
    key: 'rebalancer.builder_eoa_key',
    fallback: '',
    check: text(/^(?:|(?:0x)?[0-9a-f]{64})$/u, '64 hex digits'),
  },
];

/** Read where the image lets somebody in. */
const SSH_FIELDS: readonly Field[] = [
  // None: nobody.
  { key: 'ssh.cidrs', fallback: [], check: networks },
  {
    key: 'ssh.authorized_keys',
    fallback: [],
    check: list(
      /^(?:ssh-ed25519|ecdsa-sha2-nistp256|sk-ssh-ed25519@openssh\.com) [A-Za-z0-9+/=]{40,1000}(?: [\w.@-]{1,64})?$/u,
      'public keys of ssh, each one line',
    ),
  },
];

const HTTPS = /^https:\/\/[\w.-]{1,253}(?::\d{1,5})?(?:\/[\w./-]{0,200})?$/u;
/** Read where the image sends out what it logs and counts. */
const EXPORT_FIELDS: readonly Field[] = [
  { key: 'export.metrics_url', check: text(HTTPS, 'an https URL') },
  { key: 'export.journal_url', check: text(HTTPS, 'an https URL') },
];

/** Metrics of all services, by name. */
const SCRAPED: Readonly<Record<string, number>> = {
  haproxy: 8405,
  lighthouse: 5054,
  machine: 9100,
  orderflow: 8090,
  rbuilder: 6060,
  reth: 9001,
};

/** What the image has. */
export interface RenderOptions {
  /** `[actions]` of the operator API, TOML. */
  readonly actions: string;
  /** Whether the builder runs in it: its secrets are written nowhere else. */
  readonly builder: boolean;
  readonly ssh: boolean;
  /** Whether metrics and journal are sent out. */
  readonly exports: boolean;
}

/**
 * Checks the hub's answer and makes every file of it. The first part of a path is the service that reads it.
 * @param answer the JSON document
 * @throws ConfigError naming every key that is missing or wrong; none of its values
 */
export function renderConfig(answer: string, options: RenderOptions): Rendered[] {
  const { actions, builder, ssh, exports } = options;
  const values = readValues(parse(answer), [
    ...FIELDS,
    ...(builder ? BUILDER_FIELDS : []),
    ...(ssh ? SSH_FIELDS : []),
    ...(exports ? EXPORT_FIELDS : []),
  ]);
  const value = (key: string): string => String(values.get(key));
  const credential = (key: keyof typeof BROKER_FILES): string =>
    value(`flowproxy.kafka.${key}`) === '' ? '' : `${NODE_CREDENTIALS}/${BROKER_FILES[key]}`;
  const privileged = (values.get('haproxy.rate_limit_privileged_ips') as readonly string[]).map((entry) =>
    entry.split(' '),
  );
  const limits = RATES.flatMap((rate) =>
    ['regular', 'privileged'].map((kind): [string, string] => [
      `${rate}_${kind}`.toUpperCase(),
      value(`haproxy.rate_limit_${rate}_${kind}`),
    ]),
  );
  return [
    { path: 'hostname-set/sysctl.conf', text: `kernel.hostname = ${value('instance_name')}\n` },
    { path: 'config-watchdog/instance-name', text: value('instance_name') },
    { path: 'persistent-setup/disk-key', text: value('disk_encryption.key') },
    {
      path: 'orderflow-proxy/env',
      text: environmentFile([
        ['REGION', value('flowproxy.builder_region')],
        ['FLASHBOTS_ORDERFLOW_SIGNER_ADDRESS', value('flowproxy.flashbots_orderflow_signing_address')],
        ['CERT_HOSTS', (values.get('flowproxy.cert_hosts') as readonly string[]).join(',')],
        ['KAFKA_BROKERS', (values.get('flowproxy.kafka.brokers') as readonly string[]).join(',')],
        ['KAFKA_TOPIC', value('flowproxy.kafka.topic')],
        ['KAFKA_CA_FILE', credential('ca')],
        ['KAFKA_CERT_FILE', credential('client_cert')],
        ['KAFKA_KEY_FILE', credential('client_key')],
      ]),
    },
    ...Object.entries(BROKER_FILES).map(([key, file]) => ({
      path: `orderflow-proxy/${file}`,
      text: value(`flowproxy.kafka.${key}`),
    })),
    {
      path: 'firewall-sources/sets.nft',
      text: [['operator', 'operator_cidrs'], ...(ssh ? [['ssh', 'ssh.cidrs']] : [])]
        .map(([set = '', key = '']) => addressSet(set, values.get(key) as readonly string[]))
        .join(''),
    },
    { path: 'haproxy/env', text: environmentFile(limits) },
    { path: 'haproxy/privileged.lst', text: privileged.map(([address]) => `${address}\n`).join('') },
    {
      path: 'haproxy/senders.map',
      text: privileged.map(([address, name = 'unknown']) => `${address} ${name}\n`).join(''),
    },
    {
      path: 'operator-api/config.toml',
      text: operatorToml({ hash: value('operator_api.password_hash'), phase: 'run', actions }),
    },
    ...(builder ? builderFiles(value) : []),
    ...(ssh
      ? [
          {
            path: 'ssh-setup/authorized_keys',
            text: (values.get('ssh.authorized_keys') as readonly string[]).map((key) => `${key}\n`).join(''),
          },
        ]
      : []),
    ...(exports ? exportFiles(value) : []),
  ];
}

/** For nft, which takes a file whole or not at all. */
function addressSet(name: string, networksOfIt: readonly string[]): string {
  const add = `add element inet filter ${name} { ${networksOfIt.join(', ')} }\n`;
  return `flush set inet filter ${name}\n${networksOfIt.length === 0 ? '' : add}`;
}

function exportFiles(value: (key: string) => string): Rendered[] {
  const jobs = Object.entries(SCRAPED).flatMap(([name, port]) => [
    `  - job_name: ${quoted(name)}`,
    '    static_configs:',
    `      - targets: [${quoted(`127.0.0.1:${port}`)}]`,
  ]);
  const prometheus = [
    'global:',
    '  scrape_interval: 15s',
    '  external_labels:',
    `    instance_name: ${quoted(value('instance_name'))}`,
    'scrape_configs:',
    ...jobs,
    'remote_write:',
    `  - url: ${quoted(value('export.metrics_url'))}`,
    '',
  ];
  return [
    { path: 'prometheus-agent/prometheus.yml', text: prometheus.join('\n') },
    {
      path: 'systemd-journal-upload/env',
      text: environmentFile([['JOURNAL_URL', value('export.journal_url')]]),
    },
  ];
}

function builderFiles(value: (key: string) => string): Rendered[] {
  const toml = (section: string, keys: readonly string[]): string =>
    keys.map((key) => `${key} = ${quoted(value(`${section}.${key}`))}\n`).join('');
  return [
    { path: 'private-fetch/token', text: value('github_token') },
    {
      path: 'rbuilder-operator/config.toml',
      text: toml('rbuilder', ['coinbase_secret_key', 'relay_secret_key', 'extra_data']),
    },
    { path: 'rbuilder-rebalancer/config.toml', text: toml('rebalancer', ['builder_eoa_key']) },
  ];
}

function parse(answer: string): unknown {
  try {
    return JSON.parse(answer);
  } catch {
    throw new ConfigError([{ key: 'configuration', problem: 'is no JSON' }]);
  }
}

function readValues(document: unknown, fields: readonly Field[]): Map<string, unknown> {
  const values = new Map<string, unknown>();
  const problems: { key: string; problem: string }[] = [];
  for (const { key, fallback, check } of fields) {
    const value = lookUp(document, key) ?? fallback;
    const problem = value === undefined || value === null ? 'is missing' : check(value);
    if (problem === null) values.set(key, value);
    else problems.push({ key, problem });
  }
  const [certificates, clientKey] = [values.get(CLIENT_CERTIFICATE), values.get(CLIENT_KEY)];
  if (typeof certificates === 'string' && typeof clientKey === 'string') {
    const problem = pairProblem(certificates, clientKey);
    if (problem !== null) problems.push({ key: `${CLIENT_CERTIFICATE} and client_key`, problem });
  }
  if (problems.length > 0) throw new ConfigError(problems);
  return values;
}

function lookUp(document: unknown, key: string): unknown {
  let value = document;
  for (const part of key.split('.')) {
    if (typeof value !== 'object' || value === null || !Object.hasOwn(value, part)) return undefined;
    value = (value as Record<string, unknown>)[part];
  }
  return value;
}
