import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';
import { expect, onTestFinished, test } from 'vitest';
import { Connection } from './connection.ts';
import { Pacer } from './pacer.ts';

/** A server whose connections have a pacer; `charge` decides what a chunk costs. */
async function serve(charge: (connection: Connection, chunk: Buffer) => number) {
  const connections: Connection[] = [];
  const read: { connection: number; bytes: number; turn: number }[] = [];
  const pacer = new Pacer(() => connections);
  let turn = 0;
  let ticking = true;
  const tick = () => {
    turn += 1;
    if (ticking) setImmediate(tick);
  };
  tick();
  const server = createServer((socket: Socket) => {
    const connection = new Connection(socket, pacer);
    const index = connections.push(connection) - 1;
    socket.on('error', () => undefined);
    socket.once('close', () => {
      connection.closed = true;
    });
    socket.on('data', (chunk: Buffer) => {
      read.push({ connection: index, bytes: chunk.length, turn });
      const us = charge(connection, chunk);
      if (us > 0) connection.charge(us);
    });
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  onTestFinished(() => {
    ticking = false;
    pacer.close();
    for (const { transport } of connections) transport.destroy();
    server.close();
  });
  const open = async () => {
    const socket = connect(port, '127.0.0.1');
    socket.on('error', () => undefined);
    onTestFinished(() => void socket.destroy());
    await once(socket, 'connect');
    return socket;
  };
  const until = async (condition: () => boolean) => {
    while (!condition()) await new Promise(setImmediate);
  };
  return { connections, read, pacer, open, until };
}

test('one that causes too much work in a turn is read once in a turn, and loses nothing', async () => {
  const { read, open, until } = await serve(() => 2000);
  const socket = await open();
  const bytes = 4 << 20;
  socket.write(Buffer.alloc(bytes));
  await until(() => read.reduce((sum, entry) => sum + entry.bytes, 0) === bytes);
  const turns = read.map(({ turn }) => turn);
  expect(new Set(turns).size).toBe(turns.length);
});

test('when all are busy they take turns, and one with little work is read as always', async () => {
  const { connections, read, open, until, pacer } = await serve((_connection, chunk) =>
    chunk.length < 100 ? 10 : 5000,
  );
  const floods = [await open(), await open(), await open()];
  const quiet = await open();
  await until(() => connections.length === 4);
  for (const socket of floods) {
    const more = () => {
      if (socket.writable) socket.write(Buffer.alloc(1 << 20), more);
    };
    more();
  }
  await until(() => pacer.queued > 0 && read.length > 50);
  for (let i = 0; i < 20; i += 1) {
    const before = read.length;
    quiet.write('hello');
    await until(() => read.slice(before).some(({ connection }) => connection === 3));
    expect(read.length - before).toBeLessThan(20);
  }
  const perFlood = [0, 1, 2].map((index) => read.filter(({ connection }) => connection === index).length);
  expect(Math.max(...perFlood)).toBeLessThan(2 * Math.min(...perFlood) + 3);
});

test('one that is held is not read until it is released, however often', async () => {
  const { connections, read, pacer, open, until } = await serve(() => 0);
  const [held, other] = [await open(), await open()];
  await until(() => connections.length === 2);
  const [connection] = connections;
  if (connection === undefined) throw new Error('no connection');
  pacer.hold(connection);
  held.write('held');
  other.write('other');
  await until(() => read.length > 0);
  for (let i = 0; i < 10; i += 1) await new Promise(setImmediate);
  expect(read.map(({ connection: index }) => index)).toEqual([1]);
  pacer.release(connection);
  await until(() => read.length === 2);
  expect(read[1]?.connection).toBe(0);
});

test('one that is closed while it waits is forgotten', async () => {
  const { connections, pacer, open, until } = await serve(() => 0);
  await open();
  await until(() => connections.length === 1);
  const [connection] = connections;
  connection?.charge(5000);
  expect(pacer.queued).toBe(1);
  connection?.transport.destroy();
  await until(() => pacer.queued === 0);
});
