/**
 * Builds and signs Ethereum transactions of the types wallets send most: legacy with replay protection
 * (EIP-155), access list (EIP-2930) and dynamic fee (EIP-1559). Encoding only, written apart from the
 * node's own decoder so that the two check each other.
 */
import { keccak256 } from '../pipeline/keccak.ts';
import type { Account } from './accounts.ts';

/** What RLP encodes (Yellow Paper, appendix B): a string of bytes, an unsigned integer, or a list. */
type RlpItem = Uint8Array | bigint | number | readonly RlpItem[];

export interface AccessListEntry {
  /** 20 bytes. */
  readonly address: Uint8Array;
  /** 32 bytes each. */
  readonly storageKeys: readonly Uint8Array[];
}

export interface UnsignedTransaction {
  readonly type: 'legacy' | 'eip2930' | 'eip1559';
  readonly chainId: number;
  readonly nonce: number;
  readonly gas: number;
  /** wei per gas; for eip1559 the fee cap. */
  readonly gasPrice: bigint;
  /** wei per gas; eip1559 only. */
  readonly priorityFee: bigint;
  /** 20 bytes. */
  readonly to: Uint8Array;
  readonly value: bigint;
  readonly data: Uint8Array;
  /** Ignored for legacy. */
  readonly accessList: readonly AccessListEntry[];
}

export interface SignedTransaction {
  /** The network form that goes into `txs` and `eth_sendRawTransaction`. */
  readonly raw: Buffer;
  /** 32 bytes. */
  readonly hash: Buffer;
}

/** Signs with the account's key; low s, so a strict node takes it (EIP-2). */
export function signTransaction(tx: UnsignedTransaction, account: Account): SignedTransaction {
  const accessList = tx.accessList.map((entry) => [entry.address, entry.storageKeys]);
  const tail = [tx.gas, tx.to, tx.value, tx.data];
  if (tx.type === 'legacy') {
    const fields = [tx.nonce, tx.gasPrice, ...tail];
    const { r, s, yParity } = account.signDigest(keccak256(encodeRlp([...fields, tx.chainId, 0, 0])));
    return signed(encodeRlp([...fields, tx.chainId * 2 + 35 + yParity, trimZeros(r), trimZeros(s)]));
  }
  const prefix = Buffer.of(tx.type === 'eip2930' ? 1 : 2);
  const fees = tx.type === 'eip2930' ? [tx.gasPrice] : [tx.priorityFee, tx.gasPrice];
  const fields = [tx.chainId, tx.nonce, ...fees, ...tail, accessList];
  const { r, s, yParity } = account.signDigest(keccak256(Buffer.concat([prefix, encodeRlp(fields)])));
  return signed(Buffer.concat([prefix, encodeRlp([...fields, yParity, trimZeros(r), trimZeros(s)])]));
}

/**
 * Gas a transaction needs before it runs: 21,000, 4 or 16 per byte of data (EIP-2028) with the floor of 10 or
 * 40 (EIP-7623), 2,400 and 1,900 per entry and key of the access list (EIP-2930).
 */
export function intrinsicGas(data: Uint8Array, accessList: readonly AccessListEntry[]): number {
  let tokens = 0;
  for (const byte of data) tokens += byte === 0 ? 1 : 4;
  let list = 0;
  for (const entry of accessList) list += 2_400 + 1_900 * entry.storageKeys.length;
  return Math.max(21_000 + 4 * tokens + list, 21_000 + 10 * tokens);
}

function signed(raw: Buffer): SignedTransaction {
  return { raw, hash: keccak256(raw) };
}

/** RLP integers, r and s among them, carry no leading zero. */
function trimZeros(bytes: Buffer): Buffer {
  let start = 0;
  while (start < bytes.length && bytes[start] === 0) start++;
  return bytes.subarray(start);
}

function encodeRlp(item: RlpItem): Buffer {
  if (item instanceof Uint8Array) return encodeString(item);
  if (typeof item === 'number' || typeof item === 'bigint') return encodeString(integerBytes(item));
  const parts = item.map(encodeRlp);
  const length = parts.reduce((sum, part) => sum + part.length, 0);
  return Buffer.concat([encodeHead(0xc0, length), ...parts]);
}

function encodeString(bytes: Uint8Array): Buffer {
  const first = bytes[0];
  if (bytes.length === 1 && first !== undefined && first < 0x80) return Buffer.of(first);
  return Buffer.concat([encodeHead(0x80, bytes.length), bytes]);
}

function encodeHead(base: number, length: number): Buffer {
  if (length < 56) return Buffer.of(base + length);
  const size = integerBytes(length);
  return Buffer.concat([Buffer.of(base + 55 + size.length), size]);
}

function integerBytes(value: number | bigint): Buffer {
  if (value === 0 || value === 0n) return Buffer.alloc(0);
  const digits = value.toString(16);
  return Buffer.from(digits.length % 2 === 0 ? digits : `0${digits}`, 'hex');
}
