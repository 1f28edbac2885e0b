/** What attackers write, and what they read of the answers. */
import type { Socket } from 'node:net';
import { createAccount } from '../../devnet/accounts.ts';
import { SeededSource } from '../../devnet/seeded.ts';
import { END_HEADERS, FRAME, frame } from './http2-frames.ts';

export const account = createAccount(new SeededSource('attacker'));
export const JSON_HEAD = 'POST / HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n';
export const CHUNKED = `${JSON_HEAD}Transfer-Encoding: chunked\r\n\r\n`;

export function post(body: Buffer, signature: string, headers = ''): Buffer {
  const head = `${JSON_HEAD}${headers}X-Flashbots-Signature: ${signature}\r\nContent-Length: ${body.length}\r\n\r\n`;
  return Buffer.concat([Buffer.from(head), body]);
}

export function signed(body: Buffer, headers = ''): Buffer {
  return post(body, account.signBody(body), headers);
}

export function headers(stream: number, flags: number, block: Buffer): Buffer {
  return frame(FRAME.headers, flags | END_HEADERS, stream, block);
}

export function repeated(text: string, count: number): Buffer {
  return Buffer.from(text.repeat(count));
}

/** What a connection answers until it is closed or there is enough of it. */
export function answerOf(socket: Socket, enough: (text: string) => boolean): Promise<string> {
  const { promise, resolve } = Promise.withResolvers<string>();
  let text = '';
  socket.on('data', (chunk: Buffer) => {
    text += chunk.toString('latin1');
    if (enough(text)) resolve(text);
  });
  if (socket.destroyed) resolve(text);
  socket.once('close', () => resolve(text));
  return promise;
}

export const wholeAnswer = (text: string): boolean => text.includes('}}') || text.includes('"}');
