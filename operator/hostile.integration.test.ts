/** The API under attack: what the operator, who has logged in, still gets meanwhile. Everything is on this machine. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import https from 'node:https';
import net from 'node:net';
import { join } from 'node:path';
import tls from 'node:tls';
import { expect, onTestFinished, test } from 'vitest';
import { hashPassword } from './password.ts';
import { startTestApi, type TestApi } from './testing/api.ts';

const PASSWORD = 'correct horse battery';
const auth = `admin:${PASSWORD}`;
const HASH = await hashPassword(Buffer.from(PASSWORD));
const GENERAL = `
basic_auth_secret_hash = "${HASH}"
pipe_file = "DIR/pipe"
events_file = "DIR/events"
max_connections = 100
http_read_timeout_ms = 5000
`;
const TABLES = '[file_uploads]\nfile = { path = "DIR/file", check = "none", max_bytes = 1_000_000 }';
/** Asks as the operator, and expects answers: who gets none waits for the end of the test's time. */
async function serves(api: TestApi, times = 5): Promise<void> {
  for (let i = 0; i < times; i++) expect((await api.call('GET /livez', { auth })).status).toBe(200);
}

function connect(api: TestApi, secure: boolean): Promise<net.Socket> {
  const { host, port } = api.handle.address;
  const { promise, resolve } = Promise.withResolvers<net.Socket>();
  const socket: net.Socket = secure
    ? tls.connect({ host, port, rejectUnauthorized: false }, () => resolve(socket))
    : net.connect(port, host, () => resolve(socket));
  socket.resume();
  // Those that are cut off are meant to be.
  socket.on('error', () => resolve(socket));
  onTestFinished(() => void socket.destroy());
  return promise;
}

const many = <T>(count: number, make: (index: number) => Promise<T>): Promise<T[]> =>
  Promise.all(Array.from({ length: count }, (_, index) => make(index)));

test('connections that ask for nothing, stop in the handshake, or send a byte at a time', async () => {
  const api = await startTestApi({ general: GENERAL, tables: TABLES });
  await serves(api, 1);
  await many(300, () => connect(api, false));
  await serves(api);
  await many(120, () => connect(api, true));
  await serves(api);
  const slow = await many(90, () => connect(api, true));
  for (const socket of slow) socket.write('POST /api/v1/set-basic-auth HTTP/1.1\r\nHost: x\r\n');
  await serves(api);
  // Past its time each is closed.
  const open = slow.filter((socket) => !socket.closed);
  await Promise.all(open.map((socket) => once(socket, 'close')));
  expect(api.handle.state().connections).toBeLessThanOrEqual(100);
});

test('bodies that never come to their end, of the operator’s own uploads', async () => {
  const api = await startTestApi({ general: GENERAL, tables: TABLES });
  await serves(api, 1);
  const authorization = `Basic ${Buffer.from(auth).toString('base64')}`;
  const statuses = await many(70, async () => {
    const socket = await connect(api, true);
    let answer = '';
    socket.on('data', (chunk: Buffer) => {
      answer += chunk.toString();
    });
    socket.write(
      `POST /api/v1/file-upload/file HTTP/1.1\r\nHost: x\r\nAuthorization: ${authorization}\r\nContent-Length: 900000\r\n\r\nx`,
    );
    if (!socket.destroyed) await once(socket, 'close');
    return /^HTTP\/1.1 (\d+)/.exec(answer)?.[1];
  });
  // The first give way to the last (64 at once), and those have their time.
  for (const status of statuses) expect(['503', '408']).toContain(status);
  expect((await api.call('POST /api/v1/file-upload/file', { auth, body: 'whole' })).status).toBe(200);
});

test('guesses from many addresses at once do not keep the operator out', async () => {
  const api = await startTestApi({ general: GENERAL, tables: TABLES });
  await serves(api, 1);
  const port = String(api.handle.address.port);
  const guess = (index: number, round: number) =>
    new Promise<number>((resolve) => {
      https
        .get(
          {
            host: '127.0.0.1',
            port,
            localAddress: `127.0.1.${index + 1}`,
            rejectUnauthorized: false,
            auth: `admin:${round}`,
            agent: false,
          },
          (response) => {
            response.resume();
            resolve(response.statusCode ?? 0);
          },
        )
        .on('error', () => resolve(0));
    });
  const guesses = Promise.all([many(20, (index) => guess(index, 1)), many(20, (index) => guess(index, 2))]);
  await serves(api, 3);
  const statuses = (await guesses).flat();
  // One after another is looked at, sixteen may wait, the others are told to come again.
  for (const status of statuses) expect([401, 503]).toContain(status);
  await serves(api);
});

test('a flood of lines through the FIFO', async () => {
  const api = await startTestApi({ general: GENERAL, tables: TABLES });
  await serves(api, 1);
  const pipe = join(api.directory, 'pipe');
  const writers = ['yes ""', 'yes', `yes "$(printf '%020000d' 7)"`].map((flood) =>
    spawn('/bin/sh', ['-c', `${flood} > "$0"`, pipe], { stdio: 'ignore', detached: true }),
  );
  const end = () => {
    for (const { pid } of writers) if (pid !== undefined) process.kill(-pid, 'SIGKILL');
  };
  const ended = writers.map((writer) => once(writer, 'exit'));
  try {
    await api.seen('event:pipe', 3000);
    await serves(api, 20);
  } finally {
    end();
  }
  await Promise.all(ended);
  expect(api.handle.state().events).toBe(1000);
  expect(api.reported.filter((text) => text.startsWith('event file:'))).toEqual([]);
});
