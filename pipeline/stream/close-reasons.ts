/**
 * Why a connection of the order stream ends. What has a code travels in the close frame, so that both sides
 * report the same word; the rest only one side can know. The protocol's page (ingress/stream/PROTOCOL.md) says when
 * each is due.
 */

/** Codes of the close frame; never reused for another meaning. */
const CLOSE_CODES = {
  /** The sender has nothing more for this connection: it moves, or its peer has left the list. */
  normal: 0,
  /** The process stops. */
  shutdown: 1,
  /** A frame or a record whose bytes contradict themselves. */
  malformed: 2,
  /** A frame longer than its type may be. */
  oversized: 3,
  /** A frame that this side never gets, or before the hello, or a second hello. */
  unexpected: 4,
  hello_timeout: 5,
  /** The hello's signature is not of its address over this very connection. */
  hello_signature: 6,
  certificate_missing: 7,
  /** No hub entry has the certificate shown together with the hello's address. */
  not_listed: 8,
  /** Sequence numbers with a hole or a repetition. */
  sequence: 9,
  /** More bytes than the credit allows. */
  window: 10,
  /** An acknowledgement of what was never sent, or of less than before. */
  acknowledgement: 11,
  /** Nothing was heard for too long: half-open, frozen or cut off. */
  silent: 12,
  /** It answers pings, but acknowledges nothing. */
  stalled: 13,
  /** Too many frames that carry no orders. */
  flood: 14,
  /** A frame that takes too long to arrive. */
  slow: 15,
  /** It does not read what it is sent. */
  unread: 16,
  /** The same peer has opened newer connections than it may have. */
  superseded: 17,
  tls_version: 18,
  /** The TLS session is one of an earlier connection. */
  resumed: 19,
} as const;

/** What only one side knows, because no close frame passed. */
export type LocalCloseReason =
  /** The connection broke or was closed without a word. */
  | 'lost'
  | 'connect_failed'
  | 'connect_timeout'
  /** The server showed another certificate than the listed one. */
  | 'certificate_mismatch'
  /** The other side does not speak the stream: it is asked again later. */
  | 'not_offered'
  /** A close frame with a code that this version does not know. */
  | 'unknown';

export type SentCloseReason = keyof typeof CLOSE_CODES;
export type CloseReason = SentCloseReason | LocalCloseReason;

const BY_CODE: ReadonlyMap<number, SentCloseReason> = new Map(
  (Object.entries(CLOSE_CODES) as [SentCloseReason, number][]).map(([reason, code]) => [code, reason]),
);

/** @returns the code for the close frame; null for a reason that stays on this side. */
export function closeCode(reason: CloseReason): number | null {
  return reason in CLOSE_CODES ? CLOSE_CODES[reason as SentCloseReason] : null;
}

/** @returns what a received code means. */
export function closeReason(code: number): CloseReason {
  return BY_CODE.get(code) ?? 'unknown';
}
