/**
 * eth_sendBundle: its fields in canonical order, its transactions, its bundleHash (protocol section 4).
 *
 * Limits: 100 transactions, counted before the first is decoded.
 */
import {
  decodeFields,
  encodeObject,
  FieldError,
  type Fields,
  fillIn,
  firstRefusal,
  type Members,
  objectShape,
  offsetOf,
  orderError,
  type RuleTable,
  readMembers,
  rowOf,
} from './fields.ts';
import { address, addressOf, blockNumber } from './hex.ts';
import type { JsonText } from './json.ts';
import type { DecodeContext, DecodedParam } from './order-context.ts';
import { HashList, MAX_TRANSACTIONS, readTransaction } from './order-transactions.ts';
import { boolean, sortedHashes, text, texts, uint64, uuid } from './values.ts';

/** A bundle's fields in canonical order. */
export const BUNDLE_SHAPE = objectShape([
  { key: 'txs', decode: null, absent: 'null' },
  { key: 'blockNumber', decode: blockNumber, absent: 'null' },
  { key: 'minTimestamp', decode: uint64 },
  { key: 'maxTimestamp', decode: uint64 },
  { key: 'revertingTxHashes', decode: sortedHashes },
  { key: 'replacementUuid', decode: uuid },
  { key: 'version', decode: text },
  { key: 'replacementNonce', decode: uint64 },
  { key: 'signingAddress', decode: address },
  { key: 'refundIdentity', decode: address },
  { key: 'droppingTxHashes', decode: sortedHashes },
  { key: 'uuid', decode: uuid },
  { key: 'refundPercent', decode: uint64 },
  { key: 'refundRecipient', decode: address },
  { key: 'refundTxHashes', decode: texts },
  { key: 'delayedRefund', decode: boolean },
]);

/** The row of `txs` among the members: the one field that is not decoded by the table. */
const TXS = rowOf(BUNDLE_SHAPE, 'txs');

export type EthSendBundleFields = Fields<(typeof BUNDLE_SHAPE.rows)[number]['key']>;

/** What the rules of a side see and fill in. */
export interface EthSendBundleDraft {
  readonly fields: EthSendBundleFields;
  readonly transactions: number;
  readonly refundTxHashes: number;
}

const transactionHashes = new HashList();

/**
 * Decodes `params[0]` of eth_sendBundle.
 *
 * @param at - where the param begins in a request that has been parsed.
 * @param rules - of the side it came in on.
 */
export function decodeEthSendBundle(
  json: JsonText,
  at: number,
  rules: RuleTable<EthSendBundleDraft, DecodeContext>,
  context: DecodeContext,
): DecodedParam | FieldError {
  const members = readMembers(json, at, BUNDLE_SHAPE, 0);
  if (members instanceof FieldError) return members;
  const offsets = transactionOffsets(json, members);
  if (offsets instanceof FieldError) return offsets;
  const fields = decodeFields(json, members, BUNDLE_SHAPE);
  if (fields instanceof FieldError) return fields;
  const conflict = moveUuid(fields);
  if (conflict !== null) return conflict;

  const draft: EthSendBundleDraft = {
    fields,
    transactions: offsets === null ? 0 : offsets.length,
    refundTxHashes: countElements(json, members, 'refundTxHashes'),
  };
  const refused = firstRefusal(rules, draft, context);
  if (refused !== null) return refused;

  transactionHashes.clear();
  if (offsets !== null) {
    const list = decodeTransactions(json, offsets, context);
    if (list instanceof FieldError) return list;
    fields.txs = list;
  }
  fillIn(rules, draft, context);
  return {
    param: encodeObject(json, BUNDLE_SHAPE, fields, members.unlisted),
    hash: context.hashes === false ? null : `0x${transactionHashes.digest()}`,
    signer: addressOf(fields.signingAddress),
  };
}

/** @returns where the transactions begin, null when there is no list of them. */
function transactionOffsets(json: JsonText, members: Members): number[] | null | FieldError {
  const at = offsetOf(members, TXS);
  if (at === 0) return null;
  if (!json.isList(at)) return new FieldError('not a list', 'txs');
  return json.elements(at, MAX_TRANSACTIONS) ?? orderError('too many txs in bundle');
}

function countElements(json: JsonText, members: Members, key: keyof EthSendBundleFields): number {
  const at = offsetOf(members, rowOf(BUNDLE_SHAPE, key));
  return at === 0 ? 0 : (json.elements(at, 2)?.length ?? 2);
}

/** `uuid` is another name of `replacementUuid`; the canonical form has only the latter. */
function moveUuid(fields: EthSendBundleFields): FieldError | null {
  if (fields.uuid === '') return null;
  if (fields.replacementUuid !== '')
    return orderError('one of uuid or replacementUuid fields should be empty');
  fields.replacementUuid = fields.uuid;
  fields.uuid = '';
  return null;
}

/** @returns the list's canonical text; the hashes are left in `transactionHashes`. */
function decodeTransactions(
  json: JsonText,
  offsets: readonly number[],
  context: DecodeContext,
): string | FieldError {
  const check = context.validation === 'strict' ? 'rules' : 'bytes';
  let list = '[';
  for (const [i, offset] of offsets.entries()) {
    const tx = readTransaction(json, offset, check, context.chainId);
    if (tx instanceof FieldError) return tx.under(`txs[${i}]`);
    if (context.hashes !== false) transactionHashes.addTransaction(tx.bytes);
    list += i === 0 ? tx.quoted : `,${tx.quoted}`;
  }
  return `${list}]`;
}
