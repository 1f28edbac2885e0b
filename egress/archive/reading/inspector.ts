/**
 * What can be proven of a single record beyond its place in the chain: that a checkpoint is signed by its node and
 * states what was read, and that an order is what it says it is.
 *
 * An order: its value is a canonical request, byte for byte; headers `method`, `signer` and `hash` are what the value
 * says; every transaction in it decodes and its signature belongs to a key. The value of a raw transaction does not
 * name the account it counts for, so there the header `signer` rests on the node alone.
 */

import { recover } from '../../../identity/secp256k1.ts';
import { SignatureVerifier } from '../../../identity/signature.ts';
import { decodeOrderWith } from '../../../pipeline/decode.ts';
import { Rejection } from '../../../pipeline/errors.ts';
import { parseRequest, RefusedRequest } from '../../../pipeline/json-rpc.ts';
import { ReplacementNonces } from '../../../pipeline/replacement-nonces.ts';
import type { SideRules } from '../../../pipeline/side-rules.ts';
import { decodeTransaction, recoverSender } from '../../../pipeline/transaction.ts';
import { CHECKPOINT_CONTROL, decodeCheckpoint, isSignedByNode } from '../checkpoint.ts';
import { type ArchiveRecord, chainAfter } from '../record.ts';

/** An archived order has met the rules of its side; here only its form counts, and nothing is filled in. */
const NO_RULES = { refusals: [], fills: [] };
const FORM_ONLY: SideRules = {
  eth_sendBundle: NO_RULES,
  mev_sendBundle: NO_RULES,
  eth_cancelBundle: NO_RULES,
  bid_subsidiseBlock: NO_RULES,
};

/** Nodes whose public keys are kept. */
const KNOWN_NODES = 1024;

export class Inspector {
  readonly #signatures = new SignatureVerifier({ cacheSize: KNOWN_NODES });
  readonly #nonces = new ReplacementNonces();

  /** @returns what is wrong with a checkpoint record, or null. 40 µs. */
  checkpointProblem(record: ArchiveRecord): string | null {
    const checkpoint = record.control === CHECKPOINT_CONTROL ? decodeCheckpoint(record.value) : null;
    if (checkpoint === null) return 'the checkpoint is malformed';
    const { nodeId, epoch, sequence } = record;
    if (checkpoint.n !== nodeId || checkpoint.e !== epoch || checkpoint.s !== sequence - 1) {
      return 'the checkpoint is of another place in the archive';
    }
    // The record's own chain value is made from the one before: what is stated must be that.
    if (chainAfter(checkpoint.h, sequence, record.value) !== record.chain) {
      return 'the checkpoint states another chain value than the record before it has';
    }
    const signed = isSignedByNode(checkpoint, (signature, text) => this.#signatures.verify(signature, text));
    return signed ? null : `the checkpoint is not signed by node ${nodeId}`;
  }

  /** @returns what is wrong with an order, or null. About 10 µs, and 60 µs for each transaction. */
  orderProblem(record: ArchiveRecord): string | null {
    const request = parseRequest(record.value);
    if (request instanceof RefusedRequest) return `the order is no request: ${request.rejection.message}`;
    if (request.method !== record.method) return 'the order is of another method than its header says';
    const order = decodeOrderWith(FORM_ONLY, request, {
      side: 'system',
      signer: record.signer ?? '0x',
      isFlashbots: false,
      receivedAtUs: record.receivedAtUs,
      validation: 'off',
      chainId: 1n,
      nonces: this.#nonces,
    });
    if (order instanceof Rejection) return `the order does not decode: ${order.message}`;
    if (!order.canonical.equals(record.value)) return 'the order is not in canonical form';
    if (order.hash !== record.hash) return 'the order has another hash than its header says';
    if (order.signer !== record.signer) return 'the order names another signer than its header';
    return transactionProblem(record.value);
  }
}

function transactionProblem(value: Buffer): string | null {
  const { params } = JSON.parse(value.toString()) as { readonly params: readonly unknown[] };
  for (const hex of transactionsOf(params[0])) {
    const transaction = decodeTransaction(Buffer.from(hex.slice(2), 'hex'));
    if (typeof transaction === 'string')
      return `the order holds a transaction that does not decode: ${transaction}`;
    if (recoverSender(transaction, recover) === null)
      return 'the order holds a transaction with a wrong signature';
  }
  return null;
}

/** Hex of every transaction of a decoded param: a raw one, those of a bundle, those in a bundle's body. */
function* transactionsOf(param: unknown): Generator<string, void, void> {
  if (typeof param === 'string') {
    yield param;
  } else if (typeof param === 'object' && param !== null) {
    const { txs, body, tx, bundle } = param as Readonly<Record<string, unknown>>;
    for (const item of [tx, bundle, ...listOf(txs), ...listOf(body)]) yield* transactionsOf(item);
  }
}

function listOf(value: unknown): readonly unknown[] {
  return Array.isArray(value) ? value : [];
}
