/**
 * Who a node is: the key that signs its orders and the certificate that its servers and clients show. Both are
 * made on the first start and reused; the certificate is renewed in time.
 *
 * Renewal: a new key and certificate are made, then registered at the hub, and only once the hub has accepted
 * them do they become the current ones; until then everything goes on with the old. Peers learn of the new
 * certificate at their next look at the hub's list, so for up to half a minute one side of a *new* connection may
 * be ahead of the other; connections that stand are not touched.
 */
import { type Credentials, createCredentials, namesExactly, parseNames, renewalTime } from './certificate.ts';
import {
  createOrderflowKey,
  loadCredentials,
  loadOrderflowKey,
  saveCredentials,
  saveOrderflowKey,
} from './keys.ts';
import { createSigner, type Signer } from './signature.ts';
import { prepareDirectory } from './store.ts';
import { systemTimer, type Timer } from './timer.ts';

export interface IdentityOptions {
  /** Where the keys are kept; undefined keeps them in memory only (`--ephemeral`). */
  readonly directory: string | undefined;
  /** Every DNS name and IP address the node is reached by, at least one. */
  readonly names: readonly string[];
  /** Days for which a new certificate is valid; 365 unless set. */
  readonly validityDays?: number | undefined;
  /** Signs orders in place of the stored key, which is then neither made nor read; 32 bytes. */
  readonly orderflowKey?: Uint8Array | undefined;
}

/** Why a certificate is made anew. */
export type RenewalReason = 'ending' | 'names';

/** What the identity reports; each is optional to handle. */
export interface IdentityEvents {
  /** A certificate or key was made because there was none, or the stored certificate had ended. */
  made?(what: 'orderflow key' | 'certificate'): void;
  /** A new certificate is ready and goes to the hub. */
  renewing?(reason: RenewalReason): void;
  /** The hub has accepted it and it is the current one. */
  renewed?(certificate: Pick<Credentials, 'fingerprint' | 'notAfter'>): void;
  /** The hub did not take it, as a later registration took its place; tried again within the hour. */
  renewalFailed?(error: Error): void;
  /** It is current and registered, but could not be stored: after a restart the old one is registered again. */
  storingFailed?(error: Error): void;
}

export interface IdentityModules {
  readonly timer?: Timer | undefined;
  readonly events?: IdentityEvents | undefined;
}

/** Tells the hub about a certificate; resolves once the hub has accepted it. */
export type RegisterCredentials = (credentials: Credentials) => Promise<void>;

const DEFAULT_VALIDITY_DAYS = 365;
/** Looking every hour instead of sleeping for months: timers end at 24 days and clocks are set. */
const CHECK_MS = 3_600_000;

export class Identity {
  /** Makes signature headers with the orderflow key. */
  readonly signer: Signer;
  /** 32 bytes, for the node's other threads, which sign as well. */
  readonly orderflowKey: Uint8Array;
  readonly #options: IdentityOptions;
  readonly #timer: Timer;
  readonly #events: IdentityEvents;
  readonly #listeners = new Set<(credentials: Credentials) => void>();
  #current: Credentials;
  #renewal: Promise<void> | undefined;
  #cancelCheck: (() => void) | undefined;
  #storing: Promise<void> = Promise.resolve();
  #closed = false;

  /** Use `openIdentity`. */
  constructor(
    options: IdentityOptions,
    orderflowKey: Uint8Array,
    credentials: Credentials,
    modules: IdentityModules,
  ) {
    this.#options = options;
    this.orderflowKey = orderflowKey;
    this.signer = createSigner(orderflowKey);
    this.#current = credentials;
    this.#timer = modules.timer ?? systemTimer;
    this.#events = modules.events ?? {};
  }

  /** The certificate and key to show now. */
  get current(): Credentials {
    return this.#current;
  }

  /**
   * Calls `listener` with each certificate that becomes current: `server.setSecureContext({ cert, key })` swaps it
   * for new connections and leaves those that stand alone.
   *
   * @returns a function that ends it
   */
  onChange(listener: (credentials: Credentials) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** @returns why the current certificate should be replaced, or undefined if it need not be */
  renewalDue(): RenewalReason | undefined {
    const { certificatePem } = this.#current;
    if (!namesExactly(certificatePem, this.#options.names)) return 'names';
    return this.#timer.now() >= renewalTime(this.#current) ? 'ending' : undefined;
  }

  /** Renews the certificate whenever that is due, now and from now on, until the identity is closed. */
  startRenewal(register: RegisterCredentials): void {
    if (this.#closed || this.#cancelCheck !== undefined) return;
    const check = () => {
      const reason = this.#renewal === undefined ? this.renewalDue() : undefined;
      if (reason !== undefined) {
        this.#events.renewing?.(reason);
        this.renew(register).catch((error: unknown) => {
          if (!this.#closed) this.#events.renewalFailed?.(asError(error));
        });
      }
      this.#cancelCheck = this.#timer.after(CHECK_MS, check);
    };
    check();
  }

  /**
   * Makes a new certificate and, once `register` has resolved, puts it in the place of the current one. While one
   * renewal waits for the hub, a second call joins it.
   *
   * @throws what `register` rejects with; the current certificate then stays
   */
  renew(register: RegisterCredentials): Promise<void> {
    this.#renewal ??= this.#renew(register).finally(() => {
      this.#renewal = undefined;
    });
    return this.#renewal;
  }

  async #renew(register: RegisterCredentials): Promise<void> {
    const credentials = await createFor(this.#options, this.#timer);
    await register(credentials);
    // Registered, so it is the one to show, whatever the disk says.
    this.#current = credentials;
    for (const listener of this.#listeners) listener(credentials);
    this.#storing = this.#store(credentials);
    this.#events.renewed?.({ fingerprint: credentials.fingerprint, notAfter: credentials.notAfter });
    await this.#storing;
  }

  async #store(credentials: Credentials): Promise<void> {
    if (this.#options.directory === undefined) return;
    await saveCredentials(this.#options.directory, credentials).catch((error: unknown) =>
      this.#events.storingFailed?.(asError(error)),
    );
  }

  /** Ends the renewal. A registration that is under way is its caller's to end. */
  async close(): Promise<void> {
    this.#closed = true;
    this.#cancelCheck?.();
    this.#listeners.clear();
    await this.#storing;
  }
}

/**
 * Loads the node's key and certificate, or makes them.
 *
 * A stored certificate with other names than the configured ones stays current until `startRenewal` has replaced
 * it, as peers know it; one that has ended helps nobody and is replaced at once.
 *
 * @throws Error naming the file or setting: a damaged file, one that others may read, a name that is none
 */
export async function openIdentity(
  options: IdentityOptions,
  modules: IdentityModules = {},
): Promise<Identity> {
  const { directory } = options;
  parseNames(options.names);
  if (directory !== undefined) await prepareDirectory(directory);
  const orderflowKey = options.orderflowKey ?? (await openOrderflowKey(directory, modules));
  return new Identity(options, orderflowKey, await openCredentials(options, modules), modules);
}

async function openOrderflowKey(
  directory: string | undefined,
  modules: IdentityModules,
): Promise<Uint8Array> {
  const stored = directory === undefined ? undefined : await loadOrderflowKey(directory);
  if (stored !== undefined) return stored;
  const key = createOrderflowKey();
  if (directory !== undefined) await saveOrderflowKey(directory, key);
  modules.events?.made?.('orderflow key');
  return key;
}

async function openCredentials(options: IdentityOptions, modules: IdentityModules): Promise<Credentials> {
  const timer = modules.timer ?? systemTimer;
  const { directory } = options;
  const stored = directory === undefined ? undefined : await loadCredentials(directory);
  if (stored !== undefined && stored.notAfter.getTime() > timer.now()) return stored;
  const credentials = await createFor(options, timer);
  if (directory !== undefined) await saveCredentials(directory, credentials);
  modules.events?.made?.('certificate');
  return credentials;
}

function createFor(options: IdentityOptions, timer: Timer): Promise<Credentials> {
  return createCredentials({
    names: options.names,
    validityDays: options.validityDays ?? DEFAULT_VALIDITY_DAYS,
    now: timer.now(),
  });
}

function asError(error: unknown): Error {
  return error instanceof Error ? error : new Error(String(error));
}
