import {
  type Hex,
  hashMessage,
  keccak256,
  parseTransaction,
  recoverMessageAddress,
  recoverTransactionAddress,
  type TransactionSerialized,
} from 'viem';
import { describe, expect, test } from 'vitest';
import { createOrderSource, FIRST_TIMESTAMP, type GeneratedOrder, sequenceOf } from './orders.ts';

interface Request {
  readonly id: number;
  readonly method: string;
  readonly params: readonly [unknown];
}
interface BundleParam {
  readonly txs: Hex[];
  readonly maxTimestamp: number;
  readonly replacementUuid?: string;
  readonly replacementNonce?: number;
}

function take(count: number, settings: Parameters<typeof createOrderSource>[0]): GeneratedOrder[] {
  const source = createOrderSource(settings);
  return Array.from({ length: count }, () => source.next());
}

function requestOf(order: GeneratedOrder): Request {
  return JSON.parse(order.body.toString()) as Request;
}

function transactionsOf(order: GeneratedOrder): Hex[] {
  const [param] = requestOf(order).params;
  if (order.method === 'eth_sendBundle') return (param as BundleParam).txs;
  if (order.method === 'mev_sendBundle') return (param as { body: { tx: Hex }[] }).body.map(({ tx }) => tx);
  return order.method === 'eth_sendRawTransaction' ? [param as Hex] : [];
}

const field = take(300, { seed: 'orders test' });

describe('generated orders', () => {
  test('are the same for the same seed and others for another', () => {
    const again = take(300, { seed: 'orders test' });
    expect(again.map((order) => order.body.equals(field[order.sequence]!.body))).not.toContain(false);
    expect(again.map((order) => order.signature)).toEqual(field.map((order) => order.signature));
    expect(take(1, { seed: 'another' })[0]!.body.equals(field[0]!.body)).toBe(false);
  });

  test('cover every method of the user API, replacements and cancelling bundles', () => {
    const kinds = field.map((order) => {
      const [param] = requestOf(order).params;
      if (order.method !== 'eth_sendBundle') return order.method;
      const { replacementUuid, txs } = param as BundleParam;
      return txs.length === 0
        ? 'cancelling bundle'
        : replacementUuid === undefined
          ? 'bundle'
          : 'replacement';
    });
    expect([...new Set(kinds)].sort()).toEqual([
      'bundle',
      'cancelling bundle',
      'eth_cancelBundle',
      'eth_sendRawTransaction',
      'mev_sendBundle',
      'replacement',
    ]);
  });

  test('hold transactions that viem decodes, with enough gas, low s and a sender', {
    timeout: 60_000,
  }, async () => {
    const types = new Set<string>();
    for (const order of field.slice(0, 60)) {
      for (const raw of transactionsOf(order)) {
        const tx = parseTransaction(raw.toLowerCase() as TransactionSerialized);
        types.add(tx.type ?? '');
        expect(tx.chainId).toBe(1);
        expect(BigInt(tx.s!)).toBeLessThan(2n ** 255n);
        const tokens = Buffer.from((tx.data ?? '0x').slice(2), 'hex').reduce(
          (n, byte) => n + (byte ? 4 : 1),
          0,
        );
        expect(Number(tx.gas)).toBeGreaterThanOrEqual(21_000 + 10 * tokens);
        const serializedTransaction = raw.toLowerCase() as TransactionSerialized;
        expect(await recoverTransactionAddress({ serializedTransaction })).toMatch(/^0x[\da-fA-F]{40}$/);
      }
    }
    expect([...types].sort()).toEqual(['eip1559', 'eip2930', 'legacy']);
  });

  test('use each sender account with nonces that count up', async () => {
    const nonces = new Map<string, number[]>();
    for (const order of field.slice(0, 40)) {
      for (const raw of transactionsOf(order)) {
        const serializedTransaction = raw.toLowerCase() as TransactionSerialized;
        const sender = await recoverTransactionAddress({ serializedTransaction });
        const nonce = parseTransaction(serializedTransaction).nonce ?? 0;
        nonces.set(sender, [...(nonces.get(sender) ?? []), nonce]);
      }
    }
    // Only the right sender of each gives whole sequences.
    expect(nonces.size).toBeLessThanOrEqual(64);
    for (const list of nonces.values()) expect(list).toEqual(list.map((_, index) => index));
  });

  test('carry a header that viem verifies as signed by the searcher', async () => {
    for (const order of field.slice(0, 20)) {
      const [address, signature] = order.signature.split(':') as [string, Hex];
      const message = keccak256(order.body);
      expect(hashMessage(message)).toHaveLength(66);
      const signer = await recoverMessageAddress({ message, signature });
      expect(signer.toLowerCase()).toBe(order.signer);
      expect(address.toLowerCase()).toBe(order.signer);
    }
  });

  test('say which hash the node answers', () => {
    for (const order of field) {
      const hashes = transactionsOf(order).map((raw) => keccak256(raw.toLowerCase() as Hex).slice(2));
      if (order.method === 'eth_sendRawTransaction') expect(order.hash).toBe(`0x${hashes[0]}`);
      else if (hashes.length > 0) expect(order.hash).toBe(keccak256(`0x${hashes.join('')}`));
    }
  });

  test('are all different, so that a node never takes one for a duplicate', () => {
    expect(new Set(field.map((order) => order.canonical.toString())).size).toBe(field.length);
  });

  test('have the sizes of the field', () => {
    const sizes = take(4_000, { seed: 'sizes' })
      .map((order) => order.body.length)
      .sort((a, b) => a - b);
    const at = (quantile: number): number => sizes[Math.floor(quantile * sizes.length)] ?? 0;
    const mean = sizes.reduce((sum, size) => sum + size, 0) / sizes.length;
    for (const [measured, wanted] of [
      [mean, 6_900],
      [at(0.5), 3_000],
      [at(0.9), 19_400],
      [at(0.99), 40_400],
    ] as const) {
      expect(measured / wanted).toBeGreaterThan(0.85);
      expect(measured / wanted).toBeLessThan(1.15);
    }
  });

  test('have a fixed size on request, and a sequence that the canonical bytes carry', () => {
    const bundles = take(200, { seed: 'fixed', methods: 'bundles', bodyBytes: 3_279 });
    for (const [index, order] of bundles.entries()) {
      expect(order.method).toBe('eth_sendBundle');
      expect(Math.abs(order.body.length - 3_279)).toBeLessThan(350);
      expect(order.sequence).toBe(index);
      expect(sequenceOf(order.canonical)).toBe(index);
      expect((requestOf(order).params[0] as BundleParam).maxTimestamp).toBe(FIRST_TIMESTAMP + index);
    }
    expect(sequenceOf(Buffer.from('{"method":"eth_cancelBundle"}'))).toBe(-1);
  });
});
