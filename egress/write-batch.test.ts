/** Buffers that are used again must never be seen with the next one's bytes, however slowly they are taken. */
import net, { type Socket } from 'node:net';
import tls from 'node:tls';
import { expect, onTestFinished, test } from 'vitest';
import { createCredentials } from '../identity/certificate.ts';
import { type Dialler, PipelinedConnection } from './pipelined-connection.ts';
import { WriteBatch } from './write-batch.ts';

const CREDENTIALS = await createCredentials({ names: ['127.0.0.1'], validityDays: 1, now: Date.now() });
const OPTIONS = {
  maxOutstanding: 10_000,
  maxOutstandingBytes: Number.POSITIVE_INFINITY,
  maxBufferedBytes: Number.POSITIVE_INFINITY,
  connectTimeoutMs: 30_000,
  responseTimeoutMs: 30_000,
};
const HEAD_START = 'POST / HTTP/1.1\r\nHost: x\r\n';
/** Some fit together, some alone, some not at all. */
const SIZES = [3_000, 10, 9_000, 40_000, 700, 32_000, 3_300, 16_384, 1, 200_000, 5_000];
const REQUESTS = 300;

function dialler(port: number, secure: boolean): Dialler {
  return {
    dial: (onread) =>
      secure
        ? tls.connect({ host: '127.0.0.1', port, rejectUnauthorized: false, ...(onread && { onread }) })
        : net.connect({ host: '127.0.0.1', port, onread }),
    readyEvent: secure ? 'secureConnect' : 'connect',
    refuse: () => null,
  };
}

/** Listens on a free port; the first connection comes with the second promise. */
async function listen(secure: boolean): Promise<{ port: number; accepted: Promise<Socket> }> {
  const first = Promise.withResolvers<Socket>();
  const server = secure
    ? tls.createServer({ key: CREDENTIALS.privateKeyPem, cert: CREDENTIALS.certificatePem }, first.resolve)
    : net.createServer(first.resolve);
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  onTestFinished(() => void server.close());
  return { port: (server.address() as net.AddressInfo).port, accepted: first.promise };
}

test.each([false, true])(
  'what two connections write arrives whole and in order, taken slowly (TLS: %s)',
  async (secure) => {
    const ends = await Promise.all(
      ['a', 'b'].map(async (letter) => {
        const { port, accepted } = await listen(secure);
        const opened = Promise.withResolvers<void>();
        const connection = new PipelinedConnection(
          dialler(port, secure),
          { opened: () => opened.resolve(), answered() {}, drained() {}, ended() {} },
          OPTIONS,
        );
        onTestFinished(() => connection.destroy('shutdown'));
        const socket = await accepted;
        socket.pause();
        await opened.promise;
        return { letter, connection, socket, expected: [] as Buffer[] };
      }),
    );
    for (let i = 0; i < REQUESTS; i++) {
      for (const { letter, connection, expected } of ends) {
        const body = Buffer.alloc(SIZES[i % SIZES.length] ?? 0, `${letter}${i},`);
        const headEnd = `Content-Length: ${body.length}\r\n\r\n`;
        expected.push(Buffer.from(HEAD_START + headEnd), body);
        connection.write({ bytes: body.length, sentAtMs: 0 }, HEAD_START, headEnd, body, performance.now());
        if (i % 3 === 0) connection.flush();
      }
      // Sockets get their turn now and then, so that buffers are given back and used again.
      if (i % 7 === 0) await new Promise((resolve) => setImmediate(resolve));
    }
    for (const { connection, socket, expected } of ends) {
      connection.flush();
      const whole = Buffer.concat(expected);
      const got: Buffer[] = [];
      let bytes = 0;
      for await (const chunk of socket as AsyncIterable<Buffer>) {
        got.push(chunk);
        bytes += chunk.length;
        if (bytes >= whole.length) break;
      }
      expect(Buffer.concat(got).equals(whole)).toBe(true);
    }
  },
);

test('takes what fits, and is empty for the next who takes it', () => {
  const batch = WriteBatch.take();
  expect([batch.empty, batch.bytes]).toEqual([true, 0]);
  expect(batch.add('ab', 'c', Buffer.alloc(32 * 1024 - 3))).toBe(true);
  expect(batch.add('', '', Buffer.alloc(1))).toBe(false);
  expect([batch.empty, batch.bytes]).toEqual([false, 32 * 1024]);
  batch.giveBack();
  expect([batch.empty, batch.bytes]).toEqual([true, 0]);
});
