/**
 * The transactions inside orders: from hex text to bytes, to the hash that counts in bundleHash, with as much
 * checking as the method and TX_VALIDATION ask for (protocol section 4).
 *
 * Limits: {@link MAX_TRANSACTIONS} per bundle. Everything here is synchronous and shares one scratch buffer.
 */
import { FieldError } from './fields.ts';
import { type HexBytes, hexBytes } from './hex.ts';
import type { JsonText } from './json.ts';
import { keccak256Hex } from './keccak.ts';
import { decodeTransaction, transactionHash } from './transaction.ts';
import { CURRENT_FORK, validateTransaction } from './transaction-rules.ts';

/** v1's limit of eth_sendBundle; mev_sendBundle, where v1 has none, is held to it with its inner bundles. */
export const MAX_TRANSACTIONS = 100;

/**
 * What is demanded of a transaction: nothing (`bytes`), that it decodes (`shape`), or also the signature's
 * range, the chain id and the rules of the fork (`rules`).
 */
export type TransactionCheck = 'bytes' | 'shape' | 'rules';

/**
 * Reads one transaction.
 *
 * @returns its bytes with their canonical text, or what is wrong with it.
 */
export function readTransaction(
  json: JsonText,
  at: number,
  check: TransactionCheck,
  chainId: bigint,
): HexBytes | FieldError {
  const hex = hexBytes(json, at);
  if (hex instanceof FieldError || check === 'bytes') return hex;
  const tx = decodeTransaction(hex.bytes);
  if (typeof tx === 'string') return new FieldError(tx);
  if (check === 'shape') return hex;
  const broken = validateTransaction(tx, { chainId, fork: CURRENT_FORK });
  return broken === null ? hex : new FieldError(broken);
}

/** Collects 32-byte hashes and hashes them together: how bundleHash is made. */
export class HashList {
  private readonly bytes = Buffer.alloc(MAX_TRANSACTIONS * 32);
  private length = 0;

  clear(): void {
    this.length = 0;
  }

  /** @param hash - 64 hex digits. At most {@link MAX_TRANSACTIONS} of them. */
  add(hash: string): void {
    this.length += this.bytes.write(hash, this.length, 'hex');
  }

  addTransaction(bytes: Uint8Array): void {
    this.add(transactionHash(bytes));
  }

  /** @returns keccak-256 over the hashes, 64 hex digits; of none, that of no bytes. */
  digest(): string {
    return keccak256Hex(this.bytes.subarray(0, this.length));
  }
}
