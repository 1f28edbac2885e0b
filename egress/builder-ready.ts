/**
 * Is the builder ready? Asks its readiness endpoint (protocol section 1: base URL + `/readyz`) once a
 * second; the user API's `/readyz` answers from what was last seen. Without an endpoint: always ready.
 */
import http from 'node:http';
import https from 'node:https';

export interface BuilderReadyOptions {
  /** Base URL; undefined when none is configured. */
  readonly endpoint: URL | undefined;
  readonly intervalMs?: number;
  /** Longest time for one answer. */
  readonly timeoutMs?: number;
}

export interface BuilderReady {
  readonly ready: boolean;
  /** Why (not): a bounded set of texts without addresses. */
  readonly reason: string;
  close(): Promise<void>;
}

/**
 * Starts asking, at once.
 * @param modules `onChange` is called when `ready` changes
 */
export function startBuilderReady(
  options: BuilderReadyOptions,
  modules: { readonly onChange?: (ready: boolean, reason: string) => void } = {},
): BuilderReady {
  if (options.endpoint === undefined) {
    return { ready: true, reason: 'no readiness endpoint configured', close: () => Promise.resolve() };
  }
  return new ReadinessPoll(options.endpoint, options, modules.onChange);
}

class ReadinessPoll implements BuilderReady {
  ready = false;
  reason = 'not asked yet';
  readonly #url: URL;
  readonly #intervalMs: number;
  readonly #timeoutMs: number;
  readonly #onChange: ((ready: boolean, reason: string) => void) | undefined;
  #timer: NodeJS.Timeout | null = null;
  #request: http.ClientRequest | null = null;
  #closed = false;

  constructor(
    endpoint: URL,
    options: BuilderReadyOptions,
    onChange: ((ready: boolean, reason: string) => void) | undefined,
  ) {
    this.#url = new URL(endpoint);
    this.#url.pathname = `${endpoint.pathname.replace(/\/+$/, '')}/readyz`;
    this.#intervalMs = options.intervalMs ?? 1_000;
    this.#timeoutMs = options.timeoutMs ?? 1_000;
    this.#onChange = onChange;
    this.#ask();
  }

  close(): Promise<void> {
    this.#closed = true;
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#request?.destroy();
    return Promise.resolve();
  }

  #ask(): void {
    this.#timer = null;
    const { get } = this.#url.protocol === 'https:' ? https : http;
    const signal = AbortSignal.timeout(this.#timeoutMs);
    this.#request = get(this.#url, { agent: false, signal }, (response) => {
      // The body says nothing more than the status.
      response.on('error', () => {}).destroy();
      const status = response.statusCode ?? 0;
      this.#saw(status === 200, status === 200 ? 'OK' : `builder answers ${status}`);
    });
    this.#request.on('error', () =>
      this.#saw(false, signal.aborted ? 'builder does not answer' : 'builder is down'),
    );
  }

  #saw(ready: boolean, reason: string): void {
    if (this.#closed || this.#timer !== null) return;
    this.#timer = setTimeout(() => this.#ask(), this.#intervalMs);
    const changed = ready !== this.ready;
    this.ready = ready;
    this.reason = reason;
    if (changed) this.#onChange?.(ready, reason);
  }
}
