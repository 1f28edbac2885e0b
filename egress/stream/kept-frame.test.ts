/** Memory that is used again must never be seen with the next frame's bytes, however slowly it is taken. */
import net from 'node:net';
import { expect, onTestFinished, test } from 'vitest';
import { KEPT_FRAME_BYTES, KeptFrame } from './kept-frame.ts';

test('nobody gets memory that another still uses; what is written is used again', () => {
  const first = KeptFrame.take();
  const second = KeptFrame.take();
  expect(second).not.toBe(first);
  expect(first.memory.length).toBe(KEPT_FRAME_BYTES);
  first.written();
  expect(KeptFrame.take()).toBe(first);
});

test('memory that could not be written is not used again', () => {
  const failed = KeptFrame.take();
  failed.written(new Error('reset'));
  expect(KeptFrame.take()).not.toBe(failed);
});

test('what a socket takes slowly arrives as it was written', async () => {
  const accepted = Promise.withResolvers<net.Socket>();
  const server = net.createServer((socket) => accepted.resolve(socket.pause()));
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  onTestFinished(() => void server.close());
  const socket = net.connect((server.address() as net.AddressInfo).port, '127.0.0.1');
  onTestFinished(() => void socket.destroy());
  const far = await accepted.promise;
  const writes = 1_000;
  for (let i = 0; i < writes; i++) {
    const { memory, written } = KeptFrame.take();
    socket.write(memory.fill(i % 251), written);
    // The socket takes what it can now and then, so that memory is given back and used again.
    if (i % 10 === 0) await new Promise((resolve) => setImmediate(resolve));
  }
  let at = 0;
  for await (const chunk of far as AsyncIterable<Buffer>) {
    for (const byte of chunk) {
      if (byte !== Math.floor(at / KEPT_FRAME_BYTES) % 251) throw new Error(`another frame's byte at ${at}`);
      at++;
    }
    if (at === writes * KEPT_FRAME_BYTES) break;
  }
  expect(at).toBe(writes * KEPT_FRAME_BYTES);
});
