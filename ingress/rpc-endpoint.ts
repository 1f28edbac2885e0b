/**
 * JSON-RPC over HTTP as both APIs speak it (protocol section 2): the checks on method, content type and
 * body in the table's order, then the request goes to the pipeline as bytes. hono routes; the body is
 * read from Node's request and the answer written to Node's response, because web streams cost 10 µs
 * an order (measured).
 */
import type { ServerResponse } from 'node:http';
import type { Http2ServerResponse } from 'node:http2';
import type { Socket } from 'node:net';
import { Hono } from 'hono';
import { Rejection } from '../pipeline/errors.ts';
import { encodeError } from '../pipeline/json-rpc.ts';
import type { Side } from '../pipeline/order.ts';
import type { Arrival, ShownCertificate } from '../pipeline/submission.ts';
import type { BodyFailure, BodyReader, HttpRequest } from './body-reader.ts';
import type { Connections } from './connections.ts';
import { getRequestListener, RESPONSE_ALREADY_SENT } from './hono-node.ts';

type HttpResponse = ServerResponse | Http2ServerResponse;

export interface Readiness {
  readonly ready: boolean;
  /** What is missing, for the operator; empty when ready. */
  readonly reasons: readonly string[];
}

export interface RpcEndpointOptions {
  readonly side: Side;
  readonly maxBodyBytes: number;
}

export interface RpcEndpointModules {
  readonly bodies: BodyReader;
  /** Unix microseconds. */
  readonly clock: () => number;
  readonly submit: (arrival: Arrival) => void;
  /** Only the user API answers `/readyz`. */
  readonly readiness: (() => Readiness) | null;
  /** The client certificate shown on a connection. */
  readonly certificateOf: (socket: Socket) => ShownCertificate | undefined;
  readonly connections: () => Connections;
  /** A request was refused before it reached the pipeline. */
  readonly rejected: (side: Side, kind: Rejection['kind']) => void;
}

type Env = { Bindings: { incoming: HttpRequest; outgoing: HttpResponse } };

/** @returns the listener for a server's `request` event. */
export function rpcListener(options: RpcEndpointOptions, modules: RpcEndpointModules) {
  const app = new Hono<Env>();
  const { readiness } = modules;
  app.get('/livez', (c) => c.body(null, 200));
  if (readiness !== null) {
    app.get('/readyz', (c) => {
      const { ready, reasons } = readiness();
      if (ready) return c.text('OK', 200);
      return c.text('not ready', 503, { 'x-not-ready': reasons.join('; ') });
    });
  }
  app.post('*', (c) => {
    receive(c.env.incoming, c.env.outgoing, options, modules);
    return RESPONSE_ALREADY_SENT;
  });
  app.all('*', (c) => {
    modules.rejected(options.side, 'method_not_allowed');
    return c.text('only POST method is allowed', 405, { allow: 'POST' });
  });
  return getRequestListener(app.fetch, {
    overrideGlobalObjects: false,
    autoCleanupIncoming: false,
    // HTTP/1.0 clients may leave the host out; nothing here depends on it.
    hostname: 'localhost',
  });
}

/** One request on its way: what the pipeline answers through. */
class HttpArrival implements Arrival {
  readonly side: Side;
  readonly body: Buffer;
  readonly signature: string | undefined;
  readonly certificate: ShownCertificate | undefined;
  readonly receivedAtUs: number;
  readonly #socket: Socket;
  readonly #response: HttpResponse;
  readonly #connections: Connections;

  constructor(
    side: Side,
    body: Buffer,
    request: HttpRequest,
    response: HttpResponse,
    socket: Socket,
    modules: RpcEndpointModules,
    connections: Connections,
  ) {
    this.side = side;
    this.body = body;
    this.signature = signatureOf(request);
    this.certificate = modules.certificateOf(socket);
    this.receivedAtUs = modules.clock();
    this.#socket = socket;
    this.#response = response;
    this.#connections = connections;
  }

  respond(status: number, body: string, close: boolean): void {
    this.#connections.end(this.#socket);
    send(this.#response, status, 'application/json', body, close);
    this.#connections.answered(this.#socket);
  }
}

function receive(
  request: HttpRequest,
  response: HttpResponse,
  options: RpcEndpointOptions,
  modules: RpcEndpointModules,
) {
  if (!isJson(request.headers['content-type'])) {
    modules.rejected(options.side, 'unsupported_media_type');
    // Nothing waits for the rest of the body: it is dropped as it comes, within the request timeout.
    request.resume();
    send(response, 415, 'text/plain', 'header Content-Type must be application/json', false);
    return;
  }
  const socket = request.socket;
  const connections = modules.connections();
  const withinBound = connections.begin(socket);
  modules.bodies.read(request, (body) => {
    if (typeof body === 'string') {
      connections.end(socket);
      refuseBody(body, response, socket, options, modules);
    } else if (withinBound) {
      modules.submit(new HttpArrival(options.side, body, request, response, socket, modules, connections));
    } else {
      connections.end(socket);
      refuseBody('overloaded', response, socket, options, modules);
    }
  });
}

function refuseBody(
  failure: BodyFailure,
  response: HttpResponse,
  socket: Socket,
  options: RpcEndpointOptions,
  modules: RpcEndpointModules,
): void {
  const rejection = bodyRejection(failure, options.maxBodyBytes);
  if (rejection === null) {
    socket.destroy();
    return;
  }
  modules.rejected(options.side, rejection.kind);
  const { code, status } = rejection.row;
  if (code === null) send(response, status, 'text/plain', rejection.message, true);
  else send(response, status, 'application/json', encodeError('null', code, rejection.message), true);
}

/** @returns null when there is nobody left to answer. */
function bodyRejection(failure: BodyFailure, maxBodyBytes: number): Rejection | null {
  switch (failure) {
    case 'too_big':
      return new Rejection('body_too_big', `request body is too big, max size: ${maxBodyBytes}`);
    case 'overloaded':
      return new Rejection('overloaded', 'too much is being received, try again');
    case 'bad_gzip':
      return new Rejection('parse_error', 'request body is not valid gzip');
    case 'bad_encoding':
      return new Rejection('unsupported_media_type', 'header Content-Encoding must be gzip or absent');
    case 'timeout':
    case 'aborted':
      return null;
  }
}

/** `application/json`, in any case, with parameters such as a charset. */
function isJson(contentType: string | undefined): boolean {
  if (contentType === 'application/json') return true;
  if (contentType === undefined) return false;
  const end = contentType.indexOf(';');
  return (end === -1 ? contentType : contentType.slice(0, end)).trim().toLowerCase() === 'application/json';
}

/** v2's header wins when both are there (protocol section 3). */
function signatureOf(request: HttpRequest): string | undefined {
  const value = request.headers['x-buildernet-signature'] ?? request.headers['x-flashbots-signature'];
  return Array.isArray(value) ? value[0] : value;
}

function send(
  response: HttpResponse,
  status: number,
  contentType: string,
  body: string,
  close: boolean,
): void {
  // The client may have gone while its order was worked on; the order stands all the same.
  if (response.destroyed || response.writableEnded) return;
  const length = Buffer.byteLength(body);
  const retryAfter = status === 429 || status === 503;
  if ('stream' in response) {
    const headers: Record<string, string | number> = {
      'content-type': contentType,
      'content-length': length,
    };
    if (retryAfter) headers['retry-after'] = 1;
    response.writeHead(status, headers);
    response.end(body);
    if (close) response.stream.session?.close();
    return;
  }
  const headers: (string | number)[] = ['Content-Type', contentType, 'Content-Length', length];
  if (retryAfter) headers.push('Retry-After', 1);
  if (close) headers.push('Connection', 'close');
  response.writeHead(status, headers as never);
  response.end(body);
}
