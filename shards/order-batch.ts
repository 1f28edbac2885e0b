/**
 * Orders on their way from a shard to the archive, as bytes: a fourth of what the same as objects costs on both sides.
 * They go through memory that both threads see (order-ring.ts) or, where that has no room, as a block that changes hands.
 * For each order
 *
 *     method     1 byte, its place in METHODS
 *     flags      1 byte: 1 = it has a hash, 2 = it has a dedupe key
 *     length     4 bytes, of the canonical form
 *     number     8 bytes, a double: the shard's own, for the answer
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

/** @param number the shard's own, for the answer */
export type TakeOrder = (order: BatchedOrder, number: number) => void;

const HEAD_BYTES = 22;
const SIGNER_DIGITS = 42;
const HASH_DIGITS = 66;
const KEY_DIGITS = 64;
const HAS_HASH = 1;
const HAS_KEY = 2;

/** @returns bytes that the order takes. */
export function packedBytes({ hash, key, canonical }: Order): number {
  const texts = SIGNER_DIGITS + (hash === null ? 0 : HASH_DIGITS) + (key === null ? 0 : KEY_DIGITS);
  return HEAD_BYTES + texts + canonical.length;
}

/**
 * Writes an order; there is room for `packedBytes`.
 * @returns where it ends
 * @throws Error for an order whose signer, hash or key has another length
 */
export function packOrder(
  bytes: Buffer,
  start: number,
  { order, receivedAtUs }: BatchedOrder,
  number: number,
): number {
  const { method, hash, key, signer, canonical } = order;
  bytes[start] = METHODS.indexOf(method);
  bytes[start + 1] = (hash === null ? 0 : HAS_HASH) | (key === null ? 0 : HAS_KEY);
  bytes.writeUInt32LE(canonical.length, start + 2);
  bytes.writeDoubleLE(number, start + 6);
  bytes.writeDoubleLE(receivedAtUs, start + 14);
  let at = start + HEAD_BYTES;
  at += bytes.write(signer, at, 'latin1');
  if (hash !== null) at += bytes.write(hash, at, 'latin1');
  if (key !== null) at += bytes.write(key, at, 'latin1');
  at += canonical.copy(bytes, at);
  if (at - start !== packedBytes(order)) {
    throw new Error('an order whose signer, hash or key has another length');
  }
  return at;
}

/** Calls `take` with the order that starts here; its canonical form is part of `bytes`. @returns where it ends */
export function unpackOrder(bytes: Buffer, start: number, take: TakeOrder): number {
  const method = METHODS[bytes[start] ?? 0] ?? 'eth_sendBundle';
  const flags = bytes[start + 1] ?? 0;
  const length = bytes.readUInt32LE(start + 2);
  const number = bytes.readDoubleLE(start + 6);
  const receivedAtUs = bytes.readDoubleLE(start + 14);
  let at = start + HEAD_BYTES;
  const signer = bytes.toString('latin1', at, at + SIGNER_DIGITS) as Address;
  at += SIGNER_DIGITS;
  let hash: Hex | null = null;
  if ((flags & HAS_HASH) !== 0) {
    hash = bytes.toString('latin1', at, at + HASH_DIGITS) as Hex;
    at += HASH_DIGITS;
  }
  let key: string | null = null;
  if ((flags & HAS_KEY) !== 0) {
    key = bytes.toString('latin1', at, at + KEY_DIGITS);
    at += KEY_DIGITS;
  }
  const canonical = bytes.subarray(at, at + length);
  take({ order: { method, signer, hash, key, canonical }, receivedAtUs }, number);
  return at + length;
}

/** @param first number of the first order; the others follow */
export function packOrders(orders: readonly BatchedOrder[], first: number): ArrayBuffer {
  let size = 0;
  for (const { order } of orders) size += packedBytes(order);
  const batch = new ArrayBuffer(size);
  const bytes = Buffer.from(batch);
  let at = 0;
  for (const [index, order] of orders.entries()) at = packOrder(bytes, at, order, first + index);
  return batch;
}

/** Calls `take` with each order in turn; its canonical form is part of the batch. */
export function unpackOrders(batch: ArrayBuffer, take: TakeOrder): void {
  const bytes = Buffer.from(batch);
  let at = 0;
  while (at < bytes.length) at = unpackOrder(bytes, at, take);
}
