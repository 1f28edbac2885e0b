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

export interface HttpOnSockets {
  /** HTTP/2 on what has negotiated it, else HTTP/1.1. */
  serve(socket: Socket): void;
  /** Answers what is under way, takes nothing new. */
  drain(): void;
}

const MAX_STREAMS = 128;
const MAX_HEADER_BYTES = 32_768;
/** Of the preface with prior knowledge, RFC 9113 section 3.4. */
const HTTP2_PREFACE = Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n');

/**
 * @param onRequest must not throw
 */
export function httpOnSockets(
  bounds: HttpBounds,
  onRequest: (request: ProxyRequest, response: ProxyResponse) => void,
): HttpOnSockets {
  const http1 = createServer(
    {
      headersTimeout: bounds.headTimeoutMs,
      requestTimeout: bounds.requestTimeoutMs,
      keepAliveTimeout: bounds.idleTimeoutMs,
      maxHeaderSize: MAX_HEADER_BYTES,
    },
    onRequest,
  );
  http1.on('upgrade', refuseTunnel);
  http1.on('connect', refuseTunnel);
  http1.on('clientError', (_error, socket) => {
    if (socket.writable)
      socket.end('HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 0\r\n\r\n');
  });
  const http2 = createHttp2Server(
    { settings: { maxConcurrentStreams: MAX_STREAMS, maxHeaderListSize: MAX_HEADER_BYTES } },
    onRequest,
  );
  http2.on('sessionError', () => undefined);
  http2.setTimeout(bounds.idleTimeoutMs);
  return {
    serve(socket) {
      if (socket instanceof TLSSocket) {
        (socket.alpnProtocol === 'h2' ? http2 : http1).emit('connection', socket);
        return;
      }
      void firstBytes(socket, bounds.headTimeoutMs).then((bytes) => {
        if (bytes === undefined) return;
        (bytes.equals(HTTP2_PREFACE.subarray(0, bytes.length)) ? http2 : http1).emit('connection', socket);
      });
    },
    drain() {
      http1.closeIdleConnections();
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

function refuseTunnel(_request: IncomingMessage, socket: NodeJS.WritableStream): void {
  socket.end('HTTP/1.1 501 Not Implemented\r\nConnection: close\r\nContent-Length: 0\r\n\r\n');
}
