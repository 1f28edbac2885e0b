/**
 * Free loopback ports that are known before a server starts (peers learn a node's port from BuilderHub). They
 * come from below the range that the system hands out for port 0, so that nobody gets one by chance between
 * the look and the use.
 */
import { createServer } from 'node:net';

const FIRST = 20_000;
const LAST = 32_000;

/** @returns `count` different ports that nobody listens on at 127.0.0.1. */
export async function freePorts(count: number): Promise<number[]> {
  const found = new Set<number>();
  while (found.size < count) {
    const port = FIRST + Math.floor(Math.random() * (LAST - FIRST));
    if (!found.has(port) && (await isFree(port))) found.add(port);
  }
  return [...found];
}

/** Whether 127.0.0.1:port can be bound now. */
export async function isFree(port: number): Promise<boolean> {
  const server = createServer();
  const { promise, resolve } = Promise.withResolvers<boolean>();
  server.once('error', () => resolve(false));
  server.listen({ port, host: '127.0.0.1', exclusive: true }, () => server.close(() => resolve(true)));
  return promise;
}
