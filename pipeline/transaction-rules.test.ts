/** Each stateless rule with a transaction that just keeps it and one that just breaks it. */
import type { TransactionSerializable } from 'viem';
import { serializeTransaction } from 'viem';
import { describe, expect, test } from 'vitest';
import { BLOB_HASH, TRANSACTIONS } from './testing/random-orders.ts';
import { decodeTransaction } from './transaction.ts';
import { calldataFloor, type Fork, intrinsicGas, validateTransaction } from './transaction-rules.ts';

const ORDER = 0xfffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141n;
const hex32 = (value: bigint): `0x${string}` => `0x${value.toString(16).padStart(64, '0')}`;

const [legacy, , eip2930, eip1559, creation, eip4844, eip7702] = TRANSACTIONS;

interface Signature {
  r?: bigint;
  s?: bigint;
  v?: bigint;
}

/** Writes a transaction with a signature of the test's choice. */
function bytesOf(
  tx: TransactionSerializable | undefined,
  changes: object = {},
  { r = 1n, s = 1n, v }: Signature = {},
): Buffer {
  if (tx === undefined) throw new Error('no such transaction');
  const signature =
    v === undefined ? { yParity: 0, r: hex32(r), s: hex32(s) } : { v, r: hex32(r), s: hex32(s) };
  return Buffer.from(serializeTransaction({ ...tx, ...changes }, signature).slice(2), 'hex');
}

function check(bytes: Buffer, fork: Fork = 'osaka', chainId = 1n): string | null {
  const tx = decodeTransaction(bytes);
  return typeof tx === 'string' ? `undecodable: ${tx}` : validateTransaction(tx, { chainId, fork });
}

describe('signature', () => {
  test.each([
    ['r zero', { r: 0n }, 'r value is zero'],
    ['s zero', { s: 0n }, 's value is zero'],
    ['the largest r', { r: ORDER - 1n }, null],
    ['r of the order', { r: ORDER }, 'r value is out of range'],
    ['the largest low s', { s: ORDER / 2n }, null],
    ['the smallest high s', { s: ORDER / 2n + 1n }, 's value is not low (EIP-2)'],
    ['s of the order', { s: ORDER }, 's value is out of range'],
    ['s above the order', { s: 2n ** 256n - 1n }, 's value is out of range'],
  ])('%s', (_name, signature, broken) => {
    expect(check(bytesOf(eip1559, {}, signature))).toBe(broken);
    expect(check(bytesOf(legacy, {}, { v: 37n, ...signature }))).toBe(broken);
  });

  test('y parity of typed transactions', () => {
    const bytes = bytesOf(eip1559);
    // r and s are one byte each, so the parity is the third from the end.
    expect(check(Buffer.concat([bytes.subarray(0, -3), Buffer.from([1, 1, 1])]))).toBeNull();
    expect(check(Buffer.concat([bytes.subarray(0, -3), Buffer.from([2, 1, 1])]))).toBe(
      'y parity is neither 0 nor 1',
    );
  });

  test('chain id', () => {
    for (const tx of [eip2930, eip1559, eip4844, eip7702]) {
      expect(check(bytesOf(tx))).toBeNull();
      expect(check(bytesOf(tx), 'osaka', 2n)).toBe('chain id is not the one of this network');
    }
    expect(check(bytesOf(legacy, {}, { v: 37n }))).toBeNull();
    expect(check(bytesOf(legacy, {}, { v: 37n }), 'osaka', 2n)).toBe(
      'chain id is not the one of this network (EIP-155)',
    );
    expect(
      check(bytesOf(legacy, { chainId: 11_155_111 }, { v: 22_310_257n }), 'osaka', 11_155_111n),
    ).toBeNull();
  });

  test('v of legacy transactions', () => {
    const bytes = bytesOf(legacy, {}, { v: 37n });
    const withV = (v: number) => check(Buffer.concat([bytes.subarray(0, -3), Buffer.from([v, 1, 1])]));
    expect([27, 28, 37, 38].map(withV)).toEqual([null, null, null, null]);
    expect([1, 26, 29, 34].map(withV)).toEqual(Array(4).fill('v is out of range (EIP-155)'));
    expect([35, 36, 39].map(withV)).toEqual(
      Array(3).fill('chain id is not the one of this network (EIP-155)'),
    );
  });
});

describe('nonce and fees', () => {
  test.each([
    ['a large nonce', { nonce: 2 ** 53 - 1 }, null],
    ['equal fees', { maxFeePerGas: 5n, maxPriorityFeePerGas: 5n }, null],
  ])('%s', (_name, changes, broken) => {
    expect(check(bytesOf(eip1559, changes))).toBe(broken);
  });

  /** viem checks the fees itself, so they are changed in the bytes. */
  const payload = (priority: string, fee: string): Buffer => {
    const rest = `830f424094${'11'.repeat(20)}8080c0800101`;
    const items = `0107${priority}${fee}${rest}`;
    const length = items.length / 2;
    return Buffer.from(
      `02${length < 56 ? (0xc0 + length).toString(16) : `f8${length.toString(16)}`}${items}`,
      'hex',
    );
  };

  test('the priority fee is not above the fee', () => {
    expect(check(payload('05', '05'))).toBeNull();
    expect(check(payload('06', '05'))).toBe('max priority fee is above max fee (EIP-1559)');
    expect(check(payload('820100', '81ff'))).toBe('max priority fee is above max fee (EIP-1559)');
    expect(check(payload('81ff', '820100'))).toBeNull();
    expect(check(payload('820102', '820101'))).toBe('max priority fee is above max fee (EIP-1559)');
  });

  test('the last nonce', () => {
    const withNonce = (nonce: string) => {
      const items = `01${nonce}0505830f424094${'11'.repeat(20)}8080c0800101`;
      return check(Buffer.from(`02${(0xc0 + items.length / 2).toString(16)}${items}`, 'hex'));
    };
    expect(withNonce('88fffffffffffffffe')).toBeNull();
    expect(withNonce('88ffffffffffffffff')).toBe('nonce is too big (EIP-2681)');
  });

  test('gas times price fits in 256 bits', () => {
    const price = 2n ** 256n / 32_768n;
    expect(check(bytesOf(legacy, { gas: 32_768n, gasPrice: price - 1n }, { v: 37n }))).toBeNull();
    expect(check(bytesOf(legacy, { gas: 32_768n, gasPrice: price }, { v: 37n }))).toBe(
      'gas limit times price is above 256 bits',
    );
  });
});

describe('gas', () => {
  const gasOf = (bytes: Buffer): { intrinsic: number; floor: number } => {
    const tx = decodeTransaction(bytes);
    if (typeof tx === 'string') throw new Error(tx);
    return { intrinsic: intrinsicGas(tx), floor: calldataFloor(tx) };
  };

  test.each([
    ['a plain transfer', legacy, { data: '0x' }, 21_000, 21_000],
    ['a zero and a non-zero byte', legacy, { data: '0x00ff' }, 21_000 + 4 + 16, 21_000 + 10 + 40],
    ['an access list', eip2930, { data: '0x' }, 21_000 + 2400 + 1900, 21_000],
    [
      'a creation of two words',
      legacy,
      { to: null, data: `0x${'01'.repeat(33)}` },
      53_000 + 33 * 16 + 2 * 2,
      21_000 + 33 * 40,
    ],
    ['an authorization', eip7702, { data: '0x' }, 21_000 + 25_000, 21_000],
  ])('of %s', (_name, tx, changes, intrinsic, floor) => {
    const bytes = bytesOf(tx, { ...changes, gas: 1_000_000n }, tx === legacy ? { v: 37n } : {});
    expect(gasOf(bytes)).toEqual({ intrinsic, floor });
  });

  test('the limit covers the intrinsic gas', () => {
    const { intrinsic } = gasOf(bytesOf(creation));
    expect(check(bytesOf(creation, { gas: BigInt(intrinsic) }))).toBeNull();
    expect(check(bytesOf(creation, { gas: BigInt(intrinsic - 1) }))).toBe(
      'gas limit is below the intrinsic gas',
    );
  });

  test('the limit covers the calldata floor, from Prague on', () => {
    const { intrinsic, floor } = gasOf(bytesOf(eip1559));
    expect(floor).toBeGreaterThan(intrinsic);
    expect(check(bytesOf(eip1559, { gas: BigInt(floor) }))).toBeNull();
    expect(check(bytesOf(eip1559, { gas: BigInt(floor - 1) }))).toBe(
      'gas limit is below the calldata floor (EIP-7623)',
    );
    expect(check(bytesOf(eip1559, { gas: BigInt(floor - 1) }), 'prague')).toBe(
      'gas limit is below the calldata floor (EIP-7623)',
    );
    expect(check(bytesOf(eip1559, { gas: BigInt(intrinsic) }), 'cancun')).toBeNull();
    expect(check(bytesOf(eip1559, { gas: BigInt(intrinsic - 1) }), 'cancun')).toBe(
      'gas limit is below the intrinsic gas',
    );
  });

  test('the cap, from Osaka on', () => {
    expect(check(bytesOf(eip1559, { gas: 2n ** 24n }))).toBeNull();
    expect(check(bytesOf(eip1559, { gas: 2n ** 24n + 1n }))).toBe(
      'gas limit is above the cap of 16777216 (EIP-7825)',
    );
    expect(check(bytesOf(eip1559, { gas: 2n ** 24n + 1n }), 'prague')).toBeNull();
  });

  test('the length of init code', () => {
    const sized = (bytes: number, to: string | null) => ({
      to,
      data: `0x${'01'.repeat(bytes)}`,
      gas: 5_000_000n,
    });
    expect(check(bytesOf(eip1559, sized(49_152, null)))).toBeNull();
    expect(check(bytesOf(eip1559, sized(49_153, null)))).toBe('init code is too long (EIP-3860)');
    expect(check(bytesOf(eip1559, sized(49_153, eip1559?.to ?? null)))).toBeNull();
  });
});

describe('blobs and authorizations', () => {
  const blobs = (count: number, first: `0x${string}` = BLOB_HASH) => ({
    blobVersionedHashes: [first, ...Array(Math.max(0, count - 1)).fill(BLOB_HASH)],
  });

  test('six blobs to a transaction, nine under Prague', () => {
    expect(check(bytesOf(eip4844, blobs(6)))).toBeNull();
    expect(check(bytesOf(eip4844, blobs(7)))).toBe('too many blobs in one transaction (EIP-7594)');
    expect(check(bytesOf(eip4844, blobs(9)), 'prague')).toBeNull();
    expect(check(bytesOf(eip4844, blobs(10)), 'prague')).toBe('too many blobs in one transaction (EIP-7594)');
    expect(check(bytesOf(eip4844, blobs(7)), 'cancun')).toBe('too many blobs in one transaction (EIP-7594)');
  });

  test('a blob transaction has blobs, of a version that is known', () => {
    const bytes = bytesOf(eip4844);
    const at = bytes.indexOf(Buffer.from(BLOB_HASH.slice(2), 'hex'));
    const unknown = Buffer.from(bytes);
    unknown[at] = 2;
    expect(check(unknown)).toBe('blob hash has an unknown version (EIP-4844)');
    const items = `01070505830f424094${'11'.repeat(20)}8080c005c0800101`;
    expect(check(Buffer.from(`03${(0xc0 + items.length / 2).toString(16)}${items}`, 'hex'))).toBe(
      'blob transaction without blobs (EIP-4844)',
    );
  });

  test('a set-code transaction has authorizations, and its type came with Prague', () => {
    expect(check(bytesOf(eip7702, { authorizationList: [] }))).toBe('authorization list is empty (EIP-7702)');
    expect(check(bytesOf(eip7702), 'prague')).toBeNull();
    expect(check(bytesOf(eip7702), 'cancun')).toBe('transaction type not supported');
  });

  test('a sidecar belongs to its transaction', () => {
    const commitment = (byte: number) => `0x${byte.toString(16).padStart(2, '0').repeat(48)}`;
    const sidecar = (byte: number) => ({
      blob: `0x${'00'.repeat(131_072)}`,
      commitment: commitment(byte),
      proof: commitment(8),
    });
    expect(check(bytesOf(eip4844, { sidecars: [sidecar(7)] }))).toBeNull();
    expect(check(bytesOf(eip4844, { sidecars: [sidecar(6)] }))).toBe(
      'sidecar: commitment does not match its blob hash (EIP-4844)',
    );
    expect(check(bytesOf(eip4844, { sidecars: [sidecar(7), sidecar(7)] }))).toBe(
      'sidecar: number of blobs and of blob hashes differ (EIP-4844)',
    );
  });
});
