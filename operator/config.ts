/**
 * The operator API's configuration: TOML with the keys of the deployed system-api, and ours beside them
 * (config-settings.ts).
 *
 * Limits: read once at the start. Values of secret keys stand in no error.
 */
import { isAbsolute } from 'node:path';
import { parse } from 'smol-toml';
import { type General, isList, MAX_NAMES, NAME, SETTINGS, type Setting } from './config-settings.ts';
import type { UploadCheck } from './upload-checks.ts';

/** The configuration was wrong; the message names the key and says what is allowed. */
class ConfigError extends Error {}

export interface ActionConfig {
  /** Program and arguments; for a shell action the one command line. */
  readonly command: readonly string[];
  readonly shell: boolean;
  readonly timeoutMs: number;
  /** Most bytes of standard output, and as many of standard error. */
  readonly outputBytes: number;
}

export interface UploadConfig {
  readonly path: string;
  readonly check: UploadCheck;
  readonly maxBytes: number;
  /** Permission bits of the file. */
  readonly mode: number;
}

export interface OperatorConfig {
  readonly general: General;
  readonly actions: ReadonlyMap<string, ActionConfig>;
  readonly uploads: ReadonlyMap<string, UploadConfig>;
}

/** What flags and environment set over the file. */
export interface ConfigOverrides {
  readonly listenAddr?: string | undefined;
  readonly pipeFile?: string | undefined;
  /** MAX_EVENTS: what `log_max_entries` is when the file does not say. */
  readonly maxEvents?: string | undefined;
}

/**
 * Reads a configuration file's text.
 *
 * @throws ConfigError naming the key, or the line that is no TOML
 */
export function readConfig(source: string, overrides: ConfigOverrides = {}): OperatorConfig {
  const tables = parseTables(source);
  const general = table(tables.get('general'), 'general');
  if (overrides.listenAddr !== undefined) general.set('listen_addr', overrides.listenAddr);
  if (overrides.pipeFile !== undefined) general.set('pipe_file', overrides.pipeFile);
  if (overrides.maxEvents !== undefined && !general.has('log_max_entries')) {
    general.set('log_max_entries', wholeNumber(overrides.maxEvents));
  }
  const settings = readGeneral(general);
  if (settings.unknown_keys === 'refuse') {
    refuseUnknown(tables.keys(), ['general', 'actions', 'file_uploads'], '');
    refuseUnknown(general.keys(), Object.keys(SETTINGS), 'general.');
  }
  const config = {
    general: settings,
    actions: readEach(tables.get('actions'), 'actions', (value, key) => readAction(value, key, settings)),
    uploads: readEach(tables.get('file_uploads'), 'file_uploads', (value, key) =>
      readUpload(value, key, settings),
    ),
  };
  refuseContradictions(settings);
  return config;
}

function parseTables(source: string): Map<string, unknown> {
  try {
    return new Map(Object.entries(parse(source, { maxDepth: 8 })));
  } catch (error) {
    // The library adds the lines around the fault, which may hold a secret: only the place is told.
    const { line, column } = error as { line?: number; column?: number };
    const what = error instanceof Error ? (error.message.split('\n')[0] ?? '') : 'cannot be read';
    throw new ConfigError(`line ${line ?? '?'}, column ${column ?? '?'}: ${what}`);
  }
}

function readGeneral(given: ReadonlyMap<string, unknown>): General {
  const settings: Record<string, unknown> = {};
  for (const [key, entry] of Object.entries(SETTINGS) as [string, Setting<unknown>][]) {
    const value = given.get(key) ?? parse(`v = ${entry.default}`).v;
    const parsed = entry.parse(value);
    if (parsed === undefined) throw notAllowed(`general.${key}`, value, entry.allowed, entry.secret);
    settings[key] = parsed;
  }
  return settings as General;
}

/** Settings that are fine one by one and do not go together. */
function refuseContradictions(general: General): void {
  if (general.tls_enabled) {
    for (const key of ['tls_cert_path', 'tls_key_path'] as const) {
      if (general[key] === '') throw new ConfigError(`general.${key}: is missing; TLS needs it`);
    }
  }
  const hasPassword = general.basic_auth_secret_path !== '' || general.basic_auth_secret_hash !== '';
  if (!hasPassword && general.without_password === 'locked') {
    throw new ConfigError(
      'general.basic_auth_secret_path: is missing; without it or basic_auth_secret_hash nobody can log in ' +
        '(without_password = "open" serves everybody)',
    );
  }
}

function readAction(value: unknown, key: string, general: General): ActionConfig {
  const fields = isTable(value) ? table(value, key) : new Map([['command', value]]);
  if (general.unknown_keys === 'refuse') {
    refuseUnknown(fields.keys(), ['command', 'timeout_ms', 'output_bytes'], `${key}.`);
  }
  const limits = {
    timeoutMs: readField(fields, key, 'timeout_ms', SETTINGS.action_timeout_ms, general.action_timeout_ms),
    outputBytes: readField(
      fields,
      key,
      'output_bytes',
      SETTINGS.action_output_bytes,
      general.action_output_bytes,
    ),
  };
  const command = fields.get('command');
  if (typeof command === 'string' && command !== '') {
    if (general.shell_actions) return { command: [command], shell: true, ...limits };
    throw new ConfigError(
      `${key}: is a shell command; write program and arguments as a list, or set general.shell_actions`,
    );
  }
  if (!isList(command, (part) => typeof part === 'string' && !part.includes('\0')) || command.length === 0) {
    throw new ConfigError(`${key}: is not allowed; allowed is a list of texts, program first`);
  }
  const argv = command as string[];
  if (!isAbsolute(argv[0] ?? '')) {
    throw new ConfigError(`${key}: ${JSON.stringify(argv[0])} is not allowed; the program's whole path is`);
  }
  return { command: argv, shell: false, ...limits };
}

function readUpload(value: unknown, key: string, general: General): UploadConfig {
  const fields = isTable(value) ? table(value, key) : new Map([['path', value]]);
  if (general.unknown_keys === 'refuse') {
    refuseUnknown(fields.keys(), ['path', 'check', 'max_bytes', 'mode'], `${key}.`);
  }
  const path = fields.get('path');
  if (typeof path !== 'string' || path === '' || path.endsWith('/') || path.includes('\0')) {
    throw new ConfigError(`${key}: ${JSON.stringify(path)} is not allowed; allowed is the path of a file`);
  }
  return {
    path,
    check: readField(fields, key, 'check', SETTINGS.upload_check, general.upload_check),
    maxBytes: readField(fields, key, 'max_bytes', SETTINGS.upload_max_bytes, general.upload_max_bytes),
    mode: readField(fields, key, 'mode', SETTINGS.upload_mode, general.upload_mode),
  };
}

function readField<T>(
  fields: ReadonlyMap<string, unknown>,
  key: string,
  field: string,
  { parse: read, allowed }: Setting<T>,
  fallback: T,
): T {
  if (!fields.has(field)) return fallback;
  const value = read(fields.get(field));
  if (value === undefined) throw notAllowed(`${key}.${field}`, fields.get(field), allowed, false);
  return value;
}

function readEach<T>(
  value: unknown,
  where: string,
  read: (value: unknown, key: string) => T,
): ReadonlyMap<string, T> {
  const result = new Map<string, T>();
  for (const [name, entry] of table(value, where)) {
    if (!NAME.test(name)) {
      throw new ConfigError(
        `${where}: ${JSON.stringify(name)} is not allowed; a name is up to 64 letters, digits, _ . and -`,
      );
    }
    result.set(name, read(entry, `${where}.${name}`));
  }
  if (result.size > MAX_NAMES) throw new ConfigError(`${where}: at most ${MAX_NAMES} are allowed`);
  return result;
}

function refuseUnknown(keys: Iterable<string>, known: readonly string[], prefix: string): void {
  for (const key of keys) {
    if (!known.includes(key)) {
      throw new ConfigError(`${prefix}${key}: no such key (general.unknown_keys = "ignore" takes any)`);
    }
  }
}

function notAllowed(key: string, value: unknown, allowed: string, secret: boolean): ConfigError {
  const shown = secret ? '(not shown)' : JSON.stringify(value);
  return new ConfigError(`${key}: ${shown} is not allowed; allowed is ${allowed}`);
}

function table(value: unknown, where: string): Map<string, unknown> {
  if (value === undefined) return new Map();
  if (!isTable(value)) throw new ConfigError(`${where}: must be a table`);
  return new Map(Object.entries(value));
}

function isTable(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value) && !(value instanceof Date);
}

/** NaN is allowed nowhere. */
function wholeNumber(digits: string): number {
  return /^\d+$/.test(digits) ? Number(digits) : Number.NaN;
}
