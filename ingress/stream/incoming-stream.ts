/**
 * One connection on which a peer of our kind sends its orders: counts what comes against the credit, hands the
 * orders to the pipeline's queue, and tells the peer what it is done with (ingress/stream/PROTOCOL.md).
 *
 * An acknowledgement waits up to ten milliseconds for more of them: it costs both sides as much as an order, and no
 * order waits for it while there is credit.
 */
import type { TLSSocket } from 'node:tls';
import {
  Channel,
  type ChannelModules,
  type ChannelOwner,
  type FarEnd,
  type StreamEvents,
} from '../../identity/channel/channel.ts';
import { Rejection } from '../../pipeline/errors.ts';
import type { Address } from '../../pipeline/order.ts';
import type { CloseReason } from '../../pipeline/stream/close-reasons.ts';
import { decodeOrders, encodeAck, encodeGoAway, encodeRefused, FRAME } from '../../pipeline/stream/frames.ts';
import { decodeRecord, type OrderRecord } from '../../pipeline/stream/record.ts';
import { refusalCode } from '../../pipeline/stream/refusals.ts';
import { orderCost, ReceiveWindow } from '../../pipeline/stream/windows.ts';
import type { Arrival, ShownCertificate, StreamedOrder } from '../../pipeline/submission.ts';
import { readInto } from '../node-internals.ts';

export interface IncomingOptions {
  /** Credit of the connection, bytes. */
  readonly windowBytes: number;
  /** Longest canonical form that is taken, bytes. */
  readonly maxOrderBytes: number;
  readonly helloTimeoutMs: number;
  /** Nobody keeps an order, or a part of it, once it has been offered: its bytes are overwritten by the next. */
  readonly keepsNothing?: boolean;
}

export interface IncomingModules extends ChannelModules {
  /** Hands an order on. @returns false when too much waits */
  readonly offer: (stream: IncomingStream, arrival: Arrival, bytes: number) => boolean;
  /** Work that the connection has caused, µs. */
  readonly charge: (us: number) => void;
  readonly events: Pick<StreamEvents, 'orders' | 'oneWay'>;
  /** @returns the peer with its certificate, or why it may not be here */
  readonly identify: (address: Address, certificate: Buffer) => Identified | Promise<Identified>;
  readonly opened: (stream: IncomingStream) => void;
  /** It holds more of a frame that has not ended than a frame of small orders has. */
  readonly gathers: (stream: IncomingStream) => void;
  readonly closed: (stream: IncomingStream, reason: CloseReason, byPeer: boolean) => void;
}

/** A listed peer, and what its connection showed; or why there is none. */
export type Identified = { readonly name: string; readonly certificate: ShownCertificate } | CloseReason;

/** What is read is decoded, or copied, at once: one buffer serves all connections. */
const READ = Buffer.allocUnsafeSlow(64 * 1024);
/** A frame that is not full takes one order more; beyond its canonical form a record has the places of its transactions. */
export const FRAME_OVERHEAD_BYTES = 128 * 1024;
const ACK_DELAY_MS = 10;
/** Part of the window that may be owed before an acknowledgement goes out at once. */
const ACK_AT = 1 / 8;
/** With more in the way, an acknowledgement waits until that has left; the next says all it would have said. */
const MAX_ACK_BEHIND_BYTES = 65_536;
/** What a frame and an order cost here, before the queue, µs (measured). */
const FRAME_US = 1;
const ORDER_US = 3;

const TOO_BIG = new Rejection('body_too_big', 'the order is too big');
const OVERLOADED = new Rejection('overloaded', 'too much is waiting');

export class IncomingStream implements ChannelOwner {
  /** Hub name of the peer; empty before its hello. */
  peer = '';
  address: Address = '0x';
  certificate: ShownCertificate | undefined = undefined;
  readonly #options: IncomingOptions;
  readonly #modules: IncomingModules;
  readonly #socket: TLSSocket;
  readonly #channel: Channel;
  readonly #window: ReceiveWindow;
  #ackTimer: NodeJS.Timeout | null = null;
  #ackedSequence = 0;
  #ackedLimit: number;
  #charge = 0;

  constructor(socket: TLSSocket, options: IncomingOptions, modules: IncomingModules) {
    const { windowBytes, maxOrderBytes, helloTimeoutMs, keepsNothing = false } = options;
    this.#socket = socket;
    this.#options = options;
    this.#modules = modules;
    this.#window = new ReceiveWindow(windowBytes);
    this.#ackedLimit = windowBytes;
    this.#channel = new Channel(
      socket,
      {
        role: 'server',
        hello: { features: 0, windowBytes, maxOrderBytes },
        maxOrdersBytes: maxOrderBytes + FRAME_OVERHEAD_BYTES,
        helloTimeoutMs,
        reusesMemory: keepsNothing,
      },
      modules,
      this,
    );
  }

  start(): void {
    const socket = this.#socket;
    this.#channel.start();
    const intoOne = readInto(socket, READ, (length) => {
      this.#channel.read(READ.subarray(0, length));
      return true;
    });
    // What came together with the end of the handshake; and, without that way of reading, all.
    const early = intoOne ? (socket.read() as Buffer | null) : null;
    if (early !== null) this.#channel.read(early);
    if (!intoOne) socket.on('data', (chunk: Buffer) => this.#channel.read(chunk));
  }

  /** Orders received that the node is not done with. */
  get unsettled(): number {
    return this.#window.unsettled;
  }

  /** The same, as the queue calls it. */
  get unanswered(): number {
    return this.#window.unsettled;
  }

  /** Bytes held of a frame that has not ended. */
  get pending(): number {
    return this.#channel.pending;
  }

  /** Microseconds that the peer's clock is ahead, as far as pings tell; null before the first. */
  get clockOffsetUs(): number | null {
    const { known, offsetUs } = this.#channel.clockOffset;
    return known ? offsetUs : null;
  }

  /** Asks the peer to send no more here; what it has sent is dealt with. */
  goAway(): void {
    if (this.#channel.open) this.#channel.send(encodeGoAway());
  }

  close(reason: CloseReason): void {
    this.#sendAck();
    this.#channel.close(reason);
  }

  /** The pipeline is done with an order of this connection. */
  settle(sequence: number, cost: number, refusal: Rejection | null): void {
    this.#window.settle(sequence, cost);
    if (!this.#channel.open) return;
    if (refusal !== null) {
      if (refusal.kind === 'client_certificate') {
        this.close('not_listed');
        return;
      }
      this.#channel.send(encodeRefused(sequence, refusalCode(refusal.kind)));
    }
    if (this.#window.limit - this.#ackedLimit > this.#options.windowBytes * ACK_AT) this.#sendAck();
    else this.#ackTimer ??= setTimeout(() => this.#sendAck(), ACK_DELAY_MS);
  }

  // --- what the channel reports ---

  admit(far: FarEnd, certificate: Buffer): CloseReason | null | Promise<CloseReason | null> {
    const found = this.#modules.identify(far.address, certificate);
    return found instanceof Promise
      ? found.then((late) => this.#identified(far.address, late))
      : this.#identified(far.address, found);
  }

  #identified(address: Address, found: Identified): CloseReason | null {
    if (typeof found === 'string') return found;
    this.peer = found.name;
    this.address = address;
    this.certificate = found.certificate;
    return null;
  }

  opened(): void {
    this.#modules.opened(this);
  }

  frame(type: number, payload: Buffer, own: boolean): CloseReason | null {
    this.#charge += FRAME_US;
    switch (type) {
      case FRAME.orders:
        return this.#take(own || this.#options.keepsNothing === true ? payload : Buffer.from(payload));
      case FRAME.ack:
      case FRAME.refused:
      case FRAME.goAway:
        return 'unexpected';
      default:
        return null;
    }
  }

  readEnd(): void {
    this.#modules.charge(this.#charge);
    this.#charge = 0;
    if (this.#channel.pending > FRAME_OVERHEAD_BYTES) this.#modules.gathers(this);
  }

  tick(): null {
    return null;
  }

  drained(): void {
    this.#sendAck();
  }

  closed(reason: CloseReason, byPeer: boolean): void {
    if (this.#ackTimer !== null) clearTimeout(this.#ackTimer);
    this.#ackTimer = null;
    this.#modules.closed(this, reason, byPeer);
  }

  #take(payload: Buffer): CloseReason | null {
    const orders = decodeOrders(payload);
    if (orders === null) return 'malformed';
    const { records, first, sentAtUs } = orders;
    let cost = 0;
    for (const record of records) cost += orderCost(record.length);
    const reason = this.#window.receive(first, records.length, cost);
    if (reason !== null) return reason;
    const { clock, events } = this.#modules;
    events.orders(this.peer, 'in', records.length);
    const { known, offsetUs } = this.#channel.clockOffset;
    if (known) events.oneWay(this.peer, Math.max(0, clock() - (sentAtUs - offsetUs)) / 1e6);
    this.#charge += ORDER_US * records.length;
    for (const [i, bytes] of records.entries()) {
      const record = decodeRecord(bytes);
      if (record === null) return 'malformed';
      this.#hand(first + i, bytes, record);
    }
    return null;
  }

  #hand(sequence: number, bytes: Buffer, record: OrderRecord): void {
    const arrival = new StreamedArrival(this, sequence, bytes, record, this.#modules.clock());
    if (record.canonicalBytes > this.#options.maxOrderBytes) arrival.settle(TOO_BIG);
    else if (!this.#modules.offer(this, arrival, bytes.length)) arrival.settle(OVERLOADED);
  }

  #sendAck(): void {
    if (this.#ackTimer !== null) clearTimeout(this.#ackTimer);
    this.#ackTimer = null;
    const { sequence, limit } = this.#window;
    if (sequence === this.#ackedSequence && limit === this.#ackedLimit) return;
    if (!this.#channel.open || this.#channel.buffered > MAX_ACK_BEHIND_BYTES) return;
    this.#ackedSequence = sequence;
    this.#ackedLimit = limit;
    this.#channel.send(encodeAck(sequence, limit));
  }
}

/** One order on its way through the pipeline, which answers by `settle` alone. */
class StreamedArrival implements Arrival, StreamedOrder {
  readonly side = 'system';
  readonly body: Buffer;
  readonly signature = undefined;
  readonly certificate: ShownCertificate | undefined;
  readonly receivedAtUs: number;
  readonly peer: Address;
  readonly record: OrderRecord;
  readonly #stream: IncomingStream;
  readonly #sequence: number;

  constructor(
    stream: IncomingStream,
    sequence: number,
    body: Buffer,
    record: OrderRecord,
    receivedAtUs: number,
  ) {
    this.body = body;
    this.certificate = stream.certificate;
    this.receivedAtUs = receivedAtUs;
    this.peer = stream.address;
    this.record = record;
    this.#stream = stream;
    this.#sequence = sequence;
  }

  get streamed(): this {
    return this;
  }

  settle(refusal: Rejection | null): void {
    this.#stream.settle(this.#sequence, orderCost(this.body.length), refusal);
  }

  respond(): never {
    throw new Error('a streamed order is settled, not answered');
  }
}
