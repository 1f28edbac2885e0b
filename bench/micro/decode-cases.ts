/** From a body to an order: JSON, rules, canonical form, transactions. */
import { parseTransaction } from 'viem';
import type { GeneratedOrder } from '../../devnet/orders.ts';
import { decodeOrder } from '../../pipeline/decode.ts';
import { Rejection } from '../../pipeline/errors.ts';
import { parseRequest, RefusedRequest } from '../../pipeline/json-rpc.ts';
import type { Order } from '../../pipeline/order.ts';
import type { DecodeContext } from '../../pipeline/order-context.ts';
import { ReplacementNonces } from '../../pipeline/replacement-nonces.ts';
import { decodeTransaction, transactionHash } from '../../pipeline/transaction.ts';
import { CURRENT_FORK, validateTransaction } from '../../pipeline/transaction-rules.ts';
import { caseOf, type MicroCase } from './case.ts';

export function jsonCases(size: string, orders: readonly GeneratedOrder[]): MicroCase[] {
  const bodies = orders.map(({ body }) => body);
  const stage = `JSON decode, ${size}`;
  return [
    caseOf(stage, 'own scanner: envelope alone, in place', true, bodies, (body) => parseRequest(body)),
    caseOf(stage, 'JSON.parse', false, bodies, (body) => JSON.parse(body.toString())),
    // What JSON.parse needs so that integers above 2^53 keep their digits.
    caseOf(stage, 'JSON.parse with a reviver', false, bodies, (body) =>
      JSON.parse(body.toString(), (_key, value: unknown) => value),
    ),
  ];
}

/** @param full with the alternatives */
export function orderCases(size: string, orders: readonly GeneratedOrder[], full: boolean): MicroCase[] {
  const stage = `body to canonical form, ${size}`;
  for (const order of orders) {
    if (!decoded(order, 'strict').canonical.equals(order.canonical))
      throw new Error('an order of the bench has another canonical form than expected');
  }
  const chosen = caseOf(stage, 'strict: every transaction checked', true, orders, (order) =>
    decoded(order, 'strict'),
  );
  if (!full) return [chosen];
  return [
    chosen,
    caseOf(stage, 'TX_VALIDATION=off', false, orders, (order) => decoded(order, 'off')),
    caseOf(stage, 'JSON.parse, JSON.stringify: no check, no hash', false, orders, ({ body }) => {
      const { method, params } = JSON.parse(body.toString()) as { method: string; params: unknown[] };
      return Buffer.from(JSON.stringify({ method, params, id: 0, jsonrpc: '2.0' }));
    }),
  ];
}

function decoded({ body, signer }: GeneratedOrder, validation: 'strict' | 'off'): Order {
  const request = parseRequest(body);
  if (request instanceof RefusedRequest) throw new Error(request.rejection.message);
  const order = decodeOrder(request, contextOf(signer, validation));
  if (order instanceof Rejection) throw new Error(order.message);
  return order;
}

const NONCES = new ReplacementNonces();

function contextOf(signer: GeneratedOrder['signer'], validation: 'strict' | 'off'): DecodeContext {
  return {
    side: 'user',
    signer,
    isFlashbots: false,
    receivedAtUs: 1_750_000_000_000_000,
    validation,
    chainId: 1n,
    nonces: NONCES,
  };
}

export function canonicalCases(size: string, orders: readonly GeneratedOrder[]): MicroCase[] {
  const texts = orders.map(({ canonical }) => canonical.toString());
  const encoder = new TextEncoder();
  const stage = `canonical text to bytes, ${size}`;
  return [
    caseOf(stage, 'Buffer.from', true, texts, (text) => Buffer.from(text)),
    caseOf(stage, 'TextEncoder', false, texts, (text) => encoder.encode(text)),
  ];
}

export function transactionCases(orders: readonly GeneratedOrder[]): MicroCase[] {
  const raws = orders.flatMap(({ canonical }) => rawTransactions(canonical)).slice(0, 64);
  const bytes = raws.map((raw) => Buffer.from(raw.slice(2), 'hex'));
  const rules = { chainId: 1n, fork: CURRENT_FORK };
  const stage = 'transaction: decode and check';
  return [
    caseOf(stage, 'own decoder and rules', true, bytes, (tx) => {
      const transaction = decodeTransaction(tx);
      if (typeof transaction === 'string') throw new Error(transaction);
      return validateTransaction(transaction, rules);
    }),
    caseOf(stage, 'viem parseTransaction, no rules', false, raws, (raw) => parseTransaction(raw)),
    caseOf('transaction: hash', 'node:crypto', true, bytes, (tx) => transactionHash(tx)),
  ];
}

function rawTransactions(canonical: Buffer): `0x${string}`[] {
  const { params } = JSON.parse(canonical.toString()) as { params: [{ txs: `0x${string}`[] }] };
  return params[0].txs;
}
