/**
 * The configuration that a node gets from the hub: its schema, and the files that services read. Values are placed
 * by the target format's own quoting, never by text substitution. Keys that no service here reads are kept out.
 */
import { isIP } from 'node:net';

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
  ...RATES.flatMap((rate) => [
    { key: `haproxy.rate_limit_${rate}_regular`, fallback: RATE_DEFAULTS[rate][0], check: count },
    { key: `haproxy.rate_limit_${rate}_privileged`, fallback: RATE_DEFAULTS[rate][1], check: count },
  ]),
  { key: 'haproxy.rate_limit_privileged_ips', fallback: [], check: addresses },
];

/**
 * Checks the hub's answer and makes every file of it.
 * @param answer the JSON document
 * @throws ConfigError naming every key that is missing or wrong; none of its values
 */
export function renderConfig(answer: string): Rendered[] {
  const values = readValues(parse(answer));
  const value = (key: string): string => String(values.get(key));
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
    { path: 'hostname/sysctl.conf', text: `kernel.hostname = ${value('instance_name')}\n` },
    { path: 'config-watchdog/instance-name', text: value('instance_name') },
    { path: 'persistent-setup/disk-key', text: value('disk_encryption.key') },
    {
      path: 'orderflow-proxy/env',
      text: environmentFile([
        ['REGION', value('flowproxy.builder_region')],
        ['FLASHBOTS_ORDERFLOW_SIGNER_ADDRESS', value('flowproxy.flashbots_orderflow_signing_address')],
        ['CERT_HOSTS', (values.get('flowproxy.cert_hosts') as readonly string[]).join(',')],
      ]),
    },
    { path: 'haproxy/env', text: environmentFile(limits) },
    { path: 'haproxy/privileged.lst', text: privileged.map(([address]) => `${address}\n`).join('') },
    {
      path: 'haproxy/senders.map',
      text: privileged.map(([address, name = 'unknown']) => `${address} ${name}\n`).join(''),
    },
  ];
}

/**
 * An environment file as systemd reads it (systemd.exec(5), EnvironmentFile=): in double quotes, where `\`, `"`, `$`
 * and the backquote are escaped by `\`.
 */
export function environmentFile(entries: readonly (readonly [string, string])[]): string {
  return entries.map(([name, value]) => `${name}="${value.replaceAll(/[\\"$`]/gu, '\\$&')}"\n`).join('');
}

function parse(answer: string): unknown {
  try {
    return JSON.parse(answer);
  } catch {
    throw new ConfigError([{ key: 'configuration', problem: 'is no JSON' }]);
  }
}

function readValues(document: unknown): Map<string, unknown> {
  const values = new Map<string, unknown>();
  const problems: { key: string; problem: string }[] = [];
  for (const { key, fallback, check } of FIELDS) {
    const value = lookUp(document, key) ?? fallback;
    const problem = value === undefined || value === null ? 'is missing' : check(value);
    if (problem === null) values.set(key, value);
    else problems.push({ key, problem });
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
