/**
 * Where orders end in a bench: a server that answers `null` as rbuilder and v1 nodes do, over plain HTTP or over
 * TLS with its own certificate, and notes when each order's last byte came in. Orders are told apart by the
 * sequence number they carry (sequenceOf), so nothing is parsed.
 */
import { createServer, type Server, type Socket } from 'node:net';
import { createServer as createTlsServer } from 'node:tls';
import { sequenceOf } from '../devnet/orders.ts';
import { nowUs } from './clock.ts';
import { MessageReader } from './wire.ts';

export interface SinkOptions {
  /** How many different orders there can be; sequence numbers below it. */
  readonly orders: number;
  /** PEM; plain HTTP without. */
  readonly tls?: { readonly key: string; readonly cert: string };
}

export interface Sink {
  readonly port: number;
  /** When each order came first, microseconds of clock.ts; NaN = not yet. */
  readonly receivedUs: Float64Array;
  /** How many different orders have come. */
  readonly distinct: number;
  /** Orders that came again. */
  readonly duplicates: number;
  /** Forgets all. */
  reset(): void;
  close(): Promise<void>;
}

const ANSWER = '{"jsonrpc":"2.0","id":0,"result":null}';
const RPC_RESPONSE = response('application/json', ANSWER);
const READY_RESPONSE = response('text/plain', 'OK');

/** Listens on a free port of 127.0.0.1. Any GET is answered as readiness. */
export async function startSink(options: SinkOptions): Promise<Sink> {
  const receivedUs = new Float64Array(options.orders).fill(Number.NaN);
  const sockets = new Set<Socket>();
  let distinct = 0;
  let duplicates = 0;

  function take(body: Buffer): void {
    const sequence = sequenceOf(body);
    if (sequence < 0 || sequence >= receivedUs.length) return;
    if (Number.isNaN(receivedUs[sequence])) {
      receivedUs[sequence] = nowUs();
      distinct++;
    } else {
      duplicates++;
    }
  }
  function serve(socket: Socket): void {
    sockets.add(socket);
    let answers = '';
    const reader = new MessageReader((head, body) => {
      if (head.startsWith('POST')) {
        take(body);
        answers += RPC_RESPONSE;
      } else {
        answers += READY_RESPONSE;
      }
    });
    socket.setNoDelay(true);
    socket.on('data', (chunk: Buffer) => {
      reader.push(chunk);
      if (answers !== '') socket.write(answers, 'latin1');
      answers = '';
    });
    socket.on('error', () => {});
    socket.on('close', () => sockets.delete(socket));
  }

  const server: Server =
    options.tls === undefined ? createServer(serve) : createTlsServer(options.tls, serve);
  server.listen(0, '127.0.0.1');
  await new Promise((resolve, reject) => {
    server.once('listening', resolve);
    server.once('error', reject);
  });
  const address = server.address();
  if (address === null || typeof address === 'string') throw new Error('no port');

  return {
    port: address.port,
    receivedUs,
    get distinct() {
      return distinct;
    },
    get duplicates() {
      return duplicates;
    },
    reset() {
      receivedUs.fill(Number.NaN);
      distinct = 0;
      duplicates = 0;
    },
    async close() {
      const closed = new Promise((resolve) => server.close(resolve));
      for (const socket of sockets) socket.destroy();
      await closed;
    },
  };
}

function response(type: string, body: string): string {
  return `HTTP/1.1 200 OK\r\ncontent-type: ${type}\r\ncontent-length: ${body.length}\r\n\r\n${body}`;
}
