/**
 * Client of BuilderHub's API, as far as a node and the sender use it (protocol section 6): registering and fetching
 * the list of builders. Whatever the hub answers or fails to answer ends as an error with a reason, bounded in
 * time and size.
 */
import type { Address } from '../pipeline/order.ts';
import { pause, systemTimer, type Timer } from './timer.ts';

/** What a node registers. Each registration replaces the service's whole row, so it carries everything. */
export interface Registration {
  readonly address: Address;
  readonly certificatePem: string;
  readonly region?: string | undefined;
}

export interface HubClientOptions {
  /** Base URL, http or https; a path in it is kept. */
  readonly url: string;
  /** Which list: a node sees its own network's, the sender reads the internal one. `node` unless set. */
  readonly list?: 'node' | 'sender' | undefined;
  /** Longest time for one call, in milliseconds; 10,000 unless set. */
  readonly timeoutMs?: number | undefined;
  /** Longest answer read, in bytes; 16 MiB unless set. */
  readonly maxAnswerBytes?: number | undefined;
  /** Longest pause between two attempts to register, in milliseconds; 10,000 unless set. */
  readonly maxBackoffMs?: number | undefined;
}

/** What the client reports; each is optional to handle. */
export interface HubClientEvents {
  registered?(attempts: number): void;
  registrationFailed?(error: Error, attempts: number, retryInMs: number): void;
}

export interface HubClientModules {
  readonly timer?: Timer | undefined;
  /** Numbers from 0 up to 1, for the jitter. */
  readonly random?: (() => number) | undefined;
  readonly events?: HubClientEvents | undefined;
}

/** For `/readyz` and the metrics. */
export interface HubState {
  /** The hub has accepted a registration of this process. */
  readonly registered: boolean;
  /** Attempts of the registration that is under way or was last accepted. */
  readonly attempts: number;
  /** Why the last attempt failed; undefined after a success. */
  readonly lastError: string | undefined;
}

/** A call that failed: the hub could not be reached, refused, or answered something else than it should. */
export class HubError extends Error {
  override readonly name = 'HubError';
}

const BUILDERS_PATH = {
  node: '/api/l1-builder/v1/builders',
  sender: '/api/internal/l1-builder/v1/builders',
} as const;
const REGISTER_PATH = '/api/l1-builder/v1/register_credentials';
const FIRST_BACKOFF_MS = 250;
/** Characters of a refusal's body that go into the error. */
const MAX_REASON = 200;

export class HubClient {
  readonly #url: string;
  readonly #list: 'node' | 'sender';
  readonly #timeoutMs: number;
  readonly #maxAnswerBytes: number;
  readonly #maxBackoffMs: number;
  readonly #timer: Timer;
  readonly #random: () => number;
  readonly #events: HubClientEvents;
  readonly #closing = new AbortController();
  #state: HubState = { registered: false, attempts: 0, lastError: undefined };
  /** Ends when the registration under way has no request open any more. */
  #turn: Promise<unknown> = Promise.resolve();
  #current: AbortController | undefined;

  /** @throws Error when the URL is none of http or https */
  constructor(options: HubClientOptions, modules: HubClientModules = {}) {
    this.#url = parseBaseUrl(options.url);
    this.#list = options.list ?? 'node';
    this.#timeoutMs = options.timeoutMs ?? 10_000;
    this.#maxAnswerBytes = options.maxAnswerBytes ?? 16 * 1024 * 1024;
    this.#maxBackoffMs = options.maxBackoffMs ?? 10_000;
    this.#timer = modules.timer ?? systemTimer;
    this.#random = modules.random ?? Math.random;
    this.#events = modules.events ?? {};
  }

  get state(): HubState {
    return this.#state;
  }

  /** A registration waits for the hub. */
  get registering(): boolean {
    return this.#current !== undefined;
  }

  /**
   * Registers the node, trying again for ever, with pauses that double up to the longest one.
   *
   * The certificate goes to two services: `orderflow_proxy`, and then `instance`, whose certificate wins when both
   * are there, so that it is the second call that makes a new certificate count.
   *
   * @returns when the hub has accepted both
   * @throws HubError when a later call of this function took its place, or the client was closed
   */
  async register(registration: Registration): Promise<void> {
    const current = new AbortController();
    const replaced = this.#current;
    this.#current = current;
    replaced?.abort(new HubError('a later registration took its place'));
    const signal = AbortSignal.any([current.signal, this.#closing.signal]);
    // A request of the one before that is still open must not reach the hub after ours.
    const work = this.#turn.then(() => this.#registerUntilAccepted(registration, signal));
    this.#turn = work.catch(() => undefined);
    try {
      await work;
    } finally {
      if (this.#current === current) this.#current = undefined;
    }
  }

  async #registerUntilAccepted(registration: Registration, signal: AbortSignal): Promise<void> {
    for (let attempts = 1; ; attempts++) {
      signal.throwIfAborted();
      const error = await this.#tryRegister(registration);
      const { registered } = this.#state;
      if (error === undefined) {
        this.#state = { registered: true, attempts, lastError: undefined };
        this.#events.registered?.(attempts);
        return;
      }
      this.#state = { registered, attempts, lastError: error.message };
      if (signal.aborted) continue;
      const retryInMs = this.#backoff(attempts);
      this.#events.registrationFailed?.(error, attempts, retryInMs);
      await pause(this.#timer, retryInMs, signal);
    }
  }

  async #tryRegister({ address, certificatePem, region }: Registration): Promise<HubError | undefined> {
    const proxy = {
      ecdsa_pubkey_address: address,
      tls_cert: certificatePem,
      ...(region === undefined ? {} : { region }),
    };
    try {
      await this.#call('POST', `${REGISTER_PATH}/orderflow_proxy`, JSON.stringify(proxy));
      await this.#call('POST', `${REGISTER_PATH}/instance`, JSON.stringify({ tls_cert: certificatePem }));
      return undefined;
    } catch (error) {
      return asHubError(error);
    }
  }

  /** Half of the pause is random, so that nodes that lost the hub together do not come back together. */
  #backoff(attempts: number): number {
    const longest = Math.min(this.#maxBackoffMs, FIRST_BACKOFF_MS * 2 ** Math.min(attempts - 1, 20));
    return Math.round(longest / 2 + (longest / 2) * this.#random());
  }

  /**
   * Fetches the list of builders once.
   *
   * @returns the answer as JSON, an array; its entries are not checked (see `parseBuilders`)
   * @throws HubError with the reason
   */
  async builders(): Promise<readonly unknown[]> {
    try {
      const text = await this.#call('GET', BUILDERS_PATH[this.#list]);
      const list: unknown = parseJson(text);
      if (!Array.isArray(list)) throw new HubError('the hub answered no list of builders');
      return list;
    } catch (error) {
      throw asHubError(error);
    }
  }

  /** Ends a registration that is under way and every open call. */
  async close(): Promise<void> {
    this.#closing.abort(new HubError('the hub client is closed'));
    await this.#turn;
  }

  /** One call: an answer other than 200, or none in time, is an error. */
  async #call(method: 'GET' | 'POST', path: string, body?: string): Promise<string> {
    const signal = AbortSignal.any([AbortSignal.timeout(this.#timeoutMs), this.#closing.signal]);
    const response = await fetch(this.#url + path, {
      method,
      signal,
      redirect: 'error',
      ...(body === undefined ? {} : { body, headers: { 'content-type': 'application/json' } }),
    });
    const text = await this.#read(response);
    if (response.status !== 200) {
      const reason = printable(text);
      throw new HubError(`the hub answered ${response.status}${reason === '' ? '' : `: ${reason}`}`);
    }
    return text;
  }

  async #read(response: Response): Promise<string> {
    if (response.body === null) return '';
    const chunks: Uint8Array[] = [];
    let length = 0;
    for await (const chunk of response.body) {
      length += chunk.length;
      if (length > this.#maxAnswerBytes) {
        throw new HubError(`the hub's answer is longer than ${this.#maxAnswerBytes} bytes`);
      }
      chunks.push(chunk);
    }
    return Buffer.concat(chunks).toString('utf8');
  }
}

function parseBaseUrl(text: string): string {
  const url = URL.parse(text);
  if (url === null || (url.protocol !== 'http:' && url.protocol !== 'https:')) {
    throw new Error('the hub URL must be an http or https URL');
  }
  return `${url.origin}${url.pathname}`.replace(/\/+$/u, '');
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    throw new HubError('the hub answered no JSON');
  }
}

function printable(text: string): string {
  return text
    .slice(0, MAX_REASON)
    .replaceAll(/\p{C}+/gu, ' ')
    .trim();
}

/** fetch hides the reason in the cause of its TypeError. */
function asHubError(error: unknown): HubError {
  if (error instanceof HubError) return error;
  if (!(error instanceof Error)) return new HubError(String(error));
  if (error.name === 'TimeoutError') return new HubError('the hub did not answer in time', { cause: error });
  const inner = error.cause instanceof Error ? error.cause.message : error.message;
  return new HubError(`the hub cannot be reached: ${inner}`, { cause: error });
}
