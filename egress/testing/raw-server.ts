/** A TCP server whose every byte the test writes itself, for what no honest server does. */
import net from 'node:net';

export interface RawServer {
  readonly port: number;
  readonly url: URL;
  readonly sockets: readonly net.Socket[];
  close(): Promise<void>;
}

/** @param accept gets each connection; errors on it are swallowed */
export function startRawServer(
  accept: (socket: net.Socket, index: number) => void,
  options: { readonly allowHalfOpen?: boolean } = {},
): Promise<RawServer> {
  const sockets: net.Socket[] = [];
  const server = net.createServer({ allowHalfOpen: options.allowHalfOpen ?? false }, (socket) => {
    socket.on('error', () => {});
    const index = sockets.push(socket) - 1;
    accept(socket, index);
  });
  return new Promise((resolve) => {
    server.listen(0, '127.0.0.1', () => {
      const address = server.address();
      const port = typeof address === 'object' && address !== null ? address.port : 0;
      resolve({
        port,
        url: new URL(`http://127.0.0.1:${port}/`),
        sockets,
        close: () =>
          new Promise((done) => {
            server.close(() => done());
            for (const socket of sockets) socket.destroy();
          }),
      });
    });
  });
}
