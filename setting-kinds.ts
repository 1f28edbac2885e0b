/** What a setting can be: how its text is read, what is allowed, what an operator is told who wrote something else. */
import { parseHost } from './identity/host.ts';
import type { Address } from './pipeline/order.ts';

/** A setting was wrong; the message names it and says what is allowed. */
export class SettingError extends Error {}

export interface Setting<T> {
  readonly env: string;
  /** Older names that operators use; the first one set wins. */
  readonly aliases: readonly string[];
  /** Text as an operator would write it. */
  readonly default: string;
  readonly help: string;
  /** What is allowed, as shown in an error. */
  readonly allowed: string;
  /** Its value is not shown anywhere. */
  readonly secret: boolean;
  /** @returns undefined when the text is not allowed. */
  readonly parse: (text: string) => T | undefined;
}

type Extra = Partial<Pick<Setting<unknown>, 'aliases' | 'secret'>>;

export function setting<T>(
  env: string,
  fallback: string,
  help: string,
  allowed: string,
  parse: (text: string) => T | undefined,
  extra: Extra = {},
): Setting<T> {
  return { env, default: fallback, help, allowed, parse, aliases: [], secret: false, ...extra };
}

export function integer(
  env: string,
  fallback: number,
  help: string,
  min: number,
  max: number,
  extra?: Extra,
): Setting<number> {
  const allowed = `a whole number from ${min} to ${max}`;
  return setting(env, String(fallback), help, allowed, integerWithin(min, max), extra);
}

/** A number, or the word that leaves it to the node, which is the default. */
export function integerOr<const W extends string>(
  env: string,
  word: W,
  help: string,
  min: number,
  max: number,
): Setting<number | W> {
  const allowed = `${word} or a whole number from ${min} to ${max}`;
  const parse = integerWithin(min, max);
  return setting<number | W>(env, word, help, allowed, (text) => (text === word ? word : parse(text)));
}

function integerWithin(min: number, max: number): (text: string) => number | undefined {
  return (text) => {
    const value = /^\d+$/.test(text) ? Number(text) : Number.NaN;
    return value >= min && value <= max ? value : undefined;
  };
}

export function flag(env: string, fallback: boolean, help: string, extra?: Extra): Setting<boolean> {
  const parse = (text: string) => {
    if (['1', 'true', 'on', 'yes'].includes(text.toLowerCase())) return true;
    return ['0', 'false', 'off', 'no'].includes(text.toLowerCase()) ? false : undefined;
  };
  return setting(env, String(fallback), help, 'true or false', parse, extra);
}

export function oneOf<const T extends string>(
  env: string,
  values: readonly T[],
  fallback: T,
  help: string,
): Setting<T> {
  return setting(env, fallback, help, values.join(' or '), (text) => values.find((value) => value === text));
}

export function listenAddress(
  env: string,
  fallback: string,
  help: string,
): Setting<{ host: string; port: number }> {
  return setting(env, fallback, help, 'HOST:PORT, [IPV6]:PORT or :PORT', (text) => {
    const match = /^(?:\[([0-9a-fA-F:.]+)\]|([^\s:[\]]*)):(\d{1,5})$/.exec(text);
    if (match === null || Number(match[3]) > 65_535) return undefined;
    return { host: match[1] ?? (match[2] === '' ? '::' : (match[2] ?? '')), port: Number(match[3]) };
  });
}

export const HTTP = ['http:'];
export const HTTP_OR_HTTPS = ['http:', 'https:'];

function isUrl(url: URL | null, protocols: readonly string[]): url is URL {
  return url !== null && protocols.includes(url.protocol);
}

/** A URL of one of the protocols, or null for `none`. */
export function optionalUrl(
  env: string,
  fallback: string,
  help: string,
  protocols: readonly string[],
): Setting<URL | null> {
  const allowed = `an ${protocols.map((protocol) => `${protocol}//`).join(' or ')} URL, or none`;
  return setting(env, fallback, help, allowed, (text) => {
    if (text === 'none') return null;
    const url = URL.parse(text);
    return isUrl(url, protocols) ? url : undefined;
  });
}

export function hubUrl(env: string, fallback: string, help: string, extra?: Extra): Setting<URL> {
  const parse = (text: string) => {
    const url = URL.parse(text);
    return isUrl(url, HTTP_OR_HTTPS) ? url : undefined;
  };
  return setting(env, fallback, help, 'an http:// or https:// URL', parse, extra);
}

export function address(env: string, fallback: string, help: string): Setting<Address> {
  return setting(env, fallback, help, '0x and 40 hex digits', (text) =>
    /^0x[0-9a-fA-F]{40}$/.test(text) ? (text.toLowerCase() as Address) : undefined,
  );
}

export function text(env: string, fallback: string, help: string, extra?: Extra): Setting<string> {
  return setting(env, fallback, help, 'text', (value) => value, extra);
}

export function brokers(env: string, help: string): Setting<string[]> {
  return setting(env, '', help, 'HOST:PORT, separated by commas', (value) => {
    const list = value.split(',').flatMap((name) => (name.trim() === '' ? [] : [name.trim()]));
    return list.every((name) => /^[^\s:[\]]+:\d{1,5}$/.test(name)) ? list : undefined;
  });
}

export function topicName(env: string, fallback: string, help: string): Setting<string> {
  const allowed = '1 to 249 letters, digits, dots, underscores, dashes';
  return setting(env, fallback, help, allowed, (value) =>
    /^(?!\.{1,2}$)[A-Za-z0-9._-]{1,249}$/.test(value) ? value : undefined,
  );
}

export function names(env: string, fallback: string, help: string): Setting<string[]> {
  return setting(env, fallback, help, 'DNS names and IP addresses, separated by commas', (value) => {
    const list = value.split(',').map((name) => name.trim());
    return list.every((name) => parseHost(name) !== undefined) ? list : undefined;
  });
}
