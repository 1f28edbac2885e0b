/**
 * One order on its way to one target, and what is reported about it. A target is the local builder or
 * a peer, named as in the metrics.
 *
 * Every order handed to a target ends in exactly one of: `answered` (accepted or not), `dropped`.
 */
import type { AdmittedOrder } from '../pipeline/order.ts';

/** An order as it is sent, shared by all targets; what is costly is made once, when first needed. */
export interface OutgoingRequest {
  readonly admitted: AdmittedOrder;
  /** `performance.now()` when the order was handed over; ages are counted from here. */
  readonly bornMs: number;
  /** Header lines that follow the target's own, with the empty line that ends the header. */
  headerEnd(): string;
  /** The order as a record for a peer's stream; null for a target that takes requests only. */
  record(): Buffer | null;
}

/** An {@link OutgoingRequest} at one target. */
export interface Delivery {
  readonly request: OutgoingRequest;
  /** Place in the target's order of arrival. */
  readonly sequence: number;
  /** What it counts for in bounds: body plus {@link DELIVERY_OVERHEAD_BYTES}. */
  readonly bytes: number;
  /** At least {@link LARGE_ORDER_BYTES} long: where there are two ways, it takes the one for large ones. */
  readonly large: boolean;
  /** `performance.now()` when its bytes were last handed to a socket; 0 before. */
  sentAtMs: number;
  /** How often the target has answered "not now". */
  refusals: number;
}

/** Header and bookkeeping of one delivery, so that many small orders are bounded too. */
export const DELIVERY_OVERHEAD_BYTES = 512;

/**
 * From this length of the canonical form on an order is large: half of it goes over the wire of a stream, 0.3 ms at
 * 1 Gbit/s. In the field one order in two hundred is.
 */
export const LARGE_ORDER_BYTES = 64 * 1024;

/** Why an order was given up. */
export type DropReason =
  | 'queue_full'
  | 'expired'
  /** The target may get no more orders: the hub does not list it any longer. */
  | 'removed'
  | 'shutdown';

/** Why a connection ended. */
export type ConnectionEnd =
  /** Could not be opened: refused, unreachable, name unknown, TLS failure. */
  | 'connect_failed'
  | 'connect_timeout'
  /** TLS: the server does not hold the listed certificate. */
  | 'certificate_mismatch'
  /** The server closed it, as it may at any time. */
  | 'closed'
  /** It broke: reset, host gone. */
  | 'connection_lost'
  | 'response_timeout'
  /** What came back is not HTTP, or answers nothing that was asked. */
  | 'protocol_error'
  /** Closed by us: the target has moved or got another certificate. */
  | 'replaced'
  | 'shutdown';

/** Why one attempt to send an order failed: a bounded set, fit for a metric label. */
export type FailureReason = ConnectionEnd | AnswerFailure;

export type AnswerFailure =
  | 'unknown_peer'
  | 'overloaded'
  | 'rpc_error'
  | 'http_4xx'
  | 'http_5xx'
  | 'http_other'
  | 'not_json_rpc';

/** What becomes of orders and connections; all calls are synchronous and must not throw. */
export interface DeliveryEvents {
  /**
   * First hand-over of the order's bytes to a socket.
   * @param big the order is at least `BIG_REQUEST_BYTES` long
   * @param queueMs from its receipt
   */
  sent(target: string, admitted: AdmittedOrder, big: boolean, queueMs: number): void;
  /**
   * The target has answered for good.
   * @param accepted false: with an error that trying again does not mend (also reported as `failed`)
   * @param rpcMs from the last hand-over to a socket
   * @param e2eMs from the receipt of the order
   */
  answered(
    target: string,
    admitted: AdmittedOrder,
    accepted: boolean,
    big: boolean,
    rpcMs: number,
    e2eMs: number,
  ): void;
  /** One attempt failed; the order may be tried again. */
  failed(target: string, reason: FailureReason): void;
  dropped(target: string, reason: DropReason, admitted: AdmittedOrder): void;
  /** An order that may have arrived is sent again, because its connection was lost before the answer. */
  resent(target: string): void;
  connected(target: string): void;
  disconnected(target: string, reason: ConnectionEnd): void;
}

/** Numbers for gauges. */
export interface TargetState {
  readonly name: string;
  /** Orders waiting, not those on a connection. */
  readonly queueLength: number;
  readonly queueBytes: number;
  /** Age of the oldest order waiting, in milliseconds; 0 when none is. */
  readonly oldestAgeMs: number;
  /** Orders written and not answered yet. */
  readonly outstanding: number;
  /** Connections that can carry orders, streams among them. */
  readonly connectionsUp: number;
  /** Connections of the order stream among them. */
  readonly streamsUp: number;
  /** Bytes of the orders on those that are not acknowledged, as the queue counts them. */
  readonly streamOwedBytes: number;
  /** How far the target's clock is ahead of ours as a stream's pings tell, in microseconds; null when unknown. */
  readonly clockOffsetUs: number | null;
}
