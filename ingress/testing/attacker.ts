/**
 * One attack's connections: opened by the thousand, flooded as fast as a 1 Gbps line lets all of them together,
 * and reset at its end (a reset leaves no TIME_WAIT behind, of which there are only 28,000).
 */
import { connect, type Socket } from 'node:net';
import { type ConnectionOptions, connect as connectTls } from 'node:tls';
import { PREFACE } from './http2-frames.ts';

const BYTES_PER_MS = 125_000;
const AT_ONCE = 100;
const TLS_AT_ONCE = 20;
/** A flood that the node does not read is not written on. */
const MOST_UNSENT = 1 << 20;

export class Attacker {
  readonly #sockets = new Set<Socket>();
  readonly #floods: { readonly socket: Socket; readonly chunk: Buffer }[] = [];
  #timer: NodeJS.Timeout | null = null;

  /** Connections that the node has not closed. */
  get open(): number {
    return this.#sockets.size;
  }

  /** Opens TCP connections; some may be closed again when this resolves. */
  connect(port: number, count: number): Promise<Socket[]> {
    return inBatches(count, AT_ONCE, async () => {
      const socket = this.#track(connect(port, '127.0.0.1'));
      await settled(socket, 'connect');
      return socket;
    });
  }

  /** The same with TLS. */
  connectTls(port: number, count: number, options: ConnectionOptions = {}): Promise<Socket[]> {
    return inBatches(count, TLS_AT_ONCE, async () => {
      const socket = connectTls({ port, host: '127.0.0.1', rejectUnauthorized: false, ...options });
      this.#track(socket);
      await settled(socket, 'secureConnect');
      return socket;
    });
  }

  /** The same with HTTP/2; the settings are the caller's to send. What the node sends is dropped. */
  async connectHttp2(port: number, count: number): Promise<Socket[]> {
    const sockets = await this.connectTls(port, count, { ALPNProtocols: ['h2'] });
    for (const socket of sockets) socket.resume().write(PREFACE);
    return sockets;
  }

  /** Writes the chunk again and again until the end of the attack. */
  flood(sockets: readonly Socket[], chunk: Buffer): void {
    for (const socket of sockets) this.#floods.push({ socket, chunk });
    this.#timer ??= this.#startFlooding();
  }

  /** Resolves when the node has closed so many of these connections; all unless said. */
  closed(sockets: readonly Socket[], count: number = sockets.length): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    let left = count;
    const onClose = () => {
      left -= 1;
      if (left <= 0) resolve();
    };
    for (const socket of sockets) {
      if (socket.destroyed) onClose();
      else socket.once('close', onClose);
    }
    return promise;
  }

  end(): void {
    if (this.#timer !== null) clearInterval(this.#timer);
    for (const socket of this.#sockets) {
      if ('encrypted' in socket) socket.destroy();
      else socket.resetAndDestroy();
    }
  }

  #startFlooding(): NodeJS.Timeout {
    let last = performance.now();
    let next = 0;
    return setInterval(() => {
      const now = performance.now();
      let bytes = Math.min(now - last, 20) * BYTES_PER_MS;
      last = now;
      for (let idle = 0; bytes > 0 && idle < this.#floods.length; next += 1) {
        const flood = this.#floods[next % this.#floods.length];
        if (flood === undefined) return;
        const { socket, chunk } = flood;
        if (!socket.writable || socket.writableLength > MOST_UNSENT) {
          idle += 1;
          continue;
        }
        idle = 0;
        bytes -= chunk.length;
        socket.write(chunk);
      }
    }, 2);
  }

  #track<S extends Socket>(socket: S): S {
    socket.on('error', () => undefined);
    this.#sockets.add(socket);
    socket.once('close', () => this.#sockets.delete(socket));
    return socket;
  }
}

async function settled(socket: Socket, event: string): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>();
  socket.once(event, resolve);
  socket.once('close', resolve);
  await promise;
}

async function inBatches(count: number, atOnce: number, open: () => Promise<Socket>): Promise<Socket[]> {
  const sockets: Socket[] = [];
  while (sockets.length < count) {
    const batch = Array.from({ length: Math.min(atOnce, count - sockets.length) }, open);
    sockets.push(...(await Promise.all(batch)));
  }
  return sockets;
}
