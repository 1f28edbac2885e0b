/** What a row of the service table says; the rows themselves are in services/. */
import type { Profile } from './profiles.ts';

export interface Port {
  readonly port: number;
  readonly protocol: 'tcp' | 'udp';
  /** loopback: only services of the machine; all: open in the firewall. */
  readonly open: 'loopback' | 'all';
  /** Open to the addresses of this set alone, which the configuration fills. */
  readonly from?: AddressSet;
  readonly what: string;
}

/** Sets of addresses in the firewall. */
export type AddressSet = 'operator' | 'ssh';

/** A connection that the firewall lets out, by the service's user. */
export interface Call {
  readonly protocol: 'tcp' | 'udp';
  readonly port: number;
  /** An IPv4 address; none = anywhere. */
  readonly address?: string;
  readonly what: string;
}

export interface User {
  readonly name: string;
  readonly uid: number;
}

export interface Service {
  /** Name of the unit; several where one service has them. */
  readonly unit: string;
  readonly does: string;
  readonly from: 'Debian' | 'this repository' | 'artifact';
  readonly profiles: readonly Profile[];
  readonly user: User;
  readonly listens: readonly Port[];
  readonly calls: readonly Call[];
  /** How the unit runs; absent where Debian's own unit does. */
  readonly run?: Run;
  /** Units that start it, by name: text of the file. */
  readonly triggers?: Readonly<Record<string, string>>;
}

export interface Run {
  readonly type: 'oneshot' | 'exec' | 'notify';
  readonly start: string;
  /** Runs after `start`; the unit is up only when it has ended well. */
  readonly ready?: string;
  readonly after?: readonly string[];
  readonly before?: readonly string[];
  /** The unit does not start, and does not go on, without these. */
  readonly requires?: readonly string[];
  readonly wantedBy?: readonly string[];
  readonly capabilities?: readonly string[];
  /** Address families beside AF_UNIX; none = no network at all. */
  readonly network?: readonly ('AF_INET' | 'AF_NETLINK' | 'AF_PACKET' | 'AF_ALG')[];
  /** Only addresses of the machine itself. */
  readonly loopbackOnly?: boolean;
  /** NAME:PATH, read by systemd as root and shown to the unit alone. */
  readonly credentials?: readonly string[];
  readonly environment?: Readonly<Record<string, string | number>>;
  /** Folder below /var/lib, made and owned for the unit. */
  readonly state?: string;
  readonly runtime?: string;
  readonly writable?: readonly string[];
  /** Seconds a stop may take. */
  readonly stopSec?: number;
  readonly openFiles?: number;
  readonly memory?: string;
  /** V8 makes code at run time. */
  readonly jit?: boolean;
  /** What differs from the hardening that every unit gets, with the reason beside it. */
  readonly lines?: readonly string[];
  /** Starts before the basic system stands: no default dependencies. */
  readonly early?: boolean;
  /** Started by a timer, a path or a socket, again and again. */
  readonly triggered?: boolean;
}

export const ALL: readonly Profile[] = ['production', 'testnet', 'devnet', 'debug'];
export const REAL: readonly Profile[] = ['production', 'testnet'];
export const WITH_SSH: readonly Profile[] = ['testnet', 'debug'];
export const ONLY_DEVELOPMENT: readonly Profile[] = ['devnet', 'debug'];

export const ROOT: User = { name: 'root', uid: 0 };
export const NODE = '/usr/bin/node';
export const APP = '/usr/lib/orderflow';
export const GUEST = `${NODE} ${APP}/image/guest`;

/** The serial by which the data disk is found. */
export const DATA_DISK = 'persistent';
/** Folder of the encrypted disk, and its unit. */
export const PERSISTENT = '/var/lib/persistent';
export const MOUNTED = 'var-lib-persistent.mount';
export const NODE_DATA = `${PERSISTENT}/orderflow-proxy`;

/** Where the attested client takes requests for the hub. */
export const LOCAL_HUB = 'http://127.0.0.1:7937';

export const loopback = (port: number, what: string): Port => ({
  port,
  protocol: 'tcp',
  open: 'loopback',
  what,
});
export const open = (port: number, what: string, protocol: Port['protocol'] = 'tcp'): Port => ({
  port,
  protocol,
  open: 'all',
  what,
});

/** The connection that a base URL needs; a name is looked up, so its address is not known. */
export function callTo(url: string | null, what: string): Call[] {
  if (url === null) return [];
  const { protocol, hostname, port } = new URL(url);
  const number = port === '' ? (protocol === 'https:' ? 443 : 80) : Number(port);
  const address = /^[\d.]+$/u.test(hostname) ? { address: hostname } : {};
  return [{ protocol: 'tcp', port: number, ...address, what }];
}
