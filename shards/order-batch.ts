/**
 * Orders on their way from a shard to the archive, as one block of memory that changes hands: a fourth of what the same
 * as objects costs on both sides. For each order
 *
 *     method     1 byte, its place in METHODS
 *     flags      1 byte: 1 = it has a hash, 2 = it has a dedupe key
 *     length     4 bytes, of the canonical form
 *     received   8 bytes, a double: unix microseconds
 *     signer     42 characters, hash 66, key 64; those it does not have are left out
 *     the canonical form
 */
import { type Address, type Hex, METHODS, type Order } from '../pipeline/order.ts';

/** What the archive and the window need of an order. */
export interface BatchedOrder {
  readonly order: Order;
  readonly receivedAtUs: number;
}

const HEAD_BYTES = 14;
const SIGNER_DIGITS = 42;
const HASH_DIGITS = 66;
const KEY_DIGITS = 64;
const HAS_HASH = 1;
const HAS_KEY = 2;

export function packOrders(orders: readonly BatchedOrder[]): ArrayBuffer {
  let size = 0;
  for (const { order } of orders) size += sizeOf(order);
  const batch = new ArrayBuffer(size);
  const bytes = Buffer.from(batch);
  let at = 0;
  for (const { order, receivedAtUs } of orders) {
    const { method, hash, key, signer, canonical } = order;
    bytes[at] = METHODS.indexOf(method);
    bytes[at + 1] = (hash === null ? 0 : HAS_HASH) | (key === null ? 0 : HAS_KEY);
    bytes.writeUInt32LE(canonical.length, at + 2);
    bytes.writeDoubleLE(receivedAtUs, at + 6);
    at += HEAD_BYTES;
    at += bytes.write(signer, at, 'latin1');
    if (hash !== null) at += bytes.write(hash, at, 'latin1');
    if (key !== null) at += bytes.write(key, at, 'latin1');
    at += canonical.copy(bytes, at);
  }
  if (at !== size) throw new Error('an order whose signer, hash or key has another length');
  return batch;
}

/** Calls `take` with each order in turn; its canonical form is part of the batch. */
export function unpackOrders(batch: ArrayBuffer, take: (order: BatchedOrder) => void): void {
  const bytes = Buffer.from(batch);
  let at = 0;
  while (at < bytes.length) {
    const method = METHODS[bytes[at] ?? 0] ?? 'eth_sendBundle';
    const flags = bytes[at + 1] ?? 0;
    const length = bytes.readUInt32LE(at + 2);
    const receivedAtUs = bytes.readDoubleLE(at + 6);
    at += HEAD_BYTES;
    const text = (digits: number, there: boolean) => {
      if (!there) return null;
      at += digits;
      return bytes.toString('latin1', at - digits, at);
    };
    const signer = text(SIGNER_DIGITS, true) as Address;
    const hash = text(HASH_DIGITS, (flags & HAS_HASH) !== 0) as Hex | null;
    const key = text(KEY_DIGITS, (flags & HAS_KEY) !== 0);
    const canonical = bytes.subarray(at, at + length);
    at += length;
    take({ order: { method, signer, hash, key, canonical }, receivedAtUs });
  }
}

function sizeOf({ hash, key, canonical }: Order): number {
  const texts = SIGNER_DIGITS + (hash === null ? 0 : HASH_DIGITS) + (key === null ? 0 : KEY_DIGITS);
  return HEAD_BYTES + texts + canonical.length;
}
