/**
 * Reads request bodies straight from Node's request objects (HTTP/1.1 and HTTP/2), without web streams.
 *
 * What a slow or greedy client costs is bounded: a body may take so long and be so big, all bodies being
 * read together may hold so many bytes, and at that bound the one that has been at it longest goes, not
 * the newcomer. A body that comes in one chunk is not copied; one that comes in many is gathered in a
 * buffer that grows with what has arrived, so neither an announced length nor a million one-byte chunks
 * costs memory that was not sent.
 */
import type { IncomingMessage } from 'node:http';
import type { Http2ServerRequest } from 'node:http2';
import { createGunzip } from 'node:zlib';

export type HttpRequest = IncomingMessage | Http2ServerRequest;

/** Why a body was not read: `too_big` and `overloaded` get an answer, the others have nobody to answer. */
export type BodyFailure = 'too_big' | 'overloaded' | 'timeout' | 'aborted' | 'bad_gzip' | 'bad_encoding';

export interface BodyReaderOptions {
  /** Most bytes of one body, after decompression. */
  readonly maxBodyBytes: number;
  /** Most bytes held by all bodies being read. */
  readonly maxTotalBytes: number;
  /** From the request's head to its last byte. */
  readonly timeoutMs: number;
}

type Done = (body: Buffer | BodyFailure) => void;

/** Decompressions at once; each may hold a whole body. */
const MAX_GUNZIP = 4;
const SWEEP_MS = 1000;
const STATE = Symbol('body');

class BodyRead {
  readonly reader: BodyReader;
  readonly request: HttpRequest;
  readonly done: Done;
  readonly deadline: number;
  buffer: Buffer | null = null;
  length = 0;
  /** The limit is passed: what still comes is counted and dropped, so that the client can read its answer. */
  overflowed = false;

  constructor(reader: BodyReader, request: HttpRequest, deadline: number, done: Done) {
    this.reader = reader;
    this.request = request;
    this.deadline = deadline;
    this.done = done;
  }
}

type Carrier = HttpRequest & { [STATE]?: BodyRead };

export class BodyReader {
  readonly #options: BodyReaderOptions;
  /** In order of arrival: the first has been reading longest. */
  readonly #reads = new Set<BodyRead>();
  readonly #sweeper: NodeJS.Timeout;
  readonly #gunzipQueue: (() => void)[] = [];
  #gunzips = 0;
  #bytes = 0;

  constructor(options: BodyReaderOptions) {
    this.#options = options;
    this.#sweeper = setInterval(() => this.#sweep(), SWEEP_MS);
    this.#sweeper.unref();
  }

  /** Bytes held by bodies being read, and how many there are. */
  get bytes(): number {
    return this.#bytes;
  }

  get reading(): number {
    return this.#reads.size;
  }

  close(): void {
    clearInterval(this.#sweeper);
  }

  /** Reads the body of `request`; `done` is called once, with the (decompressed) body or the reason. */
  read(request: HttpRequest, done: Done): void {
    const encoding = request.headers['content-encoding'];
    const announced = Number(request.headers['content-length'] ?? 0);
    if (announced > 2 * this.#options.maxBodyBytes) {
      done('too_big');
      return;
    }
    if (encoding === undefined || encoding === 'identity') {
      this.#collect(request, done);
    } else if (encoding === 'gzip' || encoding === 'x-gzip') {
      this.#collect(request, (body) => {
        if (typeof body === 'string') done(body);
        else this.#gunzip(body, done);
      });
    } else {
      done('bad_encoding');
    }
  }

  #collect(request: HttpRequest, done: Done): void {
    const read = new BodyRead(this, request, Date.now() + this.#options.timeoutMs, done);
    (request as Carrier)[STATE] = read;
    this.#reads.add(read);
    request.on('data', onData);
    request.on('end', onEnd);
    request.on('close', onClose);
    request.on('error', onClose);
  }

  take(read: BodyRead, chunk: Buffer): void {
    const total = read.length + chunk.length;
    if (total > this.#options.maxBodyBytes) {
      this.#release(read);
      read.overflowed = true;
      read.length = total;
      if (total > 2 * this.#options.maxBodyBytes) this.finish(read, 'too_big');
      return;
    }
    if (read.buffer === null) {
      read.buffer = chunk;
      this.#bytes += chunk.length;
    } else {
      if (total > read.buffer.length) {
        const grown = Buffer.allocUnsafe(
          Math.min(Math.max(2 * read.buffer.length, total), this.#options.maxBodyBytes),
        );
        read.buffer.copy(grown, 0, 0, read.length);
        this.#bytes += grown.length - read.buffer.length;
        read.buffer = grown;
      }
      chunk.copy(read.buffer, read.length);
    }
    read.length = total;
    if (this.#bytes > this.#options.maxTotalBytes) this.#evictOldest();
  }

  /** Ends a read once; later events of the same request find nothing to do. */
  finish(read: BodyRead, outcome: BodyFailure | null): void {
    if (!this.#reads.delete(read)) return;
    const { buffer, length, overflowed } = read;
    this.#release(read);
    if (outcome !== null) read.done(outcome);
    else if (overflowed) read.done('too_big');
    else if (buffer === null) read.done(EMPTY);
    else read.done(buffer.length === length ? buffer : buffer.subarray(0, length));
  }

  #release(read: BodyRead): void {
    if (read.buffer === null) return;
    this.#bytes -= read.buffer.length;
    read.buffer = null;
  }

  #evictOldest(): void {
    for (const read of this.#reads) {
      if (read.buffer === null) continue;
      this.finish(read, 'overloaded');
      return;
    }
  }

  #sweep(): void {
    const now = Date.now();
    for (const read of this.#reads) {
      if (read.deadline > now) return;
      this.finish(read, 'timeout');
    }
  }

  #gunzip(body: Buffer, done: Done): void {
    if (this.#gunzips >= MAX_GUNZIP) {
      // Bounded by the connections: each holds one compressed body that was read under the limits above.
      this.#gunzipQueue.push(() => this.#gunzip(body, done));
      return;
    }
    this.#gunzips += 1;
    const finish = (outcome: Buffer | BodyFailure) => {
      this.#gunzips -= 1;
      done(outcome);
      this.#gunzipQueue.shift()?.();
    };
    gunzipBounded(body, this.#options.maxBodyBytes, finish);
  }
}

const EMPTY = Buffer.alloc(0);

function onData(this: Carrier, chunk: Buffer): void {
  const read = this[STATE];
  read?.reader.take(read, chunk);
}

function onEnd(this: Carrier): void {
  const read = this[STATE];
  read?.reader.finish(read, null);
}

function onClose(this: Carrier): void {
  const read = this[STATE];
  read?.reader.finish(read, 'aborted');
}

/** Decompresses to at most `maxBytes`; `done` is called once. */
function gunzipBounded(body: Buffer, maxBytes: number, done: Done): void {
  const gunzip = createGunzip();
  const chunks: Buffer[] = [];
  let length = 0;
  let settled = false;
  const settle = (outcome: Buffer | BodyFailure) => {
    if (settled) return;
    settled = true;
    gunzip.destroy();
    done(outcome);
  };
  gunzip.on('data', (chunk: Buffer) => {
    length += chunk.length;
    if (length > maxBytes) settle('too_big');
    else chunks.push(chunk);
  });
  gunzip.on('end', () => settle(chunks.length === 1 ? (chunks[0] ?? EMPTY) : Buffer.concat(chunks)));
  gunzip.on('error', () => settle('bad_gzip'));
  gunzip.end(body);
}
