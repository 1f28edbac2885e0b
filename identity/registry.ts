/**
 * The current peers, kept up to date from the hub: fetched every 30 s, and at once when an unknown signer or
 * certificate turns up (protocol sections 5 and 6). When the hub fails, the last known peers stay; they are also
 * kept on disk, for a start while the hub is down.
 */
import { join } from 'node:path';
import { type Observable, Subject } from 'rxjs';
import type { Address } from '../pipeline/order.ts';
import { formatHostAndPort } from './host.ts';
import type { HubClient } from './hub-client.ts';
import { type OwnEntry, parseBuilders, type SkippedEntry } from './hub-list.ts';
import type { Peer, SendablePeer } from './peer.ts';
import { type PeerChanges, type PeerLookup, PeerTable } from './peer-table.ts';
import { readText, writeAtomically } from './store.ts';
import { systemTimer, type Timer } from './timer.ts';

export interface PeerRegistryOptions {
  /** By what the node finds itself in the list; gives undefined for the sender, which is not in it. */
  readonly own: () => OwnEntry | undefined;
  /** Directory for the last known list; undefined keeps it in memory only. */
  readonly directory?: string | undefined;
  /** Pause between two fetches, in milliseconds; 30,000 unless set. */
  readonly pollMs?: number | undefined;
  /** Shortest time between the starts of two fetches, in milliseconds; 1,000 unless set. */
  readonly refreshMs?: number | undefined;
}

/** What the registry reports; each is optional to handle. */
export interface PeerRegistryEvents {
  /** A list was taken in. `skipped` holds every entry that was left out, with the reason. */
  refreshed?(changes: PeerChanges, skipped: readonly SkippedEntry[]): void;
  /** The hub failed; the last known peers stay. */
  fetchFailed?(error: Error): void;
  /** The list on disk could not be read or written. */
  storingFailed?(error: Error): void;
}

export interface PeerRegistryModules {
  readonly hub: Pick<HubClient, 'builders'>;
  readonly timer?: Timer | undefined;
  readonly events?: PeerRegistryEvents | undefined;
}

/** Holds nothing secret, but is written like everything else in the identity directory. */
const PEERS_FILE = 'peers.json';

export class PeerRegistry implements PeerLookup {
  readonly #options: PeerRegistryOptions;
  readonly #hub: Pick<HubClient, 'builders'>;
  readonly #timer: Timer;
  readonly #events: PeerRegistryEvents;
  readonly #table = new PeerTable();
  readonly #changes = new Subject<PeerChanges>();
  readonly #fetches = new Subject<readonly Peer[]>();
  #own: readonly Peer[] = [];
  #refresh: Promise<void> | undefined;
  #lastFetch = Number.NEGATIVE_INFINITY;
  #fetched = false;
  #cancelPoll: (() => void) | undefined;
  #cancelWait: (() => void) | undefined;
  #storing: Promise<void> = Promise.resolve();
  #closed = false;

  constructor(options: PeerRegistryOptions, modules: PeerRegistryModules) {
    this.#options = options;
    this.#hub = modules.hub;
    this.#timer = modules.timer ?? systemTimer;
    this.#events = modules.events ?? {};
  }

  /** All peers, in a fixed order. */
  get peers(): readonly Peer[] {
    return this.#table.peers;
  }

  /** Those that orders can be sent to. */
  get sendable(): readonly SendablePeer[] {
    return this.#table.peers.filter((peer) => peer.sendable);
  }

  /** How the hub lists ourselves; empty before the first fetch. */
  get own(): readonly Peer[] {
    return this.#own;
  }

  /** The hub has answered with a list at least once. */
  get fetched(): boolean {
    return this.#fetched;
  }

  /** Every list that changed something. Not replayed: subscribe, then look at `peers`. */
  get changes(): Observable<PeerChanges> {
    return this.#changes.asObservable();
  }

  /** After each fetch that succeeded: how the hub lists ourselves. */
  get fetches(): Observable<readonly Peer[]> {
    return this.#fetches.asObservable();
  }

  byAddress(address: Address): readonly Peer[] {
    return this.#table.byAddress(address);
  }

  byFingerprint(fingerprint: string): readonly Peer[] {
    return this.#table.byFingerprint(fingerprint);
  }

  /** Takes in the peers of the last run, if they are on disk and the hub has not answered yet. */
  async load(): Promise<void> {
    const { directory } = this.#options;
    if (directory === undefined) return;
    try {
      const text = await readText(join(directory, PEERS_FILE));
      if (text !== undefined && !this.#fetched) this.#takeIn(JSON.parse(text));
    } catch (error) {
      this.#events.storingFailed?.(asError(error));
    }
  }

  /** Fetches the list now and then every poll, until closed. */
  start(): void {
    if (this.#closed || this.#cancelPoll !== undefined) return;
    const poll = () => {
      this.#cancelPoll = this.#timer.after(this.#options.pollMs ?? 30_000, poll);
      void this.refresh();
    };
    poll();
  }

  /**
   * Fetches the list at once, or a second after the last fetch was started; whoever asks meanwhile shares the fetch.
   *
   * @returns when it is over, whether the hub answered or not; never rejects
   */
  refresh(): Promise<void> {
    if (this.#closed) return Promise.resolve();
    this.#refresh ??= this.#fetchInTurn().finally(() => {
      this.#refresh = undefined;
    });
    return this.#refresh;
  }

  async #fetchInTurn(): Promise<void> {
    const wait = this.#lastFetch + (this.#options.refreshMs ?? 1_000) - this.#timer.now();
    if (wait > 0) await this.#wait(wait);
    if (this.#closed) return;
    this.#lastFetch = this.#timer.now();
    try {
      const list = await this.#hub.builders();
      if (this.#closed) return;
      this.#fetched = true;
      if (this.#takeIn(list)) this.#store();
      this.#fetches.next(this.#own);
    } catch (error) {
      if (!this.#closed) this.#events.fetchFailed?.(asError(error));
    }
  }

  #wait(ms: number): Promise<void> {
    return new Promise((resolve) => {
      const cancel = this.#timer.after(ms, resolve);
      this.#cancelWait = () => {
        cancel();
        resolve();
      };
    });
  }

  /** @returns whether anything changed */
  #takeIn(list: unknown): boolean {
    const { peers, own, skipped } = parseBuilders(list, this.#options.own());
    this.#own = own;
    const changes = this.#table.replace(peers);
    const changed = changes.added.length + changes.removed.length + changes.changed.length > 0;
    if (changed) this.#changes.next(changes);
    this.#events.refreshed?.(changes, skipped);
    return changed;
  }

  #store(): void {
    const { directory } = this.#options;
    if (directory === undefined) return;
    const { peers } = this;
    this.#storing = this.#storing
      .then(() => writeAtomically(join(directory, PEERS_FILE), serializePeers(peers)))
      .catch((error: unknown) => this.#events.storingFailed?.(asError(error)));
  }

  /** Stops fetching; the peers stay readable. */
  async close(): Promise<void> {
    this.#closed = true;
    this.#cancelPoll?.();
    this.#cancelWait?.();
    await this.#refresh;
    await this.#storing;
    this.#changes.complete();
    this.#fetches.complete();
  }
}

/** The list on disk has the hub's form, so that it is read by the same careful decoder. */
function serializePeers(peers: readonly Peer[]): string {
  const entries = peers.map(({ name, address, host, port, certificate }) => ({
    name,
    dns_name: host === undefined || port === undefined ? '' : formatHostAndPort(host, port),
    orderflow_proxy: { ecdsa_pubkey_address: address },
    ...(certificate === undefined ? {} : { instance: { tls_cert: toPem(certificate) } }),
  }));
  return `${JSON.stringify(entries, undefined, 1)}\n`;
}

function toPem(certificate: Buffer): string {
  const lines = certificate.toString('base64').replaceAll(/.{64}/gu, '$&\n').trim();
  return `-----BEGIN CERTIFICATE-----\n${lines}\n-----END CERTIFICATE-----\n`;
}

function asError(error: unknown): Error {
  return error instanceof Error ? error : new Error(String(error));
}
