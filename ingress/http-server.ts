/**
 * One listening HTTP server: plain HTTP/1.1, or TLS with HTTP/1.1 and HTTP/2 by ALPN. Holds the time and
 * size limits of the transport, so that a client that is slow with its handshake, its head, its body or
 * its reading costs a bounded amount; what a request means is the caller's.
 */
import { createServer } from 'node:http';
import { createSecureServer, type ServerHttp2Session } from 'node:http2';
import type { Server, Socket } from 'node:net';
import type { TLSSocket, Server as TlsServer } from 'node:tls';
import { connectionOf, type HttpRequest, type HttpResponse } from './connection.ts';
import { Connections, MAX_STREAMS } from './connections.ts';
import { type ListenAddress, listenOn } from './listeners.ts';
import { acceptInPlace, endInPlain, offerProtocol } from './node-internals.ts';
import { PlainHttp } from './plain-http.ts';
import type { PlainEndpoint } from './plain-request.ts';

/** PEM texts. */
export interface TlsIdentity {
  readonly certificate: string;
  readonly key: string;
}

export interface HttpServerOptions {
  readonly listen: ListenAddress;
  /** Listening sockets, see listeners.ts. */
  readonly listeners: number;
  /** Other threads of the node listen there, too (listeners.ts). */
  readonly shared?: boolean;
  /** Null = plain HTTP. */
  readonly tls: TlsIdentity | null;
  /** Ask clients for a certificate? What it must be is decided in `onClientCertificate`. */
  readonly requestClientCertificate: boolean;
  readonly headTimeoutMs: number;
  readonly requestTimeoutMs: number;
  /** How long a client may leave an answer unread. */
  readonly writeTimeoutMs: number;
  readonly idleTimeoutMs: number;
  readonly maxConnections: number;
  /** HTTP/1.1: with so many unanswered requests a connection is read no further. */
  readonly pipelining: number;
}

export interface HttpServerModules {
  readonly onRequest: (request: HttpRequest, response: HttpResponse) => unknown;
  /** Takes plain POST requests of HTTP/1.1 past Node's HTTP server. */
  readonly plain?: PlainEndpoint | undefined;
  /** After each TLS handshake for HTTP, with the client certificate's DER or null. */
  readonly onSecureConnection?: ((socket: TLSSocket, certificate: Buffer | null) => void) | undefined;
  readonly onEvicted: () => void;
  /**
   * What a client is told whose bytes are no HTTP or no TLS, as whole raw answers. Unless given, it is told nothing, which
   * is the cheapest.
   */
  readonly unclean?: UncleanAnswers;
  /** Another protocol than HTTP, by ALPN: its connections are handed over after the handshake. */
  readonly stream?: { readonly protocol: string; accept(stream: AcceptedStream): void } | undefined;
}

export interface UncleanAnswers {
  /** @param code of Node's error: HPE_…, or ERR_HTTP_REQUEST_TIMEOUT. */
  http(code: string | undefined): string;
  /** To plain HTTP where there is TLS. */
  readonly plainHttp: string;
}

/** A connection that is not HTTP's. */
export interface AcceptedStream {
  readonly socket: TLSSocket;
  /** The far end has proven itself: it is not closed for being idle any longer. */
  keep(): void;
  /** Tells of work it has caused, µs: one that causes too much in a turn is read again when its turn comes. */
  charge(us: number): void;
}

export interface HttpServer {
  readonly address: ListenAddress;
  readonly connections: Connections;
  /** New handshakes use this identity; open connections stay. */
  setTls(tls: TlsIdentity): void;
  /** No new connections; idle ones are closed, those with a request in flight once it is answered. */
  stopAccepting(): void;
  /** Ends every connection once its last answer has left; what stays open after half a second is cut. */
  close(): Promise<void>;
}

/** How long a close waits until the last answers have left and the clients have hung up. */
const LINGER_MS = 500;
const TLS_HANDSHAKE_TIMEOUT_MS = 10_000;
/** How often Node looks for heads and requests past their time. */
const TIMEOUT_CHECK_MS = 1000;
/** A request's head; the signature header is 175 bytes. */
const MAX_HEAD_BYTES = 8 * 1024;

/** @throws when the address cannot be bound; the message names it. */
export async function listenHttp(
  options: HttpServerOptions,
  modules: HttpServerModules,
): Promise<HttpServer> {
  const sessions = new Set<ServerHttp2Session>();
  const server =
    options.tls === null
      ? plainServer(options)
      : secureServer(options, options.tls, modules, sessions, (socket) => handOver(socket));
  const connections: Connections = new Connections(server, options.tls !== null, options, {
    onRequest: (request, response) => {
      if (request.headers.host === undefined && request.httpVersion === '1.1') badRequest(response);
      else modules.onRequest(request, response);
    },
    onEvicted: modules.onEvicted,
  });
  if (modules.plain !== undefined) {
    const plain: PlainHttp = new PlainHttp(
      { ...options, maxHeadBytes: MAX_HEAD_BYTES },
      { endpoint: modules.plain, connections, handOver: (socket) => toNode(socket) },
    );
    const toNode = acceptInPlace(
      server,
      options.tls === null ? 'connection' : 'secureConnection',
      (socket) => (speaksHttp1(socket) ? plain.accept(socket) : toNode(socket)),
    );
    server.once('close', () => plain.close());
  }
  function handOver(socket: TLSSocket): void {
    // Once all that the handshake's end sets off is done, the account of its work among it.
    queueMicrotask(() =>
      modules.stream?.accept({
        socket,
        keep: () => connections.keep(socket),
        charge: (us) => connectionOf(socket)?.charge(us),
      }),
    );
  }
  // Requests that Node would refuse by itself, uncounted.
  server.on('checkExpectation', (request: HttpRequest, response: HttpResponse) =>
    server.emit('request', request, response),
  );
  server.on('clientError', (error: NodeJS.ErrnoException, socket: Socket) => {
    if (modules.unclean === undefined || !socket.writable) {
      socket.destroy();
      return;
    }
    socket.end(modules.unclean.http(error.code));
    // Who does not hang up is hung up on.
    socket.setTimeout(LINGER_MS, () => socket.destroy());
  });
  const listeners = await listenOn(server, options.listen, options.listeners, options.shared);
  return {
    address: listeners.address,
    connections,
    setTls(tls) {
      if (options.tls !== null)
        (server as TlsServer).setSecureContext({ cert: tls.certificate, key: tls.key });
    },
    stopAccepting() {
      void listeners.close();
      for (const session of sessions) session.close();
      connections.endAll();
    },
    async close() {
      const ended = listeners.close();
      for (const session of sessions) session.close();
      connections.endAll();
      const timer = setTimeout(() => connections.destroyAll(), LINGER_MS);
      await ended;
      clearTimeout(timer);
    },
  };
}

function plainServer(options: HttpServerOptions): Server {
  const server = createServer({
    headersTimeout: options.headTimeoutMs,
    requestTimeout: options.requestTimeoutMs,
    keepAliveTimeout: options.idleTimeoutMs,
    connectionsCheckingInterval: TIMEOUT_CHECK_MS,
    maxHeaderSize: MAX_HEAD_BYTES,
    noDelay: true,
    requireHostHeader: false,
  });
  server.timeout = options.idleTimeoutMs;
  return server;
}

function secureServer(
  options: HttpServerOptions,
  tls: TlsIdentity,
  modules: HttpServerModules,
  sessions: Set<ServerHttp2Session>,
  handOver: (socket: TLSSocket) => void,
): Server {
  const server = createSecureServer({
    allowHTTP1: true,
    cert: tls.certificate,
    key: tls.key,
    minVersion: 'TLSv1.2',
    handshakeTimeout: TLS_HANDSHAKE_TIMEOUT_MS,
    requestCert: options.requestClientCertificate,
    // Whether a certificate is good is not a question of any CA: the owner compares it to the hub's list.
    rejectUnauthorized: false,
    headersTimeout: options.headTimeoutMs,
    requestTimeout: options.requestTimeoutMs,
    keepAliveTimeout: options.idleTimeoutMs,
    connectionsCheckingInterval: TIMEOUT_CHECK_MS,
    maxHeaderSize: MAX_HEAD_BYTES,
    noDelay: true,
    requireHostHeader: false,
    // Streams that a client opens and resets (CVE-2023-44487): beyond these the session ends.
    streamResetBurst: MAX_STREAMS,
    streamResetRate: 33,
    settings: {
      maxConcurrentStreams: MAX_STREAMS,
      initialWindowSize: 1 << 20,
      maxHeaderListSize: MAX_HEAD_BYTES,
    },
  } as Parameters<typeof createSecureServer>[0]);
  const { stream } = modules;
  if (stream !== undefined) offerProtocol(server, stream.protocol, handOver);
  server.setTimeout(options.idleTimeoutMs);
  server.on('session', (session) => {
    sessions.add(session);
    session.once('close', () => sessions.delete(session));
    session.on('error', () => session.destroy());
  });
  server.on('sessionError', () => undefined);
  const { onSecureConnection, unclean } = modules;
  server.on('tlsClientError', (error: NodeJS.ErrnoException, socket) => {
    if (unclean !== undefined && error.code === 'ERR_SSL_HTTP_REQUEST') endInPlain(socket, unclean.plainHttp);
    socket.destroy();
  });
  if (onSecureConnection !== undefined) {
    server.on('secureConnection', (socket: TLSSocket) => {
      if (stream !== undefined && socket.alpnProtocol === stream.protocol) return;
      const certificate = socket.getPeerX509Certificate();
      onSecureConnection(socket, certificate === undefined ? null : certificate.raw);
    });
  }
  return server;
}

/** By ALPN (RFC 7301), where there is TLS. */
function speaksHttp1(socket: Socket | TLSSocket): boolean {
  if (!('alpnProtocol' in socket)) return true;
  return socket.alpnProtocol === false || socket.alpnProtocol === 'http/1.1';
}

/** RFC 9112 section 3.2: what has no host is no HTTP/1.1. Node's own check answers beyond every bound. */
function badRequest(response: HttpResponse): void {
  if ('stream' in response) return;
  response.writeHead(400, { connection: 'close' });
  response.end();
}
