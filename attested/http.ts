/**
 * HTTP/1.1 and HTTP/2 on sockets that somebody else has accepted and secured. Upgrades are refused; heads, idle
 * connections and streams are bounded.
 */
import { createServer, type IncomingMessage } from 'node:http';
import { createServer as createHttp2Server } from 'node:http2';
import type { Socket } from 'node:net';
import { TLSSocket } from 'node:tls';
import type { ProxyRequest, ProxyResponse } from './forward.ts';

export interface HttpBounds {
  /** From the first byte of a request's head to its last, in milliseconds. */
  readonly headTimeoutMs: number;
  /** Of a whole request, in milliseconds. */
  readonly requestTimeoutMs: number;
  readonly idleTimeoutMs: number;
}

/** @typeParam Context what is known about a connection */
export interface HttpOnSockets<Context extends object> {
  /** HTTP/2 on what has negotiated it or begins so, else HTTP/1.1. */
  serve(socket: Socket, context: Context): void;
  /** Resolves when no request is under way, or after this time. Who accepts sockets has stopped to before. */
  drain(timeoutMs: number): Promise<void>;
}

const MAX_STREAMS = 128;
const MAX_HEADER_BYTES = 32_768;
/** How often slow requests are looked for. */
const CHECK_MS = 1_000;
/** Of the preface with prior knowledge, RFC 9113 section 3.4. */
const HTTP2_PREFACE = Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n');

/**
 * @param onRequest must not throw
 */
export function httpOnSockets<Context extends object>(
  bounds: HttpBounds,
  onRequest: (request: ProxyRequest, response: ProxyResponse, context: Context) => void,
): HttpOnSockets<Context> {
  /** By socket, or by session: a request of HTTP/2 shows no socket but a stand-in. */
  const contexts = new WeakMap<object, Context>();
  /** Connections of HTTP/1.1 with an answer under way. */
  const answering = new WeakSet<object>();
  let active = 0;
  let onIdle = (): void => undefined;
  const answer = (request: ProxyRequest, response: ProxyResponse): void => {
    const holder = 'stream' in request ? request.stream.session : request.socket;
    const context = holder === undefined ? undefined : contexts.get(holder);
    if (context === undefined) {
      response.destroy();
      return;
    }
    active++;
    answering.add(holder ?? request);
    response.once('close', () => {
      answering.delete(holder ?? request);
      active--;
      if (active === 0) onIdle();
    });
    onRequest(request, response, context);
  };
  const http1 = createServer(
    {
      headersTimeout: bounds.headTimeoutMs,
      requestTimeout: bounds.requestTimeoutMs,
      keepAliveTimeout: bounds.idleTimeoutMs,
      maxHeaderSize: MAX_HEADER_BYTES,
      connectionsCheckingInterval: Math.min(CHECK_MS, bounds.headTimeoutMs),
    },
    answer,
  );
  // Node watches over the times of requests from this event on, and this server itself never listens.
  http1.emit('listening');
  http1.on('upgrade', refuseTunnel);
  http1.on('connect', refuseTunnel);
  http1.on('clientError', (error, socket) => {
    // In the middle of an answer other bytes would be taken for a part of it.
    if (!socket.writable || answering.has(socket)) socket.destroy();
    else socket.end(`HTTP/1.1 ${statusOf(error)}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n`);
  });
  const http2 = createHttp2Server(
    { settings: { maxConcurrentStreams: MAX_STREAMS, maxHeaderListSize: MAX_HEADER_BYTES } },
    answer,
  );
  http2.on('sessionError', () => undefined);
  http2.setTimeout(bounds.idleTimeoutMs);
  const start = (socket: Socket, context: Context, version2: boolean): void => {
    contexts.set(socket, context);
    if (!version2) {
      http1.emit('connection', socket);
      return;
    }
    // The session is made and told while the connection is handed over; one that is not must not get the next one's.
    const onSession = (session: object): void => void contexts.set(session, context);
    http2.once('session', onSession);
    http2.emit('connection', socket);
    http2.off('session', onSession);
  };
  return {
    serve(socket, context) {
      if (socket instanceof TLSSocket) {
        start(socket, context, socket.alpnProtocol === 'h2');
        return;
      }
      void firstBytes(socket, bounds.headTimeoutMs).then((bytes) => {
        if (bytes === undefined) return;
        start(socket, context, bytes.equals(HTTP2_PREFACE.subarray(0, bytes.length)));
      });
    },
    async drain(timeoutMs) {
      http1.closeIdleConnections();
      if (active > 0) {
        const { promise, resolve } = Promise.withResolvers<void>();
        onIdle = resolve;
        const timer = setTimeout(resolve, timeoutMs);
        await promise;
        clearTimeout(timer);
      }
      // Ends the watching; that it does not listen is no news.
      http1.close(() => undefined);
    },
  };
}

/** @returns the first bytes, which can be read once more from the socket; undefined when it ended before */
async function firstBytes(socket: Socket, timeoutMs: number): Promise<Buffer | undefined> {
  const { promise, resolve } = Promise.withResolvers<Buffer | undefined>();
  const timer = setTimeout(() => socket.destroy(), timeoutMs);
  const onReadable = (): void => {
    const bytes: Buffer | null = socket.read();
    if (bytes === null) return;
    // Before it is put back, which makes the socket readable again.
    socket.off('readable', onReadable);
    socket.unshift(bytes);
    resolve(bytes.subarray(0, HTTP2_PREFACE.length));
  };
  socket.on('readable', onReadable);
  socket.once('close', () => resolve(undefined));
  const bytes = await promise;
  clearTimeout(timer);
  return bytes;
}

function statusOf(error: Error): string {
  const timeout = 'code' in error && error.code === 'ERR_HTTP_REQUEST_TIMEOUT';
  return timeout ? '408 Request Timeout' : '400 Bad Request';
}

function refuseTunnel(_request: IncomingMessage, socket: NodeJS.WritableStream): void {
  socket.end('HTTP/1.1 501 Not Implemented\r\nConnection: close\r\nContent-Length: 0\r\n\r\n');
}
