/**
 * HTTP/1.1 and HTTP/2 on sockets that somebody else has accepted and secured. Upgrades are refused; heads, idle
 * connections and streams are bounded.
 */
import { createServer, type IncomingMessage } from 'node:http';
import { constants, createServer as createHttp2Server, type Http2ServerRequest } from 'node:http2';
import type { Socket } from 'node:net';
import { TLSSocket } from 'node:tls';
import type { ProxyRequest, ProxyResponse } from './forward.ts';

export interface HttpBounds {
  /** From the first byte of a request's head to its last, in milliseconds. */
  readonly headTimeoutMs: number;
  /** Of a whole request, in milliseconds. */
  readonly requestTimeoutMs: number;
  readonly idleTimeoutMs: number;
  /** Requests under way on all connections together. */
  readonly maxRequests: number;
}

/** @typeParam Context what is known about a connection */
export interface HttpOnSockets<Context extends object> {
  /** HTTP/2 on what has negotiated it or begins so, else HTTP/1.1. */
  serve(socket: Socket, context: Context): void;
  /** Resolves when no request is under way, or after this time. Who accepts sockets has stopped to before. */
  drain(timeoutMs: number): Promise<void>;
}

const MAX_STREAMS = 128;
/** HTTP/1.1: requests sent ahead of the answers; nobody who means well sends any. */
const MAX_PIPELINED = 16;
const MAX_HEADER_BYTES = 32_768;
/** How often slow requests are looked for. */
const CHECK_MS = 1_000;
/** Of the preface with prior knowledge, RFC 9113 section 3.4. */
const HTTP2_PREFACE = Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n');

export interface HttpModules<Context extends object> {
  /** Must not throw. */
  readonly onRequest: (request: ProxyRequest, response: ProxyResponse, context: Context) => void;
  /** A request was refused, as there are too many. */
  readonly onOverload: (status: 503) => void;
}

export function httpOnSockets<Context extends object>(
  bounds: HttpBounds,
  { onRequest, onOverload }: HttpModules<Context>,
): HttpOnSockets<Context> {
  /** By socket, or by session: a request of HTTP/2 shows no socket but a stand-in. */
  const contexts = new WeakMap<object, Context>();
  /** How many answers are under way, by connection. */
  const answering = new WeakMap<object, number>();
  let active = 0;
  let onIdle = (): void => undefined;
  const answer = (request: ProxyRequest, response: ProxyResponse): void => {
    const connection = 'stream' in request ? request.stream.session : request.socket;
    const context = connection === undefined ? undefined : contexts.get(connection);
    if (connection === undefined || context === undefined) {
      response.destroy();
      return;
    }
    const version2 = 'stream' in request;
    const pipelined = answering.get(connection) ?? 0;
    if (!version2 && pipelined >= MAX_PIPELINED) {
      request.socket.destroy();
      return;
    }
    active++;
    answering.set(connection, pipelined + 1);
    response.once('close', () => {
      answering.set(connection, (answering.get(connection) ?? 1) - 1);
      active--;
      if (active === 0) onIdle();
    });
    if (active > bounds.maxRequests) {
      onOverload(503);
      overloaded(response, version2);
      return;
    }
    // Node watches over the times of requests of HTTP/1.1 alone.
    if (version2) endSlow(request, response, bounds.requestTimeoutMs);
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
    if (!socket.writable || (answering.get(socket) ?? 0) > 0) socket.destroy();
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
      void beginsAsHttp2(socket, bounds.headTimeoutMs).then((version2) => {
        if (version2 !== undefined) start(socket, context, version2);
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

/** Again in a second, and on another connection if there is a body that nobody reads. */
function overloaded(response: ProxyResponse, version2: boolean): void {
  response.statusCode = 503;
  response.setHeader('retry-after', '1');
  if (!version2) response.setHeader('connection', 'close');
  response.end();
}

/** Ends a stream whose request has not come whole in time. */
function endSlow(request: Http2ServerRequest, response: ProxyResponse, timeoutMs: number): void {
  const timer = setTimeout(() => request.stream.close(constants.NGHTTP2_CANCEL), timeoutMs);
  request.once('end', () => clearTimeout(timer));
  response.once('close', () => clearTimeout(timer));
}

/**
 * As many bytes as tell HTTP/2 from HTTP/1.1, which come one by one from some.
 *
 * @returns whether it is HTTP/2; the bytes can be read once more from the socket. Undefined when it ended before.
 */
async function beginsAsHttp2(socket: Socket, timeoutMs: number): Promise<boolean | undefined> {
  const { promise, resolve } = Promise.withResolvers<boolean | undefined>();
  const timer = setTimeout(() => socket.destroy(), timeoutMs);
  let bytes = Buffer.alloc(0);
  const onReadable = (): void => {
    const chunk: Buffer | null = socket.read();
    if (chunk === null) return;
    bytes = Buffer.concat([bytes, chunk]);
    const same = bytes.subarray(0, HTTP2_PREFACE.length).equals(HTTP2_PREFACE.subarray(0, bytes.length));
    if (same && bytes.length < HTTP2_PREFACE.length) return;
    // Before they are put back, which makes the socket readable again.
    socket.off('readable', onReadable);
    socket.unshift(bytes);
    resolve(same);
  };
  socket.on('readable', onReadable);
  socket.once('close', () => resolve(undefined));
  const version2 = await promise;
  clearTimeout(timer);
  return version2;
}

function statusOf(error: Error): string {
  const timeout = 'code' in error && error.code === 'ERR_HTTP_REQUEST_TIMEOUT';
  return timeout ? '408 Request Timeout' : '400 Bad Request';
}

function refuseTunnel(_request: IncomingMessage, socket: NodeJS.WritableStream): void {
  socket.end('HTTP/1.1 501 Not Implemented\r\nConnection: close\r\nContent-Length: 0\r\n\r\n');
}
