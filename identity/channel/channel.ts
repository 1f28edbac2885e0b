/**
 * One connection of the order stream from its TLS handshake on: exchanges the hellos, carries frames, keeps itself
 * alive, measures the other clock, and ends with a reason. Both sides use it; which orders flow and what their
 * acknowledgements mean is the owner's (egress/stream, ingress/stream).
 *
 * Bounds: a hello within its time, frames by length and by time, frames that carry no orders by rate, what the
 * other side leaves unread by bytes, silence by time. Each ends the connection with its reason.
 */
import type { TLSSocket } from 'node:tls';
import type { Clock } from '../../pipeline/clock.ts';
import type { Address } from '../../pipeline/order.ts';
import type { CloseReason } from '../../pipeline/stream/close-reasons.ts';
import { FrameReader } from '../../pipeline/stream/frame-reader.ts';
import {
  decodeClose,
  decodeHello,
  decodePing,
  decodePong,
  encodeClose,
  encodeHello,
  encodePing,
  encodePong,
  FRAME,
  type HelloFields,
  MAX_CONTROL_BYTES,
} from '../../pipeline/stream/frames.ts';
import { ClockOffset, LIVENESS, Liveness } from '../../pipeline/stream/liveness.ts';
import type { SignatureVerifier, Signer } from '../signature.ts';
import { type ChannelBinding, type ChannelRole, channelBinding, signHello, verifyHello } from './hello.ts';

/** What is reported about connections of the stream; calls must not throw. `peer` is a hub name or empty. */
export interface StreamEvents {
  /** @param direction of the orders: `out` to the peer, `in` from it */
  opened(peer: string, direction: StreamDirection): void;
  /** @param byPeer the other side said so */
  closed(peer: string, direction: StreamDirection, reason: CloseReason, byPeer: boolean): void;
  /** A frame with so many orders was sent or read. */
  orders(peer: string, direction: StreamDirection, count: number): void;
  /** From a frame's being sent to its being read, by the two clocks and their estimated offset. */
  oneWay(peer: string, seconds: number): void;
}

export type StreamDirection = 'in' | 'out';

/** The other side, once its hello is checked. */
export interface FarEnd extends HelloFields {
  readonly address: Address;
}

export interface ChannelOptions {
  readonly role: ChannelRole;
  /** What this side's hello says. */
  readonly hello: HelloFields;
  /** Longest payload of an orders frame once the hellos are exchanged; 0 where none may come. */
  readonly maxOrdersBytes: number;
  readonly helloTimeoutMs: number;
  /** The owner keeps no payload: copies are made in the same memory each time. */
  readonly reusesMemory?: boolean;
}

export interface ChannelModules {
  readonly signer: Signer;
  readonly verifier: SignatureVerifier;
  /** Unix microseconds. */
  readonly clock: Clock;
}

export interface ChannelOwner {
  /**
   * The other side's key is proven for this connection. Is it who may be here?
   *
   * @param certificate DER, as the other side showed it
   * @returns why not, or null; a promise where a fresh list is waited for
   */
  admit(far: FarEnd, certificate: Buffer): CloseReason | null | Promise<CloseReason | null>;
  /** Frames may be sent and will come. */
  opened(far: FarEnd): void;
  /**
   * A frame that is not the channel's own.
   * @param payload a view of what was given to `read`, or of a copy
   * @param own it is of a copy made for this frame alone
   */
  frame(type: number, payload: Buffer, own: boolean): CloseReason | null;
  /** All frames of what was read in one go have been handed over. */
  readEnd(): void;
  /** Called every half a second once open. @returns why the connection must end, or null. */
  tick(nowMs: number): CloseReason | null;
  /** The socket has taken all that waited for it. */
  drained(): void;
  /** Once, as the last call. */
  closed(reason: CloseReason, byPeer: boolean): void;
}

/** Frames without orders, a second: pings, acknowledgements, unknown ones. An honest side sends a few dozen. */
const MAX_CONTROL_PER_SECOND = 2_000;
/** A refusal is no more than one per order, so it is bounded by the window instead. */
const UNCOUNTED: ReadonlySet<number> = new Set([FRAME.orders, FRAME.refused]);
const MAX_UNREAD_BYTES = 4 << 20;
/** A frame has five seconds, and one more for each 256 KiB that have come of it. */
const FRAME_MS = 5_000;
const FRAME_BYTES_PER_MS = 256;
/** From the close frame until the socket is cut. */
const LINGER_MS = 500;

const HELLO = 0;
const ADMITTING = 1;
const OPEN = 2;
const CLOSED = 3;

export class Channel {
  readonly clockOffset = new ClockOffset();
  readonly #socket: TLSSocket;
  readonly #options: ChannelOptions;
  readonly #modules: ChannelModules;
  readonly #owner: ChannelOwner;
  readonly #reader: FrameReader;
  readonly #liveness: Liveness;
  readonly #timer: NodeJS.Timeout;
  readonly #startedMs = performance.now();
  #binding: ChannelBinding | null = null;
  #state = HELLO;
  /** What came while the owner looked for the other side in a fresh list. */
  #held: Buffer[] = [];
  #heldBytes = 0;
  #control = 0;
  #frameSinceMs = 0;
  #tickedMs = this.#startedMs;

  /** @param socket after its handshake; what is read from it the owner gives to `read` */
  constructor(socket: TLSSocket, options: ChannelOptions, modules: ChannelModules, owner: ChannelOwner) {
    this.#socket = socket;
    this.#options = options;
    this.#modules = modules;
    this.#owner = owner;
    this.#liveness = new Liveness(this.#startedMs);
    // Nothing long is taken of somebody who has not said who he is.
    this.#reader = new FrameReader(
      MAX_CONTROL_BYTES,
      (type, payload, own) => this.#frame(type, payload, own),
      options.reusesMemory,
    );
    this.#timer = setInterval(() => this.#tick(), LIVENESS.tickMs).unref();
    socket.setNoDelay(true);
    socket.on('drain', () => {
      if (this.#state === OPEN) this.#owner.drained();
    });
    socket.on('error', () => this.#end('lost', false));
    socket.on('end', () => this.#end('lost', false));
    socket.on('close', () => this.#end('lost', false));
  }

  get open(): boolean {
    return this.#state === OPEN;
  }

  /** Bytes held of a frame that has begun and not ended. */
  get pending(): number {
    return this.#reader.pending;
  }

  /** Bytes in this process that the kernel has not taken. */
  get buffered(): number {
    return this.#socket.writableLength;
  }

  /** Checks the handshake and, as the client, says hello. Apart from the constructor: it may call the owner. */
  start(): void {
    const binding = channelBinding(this.#socket, this.#options.role);
    if (typeof binding === 'string') {
      this.close(binding);
      return;
    }
    this.#binding = binding;
    if (this.#options.role === 'client') this.#sayHello(binding);
  }

  /**
   * Sends a frame.
   * @param written called once its memory is not needed any more; with an error, or not at all, when that cannot be told
   */
  send(frame: Buffer, written?: (error?: Error | null) => void): void {
    if (this.#state === CLOSED) return;
    this.#socket.write(frame, written);
    if (this.#socket.writableLength > MAX_UNREAD_BYTES && this.#options.role === 'server')
      this.close('unread');
  }

  /** Ends the connection and tells the other side why. */
  close(reason: CloseReason): void {
    if (this.#state === CLOSED) return;
    const frame = encodeClose(reason);
    if (frame !== null && !this.#socket.destroyed) this.#socket.write(frame);
    this.#end(reason, false);
  }

  #sayHello(binding: ChannelBinding): void {
    const { role, hello } = this.#options;
    this.#socket.write(encodeHello(signHello(binding, role, hello, this.#modules.signer)));
  }

  /** @param chunk as the socket gave it; a view that the owner's `frame` gets is valid as long as it is */
  read(chunk: Buffer): void {
    if (this.#state === CLOSED) return;
    this.#liveness.heard(performance.now());
    if (this.#state === ADMITTING) {
      this.#hold(chunk);
      return;
    }
    const reason = this.#reader.push(chunk);
    if (reason !== null) {
      this.close(reason);
      return;
    }
    if (this.#reader.pending === 0) this.#frameSinceMs = 0;
    else if (this.#frameSinceMs === 0) this.#frameSinceMs = performance.now();
    if (this.#state === OPEN) this.#owner.readEnd();
  }

  #hold(chunk: Buffer): void {
    this.#held.push(Buffer.from(chunk));
    this.#heldBytes += chunk.length;
    // A client that waits for our hello has nothing to send.
    if (this.#heldBytes > 1024 || this.#held.length > 16) this.close('unexpected');
  }

  #frame(type: number, payload: Buffer, own: boolean): CloseReason | null {
    this.#frameSinceMs = 0;
    if (!UNCOUNTED.has(type) && ++this.#control > MAX_CONTROL_PER_SECOND) return 'flood';
    switch (this.#state) {
      case HELLO:
        return this.#beforeHello(type, payload);
      case ADMITTING:
        return 'unexpected';
      case OPEN:
        return this.#afterHello(type, payload, own);
      default:
        return null;
    }
  }

  #beforeHello(type: number, payload: Buffer): CloseReason | null {
    if (type === FRAME.close) {
      this.#end(decodeClose(payload), true);
      return null;
    }
    if (type !== FRAME.hello || this.#binding === null) return 'unexpected';
    const hello = decodeHello(payload);
    if (hello === null) return 'malformed';
    const { role } = this.#options;
    const theirs = role === 'client' ? 'server' : 'client';
    const address = verifyHello(this.#binding, theirs, hello, this.#modules.verifier);
    if (address === null) return 'hello_signature';
    const far: FarEnd = {
      address,
      // Bit 31 is one like the others.
      features: (hello.features & this.#options.hello.features) >>> 0,
      windowBytes: hello.windowBytes,
      maxOrderBytes: hello.maxOrderBytes,
    };
    const certificate = role === 'client' ? this.#binding.serverCertificate : this.#binding.clientCertificate;
    const verdict = this.#owner.admit(far, certificate);
    if (!(verdict instanceof Promise)) return this.#admitted(far, verdict);
    this.#state = ADMITTING;
    void verdict.then((reason) => {
      if (this.#state !== ADMITTING) return;
      const refused = this.#admitted(far, reason);
      if (refused !== null) this.close(refused);
      else this.#readHeld();
    });
    return null;
  }

  #admitted(far: FarEnd, refused: CloseReason | null): CloseReason | null {
    if (refused !== null) return refused;
    if (this.#options.role === 'server' && this.#binding !== null) this.#sayHello(this.#binding);
    this.#state = OPEN;
    this.#reader.maxOrdersBytes = Math.max(this.#options.maxOrdersBytes, MAX_CONTROL_BYTES);
    this.#ping();
    this.#owner.opened(far);
    return null;
  }

  #readHeld(): void {
    const held = this.#held;
    this.#held = [];
    for (const chunk of held) this.read(chunk);
  }

  #afterHello(type: number, payload: Buffer, own: boolean): CloseReason | null {
    switch (type) {
      case FRAME.hello:
        return 'unexpected';
      case FRAME.ping: {
        const sentAtUs = decodePing(payload);
        if (sentAtUs === null) return 'malformed';
        // Behind so much that it does not read, an answer would tell nothing.
        if (this.buffered <= MAX_UNREAD_BYTES) this.send(encodePong(sentAtUs, this.#modules.clock()));
        return null;
      }
      case FRAME.pong: {
        const pong = decodePong(payload);
        if (pong === null) return 'malformed';
        this.clockOffset.sample(pong.echoUs, this.#modules.clock(), pong.answeredAtUs);
        return null;
      }
      case FRAME.close:
        this.#end(decodeClose(payload), true);
        return null;
      default:
        return this.#owner.frame(type, payload, own);
    }
  }

  #ping(): void {
    this.send(encodePing(this.#modules.clock()));
  }

  #tick(): void {
    const nowMs = performance.now();
    const stoodMs = nowMs - this.#tickedMs - LIVENESS.tickMs;
    this.#tickedMs = nowMs;
    // This process stood still: what came meanwhile has not been read yet, so nobody was slow.
    if (this.#frameSinceMs !== 0 && stoodMs > LIVENESS.tickMs) this.#frameSinceMs += stoodMs;
    this.#control = Math.max(0, this.#control - (MAX_CONTROL_PER_SECOND * LIVENESS.tickMs) / 1000);
    if (this.#state !== OPEN) {
      if (nowMs - this.#startedMs >= this.#options.helloTimeoutMs) this.close('hello_timeout');
      return;
    }
    const due = this.#liveness.tick(nowMs);
    if (due === 'ping') this.#ping();
    const overdue =
      this.#frameSinceMs !== 0 &&
      nowMs - this.#frameSinceMs > FRAME_MS + this.#reader.pending / FRAME_BYTES_PER_MS;
    const reason = due === 'silent' ? 'silent' : overdue ? 'slow' : this.#owner.tick(nowMs);
    if (reason !== null) this.close(reason);
  }

  #end(reason: CloseReason, byPeer: boolean): void {
    if (this.#state === CLOSED) return;
    this.#state = CLOSED;
    clearInterval(this.#timer);
    this.#held = [];
    this.#reader.clear();
    const socket = this.#socket;
    if (reason === 'lost') socket.destroy();
    else {
      // What still comes is read away: a socket closed over unread bytes is reset, and the last acknowledgement and the
      // close frame would be lost with it.
      socket.resume();
      socket.end();
      setTimeout(() => socket.destroy(), LINGER_MS).unref();
    }
    this.#owner.closed(reason, byPeer);
  }
}
