/**
 * Every way a request can be refused: one table of JSON-RPC code, HTTP status, metric label and
 * whether sending the same request again can help. Rules: protocol section 2.
 *
 * A refusal is a value, not an exception: the hot path returns it (no stack is captured), and its
 * message always reaches the caller.
 */

/** One row of the table. `code` is null where the answer is plain HTTP text, not JSON-RPC. */
export interface RejectionRow {
  readonly code: number | null;
  readonly status: number;
  readonly retryable: boolean;
}

export const REJECTIONS = {
  method_not_allowed: { code: null, status: 405, retryable: false },
  unsupported_media_type: { code: null, status: 415, retryable: false },
  body_too_big: { code: -32600, status: 200, retryable: false },
  no_signature: { code: -32600, status: 200, retryable: false },
  invalid_signature: { code: -32600, status: 200, retryable: false },
  parse_error: { code: -32700, status: 200, retryable: false },
  method_not_found: { code: -32601, status: 200, retryable: false },
  invalid_params: { code: -32000, status: 200, retryable: false },
  unknown_peer: { code: -32000, status: 200, retryable: true },
  /** A client certificate that is not the one listed for the order's signer; the connection is closed. */
  client_certificate: { code: -32000, status: 200, retryable: true },
  /** Above the configured request rate. */
  rate_limited: { code: -32005, status: 429, retryable: true },
  /** A bound of the node is reached (bytes waiting, connections): see pipeline/bounds.ts. */
  overloaded: { code: -32005, status: 429, retryable: true },
  /** The archive cannot take the order now, so it must not be acknowledged. */
  archive_unavailable: { code: -32005, status: 503, retryable: true },
  /** The node is draining before it stops. */
  shutting_down: { code: -32005, status: 503, retryable: true },
  internal: { code: -32603, status: 200, retryable: true },
} as const satisfies Record<string, RejectionRow>;

export type RejectionKind = keyof typeof REJECTIONS;

/** A refused request. The message names the field and the reason, never the order's content. */
export class Rejection {
  readonly kind: RejectionKind;
  readonly message: string;

  constructor(kind: RejectionKind, message: string) {
    this.kind = kind;
    this.message = message;
  }

  get row(): RejectionRow {
    return REJECTIONS[this.kind];
  }
}

/** Shorthand for the most frequent kind: a param that does not decode, or a broken rule (-32000). */
export function invalidParams(message: string): Rejection {
  return new Rejection('invalid_params', message);
}
