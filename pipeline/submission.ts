/** A request on its way through the pipeline, and the answer it gets. */

import type { SeenOrder } from './dedupe.ts';
import type { Rejection } from './errors.ts';
import type { RpcRequest } from './json-rpc.ts';
import { encodeError, encodeResult } from './json-rpc.ts';
import type { Address, AdmittedOrder, Method, Order, Side } from './order.ts';
import type { OrderRecord } from './stream/record.ts';

/** The client certificate that a connection showed, with the hub entries that listed it then. */
export interface ShownCertificate {
  /** sha256, 64 lower-case hex digits. */
  readonly fingerprint: string;
  readonly owners: readonly { readonly name: string; readonly address: Address }[];
}

/** An order that came over a peer's stream: its sender has proven who it is for all of them at once. */
export interface StreamedOrder {
  /** The account that the connection's hello proved. */
  readonly peer: Address;
  readonly record: OrderRecord;
  /** The node is done with it; called once. Null: taken. */
  settle(refusal: Rejection | null): void;
}

/** What the ingress hands over: one request whose body has been read. */
export interface Arrival {
  readonly side: Side;
  readonly body: Buffer;
  /** Value of the signature header, if there was one. */
  readonly signature: string | undefined;
  /** Undefined when the connection showed none. */
  readonly certificate: ShownCertificate | undefined;
  /** Unix microseconds (pipeline/clock.ts). */
  readonly receivedAtUs: number;
  /** Null for a request of its own. */
  readonly streamed: StreamedOrder | null;
  /** Sends the answer; called once, unless it is `streamed`. `close`: the connection is not to be used any longer. */
  respond(status: number, body: string, close: boolean): void;
}

/** An arrival with what the stages have found out about it so far. */
export class Submission implements AdmittedOrder {
  readonly arrival: Arrival;
  /** Who signed the request; set by the first stage. */
  signer: Address = '0x';
  caller = '';
  /** Between parsing and decoding only: it holds the body's text. */
  request: RpcRequest | null = null;
  /** The id to answer with, as JSON text. */
  idText = 'null';
  /** For metrics: a method of ours, or `unknown` (bounded label). */
  method: Method | 'unknown' = 'unknown';
  /** Has the hub's list been fetched anew for this one? */
  refreshed = false;
  /** Did the builder and the peers get it already, with an earlier copy? */
  forwarded = false;
  /** Does its answer wait for an earlier copy's way to the archive? */
  waits = false;
  /** It waits to leave for the peers. */
  heldForPeers = false;
  answered = false;
  seen: SeenOrder | null = null;
  #order: Order | null = null;

  constructor(arrival: Arrival) {
    this.arrival = arrival;
  }

  get side(): Side {
    return this.arrival.side;
  }

  get receivedAtUs(): number {
    return this.arrival.receivedAtUs;
  }

  get order(): Order {
    if (this.#order === null) throw new Error('the order has not been decoded yet');
    return this.#order;
  }

  set order(order: Order) {
    this.#order = order;
  }
}

/**
 * The JSON of a success answer (protocol section 4, results). A duplicate answers with the receive time
 * of the first, so that both answers are the same.
 */
function resultJson(order: Order, receivedAtUs: number): string {
  switch (order.method) {
    case 'eth_sendBundle':
    case 'mev_sendBundle':
      return `{"bundleHash":"${order.hash}","receivedTimestampMs":${receivedAtUs / 1000}}`;
    case 'eth_sendRawTransaction':
      return `"${order.hash}"`;
    default:
      return 'null';
  }
}

/** Answers success. */
export function accept(submission: Submission, receivedAtUs: number): void {
  const { streamed } = submission.arrival;
  if (streamed !== null) {
    streamed.settle(null);
    return;
  }
  const body = encodeResult(submission.idText, resultJson(submission.order, receivedAtUs));
  submission.arrival.respond(200, body, false);
}

/** Answers with the refusal; a client certificate that does not fit ends the connection. */
export function refuse(submission: Submission, rejection: Rejection): void {
  const { streamed } = submission.arrival;
  if (streamed !== null) {
    streamed.settle(rejection);
    return;
  }
  const { code, status } = rejection.row;
  const body = code === null ? rejection.message : encodeError(submission.idText, code, rejection.message);
  submission.arrival.respond(status, body, rejection.kind === 'client_certificate');
}
