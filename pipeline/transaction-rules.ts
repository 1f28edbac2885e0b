/**
 * The stateless rules a transaction must fulfil to be valid in a block of a fork, beyond its shape, and its
 * intrinsic gas. One table says what the forks change.
 *
 * Sources: EIP-2 (low s), EIP-155 (chain id), EIP-2681 (nonce), EIP-1559 (fees), EIP-2028 and EIP-2930 (gas),
 * EIP-3860 (init code), EIP-4844 (blobs), EIP-7594 (blobs per transaction), EIP-7623 (calldata floor),
 * EIP-7702 (authorizations), EIP-7825 (gas limit cap).
 *
 * Not here: what needs the chain's state (balance, nonce in order, base fee), and the KZG proofs of a sidecar,
 * which cost milliseconds and which the builder checks. The sender is not recovered (protocol section 4).
 */
import { createHash } from 'node:crypto';
import { FIELD, type Field, type Transaction } from './transaction.ts';

interface ForkRules {
  readonly newestType: number;
  /** EIP-7623. */
  readonly calldataFloor: boolean;
  /** EIP-7825. */
  readonly gasLimitCap: number;
  /** EIP-4844: what a block may hold bounds a transaction; from Osaka on a number of its own (EIP-7594). */
  readonly blobsPerTransaction: number;
}

const FORKS = {
  cancun: {
    newestType: 3,
    calldataFloor: false,
    gasLimitCap: Number.POSITIVE_INFINITY,
    blobsPerTransaction: 6,
  },
  prague: {
    newestType: 4,
    calldataFloor: true,
    gasLimitCap: Number.POSITIVE_INFINITY,
    blobsPerTransaction: 9,
  },
  osaka: { newestType: 4, calldataFloor: true, gasLimitCap: 2 ** 24, blobsPerTransaction: 6 },
} as const satisfies Record<string, ForkRules>;

export type Fork = keyof typeof FORKS;

/** The fork whose rules hold on mainnet today. */
export const CURRENT_FORK: Fork = 'osaka';

export interface TransactionRules {
  /** The chain whose transactions are taken. */
  readonly chainId: bigint;
  readonly fork: Fork;
}

const TRANSACTION_GAS = 21_000;
const CREATION_GAS = 32_000;
const ZERO_BYTE_GAS = 4;
/** EIP-2028. */
const NON_ZERO_BYTE_GAS = 16;
/** EIP-7623: 10 for each token; a zero byte is one token, any other four. */
const FLOOR_TOKEN_GAS = 10;
const FLOOR_NON_ZERO_BYTE_GAS = 40;
/** EIP-2930. */
const ACCESS_LIST_ADDRESS_GAS = 2400;
const ACCESS_LIST_KEY_GAS = 1900;
/** EIP-3860. */
const INIT_CODE_WORD_GAS = 2;
const MAX_INIT_CODE_BYTES = 49_152;
/** EIP-7702. */
const AUTHORIZATION_GAS = 25_000;
/** EIP-4844: the first byte of the hash of a KZG commitment. */
const VERSIONED_HASH_VERSION = 1;

/** Order of the curve's group, and half of it: the largest s of EIP-2. */
const CURVE_ORDER = Buffer.from('fffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141', 'hex');
const HALF_CURVE_ORDER = Buffer.from(
  '7fffffffffffffffffffffffffffffff5d576e7357a4501ddfe92f46681b20a0',
  'hex',
);

/**
 * Checks a decoded transaction against the stateless rules of a fork.
 *
 * @returns null when they hold, else the rule that is broken, with its EIP.
 */
export function validateTransaction(tx: Transaction, rules: TransactionRules): string | null {
  const fork: ForkRules = FORKS[rules.fork];
  if (tx.type > fork.newestType) return 'transaction type not supported';
  return (
    checkSignature(tx, rules.chainId) ??
    checkFees(tx) ??
    checkGas(tx, fork) ??
    checkBlobs(tx, fork) ??
    checkAuthorizations(tx)
  );
}

/**
 * Gas a transaction uses before anything of it runs.
 *
 * @returns what it pays for data, creation, access list and authorizations; the calldata floor of EIP-7623 is
 * a bound of its own, see {@link calldataFloor}.
 */
export function intrinsicGas(tx: Transaction): number {
  return fixedGas(tx) + dataGas(tx, NON_ZERO_BYTE_GAS, ZERO_BYTE_GAS);
}

/** EIP-7623: the least a transaction pays, from Prague on. */
export function calldataFloor(tx: Transaction): number {
  return TRANSACTION_GAS + dataGas(tx, FLOOR_NON_ZERO_BYTE_GAS, FLOOR_TOKEN_GAS);
}

function fixedGas(tx: Transaction): number {
  let gas =
    TRANSACTION_GAS +
    tx.accessListAddresses * ACCESS_LIST_ADDRESS_GAS +
    tx.accessListKeys * ACCESS_LIST_KEY_GAS +
    tx.authorizations * AUTHORIZATION_GAS;
  if (tx.size(FIELD.to) === 0) gas += CREATION_GAS + Math.ceil(tx.size(FIELD.data) / 32) * INIT_CODE_WORD_GAS;
  return gas;
}

function dataGas(tx: Transaction, nonZeroByteGas: number, zeroByteGas: number): number {
  const { bytes } = tx;
  let zeros = 0;
  for (let at = tx.start(FIELD.data); at < tx.end(FIELD.data); at++) if (bytes[at] === 0) zeros++;
  return zeros * zeroByteGas + (tx.size(FIELD.data) - zeros) * nonZeroByteGas;
}

function checkSignature(tx: Transaction, chainId: bigint): string | null {
  const v = tx.integer(FIELD.v);
  if (tx.type === 0) {
    // 27 and 28 are from before EIP-155 and stay valid on every chain.
    if (v !== 27n && v !== 28n) {
      if (v < 35n) return 'v is out of range (EIP-155)';
      if ((v - 35n) / 2n !== chainId) return 'chain id is not the one of this network (EIP-155)';
    }
  } else {
    if (tx.integer(FIELD.chainId) !== chainId) return 'chain id is not the one of this network';
    if (v > 1n) return 'y parity is neither 0 nor 1';
  }
  if (tx.size(FIELD.r) === 0) return 'r value is zero';
  if (tx.size(FIELD.s) === 0) return 's value is zero';
  if (compareToConstant(tx, FIELD.r, CURVE_ORDER) >= 0) return 'r value is out of range';
  if (compareToConstant(tx, FIELD.s, CURVE_ORDER) >= 0) return 's value is out of range';
  if (compareToConstant(tx, FIELD.s, HALF_CURVE_ORDER) > 0) return 's value is not low (EIP-2)';
  return null;
}

/** Compares an integer field with 32 bytes; integers have no leading zeros, so a shorter one is smaller. */
function compareToConstant(tx: Transaction, field: Field, constant: Uint8Array): number {
  if (tx.size(field) < constant.length) return -1;
  const start = tx.start(field);
  for (let i = 0; i < constant.length; i++) {
    const difference = (tx.bytes[start + i] ?? 0) - (constant[i] ?? 0);
    if (difference !== 0) return difference;
  }
  return 0;
}

/** Compares two integer fields of one transaction. */
function compareFields(tx: Transaction, a: Field, b: Field): number {
  const size = tx.size(a);
  if (size !== tx.size(b)) return size - tx.size(b);
  const startA = tx.start(a);
  const startB = tx.start(b);
  for (let i = 0; i < size; i++) {
    const difference = (tx.bytes[startA + i] ?? 0) - (tx.bytes[startB + i] ?? 0);
    if (difference !== 0) return difference;
  }
  return 0;
}

function checkFees(tx: Transaction): string | null {
  if (tx.size(FIELD.nonce) === 8 && tx.integer(FIELD.nonce) === 2n ** 64n - 1n)
    return 'nonce is too big (EIP-2681)';
  if (tx.type >= 2 && compareFields(tx, FIELD.maxPriorityFeePerGas, FIELD.maxFeePerGas) > 0) {
    return 'max priority fee is above max fee (EIP-1559)';
  }
  // Nobody can pay what does not fit in 256 bits; only sizes that could reach it are multiplied out.
  if (tx.size(FIELD.gasLimit) + tx.size(FIELD.gasPrice) > 32) {
    if (tx.integer(FIELD.gasLimit) * tx.integer(FIELD.gasPrice) >= 2n ** 256n)
      return 'gas limit times price is above 256 bits';
  }
  return null;
}

function checkGas(tx: Transaction, fork: ForkRules): string | null {
  const dataBytes = tx.size(FIELD.data);
  if (tx.size(FIELD.to) === 0 && dataBytes > MAX_INIT_CODE_BYTES) return 'init code is too long (EIP-3860)';
  const limit = tx.number(FIELD.gasLimit);
  if (limit > fork.gasLimitCap) return 'gas limit is above the cap of 16777216 (EIP-7825)';
  // Most transactions bring enough even if no byte were zero: then the bytes need not be counted.
  const fixed = fixedGas(tx);
  const mostPerByte = fork.calldataFloor ? FLOOR_NON_ZERO_BYTE_GAS : NON_ZERO_BYTE_GAS;
  if (limit >= fixed + dataBytes * mostPerByte) return null;
  if (limit < intrinsicGas(tx)) return 'gas limit is below the intrinsic gas';
  if (fork.calldataFloor && limit < calldataFloor(tx))
    return 'gas limit is below the calldata floor (EIP-7623)';
  return null;
}

function checkBlobs(tx: Transaction, fork: ForkRules): string | null {
  if (tx.type !== 3) return null;
  if (tx.blobHashes === 0) return 'blob transaction without blobs (EIP-4844)';
  if (tx.blobHashes > fork.blobsPerTransaction) return 'too many blobs in one transaction (EIP-7594)';
  // Each hash is 32 bytes behind a header of one byte.
  for (let at = tx.start(FIELD.blobVersionedHashes) + 1; at < tx.end(FIELD.blobVersionedHashes); at += 33) {
    if (tx.bytes[at] !== VERSIONED_HASH_VERSION) return 'blob hash has an unknown version (EIP-4844)';
  }
  const { sidecar } = tx;
  if (sidecar === null) return null;
  if (sidecar.blobs !== tx.blobHashes) return 'sidecar: number of blobs and of blob hashes differ (EIP-4844)';
  // Either wrapper is taken: the sidecar is no part of a block, and builders convert.
  for (const [i, commitment] of sidecar.commitments.entries()) {
    const digest = createHash('sha256').update(commitment).digest();
    digest[0] = VERSIONED_HASH_VERSION;
    const at = tx.start(FIELD.blobVersionedHashes) + i * 33 + 1;
    if (!digest.equals(tx.bytes.subarray(at, at + 32)))
      return 'sidecar: commitment does not match its blob hash (EIP-4844)';
  }
  return null;
}

function checkAuthorizations(tx: Transaction): string | null {
  return tx.type === 4 && tx.authorizations === 0 ? 'authorization list is empty (EIP-7702)' : null;
}
