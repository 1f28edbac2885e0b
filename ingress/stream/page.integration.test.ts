/**
 * PROTOCOL.md, followed by somebody who has nothing but the page: both ends of a stream written from it alone, with no code
 * of the node's, against a whole node. What the page leaves open would show here.
 */
import { createHash } from 'node:crypto';
import type { AddressInfo } from 'node:net';
import tls from 'node:tls';
import { secp256k1 } from '@noble/curves/secp256k1.js';
import { keccak_256 } from '@noble/hashes/sha3.js';
import { expect, onTestFinished, test } from 'vitest';
import { createOrderSource, type GeneratedOrder } from '../../devnet/orders.ts';
import {
  bodiesOf,
  canonicalOf,
  digestsOf,
  eventually,
  ordersOfEachMethod,
  randomKey,
  startTestNode,
  testCredentials,
} from '../../testing/harness.ts';
import { startHubFront } from '../../testing/hub-front.ts';

const METHODS = [
  'eth_sendBundle',
  'mev_sendBundle',
  'eth_cancelBundle',
  'eth_sendRawTransaction',
  'bid_subsidiseBlock',
];
const WINDOW = 100_000;
const LARGEST = 500_000;

const sha256 = (bytes: Uint8Array) => createHash('sha256').update(bytes).digest();
const u32 = (value: number) => {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value);
  return bytes;
};
const u64 = (value: number | bigint) => {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64BE(BigInt(value));
  return bytes;
};
const frame = (type: number, ...payload: readonly Uint8Array[]) => {
  const bytes = Buffer.concat(payload);
  return Buffer.concat([Buffer.of(type), u32(bytes.length), bytes]);
};

/** Section 3 and X-Flashbots-Signature: what is signed is the personal message of the hash's text. */
function digestOf(transcript: Uint8Array): Uint8Array {
  const text = `0x${Buffer.from(keccak_256(transcript)).toString('hex')}`;
  return keccak_256(Buffer.from(`\x19Ethereum Signed Message:\n${text.length}${text}`));
}

function addressOf(publicKey: Uint8Array): Buffer {
  return Buffer.from(keccak_256(publicKey.subarray(1)).subarray(12));
}

/** Section 3: everything that is hashed, for the side that signs. */
function transcript(
  socket: tls.TLSSocket,
  side: 'client' | 'server',
  signing: 'client' | 'server',
  numbersAndAddress: Uint8Array,
): Buffer {
  const [own, other] = [socket.getX509Certificate()!.raw, socket.getPeerX509Certificate()!.raw];
  const [client, server] = side === 'client' ? [own, other] : [other, own];
  return Buffer.concat([
    Buffer.from(`orderflow-stream/1 hello ${signing}\n`),
    socket.exportKeyingMaterial(32, 'EXPORTER-orderflow-stream-1', Buffer.alloc(0)),
    sha256(client),
    sha256(server),
    numbersAndAddress,
  ]);
}

/** Section 4 for orders whose transactions stand in `txs`; all others stay whole. */
function recordOf({ method, canonical }: GeneratedOrder): Buffer {
  const head = `{"method":"${method}","params":[`;
  let text = canonical.toString().slice(head.length, -'],"id":0,"jsonrpc":"2.0"}'.length);
  const cuts: Buffer[] = [];
  const raws: Buffer[] = [];
  if (method === 'eth_sendBundle') {
    const txs = /^\{"txs":\[([^\]]*)\]/.exec(text)?.[1] ?? '';
    let at = '{"txs":['.length;
    for (const [, digits = ''] of txs.matchAll(/"0x([0-9a-f]*)"/g)) {
      const raw = Buffer.from(digits, 'hex');
      text = text.slice(0, at + 3) + text.slice(at + 3 + digits.length);
      cuts.push(Buffer.concat([u32(at + 3), u32(raw.length)]));
      raws.push(raw);
      at += '"0x",'.length;
    }
  }
  const bytes = Buffer.from(text);
  return Buffer.concat([
    Buffer.of(METHODS.indexOf(method), cuts.length),
    u32(bytes.length),
    ...cuts,
    bytes,
    ...raws,
  ]);
}

/** The canonical form of a record. */
function orderOf(record: Buffer): Buffer {
  const count = record[1]!;
  const textAt = 6 + 8 * count;
  const rawAt = textAt + record.readUInt32BE(2);
  let text = '';
  let [at, raw] = [0, rawAt];
  for (let i = 0; i < count; i++) {
    const [offset, length] = [record.readUInt32BE(6 + 8 * i), record.readUInt32BE(10 + 8 * i)];
    text += record.toString('utf8', textAt + at, textAt + offset) + record.toString('hex', raw, raw + length);
    [at, raw] = [offset, raw + length];
  }
  text += record.toString('utf8', textAt + at, rawAt);
  return Buffer.from(`{"method":"${METHODS[record[0]!]}","params":[${text}],"id":0,"jsonrpc":"2.0"}`);
}

/** One end of a connection, of either side. */
class End {
  readonly socket: tls.TLSSocket;
  readonly side: 'client' | 'server';
  readonly key: Uint8Array;
  /** As the other side's hello says. */
  theirs: { address: Buffer; window: number; largest: number } | null = null;
  /** What has come: orders, acks as [sequence, limit], refusals, pongs, the reason of a close frame. */
  readonly orders: Buffer[] = [];
  readonly acks: [number, number][] = [];
  readonly refused: [number, number][] = [];
  readonly pongs: bigint[] = [];
  closeReason: number | null = null;
  #bytes = Buffer.alloc(0);
  #costs = 0;

  constructor(socket: tls.TLSSocket, side: 'client' | 'server', key: Uint8Array) {
    this.socket = socket;
    this.side = side;
    this.key = key;
    socket.on('error', () => undefined);
    socket.on('data', (chunk: Buffer) => {
      this.#bytes = Buffer.concat([this.#bytes, chunk]);
      while (this.#bytes.length >= 5 && this.#bytes.length >= 5 + this.#bytes.readUInt32BE(1)) {
        const end = 5 + this.#bytes.readUInt32BE(1);
        this.#take(this.#bytes[0]!, this.#bytes.subarray(5, end));
        this.#bytes = this.#bytes.subarray(end);
      }
    });
  }

  /** With bits and bytes of a later version: they are not in use, and passed over. */
  sayHello(): void {
    const numbers =
      this.side === 'client'
        ? Buffer.concat([u32(0xffffffff), u32(0), u32(0)])
        : Buffer.concat([u32(0x80000001), u32(WINDOW), u32(LARGEST)]);
    const address = addressOf(secp256k1.getPublicKey(this.key, false));
    const signed = Buffer.concat([numbers, address]);
    const signature = secp256k1.sign(
      digestOf(transcript(this.socket, this.side, this.side, signed)),
      this.key,
      {
        prehash: false,
        format: 'recovered',
      },
    );
    // Recovery first in this library, last on the wire.
    const wire = Buffer.concat([signature.subarray(1), Buffer.of(27 + signature[0]!)]);
    this.socket.write(frame(1, signed, wire, Buffer.from('later')));
  }

  sendOrders(first: number, records: readonly Buffer[]): void {
    const count = Buffer.alloc(2);
    count.writeUInt16BE(records.length);
    this.socket.write(
      frame(
        2,
        u64(BigInt(Date.now()) * 1000n),
        u64(first),
        count,
        ...records.flatMap((record) => [u32(record.length), record]),
      ),
    );
  }

  #take(type: number, payload: Buffer): void {
    const number = (at: number) => Number(payload.readBigUInt64BE(at));
    if (type === 1) this.#takeHello(payload);
    else if (type === 2) this.#takeOrders(payload);
    else if (type === 3) this.acks.push([number(0), number(8)]);
    else if (type === 4) this.refused.push([number(0), payload[8]!]);
    else if (type === 5) this.socket.write(frame(6, payload.subarray(0, 8), u64(BigInt(Date.now()) * 1000n)));
    else if (type === 6) this.pongs.push(payload.readBigUInt64BE(0));
    else if (type === 8) this.closeReason = payload[0]!;
  }

  #takeHello(payload: Buffer): void {
    const signed = payload.subarray(0, 32);
    const other = this.side === 'client' ? 'server' : 'client';
    const wire = payload.subarray(32, 97);
    const recovered = Buffer.concat([Buffer.of(wire[64]! - 27), wire.subarray(0, 64)]);
    const publicKey = secp256k1.recoverPublicKey(
      recovered,
      digestOf(transcript(this.socket, this.side, other, signed)),
      { prehash: false },
    );
    const full = secp256k1.Point.fromBytes(publicKey).toBytes(false);
    expect(addressOf(full)).toEqual(signed.subarray(12));
    this.theirs = {
      address: Buffer.from(signed.subarray(12)),
      window: signed.readUInt32BE(4),
      largest: signed.readUInt32BE(8),
    };
    if (this.side === 'server') this.sayHello();
  }

  #takeOrders(payload: Buffer): void {
    expect(Number(payload.readBigUInt64BE(8))).toBe(this.orders.length + 1);
    let at = 18;
    for (let left = payload.readUInt16BE(16); left > 0; left--) {
      const length = payload.readUInt32BE(at);
      const record = payload.subarray(at + 4, at + 4 + length);
      this.orders.push(orderOf(record));
      this.#costs += record.length + 256;
      at += 4 + length;
    }
    expect(at).toBe(payload.length);
    this.socket.write(frame(3, u64(this.orders.length), u64(this.#costs + WINDOW)));
  }
}

test('a peer written from the page alone sends to a node and is sent to', async () => {
  const hub = await startHubFront();
  const [key, credentials] = [randomKey(), await testCredentials()];
  const certificate = { cert: credentials.certificatePem, key: credentials.privateKeyPem };
  const incoming: End[] = [];
  const server = tls.createServer(
    {
      ...certificate,
      requestCert: true,
      rejectUnauthorized: false,
      minVersion: 'TLSv1.3',
      ALPNProtocols: ['orderflow-stream/1', 'http/1.1'],
    },
    (socket) => {
      onTestFinished(() => void socket.destroy());
      if (socket.alpnProtocol === 'orderflow-stream/1') incoming.push(new End(socket, 'server', key));
      else socket.on('error', () => undefined);
    },
  );
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  onTestFinished(() => void server.close());
  const { port } = server.address() as AddressInfo;
  const address = addressOf(secp256k1.getPublicKey(key, false)).toString('hex');
  hub.addBuilder({ name: 'page', dns_name: `127.0.0.1:${port}` });
  await hub.register('page', `0x${address}`, credentials.certificatePem);
  const node = await startTestNode(hub, 'node');

  // Sent to: every method, and a large order on a connection of its own.
  await eventually(() => expect(incoming.filter(({ theirs }) => theirs !== null)).toHaveLength(2));
  expect(incoming.map(({ theirs }) => theirs)).toEqual(
    Array.from({ length: 2 }, () => ({
      address: Buffer.from(node.handle.address.slice(2), 'hex'),
      window: 0,
      largest: 0,
    })),
  );
  await eventually(async () =>
    expect(await node.metric('orderflow_stream_connections', { peer: 'page', direction: 'out' })).toBe(2),
  );
  const theirs = ordersOfEachMethod(createOrderSource({ seed: 'page, from the node' }), 5);
  const large = createOrderSource({ seed: 'page, large', bodyBytes: 200_000, methods: 'bundles' }).next();
  await node.sendAll([...theirs, large]);
  await eventually(() => expect(incoming.flatMap(({ orders }) => orders)).toHaveLength(theirs.length + 1));
  expect(digestsOf(incoming[0]!.orders)).toEqual(canonicalOf(theirs));
  expect(incoming[1]!.orders).toEqual([large.canonical]);
  await eventually(async () =>
    expect(
      await node.metric('orderflow_delivery_answered_total', { target: 'page', outcome: 'accepted' }),
    ).toBe(theirs.length + 1),
  );

  // Sends: whole records and such with cuts, frames that nobody knows between them, more than the window in all.
  const socket = tls.connect({
    host: '127.0.0.1',
    port: node.systemPort,
    ...certificate,
    rejectUnauthorized: false,
    ALPNProtocols: ['orderflow-stream/1', 'http/1.1'],
  });
  onTestFinished(() => void socket.destroy());
  await new Promise((resolve) => socket.once('secureConnect', resolve));
  expect([socket.alpnProtocol, socket.getProtocol()]).toEqual(['orderflow-stream/1', 'TLSv1.3']);
  const out = new End(socket, 'client', key);
  out.sayHello();
  await eventually(() => expect(out.theirs?.largest).toBeGreaterThan(0));
  const { window, largest } = out.theirs!;
  expect(out.theirs!.address.toString('hex')).toBe(node.handle.address.slice(2).toLowerCase());
  expect(largest).toBeGreaterThanOrEqual(large.canonical.length);

  const ours = ordersOfEachMethod(createOrderSource({ seed: 'page, to the node' }), 5);
  const records = ours.map(recordOf);
  const cost = records.reduce((sum, record) => sum + record.length + 256, 0);
  expect(cost).toBeLessThan(window);
  socket.write(frame(200, Buffer.from('of a later version')));
  out.sendOrders(1, records.slice(0, 3));
  socket.write(frame(5, u64(77)));
  for (const [i, record] of records.slice(3).entries()) out.sendOrders(4 + i, [record]);
  await eventually(() => expect(out.acks.at(-1)).toEqual([ours.length, cost + window]));
  expect([out.refused, out.pongs]).toEqual([[], [77n]]);
  const breaking = Buffer.concat([Buffer.of(0, 0), u32(2), Buffer.from('{}')]);
  out.sendOrders(ours.length + 1, [breaking]);
  await eventually(() => expect(out.acks.at(-1)?.[0]).toBe(ours.length + 1));
  expect(out.refused).toEqual([[ours.length + 1, 1]]);
  // And a rule broken on purpose: the number comes again.
  out.sendOrders(ours.length + 1, [breaking]);
  await eventually(() => expect(out.closeReason).toBe(9));
  expect(bodiesOf(node.builder)).toEqual(canonicalOf([...theirs, large, ...ours]));
});
