/**
 * JSON-RPC over HTTP as both APIs speak it (protocol section 2): the checks on method, content type and
 * body in the table's order, then the request goes to the pipeline as bytes. hono routes; the body is
 * read from Node's request and the answer written to Node's response, because web streams cost 10 µs
 * an order (measured). A POST whose target is plain goes past hono, which is 4 µs more.
 */
import type { Socket } from 'node:net';
import { Hono } from 'hono';
import { Rejection } from '../pipeline/errors.ts';
import { encodeError } from '../pipeline/json-rpc.ts';
import type { Side } from '../pipeline/order.ts';
import type { Arrival, ShownCertificate } from '../pipeline/submission.ts';
import type { BodyFailure, BodyReader } from './body-reader.ts';
import {
  type Connection,
  connectionOf,
  exchangeOf,
  type HttpRequest,
  type HttpResponse,
  hasLongBody,
} from './connection.ts';
import type { FairQueue, Party } from './fair-queue.ts';
import { getRequestListener, RESPONSE_ALREADY_SENT } from './hono-node.ts';
import type { PlainEndpoint } from './plain-request.ts';
import type { RpcRequest } from './rpc-request.ts';

export interface Readiness {
  readonly ready: boolean;
  /** What is missing, for the operator; empty when ready. */
  readonly reasons: readonly string[];
}

export interface RpcEndpointOptions {
  readonly side: Side;
  readonly maxBodyBytes: number;
  /** The body of `/readyz` when it is 200: v1 says OK for the builder, and ready when it asks none. */
  readonly readyText: 'OK' | 'ready';
}

export interface RpcEndpointModules {
  readonly bodies: Pick<BodyReader, 'read'>;
  /** Unix microseconds. */
  readonly clock: () => number;
  /** Where requests wait for their turn; it hands them to the pipeline. */
  readonly queue: Pick<FairQueue<Arrival>, 'offer' | 'refusal'>;
  /** Only the user API answers `/readyz`. */
  readonly readiness: (() => Readiness) | null;
  /** The client certificate shown on a connection. */
  readonly certificateOf: (socket: Socket) => ShownCertificate | undefined;
  /** A request was refused before it reached the pipeline. */
  readonly rejected: (side: Side, kind: Rejection['kind']) => void;
}

/**
 * What a refusal costs besides its head: answer, write, and the next head that it lets in. Those that send without reading
 * would otherwise have a thread refuse them as fast as it can, and do nothing else.
 */
const REFUSAL_US = 100;

type Env = { Bindings: { incoming: HttpRequest; outgoing: HttpResponse } };

/** @returns the listener for a server's `request` event. */
export function rpcListener(options: RpcEndpointOptions, modules: RpcEndpointModules) {
  const routed = routedListener(options, modules);
  return (request: HttpRequest, response: HttpResponse): unknown => {
    if (request.method !== 'POST' || !hasPlainTarget(request)) return routed(request, response);
    receive(request, response, options, modules);
    return undefined;
  };
}

/** A host name or address as nearly all are; hono's parser judges the others. */
const PLAIN_HOST = /^[A-Za-z0-9.:_-]+$/;

function hasPlainTarget({ url, headers }: HttpRequest): boolean {
  const host = headers.host ?? headers[':authority'];
  return url?.charCodeAt(0) === 0x2f && (typeof host !== 'string' || PLAIN_HOST.test(host));
}

function routedListener(options: RpcEndpointOptions, modules: RpcEndpointModules) {
  const app = new Hono<Env>();
  const { readiness } = modules;
  app.get('/livez', (c) => c.body(null, 200));
  if (readiness !== null) {
    app.get('/readyz', (c) => {
      const { ready, reasons } = readiness();
      if (ready) return c.text(options.readyText, 200);
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

/**
 * @param bodies where those are read that do not come as a whole
 * @returns what takes requests that did not come through Node's HTTP server
 */
export function plainEndpoint(
  options: RpcEndpointOptions,
  bodies: PlainEndpoint['bodies'],
  modules: RpcEndpointModules,
): PlainEndpoint {
  return {
    bodies,
    refusal: (connection, bytes) => modules.queue.refusal(connection, partyOf(options.side), bytes),
    refuse: (request, reason) => refuse(request, reason, false, options, modules),
    arrived: (request, body) => arrived(request, body, options, modules),
  };
}

/** One request on its way: what the pipeline answers through. */
class HttpArrival implements Arrival {
  readonly side: Side;
  readonly body: Buffer;
  readonly signature: string | undefined;
  readonly certificate: ShownCertificate | undefined;
  readonly receivedAtUs: number;
  readonly streamed = null;
  readonly #request: RpcRequest;

  constructor(
    side: Side,
    body: Buffer,
    request: RpcRequest,
    certificate: ShownCertificate | undefined,
    receivedAtUs: number,
  ) {
    this.side = side;
    this.body = body;
    this.signature = request.signature;
    this.certificate = certificate;
    this.receivedAtUs = receivedAtUs;
    this.#request = request;
  }

  respond(status: number, body: string, close: boolean): void {
    this.#request.send(status, 'application/json', body, close);
  }
}

/** A request that one of Node's servers has read. */
class NodeRequest implements RpcRequest {
  readonly connection: Connection;
  readonly #request: HttpRequest;
  readonly #response: HttpResponse;

  constructor(connection: Connection, request: HttpRequest, response: HttpResponse) {
    this.connection = connection;
    this.#request = request;
    this.#response = response;
  }

  get signature(): string | undefined {
    return signatureOf(this.#request);
  }

  get contentType(): string | undefined {
    return this.#request.headers['content-type'];
  }

  send(status: number, contentType: string, text: string, close: boolean): void {
    send(this.#request, this.#response, status, contentType, text, close);
  }

  abandon(): void {
    this.#request.socket.destroy();
  }
}

function receive(
  request: HttpRequest,
  response: HttpResponse,
  options: RpcEndpointOptions,
  modules: RpcEndpointModules,
) {
  const connection = connectionOf(request.socket);
  if (connection === undefined) {
    request.socket.destroy();
    return;
  }
  const asked = new NodeRequest(connection, request, response);
  if (connection.closing) {
    refuseBody('overloaded', asked, options, modules);
    return;
  }
  const announced = Number(request.headers['content-length'] ?? 0);
  const overload = modules.queue.refusal(connection, partyOf(options.side), announced);
  if (overload === null) {
    modules.bodies.read(request, connection, (body) => arrived(asked, body, options, modules));
    return;
  }
  // What comes of the body is dropped as it comes.
  request.resume();
  refuse(asked, overload, false, options, modules);
}

/** A request has its body, or a reason to have none. */
function arrived(
  request: RpcRequest,
  body: Buffer | BodyFailure,
  options: RpcEndpointOptions,
  modules: RpcEndpointModules,
): void {
  const { connection } = request;
  if (body !== 'timeout' && body !== 'aborted' && !isJson(request.contentType)) {
    modules.rejected(options.side, 'unsupported_media_type');
    request.send(415, 'text/plain', 'header Content-Type must be application/json', false);
  } else if (typeof body === 'string') {
    refuseBody(body, request, options, modules);
  } else {
    // Not of the request's socket: HTTP/2's stand-in forgets what the connection has shown once that is closed.
    const certificate = modules.certificateOf(connection.socket);
    const arrival = new HttpArrival(options.side, body, request, certificate, modules.clock());
    const overload = modules.queue.offer(connection, partyOf(options.side), arrival, body.length);
    if (overload !== null) refuse(request, overload, false, options, modules);
  }
}

function refuseBody(
  failure: BodyFailure,
  request: RpcRequest,
  options: RpcEndpointOptions,
  modules: RpcEndpointModules,
): void {
  const rejection = bodyRejection(failure, options.maxBodyBytes);
  if (rejection === null) request.abandon();
  else refuse(request, rejection, true, options, modules);
}

function refuse(
  request: RpcRequest,
  rejection: Rejection,
  close: boolean,
  options: RpcEndpointOptions,
  modules: RpcEndpointModules,
): void {
  modules.rejected(options.side, rejection.kind);
  if (rejection.kind === 'overloaded') request.connection.charge(REFUSAL_US);
  const { code, status } = rejection.row;
  if (code === null) request.send(status, 'text/plain', rejection.message, close);
  else request.send(status, 'application/json', encodeError('null', code, rejection.message), close);
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
    case 'tiny_pieces':
      return new Rejection('parse_error', 'request body comes in pieces that are too small');
    case 'bad_encoding':
      return new Rejection('unsupported_media_type', 'header Content-Encoding must be gzip or absent');
    case 'timeout':
    case 'aborted':
      return null;
  }
}

function partyOf(side: Side): Party {
  return side === 'system' ? 'peers' : 'users';
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

/** @param close the connection is not to be used any longer; nor is it when a long rest of the request is not read. */
function send(
  request: HttpRequest,
  response: HttpResponse,
  status: number,
  contentType: string,
  body: string,
  close: boolean,
): void {
  // The client may have gone while its order was worked on; the order stands all the same.
  if (response.destroyed || response.writableEnded) return;
  exchangeOf(response)?.wrote();
  const length = Buffer.byteLength(body);
  const retryAfter = status === 429 || status === 503;
  if ('stream' in response) {
    const { stream } = response;
    const headers: Record<string, string | number> = {
      'content-type': contentType,
      'content-length': length,
    };
    if (retryAfter) headers['retry-after'] = 1;
    response.writeHead(status, headers);
    response.end(body);
    // What still comes on this stream has nobody to read it (RFC 9113 section 8.1).
    if (!request.complete) stream.close();
    if (close) stream.session?.close();
    return;
  }
  const headers: (string | number)[] = ['Content-Type', contentType, 'Content-Length', length];
  if (retryAfter) headers.push('Retry-After', 1);
  if (close || (!request.complete && hasLongBody(request))) headers.push('Connection', 'close');
  response.writeHead(status, headers as never);
  response.end(body, length === body.length ? 'latin1' : 'utf8');
}
