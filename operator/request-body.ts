/** Request bodies of the API, bounded by what each endpoint takes, and answered for when they are unclean. */
import type { BodyFailure, BodyReader } from '../ingress/body-reader.ts';
import { connectionOf, type HttpRequest } from '../ingress/connection.ts';

export interface BodyRefusal {
  readonly status: number;
  readonly reason: string;
}

/** @returns the body, or why there is none, with the field. */
export async function readBody(
  request: HttpRequest,
  maxBytes: number,
  reader: BodyReader,
): Promise<Buffer | BodyRefusal> {
  const tooBig = { status: 413, reason: `body: is larger than ${maxBytes} bytes` };
  const { 'content-length': announced = 0, 'content-encoding': encoding } = request.headers;
  if (encoding === undefined && Number(announced) > maxBytes) return tooBig;
  const connection = connectionOf(request.socket);
  if (connection === undefined || request.destroyed)
    return { status: 400, reason: 'body: the client has gone' };
  const { promise, resolve } = Promise.withResolvers<Buffer | BodyFailure>();
  reader.read(request, connection, resolve);
  const body = await promise;
  if (typeof body !== 'string') return body.length > maxBytes ? tooBig : body;
  return { ...REFUSALS[body], ...(body === 'too_big' ? tooBig : {}) };
}

const REFUSALS: Readonly<Record<BodyFailure, BodyRefusal>> = {
  too_big: { status: 413, reason: 'body: is too large' },
  bad_gzip: { status: 400, reason: 'body: is not valid gzip' },
  bad_encoding: { status: 415, reason: 'Content-Encoding: must be gzip or absent' },
  tiny_pieces: { status: 400, reason: 'body: comes in pieces that are too small' },
  timeout: { status: 408, reason: 'body: did not come in time' },
  overloaded: { status: 503, reason: 'body: too much is being received, try again' },
  aborted: { status: 400, reason: 'body: the client has gone' },
};
