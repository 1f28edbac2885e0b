/**
 * A receiver of orders for tests, the development network and benches: an HTTP/1.1 server, plain or
 * TLS, that behaves like rbuilder's JSON-RPC server and v1's: kept-alive connections, pipelined requests
 * answered one after another in order, `{"jsonrpc":"2.0","id":0,"result":null}` to everything.
 *
 * It records what it gets (`requests`, `received`), answers `GET /readyz`, and can be told to misbehave,
 * per request, through `answer`. It reads requests off the socket itself, so that as the other side of a
 * bench it costs little (5 µs per pipelined request, 12 over TLS), and so that it can break the protocol where asked.
 *
 * @example
 * const sink = await startJsonRpcSink({ answer: (request, index) => (index === 3 ? { reset: true } : undefined) });
 * const builder = createBuilder({ endpoint: sink.url }, modules);
 * builder.send(order);
 * const [first] = await sink.received(1);
 * await sink.close();
 */
import net from 'node:net';
import tls from 'node:tls';

export interface SinkRequest {
  readonly method: string;
  readonly path: string;
  /** Names in lower case. */
  readonly headers: Readonly<Record<string, string>>;
  readonly body: Buffer;
  /** Unix milliseconds with fractions, when the request had been read whole. */
  readonly receivedAtMs: number;
  /** 0 for the first connection that was accepted. */
  readonly connection: number;
  /** TLS: DER of the certificate that the client presented. */
  readonly clientCertificate: Buffer | undefined;
  /** TLS: the name that the client asked for (SNI). */
  readonly servername: string | undefined;
}

/** What to do with one request; an empty object is the plain answer. */
export interface SinkAnswer {
  readonly status?: number;
  readonly body?: string;
  /** Wait before answering. */
  readonly delayMs?: number;
  /** Do not answer, nor read on. */
  readonly never?: boolean;
  /** Answer with `Connection: close`, then end the connection. */
  readonly close?: boolean;
  /** Write this instead of a response. */
  readonly raw?: string | Buffer;
  /** After `raw`: end the connection. */
  readonly end?: boolean;
  /** Reset the connection instead of answering (RST). */
  readonly reset?: boolean;
}

export interface SinkOptions {
  /** Default 0: a free one. */
  readonly port?: number;
  /** Default 127.0.0.1. */
  readonly host?: string;
  /** PEM; TLS when given. A client certificate is asked for, and none refused, unless `requestCert` is false. */
  readonly tls?: { readonly cert: string; readonly key: string; readonly requestCert?: boolean };
  /** Keep requests in `requests`; default true. A bench counts them in `answer` or by `count`. */
  readonly record?: boolean;
  /** Decides what to do with a request; undefined is the plain answer. */
  readonly answer?: (request: SinkRequest, index: number) => SinkAnswer | undefined;
  /** Read no faster than this, after the TLS handshake. */
  readonly bytesPerSecond?: number;
}

export interface JsonRpcSink {
  readonly port: number;
  /** `http://host:port/` or `https://…`. */
  readonly url: URL;
  /** In the order in which they were read, POST only. */
  readonly requests: readonly SinkRequest[];
  /** Number of POSTs read. */
  readonly count: number;
  /** Number of connections accepted so far (TLS: after the handshake). */
  readonly accepted: number;
  /** Connections open now. */
  readonly open: number;
  /** Bytes read off all connections (TLS: decrypted). */
  readonly bytesRead: number;
  /** May be changed at any time. */
  answer: ((request: SinkRequest, index: number) => SinkAnswer | undefined) | undefined;
  /** Status that `GET /readyz` is answered with; 200 at first. */
  readyStatus: number;
  /** @returns all requests, once there are `count` of them. */
  received(count: number): Promise<readonly SinkRequest[]>;
  /** Resets every connection. */
  resetAll(): void;
  /** Stops listening and resets every connection. */
  close(): Promise<void>;
}

const PLAIN_BODY = '{"jsonrpc":"2.0","id":0,"result":null}';
const HEADER_END = Buffer.from('\r\n\r\n');
const PLAIN: SinkAnswer = {};

/** Starts listening. Rejects when the port is taken. */
export async function startJsonRpcSink(options: SinkOptions = {}): Promise<JsonRpcSink> {
  const sink = new Sink(options);
  await sink.listen();
  return sink;
}

interface Waiter {
  readonly count: number;
  readonly resolve: (requests: readonly SinkRequest[]) => void;
}

class Sink implements JsonRpcSink {
  readonly requests: SinkRequest[] = [];
  count = 0;
  accepted = 0;
  bytesRead = 0;
  readyStatus = 200;
  answer: JsonRpcSink['answer'];
  readonly connections = new Set<SinkConnection>();
  readonly #options: SinkOptions;
  readonly #server: net.Server;
  /** TCP sockets by the client's port: under TLS only these can be reset. */
  readonly #sockets = new Map<number | undefined, net.Socket>();
  #waiters: Waiter[] = [];

  constructor(options: SinkOptions) {
    this.#options = options;
    this.answer = options.answer;
    const accept = (socket: net.Socket): void => this.#accept(socket);
    this.#server =
      options.tls === undefined
        ? net.createServer({ noDelay: true }, accept)
        : tls.createServer(
            {
              cert: options.tls.cert,
              key: options.tls.key,
              noDelay: true,
              requestCert: options.tls.requestCert ?? true,
              rejectUnauthorized: false,
              ALPNProtocols: ['http/1.1'],
            },
            accept,
          );
    this.#server.on('connection', (socket) => {
      const { remotePort } = socket;
      this.#sockets.set(remotePort, socket);
      socket.on('error', () => {}).on('close', () => this.#sockets.delete(remotePort));
    });
    this.#server.on('tlsClientError', () => {});
  }

  get port(): number {
    const address = this.#server.address();
    return typeof address === 'object' && address !== null ? address.port : 0;
  }

  get url(): URL {
    const scheme = this.#options.tls === undefined ? 'http' : 'https';
    return new URL(`${scheme}://${this.#options.host ?? '127.0.0.1'}:${this.port}/`);
  }

  get open(): number {
    return this.connections.size;
  }

  listen(): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#server.once('error', reject);
      this.#server.listen(this.#options.port ?? 0, this.#options.host ?? '127.0.0.1', () => resolve());
    });
  }

  received(count: number): Promise<readonly SinkRequest[]> {
    if (this.count >= count) return Promise.resolve(this.requests);
    return new Promise((resolve) => this.#waiters.push({ count, resolve }));
  }

  resetAll(): void {
    for (const socket of this.#sockets.values()) socket.resetAndDestroy();
  }

  close(): Promise<void> {
    return new Promise((resolve) => {
      this.#server.close(() => resolve());
      this.resetAll();
    });
  }

  /** Resets one connection. */
  reset(socket: net.Socket): void {
    this.#sockets.get(socket.remotePort)?.resetAndDestroy();
  }

  /** Called by a connection with each request read. */
  handle(request: SinkRequest): SinkAnswer {
    if (request.method === 'GET' && request.path.endsWith('/readyz'))
      return { status: this.readyStatus, body: '' };
    const index = this.count++;
    if (this.#options.record !== false) this.requests.push(request);
    if (this.#waiters.length > 0) this.#wake();
    return this.answer?.(request, index) ?? PLAIN;
  }

  #wake(): void {
    const due = this.#waiters.filter((waiter) => waiter.count <= this.count);
    this.#waiters = this.#waiters.filter((waiter) => waiter.count > this.count);
    for (const waiter of due) waiter.resolve(this.requests);
  }

  #accept(socket: net.Socket): void {
    const connection = new SinkConnection(this, socket, this.accepted++, this.#options.bytesPerSecond);
    this.connections.add(connection);
    socket.on('error', () => {}).on('close', () => this.connections.delete(connection));
  }
}

class SinkConnection {
  readonly #sink: Sink;
  readonly #socket: net.Socket;
  readonly #index: number;
  readonly #clientCertificate: Buffer | undefined;
  readonly #servername: string | undefined;
  #chunks: Buffer[] = [];
  #length = 0;
  /** Bytes without which nothing more can be read off `#chunks`. */
  #needed = 1;
  /** An answer is being waited for, or no more are given. */
  #busy = false;

  constructor(sink: Sink, socket: net.Socket, index: number, bytesPerSecond: number | undefined) {
    this.#sink = sink;
    this.#socket = socket;
    this.#index = index;
    if (socket instanceof tls.TLSSocket) {
      this.#clientCertificate = socket.getPeerX509Certificate()?.raw;
      this.#servername = typeof socket.servername === 'string' ? socket.servername : undefined;
    }
    if (bytesPerSecond === undefined) socket.on('data', (chunk: Buffer) => this.#take(chunk));
    else this.#readSlowly(bytesPerSecond);
  }

  #readSlowly(bytesPerSecond: number): void {
    this.#socket.pause();
    const timer = setInterval(() => {
      const chunk: unknown = this.#socket.read(bytesPerSecond);
      if (Buffer.isBuffer(chunk)) this.#take(chunk);
    }, 1_000);
    this.#socket.on('readable', () => {}).on('close', () => clearInterval(timer));
  }

  #take(chunk: Buffer): void {
    this.#chunks.push(chunk);
    this.#length += chunk.length;
    this.#sink.bytesRead += chunk.length;
    this.#advance();
  }

  #advance(): void {
    if (this.#busy || this.#length < this.#needed) return;
    const [only] = this.#chunks;
    let rest = only !== undefined && this.#chunks.length === 1 ? only : Buffer.concat(this.#chunks);
    let plain = 0;
    while (!this.#busy) {
      const read = this.#readRequest(rest);
      if (read === null) break;
      rest = rest.subarray(read.bytes);
      const answer = this.#sink.handle(read.request);
      if (answer === PLAIN) plain++;
      else {
        this.#writePlain(plain);
        plain = 0;
        this.#give(answer);
      }
    }
    this.#writePlain(plain);
    this.#chunks = [rest];
    this.#length = rest.length;
  }

  /** Sets `#needed` when the request is not there yet. */
  #readRequest(bytes: Buffer): { request: SinkRequest; bytes: number } | null {
    const headEnd = bytes.indexOf(HEADER_END);
    if (headEnd === -1) {
      this.#needed = bytes.length + 1;
      return null;
    }
    const lines = bytes.toString('latin1', 0, headEnd).split('\r\n');
    const [method = '', path = ''] = (lines[0] ?? '').split(' ');
    const headers: Record<string, string> = {};
    for (let i = 1; i < lines.length; i++) {
      const line = lines[i] ?? '';
      const colon = line.indexOf(':');
      headers[line.slice(0, colon).toLowerCase()] = line.slice(colon + 1).trim();
    }
    const start = headEnd + HEADER_END.length;
    const end = start + Number(headers['content-length'] ?? 0);
    if (bytes.length < end) {
      this.#needed = end;
      return null;
    }
    this.#needed = 1;
    const request: SinkRequest = {
      method,
      path,
      headers,
      body: bytes.subarray(start, end),
      receivedAtMs: performance.timeOrigin + performance.now(),
      connection: this.#index,
      clientCertificate: this.#clientCertificate,
      servername: this.#servername,
    };
    return { request, bytes: end };
  }

  #writePlain(count: number): void {
    if (count > 0) this.#socket.write(response(200, PLAIN_BODY, false).repeat(count), 'latin1');
  }

  #give(answer: SinkAnswer): void {
    if (answer.delayMs === undefined) {
      this.#giveNow(answer);
      return;
    }
    this.#busy = true;
    setTimeout(() => {
      this.#busy = false;
      this.#giveNow(answer);
      this.#advance();
    }, answer.delayMs);
  }

  #giveNow(answer: SinkAnswer): void {
    const {
      status = 200,
      body = PLAIN_BODY,
      close = false,
      raw,
      end = false,
      reset = false,
      never = false,
    } = answer;
    this.#busy = close || end || reset || never;
    if (this.#socket.destroyed || never) return;
    if (reset) this.#sink.reset(this.#socket);
    else {
      this.#socket.write(raw ?? response(status, body, close));
      if (close || end) this.#socket.end();
    }
  }
}

function response(status: number, body: string, close: boolean): string {
  return (
    `HTTP/1.1 ${status} ${status === 200 ? 'OK' : 'No'}\r\nContent-Type: application/json\r\n` +
    `${close ? 'Connection: close\r\n' : ''}Content-Length: ${Buffer.byteLength(body)}\r\n\r\n${body}`
  );
}
