/**
 * Reads request bodies: straight from Node's request objects (HTTP/1.1 and HTTP/2), without web streams, or as
 * pieces that whoever reads the connection hands over.
 *
 * What a slow or greedy client costs is bounded: a body may take so long and be so big, all bodies being read or
 * decompressed together may be so many and hold so many bytes, and at that bound the one that has been at it
 * longest goes, not the newcomer. A body that comes in one piece is not copied, and no announced length costs memory
 * that was not sent. What reading costs in time is charged to the connection.
 */
import { Listed, OrderedList } from '../pipeline/ordered-list.ts';
import type { HttpRequest } from './connection.ts';
import { Gathered } from './gathered.ts';
import { type GunzipFailure, GunzipJob, GunzipQueue, gunzipQuickly } from './gunzip.ts';

/** Why a body was not read: `timeout` and `aborted` have nobody to answer. */
export type BodyFailure =
  | GunzipFailure
  | 'overloaded'
  | 'timeout'
  | 'aborted'
  | 'bad_encoding'
  | 'tiny_pieces';

export interface BodyReaderOptions {
  /** Most bytes of one body, after decompression. */
  readonly maxBodyBytes: number;
  /** Most bytes held by all bodies being read. */
  readonly maxTotalBytes: number;
  /** Most bodies being read; each may have a head of 8 KiB besides. */
  readonly maxBodies: number;
  /** From the request's head to the last byte of its body, decompressed. */
  readonly timeoutMs: number;
}

/** The connection that a body comes on. */
export interface BodyConnection {
  /** Bodies of it that are being read. */
  reading: number;
  readonly closed: boolean;
  /** Microseconds of work. */
  charge(us: number): void;
}

/** What a request's head says of its body. */
export interface BodyHead {
  /** Value of Content-Encoding. */
  readonly encoding: string | undefined;
  /** Value of Content-Length, NaN when it is none; 0 when there is none. */
  readonly length: number;
}

type Done = (body: Buffer | BodyFailure) => void;

const SWEEP_MS = 1000;
/** So many pieces (chunks, DATA frames) are read however small they are; more must have so many bytes on average. */
const FREE_PIECES = 1024;
const LEAST_PIECE_BYTES = 64;
/** Measured: a piece costs 1 µs, and one more for each 512 bytes (read, copied out of Node's parser, gathered). */
const PIECE_US = 1;
const BYTES_PER_US = 512;
const READ = Symbol('body');
type Carrier = HttpRequest & { [READ]?: BodyRead };

/** A body that is being read. */
export class BodyRead extends Listed {
  readonly reader: BodyReader;
  readonly connection: BodyConnection;
  readonly gathered: Gathered;
  readonly gzip: boolean;
  readonly done: Done;
  readonly deadline: number;
  /** Bytes of the body so far, also those beyond the limit. */
  received = 0;
  pieces = 0;
  /** It has ended; what still comes is dropped. */
  ended = false;
  job: GunzipJob | null = null;

  constructor(
    reader: BodyReader,
    connection: BodyConnection,
    gathered: Gathered,
    gzip: boolean,
    deadline: number,
    done: Done,
  ) {
    super();
    this.reader = reader;
    this.connection = connection;
    this.gathered = gathered;
    this.gzip = gzip;
    this.deadline = deadline;
    this.done = done;
  }
}

export class BodyReader {
  readonly #options: BodyReaderOptions;
  /** In order of arrival: the first has been reading longest. */
  readonly #reads = new OrderedList<BodyRead>();
  readonly #sweeper: NodeJS.Timeout;
  readonly #gunzips = new GunzipQueue();
  readonly #count = (bytes: number): void => {
    this.#bytes += bytes;
  };
  #bytes = 0;

  constructor(options: BodyReaderOptions) {
    this.#options = options;
    this.#sweeper = setInterval(() => this.#sweep(), SWEEP_MS).unref();
  }

  /** Bytes held by bodies being read. */
  get bytes(): number {
    return this.#bytes;
  }

  /** How many there are. */
  get reading(): number {
    return this.#reads.size;
  }

  close(): void {
    clearInterval(this.#sweeper);
  }

  /** Reads the body of `request`; `done` is called once, with the (decompressed) body or the reason. */
  read(request: HttpRequest, connection: BodyConnection, done: Done): void {
    const { headers } = request;
    const head = {
      encoding: headers['content-encoding'],
      length: Number(headers['content-length'] ?? 0),
    };
    const read = this.begin(head, connection, Date.now(), done);
    if (read === null) return;
    (request as Carrier)[READ] = read;
    request.on('data', onData);
    request.on('end', onEnd);
    request.on('close', onClose);
    request.on('error', onClose);
  }

  /**
   * Begins to read a body that the caller gives to `take` and, after its last piece, to `complete`.
   *
   * @param sinceMs when its request began, Unix ms
   * @param done called once, with the (decompressed) body or the reason
   * @returns null when the head says that it is none to be read; `done` knows already
   */
  begin(head: BodyHead, connection: BodyConnection, sinceMs: number, done: Done): BodyRead | null {
    // RFC 9110 section 8.4.1: in any case.
    const encoding = head.encoding?.toLowerCase();
    const gzip = encoding === 'gzip' || encoding === 'x-gzip';
    if (encoding !== undefined && encoding !== 'identity' && !gzip) {
      done('bad_encoding');
      return null;
    }
    if (head.length > 2 * this.#options.maxBodyBytes) {
      done('too_big');
      return null;
    }
    const gathered = new Gathered(this.#count);
    const read = new BodyRead(this, connection, gathered, gzip, sinceMs + this.#options.timeoutMs, done);
    this.#reads.add(read);
    connection.reading += 1;
    this.#makeRoom();
    return read;
  }

  /**
   * A body that is there as a whole when its head is: nothing of it waits, so that it needs no room among those that are
   * being read.
   *
   * @returns a copy, or null when it must be read as the others are
   */
  whole(head: BodyHead, connection: BodyConnection, bytes: Buffer, start: number): Buffer | null {
    const { length } = head;
    if (head.encoding !== undefined || length > this.#options.maxBodyBytes) return null;
    connection.charge(PIECE_US + length / BYTES_PER_US);
    // With memory of its own: what waits long must not keep more alive than it is.
    const body = Buffer.allocUnsafeSlow(length);
    bytes.copy(body, 0, start, start + length);
    return body;
  }

  /** @param borrowed its memory will be written to again: what is kept of it is copied */
  take(read: BodyRead, chunk: Buffer, borrowed = false): void {
    read.connection.charge(PIECE_US + chunk.length / BYTES_PER_US);
    if (read.ended) return;
    const { maxBodyBytes } = this.#options;
    read.received += chunk.length;
    read.pieces += 1;
    if (read.pieces > FREE_PIECES && read.received < read.pieces * LEAST_PIECE_BYTES) {
      this.finish(read, 'tiny_pieces');
    } else if (read.received <= maxBodyBytes) {
      if (borrowed) read.gathered.addCopy(chunk);
      else read.gathered.add(chunk);
      this.#makeRoom();
    } else {
      // As much again is counted and dropped, so that the client can read its answer.
      read.gathered.clear();
      if (read.received > 2 * maxBodyBytes) this.finish(read, 'too_big');
    }
  }

  /** The last byte has come. */
  complete(read: BodyRead): void {
    if (read.ended || read.job !== null) return;
    if (read.received > this.#options.maxBodyBytes) this.finish(read, 'too_big');
    else if (read.gzip) this.#gunzip(read);
    else this.finish(read, null);
  }

  /** Ends a read once: with what was gathered, or with the reason. */
  finish(read: BodyRead, outcome: Buffer | BodyFailure | null): void {
    if (read.ended) return;
    read.ended = true;
    this.#reads.delete(read);
    read.connection.reading -= 1;
    if (read.job !== null) {
      this.#gunzips.cancel(read.job);
      read.job.output.clear();
    }
    const body = outcome ?? read.gathered.join();
    read.gathered.clear();
    read.done(body);
  }

  #gunzip(read: BodyRead): void {
    const { maxBodyBytes } = this.#options;
    const compressed = read.gathered.join();
    const body = gunzipQuickly(compressed, maxBodyBytes);
    if (body !== null) {
      this.finish(read, body);
      return;
    }
    const output = new Gathered(this.#count);
    read.job = new GunzipJob(compressed, output, maxBodyBytes, (failure) =>
      this.finish(read, failure ?? output.join()),
    );
    this.#gunzips.add(read.job);
    this.#makeRoom();
  }

  #makeRoom(): void {
    const { maxTotalBytes, maxBodies } = this.#options;
    while (this.#bytes > maxTotalBytes || this.#reads.size > maxBodies) {
      const oldest = this.#reads.first;
      if (oldest === undefined) return;
      this.finish(oldest, 'overloaded');
    }
  }

  #sweep(): void {
    const now = Date.now();
    for (const read of this.#reads.copy()) {
      if (read.job !== null && read.connection.closed) this.finish(read, 'aborted');
      else if (read.deadline <= now) this.finish(read, read.job === null ? 'timeout' : 'overloaded');
    }
  }
}

function onData(this: Carrier, chunk: Buffer): void {
  const read = this[READ];
  read?.reader.take(read, chunk);
}

function onEnd(this: Carrier): void {
  const read = this[READ];
  read?.reader.complete(read);
}

/** Comes after the end of every request too: then the sweep looks whether its client is still there. */
function onClose(this: Carrier): void {
  const read = this[READ];
  if (read !== undefined && read.job === null) read.reader.finish(read, 'aborted');
}
