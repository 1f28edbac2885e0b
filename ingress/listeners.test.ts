import { once } from 'node:events';
import { createServer as createHttpServer } from 'node:http';
import { connect, createServer, type Server } from 'node:net';
import { describe, expect, onTestFinished, test } from 'vitest';
import { type Listeners, listenOn } from './listeners.ts';

const LOOPBACK = { host: '127.0.0.1', port: 0 };

async function listen(server: Server, sockets: number, port = 0): Promise<Listeners> {
  const listeners = await listenOn(server, { ...LOOPBACK, port }, sockets);
  onTestFinished(() => listeners.close());
  return listeners;
}

describe('several listening sockets', () => {
  test('feed one server, whichever of them a connection comes in on', async () => {
    let accepted = 0;
    const server = createServer((socket) => {
      accepted += 1;
      socket.end('hello');
    });
    const { address } = await listen(server, 8);
    const greetings = Array.from({ length: 64 }, async () => {
      const socket = connect(address.port, address.host);
      const [chunk] = (await once(socket, 'data')) as [Buffer];
      return chunk.toString();
    });
    expect(new Set(await Promise.all(greetings))).toEqual(new Set(['hello']));
    expect(accepted).toBe(64);
    // The kernel spreads by a hash of both ends: all 64 on one of eight is a chance of 8^-63.
    const own = await new Promise<number>((resolve) => server.getConnections((_, count) => resolve(count)));
    expect(own).toBeLessThan(64);
  });

  test('serve HTTP with a client that ends its half first', async () => {
    const server = createHttpServer((request, response) => {
      request.resume();
      request.on('end', () => response.end('served'));
    });
    const { address } = await listen(server, 4);
    for (let i = 0; i < 16; i += 1) {
      const socket = connect(address.port, address.host);
      socket.end('GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n');
      const chunks: Buffer[] = [];
      for await (const chunk of socket) chunks.push(chunk as Buffer);
      expect(Buffer.concat(chunks).toString()).toContain('served');
    }
  });

  test('a taken port is an error that names it, though its owner shares', async () => {
    const { address } = await listen(createServer(), 4);
    await expect(listenOn(createServer(), address, 4)).rejects.toThrow(
      `cannot listen on 127.0.0.1:${address.port}`,
    );
    await expect(listenOn(createServer(), address, 1)).rejects.toThrow('EADDRINUSE');
  });

  test('close frees the port and waits for the last connection', async () => {
    const server = createServer((socket) => socket.write('hello'));
    const listeners = await listen(server, 4);
    const { port, host } = listeners.address;
    const sockets = Array.from({ length: 16 }, () => connect(port, host));
    await Promise.all(sockets.map((socket) => once(socket, 'data')));
    let closed = false;
    const closing = listeners.close().then(() => {
      closed = true;
    });
    await expect(once(connect(port, host), 'connect')).rejects.toThrow('ECONNREFUSED');
    expect(closed).toBe(false);
    for (const socket of sockets) socket.end();
    await closing;
    await listen(createServer(), 4, port);
  });
});
