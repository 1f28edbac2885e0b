/**
 * A TCP proxy between a client and a server that misbehaves on demand, whole pieces at a time: it swallows what
 * the client asks or what the server answers, lets it through slowly, or cuts every connection.
 */
import { once } from 'node:events';
import { connect, createServer, type Socket } from 'node:net';

/** Towards the server (`requests`) or towards the client (`answers`). */
export type Direction = 'requests' | 'answers';

export interface TcpProxy {
  /** Where clients connect, 127.0.0.1. */
  readonly port: number;
  /** Connections that are open now. */
  readonly connections: number;
  /** Bytes that were swallowed so far. */
  readonly swallowedBytes: number;
  /** Connections that were refused so far. */
  readonly refused: number;
  /**
   * Swallows what flows in a direction until the returned function is called. The connection stays open; what comes
   * after on it would make no sense to either side, so it passes nothing on any more, in this direction.
   */
  swallow(direction: Direction): () => void;
  /** From now on each connection passes on so many bytes a second in a direction. */
  slow(direction: Direction, bytesPerSecond: number): void;
  /** Ends all connections at once (RST) and refuses new ones until {@link mend} is called. */
  cut(): void;
  /** Cuts all connections once; new ones are taken. */
  reset(): void;
  mend(): void;
  close(): Promise<void>;
}

/** Starts a proxy in front of 127.0.0.1:`target`; `port` 0 takes any. */
export async function startTcpProxy(target: number, port = 0): Promise<TcpProxy> {
  const pairs = new Set<readonly [Socket, Socket]>();
  const swallowing = { requests: false, answers: false };
  const bytesPerMs = { requests: Number.POSITIVE_INFINITY, answers: Number.POSITIVE_INFINITY };
  let isCut = false;
  let swallowedBytes = 0;
  let refused = 0;

  function pass(from: Socket, to: Socket, direction: Direction): void {
    let spoiled = false;
    from.on('data', (bytes: Buffer) => {
      if (swallowing[direction]) spoiled = true;
      if (spoiled) {
        swallowedBytes += bytes.length;
        return;
      }
      const ms = bytes.length / bytesPerMs[direction];
      const isFull = !to.write(bytes);
      if (ms === 0 && !isFull) return;
      from.pause();
      if (ms > 0) setTimeout(() => from.resume(), ms);
      else to.once('drain', () => from.resume());
    });
  }

  const server = createServer({ pauseOnConnect: true }, (client) => {
    if (isCut) {
      refused += 1;
      client.on('error', () => {});
      client.resetAndDestroy();
      return;
    }
    const upstream = connect({ port: target, host: '127.0.0.1', noDelay: true });
    client.setNoDelay(true);
    const pair = [client, upstream] as const;
    pairs.add(pair);
    for (const [socket, other] of [pair, [upstream, client] as const]) {
      // An error is followed by close, which ends the other side too.
      socket.on('error', () => {});
      socket.once('close', () => {
        other.destroy();
        pairs.delete(pair);
      });
    }
    upstream.once('connect', () => client.resume());
    pass(client, upstream, 'requests');
    pass(upstream, client, 'answers');
  });
  server.listen({ port, host: '127.0.0.1' });
  await once(server, 'listening');
  const address = server.address();
  if (address === null || typeof address === 'string') throw new Error('the proxy has no port');

  function reset(): void {
    for (const [client, upstream] of pairs) {
      client.resetAndDestroy();
      upstream.destroy();
    }
  }

  return {
    port: address.port,
    get connections() {
      return pairs.size;
    },
    get swallowedBytes() {
      return swallowedBytes;
    },
    get refused() {
      return refused;
    },
    swallow(direction) {
      swallowing[direction] = true;
      return () => {
        swallowing[direction] = false;
      };
    },
    slow(direction, bytesPerSecond) {
      bytesPerMs[direction] = bytesPerSecond / 1000;
    },
    cut() {
      isCut = true;
      reset();
    },
    mend() {
      isCut = false;
    },
    reset,
    async close() {
      reset();
      server.close();
      await once(server, 'close');
    },
  };
}
