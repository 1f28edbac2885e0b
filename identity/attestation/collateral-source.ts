/**
 * Collateral by kind of machine: from memory, a cache directory, or a provisioning service (Intel's or a caching one,
 * PCCS), and refreshed ahead of its end.
 *
 * A handshake never waits longer than a bound for it, and a service that fails is not asked again for a while. What
 * is fetched is signed and checked, so the way it came is not trusted, and nothing older than what is held is taken.
 */
import { hash } from 'node:crypto';
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { readText, writeAtomically } from '../store.ts';
import { systemTimer, type Timer } from '../timer.ts';
import { type Collateral, checkCollateral, isOlder, type RawCollateral } from './collateral.ts';
import type { CollateralFetch } from './provisioning-service.ts';

export interface CollateralSourceOptions {
  /** Kept over restarts there; undefined keeps it in memory alone. */
  readonly directory: string | undefined;
  /** Key fingerprints of trusted roots. */
  readonly roots: ReadonlySet<string>;
  /** Longest time a caller of `get` waits for a fetch, in milliseconds; 5,000 unless set. */
  readonly waitMs?: number | undefined;
  /** Kinds of machines kept in memory; 64 unless set. Only genuine machines name one. */
  readonly maxKinds?: number | undefined;
}

export interface CollateralSourceEvents {
  fetched?(kind: string, validUntil: number): void;
  fetchFailed?(kind: string, reason: string): void;
}

export interface CollateralSourceModules {
  /** Asks the service; undefined lives from the cache directory alone. */
  readonly fetch: CollateralFetch | undefined;
  readonly timer?: Timer | undefined;
  readonly events?: CollateralSourceEvents | undefined;
}

interface Kind {
  readonly fmspc: string;
  readonly authority: 'platform' | 'processor';
  collateral: Collateral | undefined;
  /** Why there is none, or why the last refresh failed. */
  problem: string;
  /** Of its file. */
  loading: Promise<void>;
  fetching: Promise<void> | undefined;
  failures: number;
  /** Unix milliseconds: not asked again before. */
  notBefore: number;
  cancelRefresh: () => void;
}

const WAIT_MS = 5_000;
const MAX_KINDS = 64;
const FIRST_RETRY_MS = 5_000;
const MAX_RETRY_MS = 3_600_000;
const DAY_MS = 86_400_000;

export class CollateralSource {
  readonly #options: CollateralSourceOptions;
  readonly #fetch: CollateralFetch | undefined;
  readonly #timer: Timer;
  readonly #events: CollateralSourceEvents;
  /** By FMSPC and authority, the one used longest ago first. */
  readonly #kinds = new Map<string, Kind>();
  readonly #closing = new AbortController();

  constructor(options: CollateralSourceOptions, modules: CollateralSourceModules) {
    this.#options = options;
    this.#fetch = modules.fetch;
    this.#timer = modules.timer ?? systemTimer;
    this.#events = modules.events ?? {};
  }

  /**
   * @param fmspc of a machine whose certificates lead to a trusted root: 12 lower-case hex digits
   * @returns collateral that is valid now, or why there is none
   */
  async get(fmspc: string, authority: 'platform' | 'processor'): Promise<Collateral | string> {
    const kind = await this.#kindOf(fmspc, authority);
    if (this.#isValid(kind)) return kind.collateral;
    if (this.#timer.now() >= kind.notBefore || kind.fetching !== undefined) {
      await this.#waitFor(this.#refresh(kind));
      if (this.#isValid(kind)) return kind.collateral;
    }
    return kind.problem;
  }

  /** Earliest end of what is held, Unix milliseconds; undefined when nothing is. For the metrics. */
  validUntil(): number | undefined {
    const ends = [...this.#kinds.values()].flatMap(({ collateral }) => collateral?.validUntil ?? []);
    return ends.length === 0 ? undefined : Math.min(...ends);
  }

  /** Ends fetches and refreshes. */
  async close(): Promise<void> {
    this.#closing.abort();
    for (const kind of this.#kinds.values()) kind.cancelRefresh();
    await Promise.all([...this.#kinds.values()].map(({ loading, fetching }) => fetching ?? loading));
  }

  #isValid(kind: Kind): kind is Kind & { collateral: Collateral } {
    return kind.collateral !== undefined && this.#timer.now() <= kind.collateral.validUntil;
  }

  async #kindOf(fmspc: string, authority: Kind['authority']): Promise<Kind> {
    const name = `${fmspc}-${authority}`;
    const known = this.#kinds.get(name);
    if (known !== undefined) {
      this.#kinds.delete(name);
      this.#kinds.set(name, known);
      await known.loading;
      return known;
    }
    const kind: Kind = {
      fmspc,
      authority,
      collateral: undefined,
      problem: 'there is no collateral of this kind of machine',
      loading: Promise.resolve(),
      fetching: undefined,
      failures: 0,
      notBefore: 0,
      cancelRefresh: () => undefined,
    };
    this.#kinds.set(name, kind);
    this.#forgetOldest();
    kind.loading = this.#load(kind);
    await kind.loading;
    return kind;
  }

  #forgetOldest(): void {
    if (this.#kinds.size <= (this.#options.maxKinds ?? MAX_KINDS)) return;
    const [oldest] = this.#kinds;
    if (oldest === undefined) return;
    oldest[1].cancelRefresh();
    this.#kinds.delete(oldest[0]);
  }

  async #load(kind: Kind): Promise<void> {
    const path = this.#pathOf(kind);
    if (path === undefined) return;
    // A damaged file is as good as none: everything in it is checked and can be fetched again.
    const raw = await readText(path)
      .then(readStored)
      .catch(() => undefined);
    if (raw !== undefined) this.#take(kind, raw);
  }

  #take(kind: Kind, raw: RawCollateral): boolean {
    const checked = checkCollateral(raw, this.#timer.now(), this.#options.roots);
    if ('document' in checked) {
      kind.problem = `${checked.document}: ${checked.reason}`;
      return false;
    }
    if (this.#isValid(kind) && isOlder(checked, kind.collateral)) {
      kind.problem = 'what the service gives is older than what was there';
      return false;
    }
    kind.collateral = checked;
    kind.problem = 'the collateral has expired';
    kind.failures = 0;
    this.#planRefresh(kind, checked.validUntil);
    return true;
  }

  /** Daily, as a revocation shall not wait until the documents end; or half of what is left when that is less. */
  #planRefresh(kind: Kind, validUntil: number): void {
    const left = validUntil - this.#timer.now();
    this.#after(kind, Math.max(Math.min(DAY_MS, left / 2), FIRST_RETRY_MS));
  }

  #after(kind: Kind, delayMs: number): void {
    kind.cancelRefresh();
    if (this.#closing.signal.aborted || this.#fetch === undefined) return;
    kind.cancelRefresh = this.#timer.after(delayMs, () => void this.#refresh(kind));
  }

  #refresh(kind: Kind): Promise<void> {
    kind.fetching ??= this.#fetchOnce(kind).finally(() => {
      kind.fetching = undefined;
    });
    return kind.fetching;
  }

  async #fetchOnce(kind: Kind): Promise<void> {
    if (this.#fetch === undefined) return;
    const name = `${kind.fmspc}-${kind.authority}`;
    try {
      const raw = await this.#fetch(kind.fmspc, kind.authority, this.#closing.signal);
      if (!this.#take(kind, raw)) throw new Error(kind.problem);
      await this.#store(kind, raw);
      this.#events.fetched?.(name, kind.collateral?.validUntil ?? 0);
    } catch (error) {
      if (this.#closing.signal.aborted) return;
      const reason = error instanceof Error ? error.message : String(error);
      if (!this.#isValid(kind)) kind.problem = reason;
      const retryMs = Math.min(FIRST_RETRY_MS * 2 ** kind.failures, MAX_RETRY_MS);
      kind.failures++;
      kind.notBefore = this.#timer.now() + retryMs;
      if (kind.collateral !== undefined) this.#after(kind, retryMs);
      this.#events.fetchFailed?.(name, reason);
    }
  }

  async #store(kind: Kind, raw: RawCollateral): Promise<void> {
    const path = this.#pathOf(kind);
    if (path === undefined || this.#options.directory === undefined) return;
    await mkdir(this.#options.directory, { recursive: true, mode: 0o700 });
    const { pckCrl, rootCrl } = raw;
    const stored = { ...raw, pckCrl: pckCrl.toString('base64'), rootCrl: rootCrl.toString('base64') };
    await writeAtomically(path, JSON.stringify(stored));
  }

  #pathOf({ fmspc, authority }: Kind): string | undefined {
    const { directory, roots } = this.#options;
    if (directory === undefined) return undefined;
    // Collateral of one set of roots says nothing under another.
    const set = hash('sha256', [...roots].toSorted().join(' ')).slice(0, 8);
    return join(directory, `${fmspc}-${authority}-${set}.json`);
  }

  async #waitFor(work: Promise<void>): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    const cancel = this.#timer.after(this.#options.waitMs ?? WAIT_MS, resolve);
    await Promise.race([work, promise]);
    cancel();
  }
}

/** @throws Error when it is not what was stored */
function readStored(text: string | undefined): RawCollateral | undefined {
  if (text === undefined) return undefined;
  const value: Record<string, unknown> = JSON.parse(text);
  const field = (name: string): string => {
    const member = value[name];
    if (typeof member !== 'string') throw new Error(`${name} is missing`);
    return member;
  };
  return {
    tcbInfo: field('tcbInfo'),
    tcbInfoChain: field('tcbInfoChain'),
    qeIdentity: field('qeIdentity'),
    qeIdentityChain: field('qeIdentityChain'),
    pckCrl: Buffer.from(field('pckCrl'), 'base64'),
    pckCrlChain: field('pckCrlChain'),
    rootCrl: Buffer.from(field('rootCrl'), 'base64'),
  };
}
