/**
 * One request through a proxy: what is refused, what is taken off and put on, and the bodies streamed both ways.
 *
 * Headers are those of the deployed proxies: who asks may not bring the two attestation headers, who answers neither,
 * the address of the caller is appended to X-Forwarded-For, and Host becomes the target's. Upgrades and CONNECT are
 * refused: what is in a tunnel cannot be checked for headers.
 */
import type { Agent, ClientRequest, IncomingMessage, OutgoingHttpHeaders, ServerResponse } from 'node:http';
import { request as httpRequest } from 'node:http';
import type { Http2ServerRequest, Http2ServerResponse } from 'node:http2';
import { pipeline } from 'node:stream/promises';
import { MEASUREMENT_HEADER, TYPE_HEADER } from '../identity/attestation/measurements.ts';

export type ProxyRequest = IncomingMessage | Http2ServerRequest;
export type ProxyResponse = ServerResponse | Http2ServerResponse;

export interface ForwardOptions {
  /** Its path comes before the request's. */
  readonly target: URL;
  /** Longest request body, in bytes. */
  readonly maxBodyBytes: number;
  /** Longest silence of the target, in milliseconds. */
  readonly idleTimeoutMs: number;
}

export interface Forwarding {
  readonly agent: Agent;
  /** Headers that tell the target about the caller. */
  readonly tellTarget: Readonly<Record<string, string>>;
  /** Headers that tell the caller about the target, asked for when it has answered on a connection. */
  readonly tellCaller: (answer: IncomingMessage) => Readonly<Record<string, string>>;
}

/** Why a request got no answer of the target; its status is for the caller. */
export interface Failure {
  readonly status: 403 | 413 | 501 | 502;
  readonly reason: string;
}

/** RFC 9110 section 7.6.1, and what older software calls so. */
const HOP_BY_HOP = new Set([
  'connection',
  'keep-alive',
  'proxy-authenticate',
  'proxy-authorization',
  'proxy-connection',
  'te',
  'trailer',
  'transfer-encoding',
  'upgrade',
]);
const PROBLEMS: ReadonlyMap<string, string> = new Map([
  [MEASUREMENT_HEADER, 'unexpected measurement header passed'],
  [TYPE_HEADER, 'unexpected attestation type header passed'],
]);
/** Of a request, set anew by this proxy. */
const OWN_HEADERS = ['host', 'x-forwarded-for', 'expect', 'content-length'];

/**
 * Forwards a request and its answer.
 *
 * @returns when all is sent: why the caller got no answer, or undefined
 */
export async function forward(
  request: ProxyRequest,
  response: ProxyResponse,
  options: ForwardOptions,
  forwarding: Forwarding,
): Promise<Failure | undefined> {
  const refusal = refusalOf(request, options);
  if (refusal !== undefined) {
    refuse(request, response, refusal);
    return refusal;
  }
  const upstream = httpRequest({
    agent: forwarding.agent,
    host: options.target.hostname,
    port: options.target.port === '' ? 80 : options.target.port,
    method: request.method ?? 'GET',
    path: pathOf(options.target, request.url ?? '/'),
    headers: requestHeaders(request, options.target, forwarding.tellTarget),
    setHost: false,
  });
  upstream.setTimeout(options.idleTimeoutMs, () => upstream.destroy(new Error('the target is silent')));
  response.once('close', () => {
    // The caller has gone: the target need not go on.
    if (!response.writableFinished) upstream.destroy();
  });
  const failed = await exchange(request, response, upstream, options, forwarding);
  if (failed === undefined) return undefined;
  upstream.destroy();
  if (response.headersSent) {
    // A broken answer must not look like a whole one.
    response.destroy();
  } else {
    refuse(request, response, failed);
  }
  return failed;
}

async function exchange(
  request: ProxyRequest,
  response: ProxyResponse,
  upstream: ClientRequest,
  options: ForwardOptions,
  { tellCaller }: Forwarding,
): Promise<Failure | undefined> {
  const answered = answerOf(upstream);
  // A target may answer before it has read the whole body, and a refused body ends the waiting.
  const sent = send(request, upstream, options.maxBodyBytes).then((failure) => failure ?? answered);
  const answer = await Promise.race([answered, sent]);
  if ('reason' in answer) return answer;
  const forged = attestationHeader(answer.rawHeaders);
  if (forged !== undefined) return { status: 502, reason: forged };
  try {
    writeHead(response, answer.statusCode ?? 502, { ...endToEnd(answer.rawHeaders), ...tellCaller(answer) });
    await pipeline(answer, response);
    return undefined;
  } catch (error) {
    return { status: 502, reason: messageOf(error) };
  }
}

/** One call for both kinds of responses. */
function writeHead(
  response: ProxyResponse,
  status: number,
  headers: Readonly<Record<string, string | string[]>>,
): void {
  response.statusCode = status;
  for (const [name, value] of Object.entries(headers)) response.setHeader(name, value);
}

function answerOf(upstream: ClientRequest): Promise<IncomingMessage | Failure> {
  return new Promise((resolve) => {
    const fail = (reason: string): void => resolve({ status: 502, reason });
    upstream.once('response', resolve);
    upstream.on('error', (error) => fail(messageOf(error)));
    upstream.once('close', () => fail('the target ended the connection'));
  });
}

/** @returns why the body was not sent whole; a target that stops reading is no failure, it may have answered */
async function send(
  request: ProxyRequest,
  upstream: ClientRequest,
  maxBytes: number,
): Promise<Failure | undefined> {
  if (!hasBody(request)) {
    upstream.end();
    return undefined;
  }
  const announced = request.headers['content-length'];
  let tooBig = false;
  async function* bounded(source: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
    let length = 0;
    for await (const chunk of source) {
      length += chunk.length;
      tooBig = length > maxBytes;
      if (tooBig) throw new Error('the body is too big');
      yield chunk;
    }
    // Both parsers see to it; a target that waits for the rest must not get the next request's bytes for it.
    if (announced !== undefined && length !== Number(announced)) throw new Error('the body broke off');
  }
  try {
    await pipeline(request, bounded, upstream);
    return undefined;
  } catch {
    return tooBig ? { status: 413, reason: 'the body is too big' } : undefined;
  }
}

function refusalOf(request: ProxyRequest, { maxBodyBytes }: ForwardOptions): Failure | undefined {
  const forged = attestationHeader(request.rawHeaders);
  if (forged !== undefined) return { status: 403, reason: forged };
  if (request.method === 'CONNECT') return { status: 501, reason: 'CONNECT is not forwarded' };
  const length = Number(request.headers['content-length'] ?? 0);
  return length > maxBodyBytes ? { status: 413, reason: 'the body is too big' } : undefined;
}

/** @returns what to say about one of the attestation headers, however it is spelt, or undefined when there is none */
function attestationHeader(raw: readonly string[]): string | undefined {
  for (let i = 0; i < raw.length; i += 2) {
    const problem = PROBLEMS.get(folded(raw[i] ?? ''));
    if (problem !== undefined) return problem;
  }
  return undefined;
}

/** The name as a target may read it: many make variables of headers, for which - and _ are the same (RFC 3875). */
function folded(name: string): string {
  return name.toLowerCase().replaceAll('_', '-');
}

/** 403 says why, as the deployed proxies do; the others have no body. */
function refuse(request: ProxyRequest, response: ProxyResponse, { status, reason }: Failure): void {
  const text = status === 403 ? `${reason}\n` : '';
  // An unread body would be taken for the next request.
  const close = request.httpVersionMajor === 1 && hasBody(request) ? { connection: 'close' } : {};
  const kind = { 'content-type': 'text/plain; charset=utf-8', 'x-content-type-options': 'nosniff' };
  const length = { 'content-length': String(Buffer.byteLength(text)) };
  writeHead(response, status, { ...(text === '' ? {} : kind), ...close, ...length });
  response.end(text);
}

function hasBody(request: ProxyRequest): boolean {
  if ('stream' in request) return !request.stream.endAfterHeaders;
  return (
    request.headers['transfer-encoding'] !== undefined || Number(request.headers['content-length'] ?? 0) > 0
  );
}

function requestHeaders(
  request: ProxyRequest,
  target: URL,
  tellTarget: Readonly<Record<string, string>>,
): OutgoingHttpHeaders {
  const headers = endToEnd(request.rawHeaders);
  const before = request.headers['x-forwarded-for'];
  const caller = (request.socket.remoteAddress ?? '').replace(/^::ffff:/u, '');
  const forwardedFor = [...(before === undefined ? [] : [before].flat()), caller].join(', ');
  for (const name of Object.keys(headers)) {
    if (OWN_HEADERS.includes(folded(name))) delete headers[name];
  }
  const own = { Host: target.host, 'X-Forwarded-For': forwardedFor };
  return { ...headers, ...own, ...framing(request), ...tellTarget };
}

/**
 * Where the body ends is said by this proxy alone, for every method: Node sends the body of a GET or DELETE bare when
 * no header says so, and what is bare is the next request to the target.
 */
function framing(request: ProxyRequest): Record<string, string> {
  const length = request.headers['content-length'];
  if (!hasBody(request)) return length === undefined ? {} : { 'Content-Length': '0' };
  return length === undefined ? { 'Transfer-Encoding': 'chunked' } : { 'Content-Length': length };
}

/** All headers but those of one connection, those that Connection names, and HTTP/2's pseudo headers. */
function endToEnd(raw: readonly string[]): Record<string, string | string[]> {
  const headers: Record<string, string | string[]> = {};
  const dropped = new Set(HOP_BY_HOP);
  for (let i = 0; i < raw.length; i += 2) {
    if (raw[i]?.toLowerCase() !== 'connection') continue;
    for (const name of (raw[i + 1] ?? '').split(',')) dropped.add(name.trim().toLowerCase());
  }
  const names = new Map<string, string>();
  for (let i = 0; i < raw.length; i += 2) {
    const [name = '', value = ''] = [raw[i], raw[i + 1]];
    const lower = name.toLowerCase();
    if (name.startsWith(':') || dropped.has(lower)) continue;
    const first = names.get(lower) ?? name;
    names.set(lower, first);
    const known = headers[first];
    headers[first] = known === undefined ? value : [...[known].flat(), value];
  }
  return headers;
}

/** The target's path, then the request's, with one slash between. */
function pathOf(target: URL, url: string): string {
  // An absolute form (GET http://host/path) names a host that is not the target's.
  const path = url.startsWith('/') ? url : `/${url.replace(/^[a-z]+:\/\/[^/?#]*\/?/iu, '')}`;
  const base = target.pathname.replace(/\/+$/u, '');
  return `${base}${path}`;
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
