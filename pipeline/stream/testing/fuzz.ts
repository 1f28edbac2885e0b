/**
 * Feeds the stream's decoders with damaged, spliced and random bytes, as a hostile peer might: frames, records, the
 * orders in them. Whatever comes must be refused, or be an order whose canonical form stands by itself over v1.
 * A fixed seed gives the same inputs.
 */
import { createOrderSource } from '../../../devnet/orders.ts';
import { decodeOrder } from '../../decode.ts';
import { Rejection } from '../../errors.ts';
import { parseRequest, RefusedRequest } from '../../json-rpc.ts';
import type { DecodeContext } from '../../order-context.ts';
import { ReplacementNonces } from '../../replacement-nonces.ts';
import type { CloseReason } from '../close-reasons.ts';
import { FrameReader } from '../frame-reader.ts';
import {
  decodeAck,
  decodeClose,
  decodeHello,
  decodeOrders,
  decodePing,
  decodePong,
  decodeRefused,
  encodeAck,
  encodeClose,
  encodeGoAway,
  encodeHello,
  encodeOrders,
  encodePing,
  encodePong,
  encodeRefused,
  FRAME,
} from '../frames.ts';
import { decodeRecord, encodeRecord } from '../record.ts';
import { orderCost, ReceiveWindow } from '../windows.ts';

export interface FuzzResult {
  readonly inputs: number;
  /** Frames that the decoders saw. */
  readonly frames: number;
  /** Orders that came through. */
  readonly orders: number;
  /** Inputs that ended the connection, records that were refused. */
  readonly refused: number;
}

const MAX_ORDERS_BYTES = 200_000;
const WINDOW = 1 << 20;
/** One in so many orders that come through is decoded again from its canonical form. */
const CHECK_EVERY = 4;

/** A generator of 32-bit numbers (xorshift): a million inputs a minute leave no time for a better one. */
class Random {
  #state: number;

  constructor(seed: number) {
    this.#state = seed | 1;
  }

  below(limit: number): number {
    let state = this.#state;
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    this.#state = state;
    return (state >>> 0) % limit;
  }
}

/** @throws Error when an order comes through that is not the same over v1; whatever a decoder throws. */
export function fuzz(options: {
  readonly seed: number;
  readonly inputs: number;
  readonly progress?: (done: number) => void;
}): FuzzResult {
  const random = new Random(options.seed);
  const good = goodStreams();
  let frames = 0;
  let orders = 0;
  let refused = 0;
  for (let input = 0; input < options.inputs; input++) {
    const bytes = damaged(random, good);
    const window = new ReceiveWindow(WINDOW);
    const reader = new FrameReader(MAX_ORDERS_BYTES, (type, payload) => {
      frames++;
      return decodeAny(type, payload, window, (order) => {
        if (order === null) refused++;
        else if (orders++ % CHECK_EVERY === 0) check(order);
      });
    });
    const cut = random.below(bytes.length + 1);
    const reason = reader.push(bytes.subarray(0, cut)) ?? reader.push(bytes.subarray(cut));
    if (reason !== null) refused++;
    if (input % 100_000 === 0) options.progress?.(input);
  }
  return { inputs: options.inputs, frames, orders, refused };
}

function decodeAny(
  type: number,
  payload: Buffer,
  window: ReceiveWindow,
  onOrder: (canonical: Buffer | null) => void,
): CloseReason | null {
  switch (type) {
    case FRAME.hello:
      return decodeHello(payload) === null ? 'malformed' : null;
    case FRAME.orders: {
      const batch = decodeOrders(payload);
      if (batch === null) return 'malformed';
      const cost = batch.records.reduce((sum, record) => sum + orderCost(record.length), 0);
      // Numbers are damaged too; what they lead to is worth more than one more refusal.
      window.receive(batch.first, batch.records.length, cost);
      for (const record of batch.records) onOrder(canonicalOf(record));
      return null;
    }
    case FRAME.ack:
      return decodeAck(payload) === null ? 'malformed' : null;
    case FRAME.refused:
      return decodeRefused(payload) === null ? 'malformed' : null;
    case FRAME.ping:
      return decodePing(payload) === null ? 'malformed' : null;
    case FRAME.pong:
      return decodePong(payload) === null ? 'malformed' : null;
    case FRAME.close:
      decodeClose(payload);
      return null;
    default:
      return null;
  }
}

const nonces = new ReplacementNonces();
const CONTEXT: DecodeContext = {
  side: 'system',
  signer: `0x${'ab'.repeat(20)}`,
  isFlashbots: false,
  receivedAtUs: 1,
  validation: 'off',
  chainId: 1n,
  nonces,
  hashes: false,
};

function canonicalOf(record: Buffer): Buffer | null {
  const request = decodeRecord(record)?.request();
  if (request === undefined || request instanceof RefusedRequest) return null;
  const order = decodeOrder(request, CONTEXT);
  return order instanceof Rejection ? null : order.canonical;
}

/** Two nodes that get it, one over the stream and one over v1, must have the same bytes. */
function check(canonical: Buffer): void {
  const request = parseRequest(canonical);
  if (request instanceof RefusedRequest) throw new Error(`no request: ${request.rejection.message}`);
  const order = decodeOrder(request, CONTEXT);
  if (order instanceof Rejection) throw new Error(`refused over v1: ${order.message}`);
  if (!order.canonical.equals(canonical)) throw new Error('another order over v1');
}

function goodStreams(): readonly Buffer[] {
  const source = createOrderSource({ seed: 'fuzz', bodyBytes: 700 });
  const records = Array.from({ length: 32 }, () => source.next()).map(({ method, canonical }) =>
    encodeRecord(method, canonical),
  );
  const hello = encodeHello({
    features: 0,
    windowBytes: 1,
    maxOrderBytes: 2,
    address: Buffer.alloc(20, 1),
    signature: Buffer.alloc(65, 2),
  });
  const close = encodeClose('normal') ?? Buffer.alloc(0);
  return [
    ...records.map((record) => encodeOrders(1_700_000_000_000_000, 1, [record])),
    encodeOrders(1_700_000_000_000_000, 1, records.slice(0, 3)),
    Buffer.concat([hello, encodePing(1), encodePong(1, 2), encodeAck(3, 4), encodeRefused(5, 1)]),
    Buffer.concat([encodeGoAway(), close]),
  ];
}

/** A few bytes changed, a piece cut out, doubled or put in from elsewhere; now and then nothing but chance. */
function damaged(random: Random, good: readonly Buffer[]): Buffer {
  const pick = () => good[random.below(good.length)] ?? Buffer.alloc(0);
  const kind = random.below(16);
  if (kind === 0) {
    const noise = Buffer.alloc(1 + random.below(200));
    for (let i = 0; i < noise.length; i++) noise[i] = random.below(256);
    // With a header that fits, or nothing would be seen of the rest.
    noise[0] = random.below(9);
    if (noise.length > 5) noise.writeUInt32BE(noise.length - 5, 1);
    return noise;
  }
  const bytes = Buffer.from(pick());
  if (kind < 12) {
    for (let i = 1 + random.below(4); i > 0; i--) bytes[random.below(bytes.length)] = random.below(256);
    return bytes;
  }
  const at = random.below(bytes.length);
  const length = random.below(64);
  if (kind === 12) return Buffer.concat([bytes.subarray(0, at), bytes.subarray(at + length)]);
  if (kind === 13) return Buffer.concat([bytes.subarray(0, at + length), bytes.subarray(at)]);
  const other = pick();
  return Buffer.concat([bytes.subarray(0, at), other.subarray(random.below(other.length)), bytes]);
}
