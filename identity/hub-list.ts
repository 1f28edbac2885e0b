/**
 * Decodes BuilderHub's list of builders (protocol section 6). The list is not clean: each entry is decoded on its
 * own, and a bad one is left out, named and explained without any cost to the others.
 *
 * An entry without a name or an orderflow key is skipped, as orders from it could not be told. One that only lacks
 * a usable place or certificate stays as a peer that may send to us.
 */
import { X509Certificate } from 'node:crypto';
import type { Address } from '../pipeline/order.ts';
import { parseAddress } from './address.ts';
import { certificateFingerprint } from './certificate.ts';
import { type HostAndPort, parseHostAndPort } from './host.ts';
import { comparePeers, type Peer, type SendablePeer } from './peer.ts';

/** The port of a peer whose address names none. */
export const DEFAULT_PEER_PORT = 5544;

/** Entries looked at; the network has dozens. */
export const MAX_ENTRIES = 4096;
/** Longest name of a builder, in UTF-16 units. */
export const MAX_NAME = 100;
/** Longest PEM text: a chain of a few certificates. */
export const MAX_PEM = 65_536;

/** Labels that mean something else in the metrics (spec: metrics) or in the pipeline. */
const RESERVED_NAMES = new Set(['flashbots', 'local-builder', 'user', 'user-request']);
const ZERO_ADDRESS: Address = `0x${'0'.repeat(40)}`;

export interface SkippedEntry {
  /** The builder's name as far as it is fit to print, else its place in the list (`#3`). */
  readonly name: string;
  readonly reason: string;
}

export interface BuilderList {
  /** In a fixed order, without ourselves. */
  readonly peers: readonly Peer[];
  /** Entries that are ourselves: with our orderflow address or our certificate. */
  readonly own: readonly Peer[];
  readonly skipped: readonly SkippedEntry[];
}

/** By what a node finds itself in the list. */
export interface OwnEntry {
  readonly address: Address;
  /** Of the current certificate: finds an entry that still has the key of an earlier run. */
  readonly fingerprint?: string | undefined;
}

/**
 * @param json the hub's answer, decoded
 * @param own left out when nobody on the list can be ourselves (the sender)
 * @returns never throws
 */
export function parseBuilders(json: unknown, own?: OwnEntry): BuilderList {
  if (!Array.isArray(json)) {
    return { peers: [], own: [], skipped: [{ name: 'list', reason: 'it is no JSON array' }] };
  }
  const entries: readonly unknown[] = json;
  const skipped: SkippedEntry[] = [];
  const peers: Peer[] = [];
  const ours: Peer[] = [];
  for (const [index, entry] of entries.slice(0, MAX_ENTRIES).entries()) {
    const peer = parseEntry(entry);
    if (typeof peer === 'string') skipped.push({ name: entryName(entry, index), reason: peer });
    else if (isOwn(peer, own)) ours.push(peer);
    else peers.push(peer);
  }
  if (entries.length > MAX_ENTRIES) {
    skipped.push({ name: 'list', reason: `it is longer than ${MAX_ENTRIES} entries` });
  }
  return { peers: withoutRepetitions(peers, skipped), own: ours, skipped };
}

function isOwn(peer: Peer, own: OwnEntry | undefined): boolean {
  if (own === undefined) return false;
  return (
    peer.address === own.address || (peer.fingerprint !== undefined && peer.fingerprint === own.fingerprint)
  );
}

/** @returns the peer, or why there is none */
function parseEntry(entry: unknown): Peer | string {
  if (!isRecord(entry)) return 'the entry is no object';
  const name = parseName(entry.name);
  if (name === undefined) return 'name is not a short printable text';
  const proxy = entry.orderflow_proxy;
  if (proxy === undefined || proxy === null) return 'it has registered no orderflow_proxy';
  if (!isRecord(proxy)) return 'orderflow_proxy is no object';
  const address = parseOrderflowAddress(proxy.ecdsa_pubkey_address);
  if (address === undefined) return 'orderflow_proxy.ecdsa_pubkey_address is no address';

  const place = parsePlace(entry.dns_name, entry.ip);
  const certificate = parseCertificate(entry.instance, proxy);
  const known = {
    name,
    address,
    host: typeof place === 'string' ? undefined : place.name,
    port: typeof place === 'string' ? undefined : place.port,
    servername: typeof place !== 'string' && place.kind === 'dns' ? place.name : undefined,
    certificate: typeof certificate === 'string' ? undefined : certificate,
    fingerprint: typeof certificate === 'string' ? undefined : certificateFingerprint(certificate),
  };
  if (typeof place === 'string') return { ...known, sendable: false, reason: place };
  if (typeof certificate === 'string') return { ...known, sendable: false, reason: certificate };
  return {
    ...known,
    sendable: true,
    host: place.name,
    port: place.port,
    certificate,
    fingerprint: certificateFingerprint(certificate),
  };
}

function parseName(value: unknown): string | undefined {
  if (typeof value !== 'string' || value === '' || value.length > MAX_NAME || isUnprintable(value)) {
    return undefined;
  }
  return RESERVED_NAMES.has(value) ? `hub:${value}` : value;
}

function isUnprintable(text: string): boolean {
  return /[\p{C}\p{Zl}\p{Zp}]/u.test(text);
}

/** How an entry without a decoded peer is called in the logs. */
function entryName(entry: unknown, index: number): string {
  return (isRecord(entry) ? parseName(entry.name) : undefined) ?? `#${index}`;
}

function parseOrderflowAddress(value: unknown): Address | undefined {
  const address = typeof value === 'string' ? parseAddress(value) : undefined;
  return address === ZERO_ADDRESS ? undefined : address;
}

/** The peer's address is `dns_name`, else `ip`. */
function parsePlace(dnsName: unknown, ip: unknown): HostAndPort | string {
  const [field, value] = isAbsent(dnsName) ? ['ip', ip] : ['dns_name', dnsName];
  if (isAbsent(value)) return 'it has neither dns_name nor ip';
  if (typeof value !== 'string') return `${field} is no text`;
  return parseHostAndPort(value, DEFAULT_PEER_PORT) ?? `${field} is no host`;
}

/** The peer's certificate is `instance.tls_cert`, else `orderflow_proxy.tls_cert`; of a chain the first. */
function parseCertificate(instance: unknown, proxy: Record<string, unknown>): Buffer | string {
  const ofInstance = isRecord(instance) ? instance.tls_cert : undefined;
  const [field, pem] = isAbsent(ofInstance)
    ? ['orderflow_proxy.tls_cert', proxy.tls_cert]
    : ['instance.tls_cert', ofInstance];
  if (isAbsent(pem)) return 'it has registered no certificate';
  if (typeof pem !== 'string') return `${field} is no text`;
  if (pem.length > MAX_PEM) return `${field} is longer than ${MAX_PEM} characters`;
  return firstCertificate(pem) ?? `${field} holds no certificate that can be read`;
}

/**
 * @param pem text with one or more certificates, other blocks and text between them
 * @returns the DER of the first certificate, or undefined if it cannot be read
 */
export function firstCertificate(pem: string): Buffer | undefined {
  if (!pem.includes('-----BEGIN CERTIFICATE-----')) return undefined;
  try {
    return new X509Certificate(pem).raw;
  } catch {
    return undefined;
  }
}

/** Puts the peers in order and lets each be there, and each place be sent to, only once. */
function withoutRepetitions(peers: readonly Peer[], skipped: SkippedEntry[]): Peer[] {
  const kept: Peer[] = [];
  const places = new Set<string>();
  for (const peer of peers.toSorted(comparePeers)) {
    const previous = kept.at(-1);
    if (previous !== undefined && comparePeers(previous, peer) === 0) {
      skipped.push({ name: peer.name, reason: 'it is listed twice' });
      continue;
    }
    const place = peer.sendable ? placeOf(peer) : undefined;
    if (peer.sendable && place !== undefined && places.has(place)) {
      kept.push({
        ...peer,
        sendable: false,
        reason: 'another entry has the same host, port and certificate',
      });
      continue;
    }
    if (place !== undefined) places.add(place);
    kept.push(peer);
  }
  return kept;
}

function placeOf({ host, port, fingerprint }: SendablePeer): string {
  return `${host} ${port} ${fingerprint}`;
}

/** Fields the hub leaves out, or fills with the empty text. */
function isAbsent(value: unknown): boolean {
  return value === undefined || value === null || value === '';
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
