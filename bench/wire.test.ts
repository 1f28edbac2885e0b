import * as fc from 'fast-check';
import { expect, test } from 'vitest';
import { MessageReader } from './wire.ts';

type Message = { head: string; body: string };
type Read = { start: string; body: string };

function read(chunks: readonly Buffer[]): Read[] {
  const messages: Read[] = [];
  const reader = new MessageReader((start, body) => messages.push({ start, body: body.toString('latin1') }));
  for (const chunk of chunks) reader.push(chunk);
  return messages;
}

function plain({ head, body }: Message): string {
  return `${head}\r\nContent-Length: ${body.length}\r\n\r\n${body}`;
}

/** With a line behind the length. */
function lengthFirst({ head, body }: Message): string {
  return `${head}\r\nContent-Length: ${body.length}\r\nx: 1\r\n\r\n${body}`;
}

function chunked({ head, body }: Message): string {
  const parts = body.match(/.{1,7}/gs) ?? [];
  const lines = parts.map((part) => `${part.length.toString(16)}\r\n${part}\r\n`).join('');
  return `${head}\r\ntransfer-encoding: chunked\r\n\r\n${lines}0\r\n\r\n`;
}

test('takes pipelined messages apart, however they are split', () => {
  const message = fc.record({
    head: fc.constantFrom(
      'POST / HTTP/1.1\r\nhost: x',
      'HTTP/1.1 200 OK',
      'HTTP/1.1 503 Service Unavailable',
    ),
    body: fc.string({ maxLength: 40, unit: 'grapheme-ascii' }),
  });
  const run = fc.record({
    messages: fc.array(fc.tuple(message, fc.constantFrom(plain, lengthFirst, chunked)), {
      minLength: 1,
      maxLength: 5,
    }),
    sizes: fc.array(fc.integer({ min: 1, max: 60 }), { minLength: 1, maxLength: 8 }),
  });
  fc.assert(
    fc.property(run, ({ messages, sizes }) => {
      const stream = Buffer.from(messages.map(([m, write]) => write(m)).join(''));
      const pieces: Buffer[] = [];
      for (let at = 0, i = 0; at < stream.length; i++) {
        const size = sizes[i % sizes.length] ?? 1;
        pieces.push(stream.subarray(at, at + size));
        at += size;
      }
      const got = read(pieces);
      expect(got.map(({ body }) => body)).toEqual(messages.map(([m]) => m.body));
      expect(got.map(({ start }) => start)).toEqual(messages.map(([m]) => m.head.slice(0, 12)));
    }),
    { seed: 11, numRuns: 300 },
  );
});

test('a message without a length has no body', () => {
  expect(read([Buffer.from('GET /readyz HTTP/1.1\r\nhost: x\r\n\r\n')])).toEqual([
    { start: 'GET /readyz ', body: '' },
  ]);
});
