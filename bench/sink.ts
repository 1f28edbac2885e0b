/**
 * Where orders end in a bench: a server that answers `null` as rbuilder and v1 nodes do, over plain HTTP or over
 * TLS with its own certificate, and notes when each order's last byte came in. Orders are told apart by the
 * sequence number they carry (sequenceOf), so nothing is parsed; of every eighth a checksum of all its bytes says whether
 * builder and peers got the same.
 *
 * Ten of them share a process and a core with the node under test, so they do little: answers of one turn of the event
 * loop leave together.
 */
import { createServer, type Server, type Socket } from 'node:net';
import { createServer as createTlsServer, type TLSSocket } from 'node:tls';
import { crc32 } from 'node:zlib';
import { sequenceOf } from '../devnet/orders.ts';
import { STREAM_PROTOCOL } from '../identity/channel/hello.ts';
import type { Peer } from '../identity/peer.ts';
import type { PeerLookup } from '../identity/peer-table.ts';
import { createSigner, SignatureVerifier } from '../identity/signature.ts';
import { readInto } from '../ingress/node-internals.ts';
import { createStreamServer, type StreamServer } from '../ingress/stream/stream-server.ts';
import { createClock } from '../pipeline/clock.ts';
import type { Address } from '../pipeline/order.ts';
import { encodeRecord } from '../pipeline/stream/record.ts';
import { nowUs } from './clock.ts';
import { MessageReader } from './wire.ts';

export interface SinkOptions {
  /** How many different orders there can be; sequence numbers below it. */
  readonly orders: number;
  /** PEM; plain HTTP without. */
  readonly tls?: { readonly key: string; readonly cert: string };
  /** Address to listen on; 127.0.0.1 unless set. */
  readonly host?: string;
  /** Orderflow key of a sink that takes the order stream too, and whoever sends it; 32 bytes. */
  readonly streamKey?: Uint8Array;
  /** Checksums are of the records that streams carry, also where an order comes as a request. */
  readonly ofRecords?: boolean;
}

export interface Sink {
  readonly port: number;
  /** When each order came first, microseconds of clock.ts; NaN = not yet. */
  readonly receivedUs: Float64Array;
  /** CRC-32 of the bytes of every eighth order as it came first; 0 for the others. */
  readonly checksums: Uint32Array;
  /** How many different orders have come. */
  readonly distinct: number;
  /** Orders that came again. */
  readonly duplicates: number;
  /** Forgets all. */
  reset(): void;
  close(): Promise<void>;
}

/**
 * Serves all sockets, since what is read is looked at, or copied, at once. Memory of its own for each read made V8 collect
 * the whole of this process's small heap every 60 ms while ten peers were served.
 */
const READ = Buffer.allocUnsafeSlow(64 * 1024);

const ANSWER = '{"jsonrpc":"2.0","id":0,"result":null}';
const RPC_RESPONSE = response('application/json', ANSWER);
const READY_RESPONSE = response('text/plain', 'OK');
/** A checksum of every order would be a tenth of what a sink takes. */
const CHECKED_EVERY = 8;
/** In one write. */
const MOST_ANSWERS = 64;
const RPC_RESPONSES = Buffer.from(RPC_RESPONSE.repeat(MOST_ANSWERS), 'latin1');

/** Listens on a free port. Any GET is answered as readiness. */
export async function startSink(options: SinkOptions): Promise<Sink> {
  const receivedUs = new Float64Array(options.orders).fill(Number.NaN);
  const checksums = new Uint32Array(options.orders);
  const sockets = new Set<Socket>();
  let distinct = 0;
  let duplicates = 0;

  /** @param text where the sequence number stands. @param record as a stream brought it; null of a request */
  function take(text: Buffer, record: Buffer | null): void {
    const sequence = sequenceOf(text);
    if (sequence < 0 || sequence >= receivedUs.length) return;
    if (Number.isNaN(receivedUs[sequence])) {
      receivedUs[sequence] = nowUs();
      if (sequence % CHECKED_EVERY === 0) checksums[sequence] = checksumOf(text, record);
      distinct++;
    } else {
      duplicates++;
    }
  }
  function checksumOf(text: Buffer, record: Buffer | null): number {
    if (record !== null) return crc32(record);
    return crc32(options.ofRecords === true ? encodeRecord('eth_sendBundle', text) : text);
  }
  function serve(socket: Socket): void {
    sockets.add(socket);
    let due = 0;
    const answer = (): void => {
      for (; due > 0; due -= Math.min(due, MOST_ANSWERS))
        socket.write(RPC_RESPONSES.subarray(0, Math.min(due, MOST_ANSWERS) * RPC_RESPONSE.length));
    };
    const reader = new MessageReader((start, body) => {
      if (start.startsWith('POST')) {
        take(body, null);
        if (due === 0) setImmediate(answer);
        due++;
      } else {
        answer();
        socket.write(READY_RESPONSE, 'latin1');
      }
    });
    socket.setNoDelay(true);
    const early = socket.read() as Buffer | null;
    if (early !== null) reader.push(early);
    const intoOne = readInto(socket, READ, (length) => {
      reader.push(READ.subarray(0, length));
      return true;
    });
    if (!intoOne) socket.on('data', (chunk: Buffer) => reader.push(chunk));
    socket.on('error', () => {});
    socket.on('close', () => sockets.delete(socket));
  }

  const streams = options.streamKey === undefined ? null : streamsInto(options.streamKey, take);
  const protocols = streams === null ? ['http/1.1'] : [STREAM_PROTOCOL, 'http/1.1'];
  const server: Server =
    options.tls === undefined
      ? createServer(serve)
      : createTlsServer(
          { ...options.tls, requestCert: true, rejectUnauthorized: false, ALPNProtocols: protocols },
          (socket: TLSSocket) => {
            if (streams === null || socket.alpnProtocol !== STREAM_PROTOCOL) {
              serve(socket);
              return;
            }
            sockets.add(socket);
            socket.on('close', () => sockets.delete(socket));
            streams.accept({ socket, keep: () => undefined, charge: () => undefined });
          },
        );
  server.listen(0, options.host ?? '127.0.0.1');
  await new Promise((resolve, reject) => {
    server.once('listening', resolve);
    server.once('error', reject);
  });
  const address = server.address();
  if (address === null || typeof address === 'string') throw new Error('no port');

  return {
    port: address.port,
    receivedUs,
    checksums,
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

/** The receiving end of the stream as a node has it, with nothing behind it. */
function streamsInto(key: Uint8Array, take: (text: Buffer, record: Buffer) => void): StreamServer {
  return createStreamServer(
    { windowBytes: 4 << 20, maxOrderBytes: 30 << 20, keepsNothing: true },
    {
      signer: createSigner(key),
      verifier: new SignatureVerifier({ cacheSize: 16 }),
      clock: createClock(),
      peers: new Anybody(),
      offer(_stream, { streamed, body }) {
        if (streamed !== null) take(streamed.record.text, body);
        streamed?.settle(null);
        return true;
      },
      events: {
        opened: () => undefined,
        closed: () => undefined,
        oneWay: () => undefined,
        orders: () => undefined,
      },
    },
  );
}

/** Lists whoever comes. */
class Anybody implements PeerLookup {
  #fingerprint = '';

  byAddress(address: Address): readonly Peer[] {
    return [this.#peer(address)];
  }

  byFingerprint(fingerprint: string): readonly Peer[] {
    this.#fingerprint = fingerprint;
    return [this.#peer('0x')];
  }

  refresh(): Promise<void> {
    return Promise.resolve();
  }

  #peer(address: Address): Peer {
    const nowhere = { host: undefined, port: undefined, servername: undefined, certificate: undefined };
    return {
      name: 'anybody',
      address,
      fingerprint: this.#fingerprint,
      sendable: false,
      reason: 'a bench',
      ...nowhere,
    };
  }
}

function response(type: string, body: string): string {
  return `HTTP/1.1 200 OK\r\ncontent-type: ${type}\r\ncontent-length: ${body.length}\r\n\r\n${body}`;
}
