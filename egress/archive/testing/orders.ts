/** Test orders that carry a number, for processes with and without vitest. */
import type { ArchiveRecord, OrderRecord } from '../record.ts';

/** The n-th test order: a raw transaction whose bytes are the number. */
export function order(n: number, bytes = 16): OrderRecord {
  const hex = n.toString(16).padStart(bytes * 2, '0');
  return {
    method: 'eth_sendRawTransaction',
    value: Buffer.from(`{"method":"eth_sendRawTransaction","params":["0x${hex}"],"id":0,"jsonrpc":"2.0"}`),
    receivedAtUs: 1_750_000_000_000_000 + n,
    signer: `0x${(n % 3).toString().repeat(40)}`,
    hash: `0x${n.toString(16).padStart(64, '0')}`,
  };
}

/** @returns the number that {@link order} was given; null for control records. */
export function orderNumber(record: Pick<ArchiveRecord, 'method' | 'value'>): number | null {
  const hex = /"params":\["0x([0-9a-f]+)"\]/.exec(record.value.toString())?.[1];
  return record.method === null || hex === undefined ? null : Number.parseInt(hex.slice(-12), 16);
}

/** first, first + 1 … last. */
export function range(first: number, last: number): number[] {
  return Array.from({ length: Math.max(0, last - first + 1) }, (_, offset) => first + offset);
}
