import * as fc from 'fast-check';
import { fromRlp, keccak256, parseTransaction, type TransactionSerializable, toRlp } from 'viem';
import { privateKeyToAccount } from 'viem/accounts';
import { describe, expect, test } from 'vitest';
import {
  BLOB_HASH,
  NO_BLOB_COMMITMENT,
  recover,
  SENDER,
  SIGNED,
  TRANSACTIONS,
} from './testing/random-orders.ts';
import {
  decodeTransaction,
  FIELD,
  recoverSender,
  signingHash,
  type Transaction,
  transactionHash,
} from './transaction.ts';
import { validateTransaction } from './transaction-rules.ts';

type Hex = `0x${string}`;
type Rlp = Hex | readonly Rlp[];

const SEED = 20_261_123;
const bytesOf = (hex: string): Buffer => Buffer.from(hex.slice(2), 'hex');
const rules = { chainId: 1n, fork: 'osaka' } as const;

function decoded(hex: string): Transaction {
  const tx = decodeTransaction(bytesOf(hex));
  if (typeof tx === 'string') throw new Error(tx);
  return tx;
}

function reasonOf(hex: string): string {
  const tx = decodeTransaction(bytesOf(hex));
  return typeof tx === 'string' ? tx : 'decoded';
}

/** The payload's items of a typed transaction, to be put together again in another way. */
function itemsOf(hex: string): Rlp[] {
  const items: Rlp = fromRlp(`0x${hex.slice(4)}`, 'hex');
  if (typeof items === 'string') throw new Error('no list');
  return [...items];
}

const typed = (type: number, items: readonly Rlp[]): Hex => `0x0${type}${toRlp(asMutable(items)).slice(2)}`;

/** viem wants arrays it could write to. */
type MutableRlp = Hex | MutableRlp[];
function asMutable(value: Rlp): MutableRlp {
  return typeof value === 'string' ? value : value.map(asMutable);
}

const named = SIGNED.map((hex, i) => ({ name: `${TRANSACTIONS[i]?.type} ${i}`, hex, tx: TRANSACTIONS[i] }));
const [legacy = '', unprotected = '', eip2930 = '', eip1559 = '', creation = '', eip4844 = '', eip7702 = ''] =
  SIGNED;

describe('transactions that a wallet signed', () => {
  test.each(named)('$name', ({ hex, tx }) => {
    const mine = decoded(hex);
    expect(transactionHash(mine.bytes)).toBe(keccak256(bytesOf(hex)).slice(2));
    expect(recoverSender(mine, recover)).toBe(SENDER);
    expect(validateTransaction(mine, rules)).toBeNull();
    expect(mine.integer(FIELD.nonce)).toBe(BigInt(tx?.nonce ?? 0));
    expect(mine.integer(FIELD.gasLimit)).toBe(tx?.gas);
    expect(mine.number(FIELD.gasLimit)).toBe(Number(tx?.gas));
    expect(mine.integer(FIELD.value)).toBe(tx?.value);
    expect(mine.integer(FIELD.maxFeePerGas)).toBe(tx?.maxFeePerGas ?? tx?.gasPrice);
    expect(mine.to).toBe(tx?.to?.toLowerCase() ?? null);
    expect(mine.chainId).toBe(tx?.chainId === undefined ? null : 1n);
    expect(`0x${Buffer.from(mine.content(FIELD.data)).toString('hex')}`).toBe(tx?.data ?? '0x');
  });

  test('what is in lists is counted', () => {
    expect(decoded(eip2930)).toMatchObject({
      type: 1,
      accessListAddresses: 1,
      accessListKeys: 1,
      authorizations: 0,
    });
    expect(decoded(creation)).toMatchObject({ type: 2, accessListAddresses: 1, accessListKeys: 1 });
    expect(decoded(eip4844)).toMatchObject({ type: 3, blobHashes: 1, sidecar: null });
    expect(decoded(eip7702)).toMatchObject({ type: 4, authorizations: 1 });
    expect(decoded(unprotected)).toMatchObject({ type: 0, chainId: null });
    expect(decoded(legacy)).toMatchObject({ type: 0, chainId: 1n });
  });

  test('any fields: as viem reads them, signed by who signed them', async () => {
    const account = privateKeyToAccount(`0x${'33'.repeat(32)}`);
    const number = (bits: bigint) => fc.bigInt({ min: 0n, max: 2n ** bits - 1n });
    const bytes = (size: number) =>
      fc
        .uint8Array({ minLength: size, maxLength: size })
        .map((content): Hex => `0x${Buffer.from(content).toString('hex')}`);
    const fields = fc.record({
      type: fc.constantFrom('legacy' as const, 'eip2930' as const, 'eip1559' as const, 'eip7702' as const),
      chainId: fc.nat(1_000_000).map((id) => id + 1),
      nonce: fc.nat(2 ** 31 - 1),
      price: number(250n),
      gas: number(63n),
      to: bytes(20),
      creates: fc.boolean(),
      value: number(256n),
      data: fc
        .uint8Array({ maxLength: 300 })
        .map((content): Hex => `0x${Buffer.from(content).toString('hex')}`),
      accessList: fc.array(
        fc.record({ address: bytes(20), storageKeys: fc.array(bytes(32), { maxLength: 3 }) }),
        { maxLength: 3 },
      ),
    });
    await fc.assert(
      fc.asyncProperty(fields, async ({ type, price, creates, accessList, to, ...rest }) => {
        const fees = { maxFeePerGas: price, maxPriorityFeePerGas: price / 2n };
        const authorizationList = [
          { address: to, chainId: 5, nonce: 6, r: `0x${'01'.repeat(32)}`, s: '0x02', yParity: 0 },
        ] as const;
        const serializable: TransactionSerializable =
          type === 'legacy'
            ? { ...rest, type, gasPrice: price, to: creates ? null : to }
            : type === 'eip2930'
              ? { ...rest, type, gasPrice: price, accessList, to: creates ? null : to }
              : type === 'eip1559'
                ? { ...rest, ...fees, type, accessList, to: creates ? null : to }
                : { ...rest, ...fees, type, accessList, to, authorizationList };
        const hex = await account.signTransaction(serializable);
        const mine = decoded(hex);
        const theirs = parseTransaction(hex);
        expect(mine.chainId).toBe(BigInt(theirs.chainId ?? 0));
        expect(mine.integer(FIELD.nonce)).toBe(BigInt(theirs.nonce ?? 0));
        expect(mine.integer(FIELD.gasLimit)).toBe(theirs.gas ?? 0n);
        expect(mine.integer(FIELD.value)).toBe(theirs.value ?? 0n);
        expect(mine.integer(FIELD.gasPrice)).toBe(
          (type === 'legacy' || type === 'eip2930' ? theirs.gasPrice : theirs.maxFeePerGas) ?? 0n,
        );
        expect(mine.to).toBe(theirs.to?.toLowerCase() ?? null);
        expect(mine.accessListAddresses).toBe(theirs.accessList?.length ?? 0);
        expect(recoverSender(mine, recover)).toBe(account.address.toLowerCase());
      }),
      { seed: SEED, numRuns: 60 },
    );
  });
});

/** A blob transaction in the two forms in which it travels with its blobs. */
const sidecarOf = (blobs: number, proofs: number): Rlp[] => [
  Array<Hex>(blobs).fill(`0x${'00'.repeat(131_072)}`),
  Array<Hex>(blobs).fill(`0x${NO_BLOB_COMMITMENT.toString('hex')}`),
  Array<Hex>(proofs).fill(`0x${'08'.repeat(48)}`),
];
const eip4844Form = typed(3, [itemsOf(eip4844), ...sidecarOf(1, 1)]);
const eip7594Form = typed(3, [itemsOf(eip4844), '0x01', ...sidecarOf(1, 128)]);

describe('blob transactions in network form', () => {
  test.each([
    ['EIP-4844', eip4844Form, 0],
    ['EIP-7594', eip7594Form, 1],
  ])('%s: hash, sender and rules are those of the form without the sidecar', (_name, hex, version) => {
    const tx = decoded(hex);
    expect(tx.sidecar).toMatchObject({ version, blobs: 1 });
    expect(transactionHash(tx.bytes)).toBe(transactionHash(bytesOf(eip4844)));
    expect(signingHash(tx)).toEqual(signingHash(decoded(eip4844)));
    expect(recoverSender(tx, recover)).toBe(SENDER);
    expect(validateTransaction(tx, rules)).toBeNull();
  });

  test.each([
    [
      'a wrapper version that is not known',
      typed(3, [itemsOf(eip4844), '0x02', ...sidecarOf(1, 128)]),
      'sidecar: wrapper version not supported',
    ],
    [
      'version 0 spelled out',
      typed(3, [itemsOf(eip4844), '0x', ...sidecarOf(1, 1)]),
      'sidecar: wrapper version not supported',
    ],
    [
      'too few proofs',
      typed(3, [itemsOf(eip4844), '0x01', ...sidecarOf(1, 127)]),
      'sidecar: wrong number of proofs',
    ],
    [
      'cell proofs without the version',
      typed(3, [itemsOf(eip4844), ...sidecarOf(1, 128)]),
      'sidecar: wrong number of proofs',
    ],
    [
      'a commitment too few',
      typed(3, [itemsOf(eip4844), sidecarOf(1, 1)[0] ?? '0x', [], sidecarOf(1, 1)[2] ?? '0x']),
      'sidecar: number of blobs and of commitments differ',
    ],
    [
      'a short blob',
      typed(3, [itemsOf(eip4844), ['0x00'], ...sidecarOf(1, 1).slice(1)]),
      'sidecar blobs: element of a wrong size',
    ],
    ['nothing behind the transaction', typed(3, [itemsOf(eip4844)]), 'sidecar blobs: RLP: too few elements'],
    [
      'too much behind it',
      typed(3, [itemsOf(eip4844), ...sidecarOf(1, 1), '0x']),
      'sidecar: too many elements',
    ],
    [
      'blobs that are no list',
      typed(3, [itemsOf(eip4844), '0x01', '0x', ...sidecarOf(1, 128).slice(1)]),
      'sidecar blobs: not a list',
    ],
    ['bytes behind the list', `${eip4844Form}00`, 'bytes after the transaction'],
    ['cut off', eip4844Form.slice(0, -2), 'RLP: value size exceeds the input'],
  ])('refused: %s', (_name, hex, reason) => {
    expect(reasonOf(hex)).toBe(reason);
  });

  test('bytes that only begin like one have a hash all the same', () => {
    for (const hex of ['0x03', '0x03c0', '0x03c1', '0x03c1c0', '0x03f8', '0x02', '0x']) {
      const expected = hex === '0x03c1c0' ? keccak256('0x03c0') : keccak256(bytesOf(hex));
      expect(transactionHash(bytesOf(hex))).toBe(expected.slice(2));
    }
  });

  test('the hash of a blob', () => {
    expect(BLOB_HASH).toMatch(/^0x01[0-9a-f]{62}$/);
  });
});

describe('refused', () => {
  /** The transaction with one item of its payload changed. */
  const changed = (type: number, hex: string, at: number, value: Rlp): Hex =>
    typed(
      type,
      itemsOf(hex).map((item, i) => (i === at ? value : item)),
    );

  test.each([
    ['nothing', '0x', 'transaction is empty'],
    ['type 0 in an envelope', `0x00${legacy.slice(2)}`, 'transaction type not supported'],
    ['type 5', `0x05${eip1559.slice(4)}`, 'transaction type not supported'],
    ['a string', '0x7f', 'transaction type not supported'],
    ['a type alone', '0x02', 'RLP: too few elements'],
    ['a type and a string', '0x0280', 'payload is not a list'],
    ['bytes behind it', `${eip1559}00`, 'bytes after the transaction'],
    ['a legacy one with bytes behind it', `${legacy}00`, 'bytes after the transaction'],
    ['too few items', typed(2, itemsOf(eip1559).slice(0, -1)), 's: RLP: too few elements'],
    ['too many items', typed(2, [...itemsOf(eip1559), '0x']), 'RLP: too many elements'],
    [
      'a chain id with leading zeros',
      changed(2, eip1559, 0, '0x0001'),
      'chainId: integer with leading zeros',
    ],
    ['zero as a byte', changed(2, eip1559, 1, '0x00'), 'nonce: integer with leading zeros'],
    ['a long nonce', changed(2, eip1559, 1, `0x${'01'.repeat(9)}`), 'nonce: integer of more than 64 bits'],
    ['a long value', changed(2, eip1559, 6, `0x${'01'.repeat(33)}`), 'value: integer of more than 256 bits'],
    ['a list for a number', changed(2, eip1559, 6, []), 'value: not an integer'],
    ['a short address', changed(2, eip1559, 5, `0x${'01'.repeat(19)}`), 'to: not 20 bytes'],
    ['an empty list for no address', changed(2, eip1559, 5, []), 'to: not 20 bytes'],
    ['a blob transaction that creates', changed(3, eip4844, 5, '0x'), 'to: not 20 bytes'],
    ['a set-code transaction that creates', changed(4, eip7702, 5, '0x'), 'to: not 20 bytes'],
    ['a list for data', changed(2, eip1559, 7, ['0x01']), 'data: not a string'],
    ['an access list that is none', changed(2, eip1559, 8, '0x'), 'accessList: not a list'],
    ['an entry that is none', changed(2, eip1559, 8, ['0x']), 'accessList: entry is not a list'],
    [
      'an entry without keys',
      changed(2, eip1559, 8, [[`0x${'01'.repeat(20)}`]]),
      'accessList: storage keys: RLP: too few elements',
    ],
    [
      'an entry with too much',
      changed(2, eip1559, 8, [[`0x${'01'.repeat(20)}`, [], '0x']]),
      'accessList: RLP: too many elements',
    ],
    [
      'an entry with a short key',
      changed(2, eip1559, 8, [[`0x${'01'.repeat(20)}`, ['0x01']]]),
      'accessList: storage key: not 32 bytes',
    ],
    [
      'an entry with a long address',
      changed(2, eip1559, 8, [[`0x${'01'.repeat(21)}`, []]]),
      'accessList: address: not 20 bytes',
    ],
    ['a short blob hash', changed(3, eip4844, 10, ['0x01']), 'blobVersionedHashes: not 32 bytes'],
    [
      'an authorization that is none',
      changed(4, eip7702, 9, ['0x']),
      'authorizationList: entry is not a list',
    ],
    [
      'an authorization with a big parity',
      changed(4, eip7702, 9, [['0x01', `0x${'01'.repeat(20)}`, '0x', '0x0100', '0x01', '0x01']]),
      'authorizationList: integer of more than 8 bits',
    ],
    [
      'an authorization with too much',
      changed(4, eip7702, 9, [['0x01', `0x${'01'.repeat(20)}`, '0x', '0x', '0x01', '0x01', '0x']]),
      'authorizationList: RLP: too many elements',
    ],
    ['a long r', changed(2, eip1559, 10, `0x${'01'.repeat(33)}`), 'r: integer of more than 256 bits'],
  ])('%s', (_name, hex, reason) => {
    expect(reasonOf(hex)).toBe(reason);
  });

  test('damage is refused or decodes, and never throws', () => {
    const wound = fc.tuple(fc.nat(), fc.nat(255), fc.constantFrom('flip', 'cut', 'insert'));
    fc.assert(
      fc.property(
        fc.constantFrom(...SIGNED),
        fc.array(wound, { minLength: 1, maxLength: 3 }),
        (hex, wounds) => {
          let bytes = bytesOf(hex);
          for (const [place, value, kind] of wounds) {
            const at = place % (bytes.length + 1);
            const behind = kind === 'cut' ? Buffer.alloc(0) : bytes.subarray(kind === 'flip' ? at + 1 : at);
            bytes = Buffer.concat([
              bytes.subarray(0, at),
              Buffer.from(kind === 'cut' ? [] : [value]),
              behind,
            ]);
          }
          const tx = decodeTransaction(bytes);
          expect(transactionHash(bytes)).toMatch(/^[0-9a-f]{64}$/);
          if (typeof tx === 'string') {
            expect(tx).not.toBe('');
            return;
          }
          expect(signingHash(tx)).toHaveLength(32);
          expect(recoverSender(tx, recover) ?? SENDER).toMatch(/^0x[0-9a-f]{40}$/);
          expect(validateTransaction(tx, rules) ?? 'valid').not.toBe('');
        },
      ),
      { seed: SEED, numRuns: 1500 },
    );
  });
});
