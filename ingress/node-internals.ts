/**
 * What the ingress does to Node's servers that Node has no public way for, in one place. Where a later Node
 * has changed what they rest on they do nothing; hostile.integration.test.ts shows what that costs.
 */
import type { Http2SecureServer } from 'node:http2';
import type { Socket } from 'node:net';
import type { TLSSocket } from 'node:tls';

/** A libuv handle (or the TLS layer on one). */
interface ReadingHandle {
  readStart(): number;
  readStop(): number;
}

/** Node's HTTP/1.1 parser; `onIncoming` is called with each head, and 2 means that no HTTP follows. */
interface Parser {
  onIncoming: (() => number) | null;
}

type Internals = Socket & {
  readonly _handle?: Partial<ReadingHandle> | null;
  readonly parser?: Parser | null;
};

/**
 * Reads no more from a connection. Not `pause()`: that is undone by each request that reads its body, and does nothing
 * under HTTP/2.
 *
 * @param socket the TCP socket, also under TLS.
 */
export function stopReading(socket: Socket): void {
  (socket as Internals)._handle?.readStop?.();
}

export function startReading(socket: Socket): void {
  (socket as Internals)._handle?.readStart?.();
}

/**
 * HTTP/1.1: drops what has been read of a connection and not been parsed yet, up to 64 KiB. As two thousand tiny
 * requests that nobody answers these would cost 20 ms, and destroying the socket does not stop the parser.
 *
 * @param socket the one that speaks HTTP.
 */
export function endParsing(socket: Socket): void {
  const { parser } = socket as Internals;
  if (parser !== undefined && parser !== null) parser.onIncoming = notHttp;
}

/**
 * Writes plain text to a client whose TLS handshake has failed, and hangs up: for those that speak no TLS at all.
 *
 * @param socket as `tlsClientError` gives it, during that event
 */
export function endInPlain(socket: TLSSocket, text: string): void {
  const { _parent: transport } = socket as TLSSocket & { readonly _parent?: Socket | null };
  if (transport?.writable === true) transport.end(text);
}

function notHttp(): number {
  return 2;
}

/**
 * Offers one more protocol by ALPN (RFC 7301), before HTTP, and hands its connections over. Node's HTTP/2 server
 * overwrites the option of that name, and takes whatever was agreed on for HTTP/2.
 *
 * @param protocol ASCII
 */
export function offerProtocol(
  server: Http2SecureServer,
  protocol: string,
  onConnection: (socket: TLSSocket) => void,
): void {
  const offering = server as Http2SecureServer & { ALPNProtocols?: Buffer };
  const [http, ...others] = server.listeners('secureConnection');
  if (!Buffer.isBuffer(offering.ALPNProtocols) || http === undefined || others.length > 0) return;
  const name = Buffer.from(protocol, 'latin1');
  offering.ALPNProtocols = Buffer.concat([Buffer.of(name.length), name, offering.ALPNProtocols]);
  server.removeAllListeners('secureConnection');
  server.on('secureConnection', (socket: TLSSocket) => {
    if (socket.alpnProtocol === protocol) onConnection(socket);
    else Reflect.apply(http, server, [socket]);
  });
}
