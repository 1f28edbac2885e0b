/**
 * What a target's answer means for the order: accepted, to be tried again, or failed for good.
 * Protocol sections 2 and 5.
 *
 * An HTTP status says "not now" with 408, 429, 502, 503 or 504; JSON-RPC with code -32005 (overloaded,
 * pipeline/errors.ts), -32009 (jsonrpsee's, rbuilder's server, "server is busy") or the refusal of a
 * peer that has not learnt of us yet, or of our certificate.
 */
import type { AnswerFailure } from './delivery.ts';

export interface Answer {
  /** Null: accepted. */
  readonly failure: AnswerFailure | null;
  /** Can the same request succeed later? */
  readonly retryable: boolean;
}

const ACCEPTED: Answer = { failure: null, retryable: false };
const UNKNOWN_PEER: Answer = { failure: 'unknown_peer', retryable: true };
const OVERLOADED: Answer = { failure: 'overloaded', retryable: true };
const RPC_ERROR: Answer = { failure: 'rpc_error', retryable: false };
const HTTP_4XX: Answer = { failure: 'http_4xx', retryable: false };
const HTTP_5XX: Answer = { failure: 'http_5xx', retryable: false };
const HTTP_OTHER: Answer = { failure: 'http_other', retryable: false };
const NOT_JSON_RPC: Answer = { failure: 'not_json_rpc', retryable: false };

/** A peer that does not list our signer yet says this (protocol section 5); it learns within its poll. */
export const UNKNOWN_PEER_MESSAGE = "unknown peers can't send to the system address";
/** The same of the certificate on a connection that stood when the list changed; the peer closes it. */
const CERTIFICATE_MESSAGE = "the client certificate does not belong to the order's signer";

const RETRYABLE_CODES = new Set<unknown>([-32005, -32009]);
const RETRYABLE_STATUSES = new Set([408, 429, 502, 503, 504]);

/** What v1 and rbuilder answer to a good order. */
const PLAIN_SUCCESS = Buffer.from('{"jsonrpc":"2.0","id":0,"result":null}');

/**
 * @param status HTTP status, 200..999
 * @param body the answer's body, possibly cut at the parser's bound
 */
export function classifyAnswer(status: number, body: Buffer): Answer {
  if (status === 200) return body.equals(PLAIN_SUCCESS) ? ACCEPTED : classifyBody(body);
  if (RETRYABLE_STATUSES.has(status)) return OVERLOADED;
  if (status >= 500 && status < 600) return HTTP_5XX;
  if (status >= 400 && status < 500) return HTTP_4XX;
  return HTTP_OTHER;
}

function classifyBody(body: Buffer): Answer {
  let answer: unknown;
  try {
    answer = JSON.parse(body.toString());
  } catch {
    return NOT_JSON_RPC;
  }
  if (typeof answer !== 'object' || answer === null) return NOT_JSON_RPC;
  const { error } = answer as { error?: unknown };
  if (error === undefined || error === null) return 'result' in answer ? ACCEPTED : NOT_JSON_RPC;
  if (typeof error !== 'object') return RPC_ERROR;
  const { code, message } = error as { code?: unknown; message?: unknown };
  if (typeof message === 'string' && saysUnknown(message)) return UNKNOWN_PEER;
  return RETRYABLE_CODES.has(code) ? OVERLOADED : RPC_ERROR;
}

function saysUnknown(message: string): boolean {
  return message.includes(UNKNOWN_PEER_MESSAGE) || message.includes(CERTIFICATE_MESSAGE);
}
