/**
 * One kept-alive connection on which POST requests are pipelined (RFC 9112 section 9.3.2): the next is
 * written without waiting for the answer to the last, and answers come in the order of the requests.
 *
 * Every request given to `write` has exactly one fate: `answered`, or it is among the `unanswered` of
 * `ended`. Bounds: requests and bytes outstanding, bytes waiting in user space for a slow reader, the
 * time until connected, the time between answers. It never reconnects; the target does.
 *
 * Requests written between two flushes leave in one write, put together in a buffer that is used again
 * (write-batch.ts). Large ones, and those for a socket that has not taken what it was given before, are not copied: they leave
 * in one system call (cork → writev).
 */
import type { OnReadOpts, Socket } from 'node:net';
import type { ConnectionEnd } from './delivery.ts';
import { Fifo } from './fifo.ts';
import { HttpResponseParser, type ResponseParserOptions, type ResponseSink } from './http-response-parser.ts';
import { WriteBatch } from './write-batch.ts';

/** How a connection comes to be. */
export interface Dialler {
  /**
   * Starts connecting. Throws what `net.connect` and `tls.connect` throw for impossible options.
   * @param onread where what is read goes, in place of `data` events
   */
  dial(onread?: OnReadOpts): Socket;
  /** The socket's event after which it may carry requests. */
  readonly readyEvent: 'connect' | 'secureConnect';
  /** Called with the ready socket before a byte is written: null, or why not to use it. */
  refuse(socket: Socket): 'certificate_mismatch' | null;
}

/** What a connection needs to know of a request; it sets `sentAtMs` (`performance.now()`). */
export interface PipelinedRequest {
  readonly bytes: number;
  sentAtMs: number;
}

export interface ConnectionOwner<T extends PipelinedRequest> {
  /** Requests can be written from now on. */
  opened(connection: PipelinedConnection<T>): void;
  /**
   * Requests have got the same answer one after the other.
   * @param body valid only during the call
   */
  answered(connection: PipelinedConnection<T>, requests: readonly T[], status: number, body: Buffer): void;
  /** The socket has taken all that waited for it. */
  drained(connection: PipelinedConnection<T>): void;
  /**
   * Called once, as the last call.
   * @param unanswered in the order written; of the first `written` all bytes had left the process
   */
  ended(connection: PipelinedConnection<T>, reason: ConnectionEnd, unanswered: T[], written: number): void;
}

export interface ConnectionOptions extends ResponseParserOptions {
  /** Requests written and not answered. */
  readonly maxOutstanding: number;
  /** Their bytes; one larger request is let through when it is alone. */
  readonly maxOutstandingBytes: number;
  /** Bytes in user space that the kernel has not taken; not below the stream's high-water mark (64 KiB). */
  readonly maxBufferedBytes: number;
  readonly connectTimeoutMs: number;
  /** Longest time without an answer while one is due. */
  readonly responseTimeoutMs: number;
}

const CONNECTING = 0;
const OPEN = 1;
const ENDED = 2;

/** Probes of an idle connection by the kernel: a peer that vanished without a word is noticed. */
const KEEP_ALIVE_PROBE_MS = 30_000;
/** Read at once: some 40 answers. What is read is parsed at once, so that one buffer serves for good. */
const READ_BYTES = 8 * 1024;

export class PipelinedConnection<T extends PipelinedRequest> implements ResponseSink {
  readonly #owner: ConnectionOwner<T>;
  readonly #options: ConnectionOptions;
  readonly #dialler: Dialler;
  readonly #socket: Socket;
  readonly #parser: HttpResponseParser;
  readonly #outstanding = new Fifo<T>();
  /** One for all writes, so that writing an order makes no function. */
  readonly #countFlushed = (error?: Error | null): void => {
    if (!error) this.#flushed++;
  };
  readonly #countBatch = (requests: number): void => {
    this.#flushed += requests;
  };

  #state = CONNECTING;
  /** What leaves with the next flush, in front of what the socket holds corked. */
  #batch: WriteBatch | null = null;
  #corked = false;
  #outstandingBytes = 0;
  #answered = 0;
  #flushed = 0;
  #openedAtMs = 0;
  #lastAnswerMs = 0;
  /** Keeps what came after the server's last answer from being written to. */
  #closing = false;
  #timer: NodeJS.Timeout | null;

  /** Starts connecting. Throws when the dialler does. */
  constructor(dialler: Dialler, owner: ConnectionOwner<T>, options: ConnectionOptions) {
    this.#dialler = dialler;
    this.#owner = owner;
    this.#options = options;
    this.#parser = new HttpResponseParser(this, options);
    const buffer = Buffer.allocUnsafeSlow(READ_BYTES);
    const socket = dialler.dial({
      buffer,
      callback: (length) => {
        this.#read(buffer.subarray(0, length));
        return true;
      },
    });
    this.#socket = socket;
    // Orders are small and urgent: never wait to fill a segment.
    socket.setNoDelay(true);
    socket.setKeepAlive(true, KEEP_ALIVE_PROBE_MS);
    socket.on(dialler.readyEvent, () => this.#ready());
    socket.on('drain', () => {
      if (this.#state === OPEN) this.#owner.drained(this);
    });
    socket.on('end', () => this.#finished());
    socket.on('error', () => this.#end(this.#state === CONNECTING ? 'connect_failed' : 'connection_lost'));
    socket.on('close', () => this.#end(this.#state === CONNECTING ? 'connect_failed' : 'connection_lost'));
    this.#timer = setTimeout(connectTimedOut, options.connectTimeoutMs, this);
  }

  /** Connected, and not ended. */
  get open(): boolean {
    return this.#state === OPEN;
  }

  /** Requests written and not answered. */
  get outstanding(): number {
    return this.#outstanding.length;
  }

  /** Requests answered so far. */
  get answered(): number {
    return this.#answered;
  }

  /** `performance.now()` when it was connected; 0 before. */
  get openedAtMs(): number {
    return this.#openedAtMs;
  }

  /** @returns whether a request of so many bytes may be written now, with at most `window` outstanding. */
  canTake(bytes: number, window: number): boolean {
    if (this.#state !== OPEN || this.#closing) return false;
    const outstanding = this.#outstanding.length;
    const buffered = this.#socket.writableLength + (this.#batch?.bytes ?? 0);
    return (
      outstanding < window &&
      outstanding < this.#options.maxOutstanding &&
      (outstanding === 0 || this.#outstandingBytes + bytes <= this.#options.maxOutstandingBytes) &&
      (buffered === 0 || buffered + bytes <= this.#options.maxBufferedBytes)
    );
  }

  /**
   * Takes a request; it leaves with `flush`. Only after `canTake`.
   * @param headStart and `headEnd`: request line and header with the empty line in two parts, ASCII
   */
  write(request: T, headStart: string, headEnd: string, body: Buffer, nowMs: number): void {
    request.sentAtMs = nowMs;
    this.#outstanding.push(request);
    this.#outstandingBytes += request.bytes;
    this.#timer ??= setTimeout(responseDue, this.#options.responseTimeoutMs, this);
    if (this.#join(headStart, headEnd, body)) return;
    this.#writeBatch();
    const socket = this.#socket;
    if (!this.#corked) {
      this.#corked = true;
      socket.cork();
    }
    socket.write(headStart + headEnd, 'latin1');
    socket.write(body, this.#countFlushed);
  }

  /** Sends what has been written since the last call. */
  flush(): void {
    this.#writeBatch();
    if (!this.#corked) return;
    this.#corked = false;
    this.#socket.uncork();
  }

  /** Ends it now. Requests without an answer are `unanswered`. */
  destroy(reason: ConnectionEnd): void {
    this.#end(reason);
  }

  /** The same response was read so many times: for the parser alone. */
  response(status: number, body: Buffer, keepAlive: boolean, times: number): void {
    const requests: T[] = [];
    for (let left = times; left > 0; left--) {
      const request = this.#outstanding.shift();
      if (request === undefined) break;
      this.#outstandingBytes -= request.bytes;
      requests.push(request);
    }
    this.#answered += requests.length;
    this.#lastAnswerMs = performance.now();
    this.#closing = !keepAlive;
    if (requests.length > 0) this.#owner.answered(this, requests, status, body);
    if (requests.length < times) this.#end('protocol_error');
    else if (!keepAlive) this.#end('closed');
  }

  /** A timer ran out: for the timers below alone. */
  checkResponseTime(): void {
    this.#timer = null;
    const oldest = this.#outstanding.peek();
    if (oldest === undefined) return;
    // An answer that is late only because others before it took their time is not overdue.
    const since = Math.max(oldest.sentAtMs, this.#lastAnswerMs);
    const left = this.#options.responseTimeoutMs - (performance.now() - since);
    if (left <= 0) this.#end('response_timeout');
    else this.#timer = setTimeout(responseDue, Math.ceil(left), this);
  }

  /** @returns whether the request leaves with others in one buffer. */
  #join(headStart: string, headEnd: string, body: Buffer): boolean {
    if (this.#batch === null) {
      if (this.#corked || this.#socket.writableLength > 0) return false;
      this.#batch = WriteBatch.take();
    }
    return this.#batch.add(headStart, headEnd, body);
  }

  #writeBatch(): void {
    const batch = this.#batch;
    if (batch === null) return;
    this.#batch = null;
    if (batch.empty) batch.giveBack();
    else batch.write(this.#socket, this.#countBatch);
  }

  #ready(): void {
    if (this.#state !== CONNECTING) return;
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#timer = null;
    const refused = this.#dialler.refuse(this.#socket);
    if (refused !== null) {
      this.#end(refused);
      return;
    }
    this.#state = OPEN;
    this.#openedAtMs = performance.now();
    this.#owner.opened(this);
  }

  #read(chunk: Buffer): void {
    if (this.#state !== OPEN) return;
    // Nothing was asked, or more came than was asked: whatever that is, it is no answer.
    const asked = this.#outstanding.length > 0;
    const error = asked ? this.#parser.push(chunk) : null;
    const tooMuch = this.#outstanding.length === 0 && !this.#parser.idle;
    if (!asked || error !== null || tooMuch) this.#end('protocol_error');
  }

  /** The server sends no more; it may have read requests that it will not answer. */
  #finished(): void {
    const connecting = this.#state === CONNECTING;
    const error = this.#parser.end();
    if (connecting) this.#end('connect_failed');
    else this.#end(error === null ? 'closed' : 'protocol_error');
  }

  #end(reason: ConnectionEnd): void {
    if (this.#state === ENDED) return;
    const wasOpen = this.#state === OPEN;
    this.#state = ENDED;
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#timer = null;
    this.#parser.stop();
    const unsent = this.#batch;
    this.#batch = null;
    unsent?.giveBack();
    const written = Math.max(0, this.#flushed - this.#answered);
    const unanswered = this.#outstanding.takeAll();
    // A polite end only where nothing can be lost or block; a peer that does not read gets none.
    if (wasOpen && unanswered.length === 0 && this.#socket.writableLength === 0) this.#socket.destroySoon();
    else this.#socket.destroy();
    this.#owner.ended(this, reason, unanswered, Math.min(written, unanswered.length));
  }
}

function connectTimedOut<T extends PipelinedRequest>(connection: PipelinedConnection<T>): void {
  connection.destroy('connect_timeout');
}

function responseDue<T extends PipelinedRequest>(connection: PipelinedConnection<T>): void {
  connection.checkResponseTime();
}
