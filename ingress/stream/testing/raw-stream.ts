/**
 * One end of a stream made by hand, for tests that do what no node does: a TLS connection, frames as bytes, and what
 * the other side sent back.
 */
import tls from 'node:tls';
import { onTestFinished } from 'vitest';
import {
  type ChannelRole,
  channelBinding,
  STREAM_PROTOCOL,
  signHello,
} from '../../../identity/channel/hello.ts';
import type { Signer } from '../../../identity/signature.ts';
import type { CloseReason } from '../../../pipeline/stream/close-reasons.ts';
import { FrameReader } from '../../../pipeline/stream/frame-reader.ts';
import { decodeClose, encodeHello, FRAME, type HelloFields } from '../../../pipeline/stream/frames.ts';

export interface Frame {
  readonly type: number;
  readonly payload: Buffer;
}

const HELLO: HelloFields = { features: 0, windowBytes: 1 << 20, maxOrderBytes: 1 << 20 };

export class RawStream {
  readonly socket: tls.TLSSocket;
  readonly frames: Frame[] = [];
  /** What its close frame said; `lost` when there was none. */
  readonly closed: Promise<CloseReason>;
  readonly #reader: FrameReader;
  #waiters: (() => void)[] = [];

  constructor(socket: tls.TLSSocket) {
    this.socket = socket;
    this.#reader = new FrameReader(1 << 30, (type, payload) => {
      this.frames.push({ type, payload: Buffer.from(payload) });
      return null;
    });
    socket.on('data', (chunk: Buffer) => {
      this.#reader.push(chunk);
      this.#look();
    });
    socket.on('error', () => undefined);
    const { promise, resolve } = Promise.withResolvers<CloseReason>();
    this.closed = promise;
    socket.on('close', () => {
      const close = this.frames.find(({ type }) => type === FRAME.close);
      resolve(close === undefined ? 'lost' : decodeClose(close.payload));
      this.#look();
    });
    onTestFinished(() => void socket.destroy());
  }

  /** Says hello. @param change what to make of an honest one */
  hello(role: ChannelRole, signer: Signer, change: (frame: Buffer) => Buffer = (frame) => frame): Buffer {
    const binding = channelBinding(this.socket, role);
    if (typeof binding === 'string') throw new Error(binding);
    const frame = change(encodeHello(signHello(binding, role, HELLO, signer)));
    this.socket.write(frame);
    return frame;
  }

  write(...frames: readonly Buffer[]): void {
    this.socket.write(Buffer.concat(frames));
  }

  of(type: number): Buffer[] {
    return this.frames.filter((frame) => frame.type === type).map(({ payload }) => payload);
  }

  /** Resolves once the condition on what came holds. @throws when the connection ends before */
  async until(met: () => boolean): Promise<void> {
    while (!met()) {
      if (this.socket.closed) throw new Error(`closed: ${await this.closed}`);
      await new Promise<void>((resolve) => this.#waiters.push(resolve));
    }
  }

  #look(): void {
    const waiters = this.#waiters;
    this.#waiters = [];
    for (const resolve of waiters) resolve();
  }
}

/** Connects to a system API as a client of the stream. */
export async function connectRaw(
  port: number,
  own: { readonly certificatePem: string; readonly privateKeyPem: string } | null,
  options: tls.ConnectionOptions = {},
): Promise<RawStream> {
  const socket = tls.connect({
    host: '127.0.0.1',
    port,
    rejectUnauthorized: false,
    ALPNProtocols: [STREAM_PROTOCOL],
    ...(own === null ? {} : { cert: own.certificatePem, key: own.privateKeyPem }),
    ...options,
  });
  const stream = new RawStream(socket);
  await new Promise<void>((resolve, reject) => {
    socket.once('secureConnect', resolve);
    socket.once('error', reject);
  });
  return stream;
}
