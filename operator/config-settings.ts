/**
 * Every key of [general] in one table: default, what is allowed, what it does. The parser and the README's table are
 * made from it. The defaults are the safe ones; where the deployed program behaved otherwise, a key brings that back.
 */
import { parseNames } from '../identity/certificate.ts';
import type { ListenAddress } from '../ingress/listeners.ts';
import { parseStoredHash } from './password.ts';
import { UPLOAD_CHECKS } from './upload-checks.ts';

export interface Setting<T> {
  /** As it would stand in the file. */
  readonly default: string;
  readonly help: string;
  readonly allowed: string;
  /** Its value is not shown anywhere. */
  readonly secret: boolean;
  readonly parse: (value: unknown) => T | undefined;
}

const MAX_ENTRIES = 100_000;
const MAX_TIMEOUT_MS = 3_600_000;
const MAX_UPLOAD_BYTES = 64 * 1024 * 1024;
/** Of actions, of uploads, of boot steps. */
export const MAX_NAMES = 64;
export const NAME = /^[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}$/;

export const SETTINGS = {
  listen_addr: address('127.0.0.1:3535', 'where the API listens'),
  metrics_addr: optionalAddress('', 'GET /metrics over plain HTTP; empty = none'),
  max_connections: integer(256, 'most open connections; the one idle longest is closed', 2, 10_000),
  http_read_timeout_ms: integer(
    30_000,
    'one request, first byte to last; 0 = none, as deployed',
    0,
    MAX_TIMEOUT_MS,
  ),
  http_write_timeout_ms: integer(
    30_000,
    'how long a client may leave an answer unread; 0 = none, as deployed',
    0,
    MAX_TIMEOUT_MS,
  ),

  tls_enabled: flag(true, 'HTTPS; off only behind something that ends TLS on this machine'),
  tls_cert_path: text('', 'certificate, PEM; needed with TLS'),
  tls_key_path: text('', 'its private key, PEM, readable by nobody else; needed with TLS'),
  tls_create_if_missing: flag(true, 'make both when neither is there, and renew a certificate that was made'),
  tls_cert_hosts: hosts(['localhost', '127.0.0.1'], 'names and IP addresses of a made certificate'),

  basic_auth_secret_path: text('', 'file of the password hash, written by set-basic-auth; empty = none'),
  basic_auth_secret_hash: {
    ...setting(
      '""',
      'hash of the first password, used until the file above has one: nobody who calls first can set it',
      'a line of `hash-password`, or 64 hex digits of the deployed form',
      (value) =>
        typeof value === 'string' && (value === '' || parseStoredHash(value) !== undefined)
          ? value
          : undefined,
    ),
    secret: true,
  },
  basic_auth_secret_salt: {
    ...text('', 'salt of hashes in the deployed form, sha256(password || salt)'),
    secret: true,
  },
  password_hash: oneOf(
    ['argon2id', 'sha256'],
    'argon2id',
    'how a new password is stored: slow and with a salt of its own, or as deployed',
  ),
  password_rules: oneOf(
    ['strict', 'none'],
    'strict',
    'strict: at least 8 bytes of UTF-8 without control characters; none: any bytes, as deployed',
  ),
  without_password: oneOf(
    ['locked', 'open'],
    'locked',
    'until there is a password: only set-basic-auth and /livez, or everything, as deployed',
  ),
  livez_open: flag(false, '/livez without credentials, for a local health check; off as deployed'),
  failed_logins_per_minute: integer(
    10,
    'failed logins of one address (IPv6: of one /64), as many at once; beyond, 429',
    1,
    100_000,
  ),

  pipe_file: text('', 'FIFO, one event per line; made when missing; empty = none'),
  pipe_mode: mode(0o622, 'permission bits of a FIFO that is made; the deployed one had 0o666'),
  pipe_fragment_ms: integer(
    2000,
    'a line without its end becomes an event after so long',
    10,
    MAX_TIMEOUT_MS,
  ),
  log_max_entries: integer(1000, 'most events kept (environment: MAX_EVENTS)', 1, MAX_ENTRIES),
  events_file: text('', 'keeps the events over a restart; empty = in memory only, as deployed'),
  boot_steps: names([], 'steps that the page shows before they have been reported'),

  shell_actions: flag(false, 'allow actions that are one shell command line, as deployed'),
  action_environment: oneOf(
    ['minimal', 'inherited'],
    'minimal',
    'environment of actions: PATH and LANG alone, or that of this process, as deployed',
  ),
  action_timeout_ms: integer(60_000, 'how long an action may run', 10, MAX_TIMEOUT_MS),
  action_output_bytes: integer(
    262_144,
    'most bytes of output of an action, and as many of errors',
    1024,
    MAX_UPLOAD_BYTES,
  ),

  upload_check: oneOf(
    UPLOAD_CHECKS,
    'addresses',
    'what an upload must be: a JSON list of addresses, any JSON, or any bytes, as deployed',
  ),
  upload_max_bytes: integer(1_048_576, 'most bytes of an upload', 1, MAX_UPLOAD_BYTES),
  upload_mode: mode(0o644, 'permission bits of an uploaded file'),

  log_json: flag(true, 'log lines as JSON; off = the same for human eyes'),
  log_debug: flag(false, 'log more'),
  pprof: flag(false, 'GET /debug/pprof/profile?seconds=N: a CPU profile in V8 form'),
  unknown_keys: oneOf(['refuse', 'ignore'], 'refuse', 'keys that nobody knows; the deployed program ignores'),
} as const;

type SettingsTable = typeof SETTINGS;
export type General = {
  readonly [K in keyof SettingsTable]: SettingsTable[K] extends Setting<infer T> ? T : never;
};

export function isList(value: unknown, fits: (entry: unknown) => boolean): value is unknown[] {
  return Array.isArray(value) && value.every(fits);
}

function setting<T>(
  fallback: string,
  help: string,
  allowed: string,
  read: (value: unknown) => T | undefined,
): Setting<T> {
  return { default: fallback, help, allowed, secret: false, parse: read };
}

function text(fallback: string, help: string): Setting<string> {
  return setting(JSON.stringify(fallback), help, 'text', (value) =>
    typeof value === 'string' && !value.includes('\0') ? value : undefined,
  );
}

function flag(fallback: boolean, help: string): Setting<boolean> {
  return setting(String(fallback), help, 'true or false', (value) =>
    typeof value === 'boolean' ? value : undefined,
  );
}

function integer(fallback: number, help: string, min: number, max: number): Setting<number> {
  return setting(String(fallback), help, `a whole number from ${min} to ${max}`, (value) =>
    typeof value === 'number' && Number.isInteger(value) && value >= min && value <= max ? value : undefined,
  );
}

function mode(fallback: number, help: string): Setting<number> {
  return setting(`0o${fallback.toString(8)}`, help, 'permission bits, such as 0o640', (value) =>
    typeof value === 'number' && Number.isInteger(value) && value >= 0 && value <= 0o777 ? value : undefined,
  );
}

function oneOf<const T extends string>(values: readonly T[], fallback: T, help: string): Setting<T> {
  return setting(JSON.stringify(fallback), help, values.join(' or '), (value) =>
    values.find((allowed) => allowed === value),
  );
}

function parseAddress(value: unknown): ListenAddress | undefined {
  if (typeof value !== 'string') return undefined;
  const match = /^(?:\[([0-9a-fA-F:.]+)\]|([^\s:[\]]*)):(\d{1,5})$/.exec(value);
  if (match === null || Number(match[3]) > 65_535) return undefined;
  return { host: match[1] ?? (match[2] === '' ? '::' : (match[2] ?? '')), port: Number(match[3]) };
}

function address(fallback: string, help: string): Setting<ListenAddress> {
  return setting(JSON.stringify(fallback), help, 'HOST:PORT, [IPV6]:PORT or :PORT', parseAddress);
}

function optionalAddress(fallback: string, help: string): Setting<ListenAddress | null> {
  return setting(JSON.stringify(fallback), help, 'HOST:PORT, [IPV6]:PORT, :PORT or empty', (value) =>
    value === '' ? null : parseAddress(value),
  );
}

function hosts(fallback: readonly string[], help: string): Setting<readonly string[]> {
  return setting(JSON.stringify(fallback), help, 'a list of DNS names and IP addresses', (value) => {
    if (!isList(value, (entry) => typeof entry === 'string')) return undefined;
    try {
      return parseNames(value as string[]).map(({ name }) => name);
    } catch {
      return undefined;
    }
  });
}

function names(fallback: readonly string[], help: string): Setting<readonly string[]> {
  return setting(JSON.stringify(fallback), help, 'a list of at most 64 names', (value) =>
    isList(value, (entry) => typeof entry === 'string' && NAME.test(entry)) && value.length <= MAX_NAMES
      ? (value as string[])
      : undefined,
  );
}

/** One row for each key of [general], for the README. */
export function configRows(): { key: string; default: string; help: string; allowed: string }[] {
  return (Object.entries(SETTINGS) as [string, Setting<unknown>][]).map(([key, entry]) => ({
    key,
    default: entry.default,
    help: entry.help,
    allowed: entry.allowed,
  }));
}
