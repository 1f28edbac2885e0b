/**
 * The methods whose param is small: eth_cancelBundle, eth_sendRawTransaction and bid_subsidiseBlock
 * (protocol section 4).
 */
import {
  decodeFields,
  encodeObject,
  FieldError,
  type Fields,
  fillIn,
  firstRefusal,
  objectShape,
  type RuleTable,
  readMembers,
} from './fields.ts';
import { address, addressOf } from './hex.ts';
import type { JsonText } from './json.ts';
import type { DecodeContext, DecodedParam } from './order-context.ts';
import { readTransaction } from './order-transactions.ts';
import { transactionHash } from './transaction.ts';
import { uint64, uuid } from './values.ts';

const CANCELLATION = objectShape([
  { key: 'replacementUuid', decode: uuid },
  { key: 'signingAddress', decode: address, absent: 'null' },
]);

export type EthCancelBundleFields = Fields<(typeof CANCELLATION.rows)[number]['key']>;

/** What the rules of a side see and fill in. */
export interface EthCancelBundleDraft {
  readonly fields: EthCancelBundleFields;
}

/** Decodes `params[0]` of eth_cancelBundle. It names the UUID (v1 takes a missing one for the nil UUID, which nobody uses). */
export function decodeEthCancelBundle(
  json: JsonText,
  at: number,
  rules: RuleTable<EthCancelBundleDraft, DecodeContext>,
  context: DecodeContext,
): DecodedParam | FieldError {
  const members = readMembers(json, at, CANCELLATION, 0);
  if (members instanceof FieldError) return members;
  const fields = decodeFields(json, members, CANCELLATION);
  if (fields instanceof FieldError) return fields;
  if (fields.replacementUuid === '') return new FieldError('missing', 'replacementUuid');
  const draft: EthCancelBundleDraft = { fields };
  const refused = firstRefusal(rules, draft, context);
  if (refused !== null) return refused;
  fillIn(rules, draft, context);
  return {
    param: encodeObject(json, CANCELLATION, fields, members.unlisted),
    hash: null,
    signer: fields.signingAddress === 'null' ? null : addressOf(fields.signingAddress),
  };
}

/** Decodes `params[0]` of eth_sendRawTransaction: one hex data string, passed on as it is. */
export function decodeEthSendRawTransaction(
  json: JsonText,
  at: number,
  context: DecodeContext,
): DecodedParam | FieldError {
  const tx = readTransaction(json, at, context.validation === 'strict' ? 'rules' : 'bytes', context.chainId);
  if (tx instanceof FieldError) return tx;
  return {
    param: tx.quoted,
    hash: context.hashes === false ? null : `0x${transactionHash(tx.bytes)}`,
    signer: null,
  };
}

/** Decodes `params[0]` of bid_subsidiseBlock: one u64. */
export function decodeBidSubsidiseBlock(
  json: JsonText,
  at: number,
  rules: RuleTable<null, DecodeContext>,
  context: DecodeContext,
): DecodedParam | FieldError {
  const refused = firstRefusal(rules, null, context);
  if (refused !== null) return refused;
  const amount = uint64(json, at);
  return amount instanceof FieldError ? amount : { param: amount, hash: null, signer: null };
}
