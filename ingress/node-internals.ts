/**
 * What the ingress does to Node's servers that Node has no public way for, in one place. Where a later Node
 * has changed what they rest on they do nothing; hostile.integration.test.ts shows what that costs.
 */
import type { Http2SecureServer } from 'node:http2';
import { type Server, Socket } from 'node:net';
import type { TLSSocket } from 'node:tls';

/** A libuv handle (or the TLS layer on one). */
interface ReadingHandle {
  readStart(): number;
  readStop(): number;
  useUserBuffer(buffer: Buffer): void;
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

/** Where a socket keeps what `net.connect` was given as `onread`. */
const [BUFFER, CALLBACK] = ['kBuffer', 'kBufferCb'].map((name) =>
  Object.getOwnPropertySymbols(new Socket()).find(({ description }) => description === name),
);

/**
 * Reads a connection that a server has just accepted as `net.connect` does with `onread`, for which servers have no
 * option: into the same memory each time, without events.
 *
 * @param onRead called with how many bytes there are, each time at the buffer's beginning
 * @returns false when this Node has no such way; nothing has been done then
 */
export function readInto(socket: Socket, buffer: Buffer, onRead: (length: number) => boolean): boolean {
  const { _handle: handle } = socket as Internals;
  if (BUFFER === undefined || CALLBACK === undefined || handle?.useUserBuffer === undefined) return false;
  Object.assign(socket, { [BUFFER]: buffer, [CALLBACK]: onRead });
  handle.useUserBuffer(buffer);
  return true;
}

/** Ends `readInto`: what is read from now on is for Node's HTTP server, which must take the socket at once. */
export function readNoLonger(socket: Socket): void {
  if (BUFFER !== undefined && CALLBACK !== undefined) {
    Object.assign(socket, { [BUFFER]: null, [CALLBACK]: null });
  }
}

/**
 * Puts another in the place of Node's HTTP server for new connections, which come to it after all that listens for them
 * by now.
 *
 * @returns what gives one to Node's server all the same
 */
export function acceptInPlace(
  server: Server,
  event: 'connection' | 'secureConnection',
  accept: (socket: Socket) => void,
): (socket: Socket) => void {
  const [http] = server.listeners(event);
  if (http === undefined) throw new Error('a server that takes no connections');
  server.removeListener(event, http as () => void);
  server.on(event, accept);
  return (socket) => Reflect.apply(http, server, [socket]);
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
