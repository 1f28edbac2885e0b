/**
 * Several listening sockets on one port, all of which feed one server. libuv accepts one connection per listening
 * socket in a turn of the event loop: of a thousand that come at once, the first would be served to the end
 * before the last is accepted. With several, the kernel spreads the newcomers over them (`SO_REUSEPORT`), and all get
 * their turns.
 *
 * Limits: Linux alone spreads; elsewhere there is one socket. With this option a second node of the same user could
 * take a share of the connections, so the port is first tried without it: a taken one stays an error.
 */
import { type AddressInfo, createServer, Server, type Socket } from 'node:net';

export interface ListenAddress {
  readonly host: string;
  readonly port: number;
}

export interface Listeners {
  readonly address: ListenAddress;
  /** Accepts no more. Resolves when every connection has ended. May be called again. */
  close(): Promise<void>;
}

/** As many as the kernel's queue holds (net.core.somaxconn is 4,096 by default). */
const BACKLOG = 4096;
const SPREADS = process.platform === 'linux';

/**
 * @param server takes the connections of all sockets; not listening yet.
 * @param sockets how many.
 * @param others other threads of the node listen there, too: the address is one that `freeAddress` gave.
 * @throws when the address cannot be bound; the message names it.
 */
export async function listenOn(
  server: Server,
  listen: ListenAddress,
  sockets: number,
  others = false,
): Promise<Listeners> {
  const shared = SPREADS && (others || sockets > 1);
  const address = shared && !others ? await freeAddress(listen) : listen;
  const relays = shared ? Array.from({ length: sockets - 1 }, () => relayTo(server)) : [];
  const ends = [server, ...relays].map(closed);
  try {
    await bind(server, address, listen, shared);
    const bound = server.address() as AddressInfo;
    const own = { host: bound.address, port: bound.port };
    await Promise.all(relays.map((relay) => bind(relay, own, listen, true)));
    return {
      address: own,
      async close() {
        for (const one of [server, ...relays]) if (one.listening) stopListening(one);
        await Promise.all(ends);
        // Of an HTTP server: its timers.
        server.close();
      },
    };
  } catch (error) {
    for (const one of [server, ...relays]) if (one.listening) stopListening(one);
    throw error;
  }
}

/**
 * Not `close` of an HTTP server, which also destroys its idle connections: the last answer may still be on its way
 * through TLS, and what its client has sent on would make the kernel drop it.
 */
function stopListening(server: Server): void {
  Server.prototype.close.call(server);
}

/** Not `once` of node:events, which rejects when the address cannot be bound. */
function closed(server: Server): Promise<void> {
  return new Promise((resolve) => void server.once('close', resolve));
}

function relayTo(server: Server): Server {
  const { allowHalfOpen } = server as unknown as { allowHalfOpen: boolean };
  const relay = createServer({ allowHalfOpen, noDelay: true });
  relay.on('connection', (socket: Socket) => server.emit('connection', socket));
  return relay;
}

/** Can several sockets, and threads, listen on one port here? */
export function canShareAPort(): boolean {
  return SPREADS;
}

/**
 * @returns the address with its port, which nobody listens on.
 * @throws when it cannot be bound; the message names it.
 */
export async function freeAddress(listen: ListenAddress): Promise<ListenAddress> {
  const probe = createServer();
  await bind(probe, listen, listen, false);
  const { port } = probe.address() as AddressInfo;
  const end = closed(probe);
  probe.close();
  await end;
  return { host: listen.host, port };
}

/** @param asked what the error names. */
function bind(server: Server, address: ListenAddress, asked: ListenAddress, shared: boolean): Promise<void> {
  return new Promise((resolve, reject) => {
    const failed = (error: Error) =>
      reject(new Error(`cannot listen on ${asked.host}:${asked.port}: ${error.message}`, { cause: error }));
    server.once('error', failed);
    server.listen({ ...address, backlog: BACKLOG, reusePort: shared }, () => {
      server.removeListener('error', failed);
      resolve();
    });
  });
}
