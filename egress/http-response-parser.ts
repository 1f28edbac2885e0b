/**
 * Reads HTTP/1.1 responses off one connection as the bytes come in, split anywhere, several in one
 * chunk (RFC 9112). Covers what a server may legally answer to a pipelined POST: Content-Length,
 * chunked with extensions and trailers, bodies that end with the connection, HTTP/1.0, 1xx before the
 * answer, 204 and 304.
 *
 * Limits: the header section (and each chunk-size line, and the trailers) is bounded, a body is kept up
 * to a bound and the rest thrown away, transfer codings other than chunked are refused because none was
 * offered (RFC 9112 section 7.4), and so is 101 because no upgrade was asked for. A response that breaks the
 * rules is an error value; afterwards nothing more is read.
 *
 * A target answers the same to nearly every order: what is byte for byte the last answer is not read again, only counted,
 * which takes a tenth of the time. It means the same, because nothing but its bytes and the bounds says what an answer means.
 */

/** Why a response could not be read. */
export type ResponseError =
  | 'bad_status_line'
  | 'bad_header'
  | 'header_too_big'
  | 'bad_content_length'
  | 'bad_transfer_encoding'
  | 'bad_chunk'
  | 'unexpected_upgrade'
  | 'cut_short';

export interface ResponseSink {
  /**
   * A whole response has been read, and with it others that are byte for byte the same.
   * @param status 200..999
   * @param body its first `maxBodyBytes` bytes, valid only during the call
   * @param keepAlive false when the server sends nothing after it (RFC 9112 section 9.3)
   * @param times how many of them there were; 1 unless it is kept alive
   */
  response(status: number, body: Buffer, keepAlive: boolean, times: number): void;
}

export interface ResponseParserOptions {
  readonly maxHeaderBytes?: number;
  readonly maxBodyBytes?: number;
}

const MAX_HEADER_BYTES = 16 * 1024;
const MAX_BODY_BYTES = 64 * 1024;

// What the next byte belongs to. The first five are read by lines.
const STATUS_LINE = 0;
const HEADER = 1;
const CHUNK_SIZE = 2;
const CHUNK_END = 3;
const TRAILER = 4;
const FIXED_BODY = 5;
const CHUNK_DATA = 6;
const BODY_UNTIL_CLOSE = 7;
const STOPPED = 8;

/** Longer answers are read each time. */
const MAX_REPEATED_BYTES = 1024;

const LF = 10;
const CR = 13;
const SPACE = 32;
const TAB = 9;
const NO_BODY: Buffer = Buffer.alloc(0);

/** Field name: tchar of RFC 9110 section 5.6.2. */
const FIELD_NAME = /^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$/;

export class HttpResponseParser {
  readonly #sink: ResponseSink;
  readonly #maxHeaderBytes: number;
  readonly #maxBodyBytes: number;

  #state = STATUS_LINE;
  /** The part of a line that came in earlier chunks. */
  #partialLine = '';
  #sectionBytes = 0;

  #status = 0;
  #keepAlive = true;
  #http10 = false;
  #contentLength = -1;
  #chunked = false;
  /** May the next line continue the last one? Not the status line, nor a field that frames the body. */
  #foldable = false;

  /** Bytes of the body, or of the current chunk, still to come. */
  #remaining = 0;
  #body = NO_BODY;
  #bodyLength = 0;

  /** The bytes of the last answer that came in one chunk, its status, and the part of them that is its body. */
  #last = NO_BODY;
  #lastStatus = 0;
  #lastBody = NO_BODY;

  constructor(sink: ResponseSink, options: ResponseParserOptions = {}) {
    this.#sink = sink;
    this.#maxHeaderBytes = options.maxHeaderBytes ?? MAX_HEADER_BYTES;
    this.#maxBodyBytes = options.maxBodyBytes ?? MAX_BODY_BYTES;
  }

  /** Is it between two responses, or done? */
  get idle(): boolean {
    return this.#state === STOPPED || (this.#state === STATUS_LINE && this.#sectionBytes === 0);
  }

  /** Reads no further: bytes pushed from now on are ignored. May be called from within the sink. */
  stop(): void {
    this.#state = STOPPED;
    this.#partialLine = '';
    this.#body = NO_BODY;
  }

  /**
   * Reads the next bytes of the connection; the sink is called for each response they complete.
   * @returns null, or why the stream cannot be read any further
   */
  push(chunk: Buffer): ResponseError | null {
    let at = 0;
    /** Where the answer that is being read began, -1 when that was in an earlier chunk. */
    let start = -1;
    while (at < chunk.length && this.#state !== STOPPED) {
      if (this.#state >= FIXED_BODY) {
        const fixed = this.#state === FIXED_BODY;
        at = this.#readBody(chunk, at);
        if (fixed && start !== -1 && this.#state === STATUS_LINE) this.#remember(chunk, start, at);
        continue;
      }
      if (this.idle) {
        const times = this.#repeats(chunk, at);
        if (times > 0) {
          at += times * this.#last.length;
          this.#sink.response(this.#lastStatus, this.#lastBody, true, times);
          continue;
        }
        start = at;
      }
      const lf = chunk.indexOf(LF, at);
      const end = lf === -1 ? chunk.length : lf;
      this.#sectionBytes += end - at + 1;
      if (this.#sectionBytes > this.#maxHeaderBytes) return this.#fail('header_too_big');
      if (lf === -1) {
        this.#partialLine += chunk.toString('latin1', at, end);
        return null;
      }
      const error = this.#readLine(this.#takeLine(chunk, at, end));
      if (error !== null) return this.#fail(error);
      at = lf + 1;
    }
    return null;
  }

  /**
   * The server has ended its side of the connection: completes a body that ends with it.
   * @returns null, or `cut_short` when a response was begun and not finished
   */
  end(): ResponseError | null {
    if (this.#state === STOPPED) return null;
    if (this.#state === BODY_UNTIL_CLOSE) {
      this.#complete();
      return null;
    }
    const { idle } = this;
    this.stop();
    return idle ? null : 'cut_short';
  }

  /** @returns how many answers from `at` on are byte for byte the last one. */
  #repeats(chunk: Buffer, at: number): number {
    const { length } = this.#last;
    if (length === 0) return 0;
    let times = 0;
    for (let end = at + length; end <= chunk.length; end += length) {
      if (this.#last.compare(chunk, end - length, end) !== 0) break;
      times++;
    }
    return times;
  }

  /** An answer whose body had a length has been read, and the connection is kept. */
  #remember(chunk: Buffer, start: number, end: number): void {
    const length = end - start;
    // A body that was cut at its bound is not the end of the bytes.
    if (length > MAX_REPEATED_BYTES || this.#contentLength > this.#maxBodyBytes) return;
    this.#last = Buffer.from(chunk.subarray(start, end));
    this.#lastStatus = this.#status;
    this.#lastBody = this.#last.subarray(length - this.#contentLength);
  }

  #fail(error: ResponseError): ResponseError {
    this.stop();
    return error;
  }

  /** @returns the line without its end: CR LF, or a bare LF (RFC 9112 section 2.2). */
  #takeLine(chunk: Buffer, start: number, end: number): string {
    if (this.#partialLine === '')
      return chunk.toString('latin1', start, end > start && chunk[end - 1] === CR ? end - 1 : end);
    const line = this.#partialLine + chunk.toString('latin1', start, end);
    this.#partialLine = '';
    return line.charCodeAt(line.length - 1) === CR ? line.slice(0, -1) : line;
  }

  #readLine(line: string): ResponseError | null {
    switch (this.#state) {
      case STATUS_LINE:
        return this.#readStatusLine(line);
      case HEADER:
        return line === '' ? this.#endOfHeader() : this.#readField(line);
      case CHUNK_SIZE:
        return this.#readChunkSize(line);
      case CHUNK_END:
        if (line !== '') return 'bad_chunk';
        this.#expectSection(CHUNK_SIZE);
        return null;
      default:
        // Trailers carry nothing that is used here.
        if (line === '') this.#complete();
        return null;
    }
  }

  /** RFC 9112 section 4; the reason phrase, and the space before it, may be missing. */
  #readStatusLine(line: string): ResponseError | null {
    const minor = line.charCodeAt(7) - 48;
    const hundreds = line.charCodeAt(9) - 48;
    const tens = line.charCodeAt(10) - 48;
    const ones = line.charCodeAt(11) - 48;
    if (
      !line.startsWith('HTTP/1.') ||
      (minor !== 0 && minor !== 1) ||
      line.charCodeAt(8) !== SPACE ||
      !(hundreds >= 1 && hundreds <= 9 && tens >= 0 && tens <= 9 && ones >= 0 && ones <= 9) ||
      (line.length > 12 && line.charCodeAt(12) !== SPACE)
    )
      return 'bad_status_line';
    this.#status = hundreds * 100 + tens * 10 + ones;
    this.#http10 = minor === 0;
    this.#keepAlive = minor === 1;
    this.#contentLength = -1;
    this.#chunked = false;
    this.#foldable = false;
    this.#state = HEADER;
    return null;
  }

  #readField(line: string): ResponseError | null {
    const first = line.charCodeAt(0);
    // A folded line (RFC 9112 section 5.2) continues the field before it.
    if (first === SPACE || first === TAB) return this.#foldable ? null : 'bad_header';
    const colon = line.indexOf(':');
    if (colon <= 0) return 'bad_header';
    this.#foldable = true;
    // Only three fields matter; their lengths tell them from nearly all others without a comparison.
    if (colon === 10 || colon === 14 || colon === 17) {
      switch (line.slice(0, colon).toLowerCase()) {
        case 'connection':
          return this.#readConnection(line.slice(colon + 1));
        case 'content-length':
          return this.#readContentLength(line.slice(colon + 1).trim());
        case 'transfer-encoding':
          return this.#readTransferEncoding(line.slice(colon + 1).trim());
        default:
      }
    }
    return FIELD_NAME.test(line.slice(0, colon)) ? null : 'bad_header';
  }

  #readConnection(value: string): null {
    this.#foldable = false;
    for (const option of value.toLowerCase().split(',')) {
      const token = option.trim();
      if (token === 'close') {
        this.#keepAlive = false;
        return null;
      }
      if (token === 'keep-alive' && this.#http10) this.#keepAlive = true;
    }
    return null;
  }

  #readContentLength(value: string): ResponseError | null {
    this.#foldable = false;
    if (!/^\d{1,15}$/.test(value)) return 'bad_content_length';
    const length = Number(value);
    // Two that agree are one; two that differ are an attack (RFC 9112 section 6.3).
    if (this.#contentLength !== -1 && this.#contentLength !== length) return 'bad_content_length';
    this.#contentLength = length;
    return null;
  }

  #readTransferEncoding(value: string): ResponseError | null {
    this.#foldable = false;
    if (this.#chunked || this.#http10 || value.toLowerCase() !== 'chunked') return 'bad_transfer_encoding';
    this.#chunked = true;
    return null;
  }

  /** How long the body is: RFC 9112 section 6.3. */
  #endOfHeader(): ResponseError | null {
    if (this.#status < 200) {
      if (this.#status === 101) return 'unexpected_upgrade';
      this.#expectSection(STATUS_LINE);
    } else if (this.#status === 204 || this.#status === 304) this.#complete();
    else if (this.#chunked) {
      if (this.#contentLength !== -1) return 'bad_transfer_encoding';
      this.#expectSection(CHUNK_SIZE);
    } else if (this.#contentLength === 0) this.#complete();
    else if (this.#contentLength > 0) {
      this.#remaining = this.#contentLength;
      this.#state = FIXED_BODY;
    } else {
      this.#keepAlive = false;
      this.#state = BODY_UNTIL_CLOSE;
    }
    return null;
  }

  #readChunkSize(line: string): ResponseError | null {
    const size = /^0*([0-9a-fA-F]{0,12})[ \t]*(?:;.*)?$/.exec(line);
    if (size === null || !/^[0-9a-fA-F]/.test(line)) return 'bad_chunk';
    this.#remaining = Number.parseInt(`0${size[1]}`, 16);
    if (this.#remaining === 0) this.#expectSection(TRAILER);
    else this.#state = CHUNK_DATA;
    return null;
  }

  #expectSection(state: number): void {
    this.#sectionBytes = 0;
    this.#state = state;
  }

  /** @returns where in the chunk the body, as far as it is there, ends. */
  #readBody(chunk: Buffer, at: number): number {
    const available = chunk.length - at;
    if (this.#state === BODY_UNTIL_CLOSE) {
      this.#keep(chunk, at, chunk.length);
      return chunk.length;
    }
    const taken = available < this.#remaining ? available : this.#remaining;
    const end = at + taken;
    if (this.#state === FIXED_BODY && this.#bodyLength === 0 && taken === this.#remaining) {
      // The usual case, all of the body in one chunk: no copy.
      this.#bodyLength = taken < this.#maxBodyBytes ? taken : this.#maxBodyBytes;
      this.#body = chunk.subarray(at, at + this.#bodyLength);
    } else this.#keep(chunk, at, end);
    this.#remaining -= taken;
    if (this.#remaining === 0) {
      if (this.#state === FIXED_BODY) this.#complete();
      else this.#expectSection(CHUNK_END);
    }
    return end;
  }

  /** Copies, so that a body in many pieces does not hold on to every chunk it came in. */
  #keep(chunk: Buffer, start: number, end: number): void {
    const room = this.#maxBodyBytes - this.#bodyLength;
    const kept = end - start < room ? end - start : room;
    if (kept <= 0) return;
    const needed = this.#bodyLength + kept;
    if (needed > this.#body.length) {
      const larger = Buffer.allocUnsafe(Math.min(this.#maxBodyBytes, Math.max(1024, needed * 2)));
      this.#body.copy(larger, 0, 0, this.#bodyLength);
      this.#body = larger;
    }
    chunk.copy(this.#body, this.#bodyLength, start, start + kept);
    this.#bodyLength = needed;
  }

  #complete(): void {
    const body = this.#bodyLength === 0 ? NO_BODY : this.#body.subarray(0, this.#bodyLength);
    this.#body = NO_BODY;
    this.#bodyLength = 0;
    if (this.#keepAlive) this.#expectSection(STATUS_LINE);
    else this.#state = STOPPED;
    this.#sink.response(this.#status, body, this.#keepAlive, 1);
  }
}
