/**
 * Callers of a node's APIs for the integration tests, beside devnet/client.ts: wallets that speak HTTP/2, and
 * connections to the system API that show whatever certificate a test wants, and tell when they are closed.
 */
import type { IncomingHttpHeaders } from 'node:http';
import http2 from 'node:http2';
import https from 'node:https';
import tls from 'node:tls';
import { onTestFinished } from 'vitest';
import type { RpcAnswer, SignedRequest } from '../devnet/client.ts';

/** Every request of the test so far, whichever way it went: none may be found where no order belongs. */
export const requestsSent = new Set<SignedRequest>();

/** GETs a page. @param certificatePem the only certificate that is trusted */
export function get(
  url: URL,
  certificatePem: string,
): Promise<{ status: number; headers: IncomingHttpHeaders }> {
  const { promise, resolve, reject } = Promise.withResolvers<{
    status: number;
    headers: IncomingHttpHeaders;
  }>();
  https
    .get(url, { ca: certificatePem, agent: false }, (response) => {
      response.resume();
      resolve({ status: response.statusCode ?? 0, headers: response.headers });
    })
    .on('error', reject);
  return promise;
}

/** One HTTP/2 connection to a user API, or to a system API. */
export interface Http2Wallet {
  /** Whether either side has closed it. */
  readonly closed: boolean;
  /** @param order without a signature header when the signature is empty */
  send(order: SignedRequest): Promise<RpcAnswer>;
  close(): void;
}

/**
 * @param certificatePem the only certificate that is trusted
 * @param own shown to the server when given
 */
export function createHttp2Wallet(url: string, certificatePem: string, own?: ClientCertificate): Http2Wallet {
  const session = http2.connect(url, {
    ca: certificatePem,
    ...(own === undefined ? {} : { cert: own.certificatePem, key: own.privateKeyPem }),
  });
  session.on('error', () => undefined);
  onTestFinished(() => session.destroy());
  return {
    get closed() {
      return session.closed;
    },
    send: (order) => post(session, order),
    close: () => session.destroy(),
  };
}

async function post(session: http2.ClientHttp2Session, order: SignedRequest): Promise<RpcAnswer> {
  requestsSent.add(order);
  const { promise, resolve, reject } = Promise.withResolvers<RpcAnswer>();
  const stream = session.request({
    ':method': 'POST',
    ':path': '/',
    'content-type': 'application/json',
    ...(order.signature === '' ? {} : { 'x-flashbots-signature': order.signature }),
  });
  let status = 0;
  const chunks: Buffer[] = [];
  stream.on('response', (headers) => {
    status = headers[':status'] ?? 0;
  });
  stream.on('data', (chunk: Buffer) => chunks.push(chunk));
  stream.on('error', reject);
  stream.on('close', () => {
    const text = Buffer.concat(chunks).toString();
    if (text === '') reject(new Error('no answer'));
    else resolve({ status, ...(JSON.parse(text) as Omit<RpcAnswer, 'status'>) });
  });
  stream.end(order.body);
  return promise;
}

/** A certificate with its key, PEM. */
export interface ClientCertificate {
  readonly certificatePem: string;
  readonly privateKeyPem: string;
}

/** One HTTP/1.1 connection to a system API; requests one after another. */
export interface SystemConnection {
  /** Whether the node has closed it. */
  readonly closed: boolean;
  readonly socket: tls.TLSSocket;
  /** DER of the certificate that the node shows. */
  readonly serverCertificate: Buffer | undefined;
  /** @throws when the connection ends before there is a whole answer */
  send(request: SignedRequest): Promise<RpcAnswer>;
}

/** Connects, trusting any certificate; shows one of its own when given. */
export async function connectSystem(port: number, own?: ClientCertificate): Promise<SystemConnection> {
  const socket = tls.connect({
    host: '127.0.0.1',
    port,
    rejectUnauthorized: false,
    ALPNProtocols: ['http/1.1'],
    ...(own === undefined ? {} : { cert: own.certificatePem, key: own.privateKeyPem }),
  });
  onTestFinished(() => void socket.destroy());
  let closed = false;
  let received = '';
  let waiting: PromiseWithResolvers<RpcAnswer> | null = null;
  const ready = Promise.withResolvers<void>();
  socket.once('secureConnect', ready.resolve);
  socket.on('error', (error) => ready.reject(error));
  socket.on('data', (chunk: Buffer) => {
    received += chunk.toString('latin1');
    const answer = readAnswer(received);
    if (answer === null) return;
    received = '';
    waiting?.resolve(answer);
  });
  socket.on('close', () => {
    closed = true;
    waiting?.reject(new Error('the connection was closed'));
  });
  await ready.promise;
  return {
    socket,
    serverCertificate: socket.getPeerX509Certificate()?.raw,
    get closed() {
      return closed;
    },
    send(request) {
      const { body, signature } = request;
      requestsSent.add(request);
      waiting = Promise.withResolvers();
      socket.write(
        `POST / HTTP/1.1\r\nHost: node\r\nContent-Type: application/json\r\n` +
          `X-Flashbots-Signature: ${signature}\r\nContent-Length: ${body.length}\r\n\r\n`,
      );
      socket.write(body);
      if (closed) waiting.reject(new Error('the connection was closed'));
      return waiting.promise;
    },
  };
}

function readAnswer(text: string): RpcAnswer | null {
  const end = text.indexOf('\r\n\r\n');
  const length = Number(/content-length: (\d+)/i.exec(text)?.[1]);
  if (end === -1 || text.length < end + 4 + length) return null;
  const status = Number(text.slice(9, 12));
  return { status, ...(JSON.parse(text.slice(end + 4)) as Omit<RpcAnswer, 'status'>) };
}
