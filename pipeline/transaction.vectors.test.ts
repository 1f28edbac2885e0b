/** The Ethereum project's TransactionTests, each by name: hash, sender, intrinsic gas or refusal under Cancun. */
import { readdirSync, readFileSync } from 'node:fs';
import { secp256k1 } from '@noble/curves/secp256k1.js';
import { describe, expect, test } from 'vitest';
import { decodeTransaction, type Recover, recoverSender, transactionHash } from './transaction.ts';
import { intrinsicGas, validateTransaction } from './transaction-rules.ts';

interface Case {
  readonly name: string;
  readonly txbytes: string;
  /** Of the newest fork; a case without one cannot even be decoded. */
  readonly cancun: { hash?: string; sender?: string; intrinsicGas: string; exception?: string } | undefined;
}

interface CaseFile {
  readonly [name: string]: { txbytes: string; result: { Cancun?: Case['cancun'] } };
}

const VECTORS = new URL('../testing/vectors/transactions/', import.meta.url);

const cases: Case[] = readdirSync(VECTORS, { recursive: true, encoding: 'utf8' })
  .filter((file) => file.endsWith('.json'))
  .sort()
  .flatMap((file) =>
    Object.entries(JSON.parse(readFileSync(new URL(file, VECTORS), 'utf8')) as CaseFile).map(
      ([name, vector]) => ({
        name: `${file}: ${name}`,
        txbytes: vector.txbytes,
        cancun: vector.result.Cancun,
      }),
    ),
  );

const recover: Recover = (digest, signature, yParity) => {
  try {
    return secp256k1.Signature.fromBytes(signature, 'compact')
      .addRecoveryBit(yParity)
      .recoverPublicKey(digest)
      .toBytes(false);
  } catch {
    return null;
  }
};

const accepted = cases.filter((vector) => vector.cancun?.hash !== undefined);
const refused = cases.filter((vector) => vector.cancun?.hash === undefined);

describe('TransactionTests, Cancun', () => {
  test('the cases are there', () => {
    expect(accepted.length).toBe(50);
    expect(refused.length).toBeGreaterThan(140);
  });

  test.each(accepted)('accepted: $name', ({ txbytes, cancun }) => {
    const bytes = Buffer.from(txbytes.slice(2), 'hex');
    const tx = decodeTransaction(bytes);
    if (typeof tx === 'string') throw new Error(tx);
    expect(validateTransaction(tx, { chainId: 1n, fork: 'cancun' })).toBeNull();
    expect(`0x${transactionHash(bytes)}`).toBe(cancun?.hash);
    expect(recoverSender(tx, recover)).toBe(cancun?.sender);
    expect(intrinsicGas(tx)).toBe(Number(cancun?.intrinsicGas));
  });

  test.each(refused)('refused: $name', ({ txbytes, cancun }) => {
    const hex = txbytes.slice(2);
    const tx = decodeTransaction(Buffer.from(hex, 'hex'));
    if (typeof tx === 'string') return;
    const broken = validateTransaction(tx, { chainId: 1n, fork: 'cancun' });
    // A signature in range that belongs to no key is not looked for on the path of an order.
    if (broken === null) expect(recoverSender(tx, recover)).toBeNull();
    if (broken === null) expect(cancun?.exception).toBe('TransactionException.EC_RECOVERY_FAIL');
    if (Number(cancun?.intrinsicGas ?? 0) > 0) expect(intrinsicGas(tx)).toBe(Number(cancun?.intrinsicGas));
  });
});
