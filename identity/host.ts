/**
 * Hosts as the operator and the hub write them: DNS names and IP addresses, with or without a port.
 *
 * Limits: text only, nothing is looked up. A DNS name whose last label is a number is refused: the resolver would
 * take `1.2.3` or `0x7f.1` for an IPv4 address of another spelling.
 */
import { isIPv4, isIPv6 } from 'node:net';

export interface Host {
  readonly kind: 'dns' | 'ip';
  /** A DNS name in lower case without the final dot, or an IP address in its one canonical form, without brackets. */
  readonly name: string;
}

export interface HostAndPort extends Host {
  readonly port: number;
}

const LABEL = /^[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?$/u;
const NUMBER_LABEL = /^(?:[0-9]+|0x[0-9a-f]*)$/u;
/** RFC 1035 section 2.3.4, in its text form. */
const MAX_DNS_NAME = 253;

/** @returns the host, or undefined if the text is neither a DNS name nor an IP address (IPv6 with or without brackets) */
export function parseHost(text: string): Host | undefined {
  if (isIPv4(text)) return { kind: 'ip', name: text };
  const inner = text.startsWith('[') && text.endsWith(']') ? text.slice(1, -1) : text;
  if (isIPv6(inner)) {
    // A zone (fe80::1%eth0) means something on one machine only.
    return inner.includes('%') ? undefined : { kind: 'ip', name: canonicalIPv6(inner) };
  }
  const name = (text.endsWith('.') ? text.slice(0, -1) : text).toLowerCase();
  if (name.length === 0 || name.length > MAX_DNS_NAME) return undefined;
  const labels = name.split('.');
  if (!labels.every((label) => LABEL.test(label))) return undefined;
  return NUMBER_LABEL.test(labels.at(-1) ?? '') ? undefined : { kind: 'dns', name };
}

/**
 * Reads `host`, `host:port`, `[v6]`, `[v6]:port` or a bare `v6` (protocol section 6).
 *
 * @param defaultPort for text without a port
 */
export function parseHostAndPort(text: string, defaultPort: number): HostAndPort | undefined {
  const colon = text.lastIndexOf(':');
  const portless = colon < 0 || text.endsWith(']') || isIPv6(text);
  const host = parseHost(portless ? text : text.slice(0, colon));
  if (host === undefined) return undefined;
  if (portless) return { ...host, port: defaultPort };
  // Without brackets the last group of an IPv6 address and a port look the same.
  if (host.kind === 'ip' && isIPv6(host.name) && !text.startsWith('[')) return undefined;
  const port = parsePort(text.slice(colon + 1));
  return port === undefined ? undefined : { ...host, port };
}

function parsePort(text: string): number | undefined {
  if (!/^[0-9]{1,5}$/u.test(text)) return undefined;
  const port = Number(text);
  return port >= 1 && port <= 65_535 ? port : undefined;
}

/** @returns `host:port`, an IPv6 address in brackets */
export function formatHostAndPort(host: string, port: number): string {
  return isIPv6(host) ? `[${host}]:${port}` : `${host}:${port}`;
}

/** RFC 5952, except that the last 32 bits are never dotted. */
function canonicalIPv6(address: string): string {
  return new URL(`http://[${address}]`).hostname.slice(1, -1);
}
