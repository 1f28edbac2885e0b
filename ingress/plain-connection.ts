/**
 * One connection of plain-http.ts: reads requests from whatever pieces the kernel gives, hands them over, and writes
 * their answers in the order in which they came (RFC 9112 section 9.3.2).
 *
 * Limits are those of http-server.ts, body-reader.ts and connections.ts. Besides the body that is being read it holds
 * one read of 32 KiB and the beginning of one head at most.
 */
import type { Socket } from 'node:net';
import type { Rejection } from '../pipeline/errors.ts';
import { Listed } from '../pipeline/ordered-list.ts';
import type { BodyRead } from './body-reader.ts';
import type { Connection, OwnReader } from './connection.ts';
import { readInto, readNoLonger, startReading } from './node-internals.ts';
import { INCOMPLETE, PlainHead } from './plain-head.ts';
import type { PlainHttp } from './plain-http.ts';
import { PlainRequest } from './plain-request.ts';

/** What is read is looked at, or copied, at once: one buffer, and one head, serve all connections. */
const READ = Buffer.allocUnsafeSlow(32 * 1024);
const HEAD = new PlainHead();
/** A head in more pieces is left to a parser that need not begin anew with each. */
const MOST_PIECES = 4;
/** Head, objects, answer: measured with heads of 300 bytes. */
const REQUEST_US = 8;
/** After the last answer so long is waited for the client to hang up: what it still sends would cost it the answer. */
const LINGER_MS = 1000;
/** A read, and bytes that are not kept. */
const READ_US = 1;
const DROPPED_BYTES_PER_US = 8192;

export class PlainConnection extends Listed implements OwnReader {
  readonly connection: Connection;
  readonly #http: PlainHttp;
  readonly #socket: Socket;
  readonly #onEnd = () => this.#ended();
  readonly #onClose = () => this.#closed();
  readonly #onWritten = (error?: Error | null) => this.#written(error);

  /** Read and not looked at to its end: the beginning of a head, or what has to wait. */
  #rest: Buffer | null = null;
  /** In how many the beginning of the head has come. */
  #pieces = 0;
  /** What has not been looked at is for Node's HTTP server, and where that will look for it. */
  #leaving = false;
  /** Since when a request is coming, or the first one is waited for, Unix ms; 0 between requests. */
  #since = Date.now();
  #activeAt = this.#since;
  /** When its last answer was written, Unix ms; 0 before. */
  #endedAt = 0;

  /** The request whose body is coming, and how many bytes of it are still to come. */
  #request: PlainRequest | null = null;
  #left = 0;
  /** Null when the body is skipped: the request is refused. */
  #read: BodyRead | null = null;
  #refusal: Rejection | null = null;

  /** Requests whose answers have not left, in the order in which they came. */
  #first: PlainRequest | null = null;
  #last: PlainRequest | null = null;
  #flushing = false;
  /** Of the write that is under way: the request whose answer is its last. Others may follow before it is done. */
  #writing: PlainRequest | null = null;

  constructor(http: PlainHttp, connection: Connection, socket: Socket) {
    super();
    this.#http = http;
    this.connection = connection;
    this.#socket = socket;
  }

  /** @returns false when this Node does not let it read. */
  start(): boolean {
    const socket = this.#socket;
    if (!readInto(socket, READ, (length) => this.#take(length))) return false;
    this.connection.reader = this;
    socket.on('error', ignore);
    socket.on('end', this.#onEnd);
    socket.on('close', this.#onClose);
    // What came together with the end of a TLS handshake.
    const early = socket.read() as Buffer | null;
    if (early !== null) this.#look(early, early.length);
    return true;
  }

  resume(): void {
    const { connection } = this;
    if (this.#leaving || connection.closing) return;
    const rest = this.#rest;
    if (rest !== null && this.#pieces === 0) {
      this.#rest = null;
      this.#look(rest, rest.length);
    }
    if (!connection.full && !connection.queued && !connection.closed) startReading(connection.transport);
  }

  end(): void {
    this.connection.closing = true;
    this.#socket.end();
  }

  destroy(): void {
    this.#socket.destroy();
  }

  /** Ends it when something takes too long. */
  check(nowMs: number): void {
    const { headTimeoutMs, requestTimeoutMs, idleTimeoutMs } = this.#http.options;
    const atMost = this.#request === null ? headTimeoutMs : requestTimeoutMs;
    const late = (sinceMs: number, ms: number) => sinceMs !== 0 && nowMs - sinceMs >= ms;
    if (late(this.#since, atMost) || late(this.#activeAt, idleTimeoutMs)) this.destroy();
    else if (late(this.#endedAt, LINGER_MS) && this.#socket.writableFinished) this.destroy();
  }

  /** An answer is there; it leaves when those before it do. */
  answered(request: PlainRequest, last: boolean): void {
    // The rest of a request that has its answer is not read.
    if (last || request === this.#request) {
      request.last = true;
      this.connection.closing = true;
    }
    if (this.#flushing || this.#writing !== null || this.#first?.answered !== true) return;
    this.#flushing = true;
    this.#http.flushSoon(this);
  }

  /** Writes the answers that are due, together. */
  flush(): void {
    this.#flushing = false;
    if (this.#writing !== null || this.#endedAt !== 0 || this.connection.closed) return;
    const { connections } = this.#http.modules;
    const now = Date.now();
    let text = '';
    let ascii = true;
    let last = false;
    for (let request = this.#first; request?.answered === true && !last; request = request.next) {
      last = request.last || (connections.ending && request.next === null && this.#request === null);
      text += request.head + this.#http.headEnd(last, now) + request.text;
      ascii &&= request.ascii;
      request.wrote();
      this.#writing = request;
    }
    if (this.#writing === null) return;
    this.#activeAt = now;
    this.#socket.write(text, ascii ? 'latin1' : 'utf8', this.#onWritten);
    if (!last) return;
    this.#endedAt = now;
    // What is not read costs the client its answer in any case.
    if (this.connection.full) this.#socket.destroySoon();
    else this.end();
  }

  #take(length: number): boolean {
    this.#activeAt = Date.now();
    if (this.#leaving) return this.#socket.push(copyOf(READ, 0, length));
    if (this.connection.closing) {
      this.connection.charge(READ_US + length / DROPPED_BYTES_PER_US);
      return true;
    }
    const rest = this.#rest;
    if (rest === null) {
      this.#look(READ, length);
    } else {
      this.#rest = null;
      const bytes = Buffer.concat([rest, READ.subarray(0, length)]);
      this.#look(bytes, bytes.length);
    }
    return true;
  }

  /** Reads requests as long as it may. */
  #look(bytes: Buffer, end: number): void {
    const { connection } = this;
    const { pipelining, maxHeadBytes } = this.#http.options;
    for (let at = 0; at < end && !connection.closing && !connection.closed; ) {
      if (this.#request !== null) {
        at = this.#readBody(this.#request, bytes, at, end);
        continue;
      }
      if (connection.inFlight >= pipelining) {
        this.#http.modules.connections.hold(connection);
        this.#rest = copyOf(bytes, at, end);
        this.#pieces = 0;
        this.#since = 0;
        return;
      }
      const next = HEAD.read(bytes, at, end);
      if (next > 0 && next - at <= maxHeadBytes) {
        at = this.#begin(bytes, next, end);
      } else if (next === INCOMPLETE && this.#pieces < MOST_PIECES && end - at < maxHeadBytes) {
        if (this.#pieces === 0) this.#since = this.#activeAt;
        this.#pieces += 1;
        this.#rest = copyOf(bytes, at, end);
        return;
      } else {
        this.#leave(bytes, at, end);
        return;
      }
    }
  }

  /**
   * A head has been read.
   * @param at what follows it
   * @returns up to where the bytes have been read
   */
  #begin(bytes: Buffer, at: number, end: number): number {
    const { connection } = this;
    const { endpoint, connections } = this.#http.modules;
    const request = new PlainRequest(this, HEAD.signature, HEAD.contentType);
    if (this.#last === null) this.#first = request;
    else this.#last.next = request;
    this.#last = request;
    if (this.#pieces === 0) this.#since = this.#activeAt;
    this.#pieces = 0;
    this.#request = request;
    this.#left = HEAD.length;
    if (!connections.begin(request, REQUEST_US)) {
      connections.hold(connection);
      endpoint.arrived(request, 'overloaded');
      return end;
    }
    this.#refusal = endpoint.refusal(connection, HEAD.length);
    if (this.#refusal !== null) {
      connection.reading += 1;
      return this.#readBody(request, bytes, at, end);
    }
    if (end - at >= HEAD.length) {
      const body = endpoint.bodies.whole(HEAD, connection, bytes, at);
      if (body !== null) {
        this.#endRequest();
        endpoint.arrived(request, body);
        return at + body.length;
      }
    }
    this.#read = endpoint.bodies.begin(HEAD, connection, this.#since, (body) =>
      endpoint.arrived(request, body),
    );
    return this.#read === null ? end : this.#readBody(request, bytes, at, end);
  }

  #readBody(request: PlainRequest, bytes: Buffer, at: number, end: number): number {
    const { connection } = this;
    const { endpoint } = this.#http.modules;
    const size = Math.min(this.#left, end - at);
    this.#left -= size;
    const read = this.#read;
    const refusal = this.#refusal;
    if (read === null) connection.charge(READ_US + size / DROPPED_BYTES_PER_US);
    else if (size > 0) endpoint.bodies.take(read, bytes.subarray(at, at + size), true);
    if (this.#left > 0 || request.answered) return at + size;
    this.#endRequest();
    if (read !== null) {
      endpoint.bodies.complete(read);
    } else if (refusal !== null) {
      connection.reading -= 1;
      endpoint.refuse(request, refusal);
    }
    return at + size;
  }

  #endRequest(): void {
    this.#request = null;
    this.#read = null;
    this.#refusal = null;
    this.#since = 0;
  }

  /** @param at where that begins which is for Node's HTTP server. What follows may be here already, and the end, too. */
  #leave(bytes: Buffer, at: number, end: number): void {
    this.#pieces = 0;
    this.#leaving = true;
    this.#http.modules.connections.hold(this.connection);
    this.#socket.push(copyOf(bytes, at, end));
    if (this.#first === null) process.nextTick(() => this.#handOver());
  }

  #handOver(): void {
    const { connection } = this;
    const socket = this.#socket;
    if (connection.closing || connection.closed) return;
    this.#http.forget(this);
    socket.removeListener('error', ignore);
    socket.removeListener('end', this.#onEnd);
    socket.removeListener('close', this.#onClose);
    readNoLonger(socket);
    connection.reader = null;
    connection.full = false;
    this.#http.modules.handOver(socket);
    if (!connection.queued) startReading(connection.transport);
  }

  #written(error?: Error | null): void {
    // What has failed closes the connection.
    if (error) return;
    const written = this.#writing;
    this.#writing = null;
    this.#endUntil(written);
    if (this.#first?.answered === true) this.flush();
    if (this.#first !== null) return;
    if (this.#leaving) this.#handOver();
    // The client sends no more, and has all answers.
    else if (this.#socket.readableEnded) this.end();
  }

  /** Ends the requests up to this one, with it; null ends all. */
  #endUntil(last: PlainRequest | null): void {
    const { connections } = this.#http.modules;
    for (let request = this.#first; request !== null; request = request.next) {
      this.#first = request.next;
      if (this.#first === null) this.#last = null;
      connections.end(request);
      if (request === last) return;
    }
  }

  /** The client sends no more: it gets the answers due, if it has not stopped in the middle of a request. */
  #ended(): void {
    this.connection.closing = true;
    if (this.#request !== null || this.#rest !== null) this.destroy();
    else if (this.#first === null) this.end();
  }

  #closed(): void {
    const { connection } = this;
    this.#http.forget(this);
    connection.closed = true;
    this.#rest = null;
    if (this.#read !== null) this.#http.modules.endpoint.bodies.finish(this.#read, 'aborted');
    this.#endUntil(null);
  }
}

function copyOf(bytes: Buffer, start: number, end: number): Buffer {
  return Buffer.from(bytes.subarray(start, end));
}

/** The socket closes after an error; that is all there is to know of it. */
function ignore(): void {}
