/**
 * Binds a certificate of the newer scheme to one connection: the first request is
 * `POST /.well-known/attested-tls/binding` with a fresh quote about the TLS exporter's value of this connection, and
 * nothing else is answered before it holds. A certificate alone lives for half an hour; with its key, wherever that
 * came from, it could be shown by another machine. The exporter's value is known to the two ends of this connection
 * only, and a quote about it comes from a machine that is one of them.
 */
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Http2ServerRequest, Http2ServerResponse } from 'node:http2';
import type { TLSSocket } from 'node:tls';
import { type AppraisalRefusal, type Appraiser, isRefused } from './appraiser.ts';
import { MAX_QUOTE_BYTES } from './quote.ts';
import { bindingReportData, EXPORTER_BYTES, EXPORTER_LABEL } from './report-data.ts';

/**
 * HTTP/1.1 after a binding. A client that has a certificate to bind offers it; a server that demands one chooses it,
 * so that no other server is ever sent a binding.
 */
export const BINDING_ALPN = 'attested-http/1.1';
export const BINDING_PATH = '/.well-known/attested-tls/binding';

/**
 * Answers a binding request: 204, or 403 and the end of the connection.
 *
 * @param binding of the request's connection; undefined when nothing is open on it
 * @returns whether it held, which the caller may report
 */
export async function answerBinding(
  request: IncomingMessage | Http2ServerRequest,
  response: ServerResponse | Http2ServerResponse,
  binding: Binding | undefined,
): Promise<AppraisalRefusal | undefined> {
  const quote = await bodyOf(request);
  const refusal = quote === undefined ? TOO_LONG : await binding?.prove(quote);
  response.statusCode = refusal === undefined ? 204 : 403;
  response.end(() => {
    if (refusal !== undefined) endConnection(request);
  });
  return refusal;
}

/** Ends the connection that a request came on, and with it all that is under way there. */
export function endConnection(request: IncomingMessage | Http2ServerRequest): void {
  if ('stream' in request) request.stream.session?.destroy();
  else request.socket.destroy();
}

const TOO_LONG: AppraisalRefusal = { refused: 'binding', reason: 'the quote is too long or broken off' };

async function bodyOf(request: IncomingMessage | Http2ServerRequest): Promise<Buffer | undefined> {
  const chunks: Buffer[] = [];
  let length = 0;
  try {
    for await (const chunk of request) {
      if (!Buffer.isBuffer(chunk)) return undefined;
      length += chunk.length;
      if (length > MAX_QUOTE_BYTES) return undefined;
      chunks.push(chunk);
    }
  } catch {
    return undefined;
  }
  return Buffer.concat(chunks);
}

/** The server's side of one connection. */
export class Binding {
  readonly #reportData: Buffer;
  readonly #appraiser: Appraiser;
  #verdict: Promise<AppraisalRefusal | undefined> | undefined;
  #held = false;

  /** @param certificate DER of the client's certificate */
  constructor(socket: TLSSocket, certificate: Buffer, appraiser: Appraiser) {
    this.#reportData = connectionReportData(socket, certificate);
    this.#appraiser = appraiser;
  }

  get held(): boolean {
    return this.#held;
  }

  /** One try: the verdict on the first quote is the verdict. */
  prove(quote: Buffer): Promise<AppraisalRefusal | undefined> {
    this.#verdict ??= this.#appraise(quote);
    return this.#verdict;
  }

  async #appraise(quote: Buffer): Promise<AppraisalRefusal | undefined> {
    const verdict = await this.#appraiser.appraise(quote, this.#reportData);
    if (!isRefused(verdict)) {
      this.#held = true;
      return undefined;
    }
    return verdict.refused === 'report-data'
      ? { refused: 'binding', reason: 'the quote is about another connection' }
      : verdict;
  }
}

/**
 * @param certificate DER of the certificate that the client showed
 * @returns what the binding's quote must be about
 */
export function connectionReportData(socket: TLSSocket, certificate: Buffer): Buffer {
  // A context of no bytes and none are the same in TLS 1.3 (RFC 8446 section 7.5).
  const exporter = socket.exportKeyingMaterial(EXPORTER_BYTES, EXPORTER_LABEL, Buffer.alloc(0));
  return bindingReportData(exporter, certificate);
}
