/** What both proxies share: their bounds, what they report, and their handle. */

/** Every number an outsider could drive up. Times in milliseconds. */
export interface ProxyBounds {
  readonly maxConnections: number;
  /** Each may cost a quote. */
  readonly maxHandshakes: number;
  /** Connections to the target. */
  readonly maxUpstream: number;
  /** Under way at a time, those that wait for a connection to the target among them. */
  readonly maxRequests: number;
  readonly maxBodyBytes: number;
  readonly handshakeTimeoutMs: number;
  readonly headTimeoutMs: number;
  readonly requestTimeoutMs: number;
  readonly idleTimeoutMs: number;
  /** How long a stop waits for answers. */
  readonly drainTimeoutMs: number;
}

export const PROXY_BOUNDS: ProxyBounds = {
  maxConnections: 1_024,
  maxHandshakes: 128,
  maxUpstream: 128,
  maxRequests: 4_096,
  maxBodyBytes: 64 * 1024 * 1024,
  handshakeTimeoutMs: 20_000,
  headTimeoutMs: 10_000,
  requestTimeoutMs: 300_000,
  idleTimeoutMs: 120_000,
  drainTimeoutMs: 5_000,
};

/** Why a request beyond `maxRequests` got no answer of the target. */
export const OVERLOAD = 'too many requests are under way';

export interface ProxyEvents {
  /** One request, with the reason when the target's answer did not reach the caller. */
  request?(status: number, milliseconds: number, failure: string | undefined): void;
  /** A defect of this program. */
  fault?(error: unknown): void;
}

export interface RunningProxy {
  readonly address: { readonly host: string; readonly port: number };
  connections(): number;
  /** Takes nothing new, waits for answers within the bound, and ends what is open. */
  close(): Promise<void>;
}
