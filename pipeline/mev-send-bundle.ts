/**
 * mev_sendBundle: its objects in canonical order, bundles inside it, its bundleHash (protocol section 4).
 *
 * bundleHash is keccak-256 over the hashes of its transactions, where a bundle inside counts with its own.
 *
 * Limits: one level of bundles inside, 100 transactions in all, 100 elements per body.
 */
import {
  decodeFields,
  encodeObject,
  FieldError,
  type Fields,
  fillIn,
  firstRefusal,
  type Members,
  objectDecoder,
  objectShape,
  offsetOf,
  orderError,
  type RuleTable,
  readMembers,
  rowOf,
} from './fields.ts';
import { address, addressOf, hash, quantity } from './hex.ts';
import type { JsonText } from './json.ts';
import type { DecodeContext, DecodedParam } from './order-context.ts';
import { HashList, MAX_TRANSACTIONS, readTransaction } from './order-transactions.ts';
import { boolean, int64, listOf, nonEmptyText, rawMessage, text, trueOnly, uuid } from './values.ts';

const INCLUSION = objectShape([
  { key: 'block', decode: quantity, absent: '"0x0"' },
  { key: 'maxBlock', decode: quantity, absent: '"0x0"' },
]);

const REFUND = objectShape([
  { key: 'bodyIdx', decode: int64, absent: '0' },
  { key: 'percent', decode: int64, absent: '0' },
]);

const REFUND_CONFIG = objectShape([
  { key: 'address', decode: address, absent: `"0x${'0'.repeat(40)}"` },
  { key: 'percent', decode: int64, absent: '0' },
]);

const VALIDITY = objectShape([
  { key: 'refund', decode: listOf(objectDecoder(REFUND)) },
  { key: 'refundConfig', decode: listOf(objectDecoder(REFUND_CONFIG)) },
]);

const METADATA = objectShape([
  { key: 'signer', decode: address },
  { key: 'replacementNonce', decode: int64 },
  { key: 'cancelled', decode: boolean },
]);

const BUNDLE = objectShape([
  { key: 'version', decode: text, absent: '""' },
  { key: 'replacementUuid', decode: uuid },
  { key: 'inclusion', decode: objectDecoder(INCLUSION), absent: '{"block":"0x0","maxBlock":"0x0"}' },
  { key: 'body', decode: null, absent: 'null' },
  { key: 'validity', decode: objectDecoder(VALIDITY), absent: '{}' },
  { key: 'metadata', decode: null },
  { key: 'privacy', decode: rawMessage },
]);

const ELEMENT = objectShape([
  { key: 'hash', decode: hash },
  { key: 'tx', decode: null },
  { key: 'bundle', decode: null },
  { key: 'canRevert', decode: trueOnly },
  { key: 'revertMode', decode: nonEmptyText },
]);

const BODY = rowOf(BUNDLE, 'body');
const META = rowOf(BUNDLE, 'metadata');
const TX = rowOf(ELEMENT, 'tx');
const INNER = rowOf(ELEMENT, 'bundle');

export type MevSendBundleFields = Fields<(typeof BUNDLE.rows)[number]['key']>;
export type MevMetadataFields = Fields<(typeof METADATA.rows)[number]['key']>;

/** What the rules of a side see and fill in; written into `fields.metadata` when they are done. */
export interface MevSendBundleDraft {
  readonly fields: MevSendBundleFields;
  metadata: MevMetadataFields | null;
  readonly emptyBody: boolean;
}

/** One for each level of bundles: one may stand inside another, not two. */
const hashesOfLevel: readonly HashList[] = [new HashList(), new HashList()];

/** What is counted over all levels of one bundle. */
interface Count {
  transactions: number;
}

interface BundleParts {
  readonly fields: MevSendBundleFields;
  readonly metadata: MevMetadataFields | null;
  readonly metadataUnlisted: Members['unlisted'];
  readonly unlisted: Members['unlisted'];
  readonly emptyBody: boolean;
  readonly hash: string;
}

/**
 * Decodes `params[0]` of mev_sendBundle.
 *
 * @param at - where the param begins in a request that has been parsed.
 * @param rules - of the side it came in on.
 */
export function decodeMevSendBundle(
  json: JsonText,
  at: number,
  rules: RuleTable<MevSendBundleDraft, DecodeContext>,
  context: DecodeContext,
): DecodedParam | FieldError {
  const parts = readBundle(json, at, 0, { transactions: 0 }, context);
  if (parts instanceof FieldError) return parts;
  const { fields, emptyBody } = parts;
  if (emptyBody && fields.replacementUuid === '') return orderError('bundle with no txs');

  const draft: MevSendBundleDraft = { fields, metadata: parts.metadata, emptyBody };
  const refused = firstRefusal(rules, draft, context);
  if (refused !== null) return refused;
  fillIn(rules, draft, context);
  if (draft.metadata !== null)
    fields.metadata = encodeObject(json, METADATA, draft.metadata, parts.metadataUnlisted);
  return {
    param: encodeObject(json, BUNDLE, fields, parts.unlisted),
    hash: context.hashes === false ? null : `0x${parts.hash}`,
    signer: draft.metadata === null ? null : addressOf(draft.metadata.signer),
  };
}

/** @returns a metadata object in which nothing is set. */
export function emptyMetadata(): MevMetadataFields {
  return { ...METADATA.absent };
}

function readBundle(
  json: JsonText,
  at: number,
  level: number,
  count: Count,
  context: DecodeContext,
): BundleParts | FieldError {
  const hashes = hashesOfLevel[level];
  if (hashes === undefined) return orderError('mev bundle too deep');
  const members = readMembers(json, at, BUNDLE, 0);
  if (members instanceof FieldError) return members;
  const fields = decodeFields(json, members, BUNDLE);
  if (fields instanceof FieldError) return fields;

  let metadata: MevMetadataFields | null = null;
  let metadataUnlisted: Members['unlisted'] = null;
  const metadataAt = offsetOf(members, META);
  if (metadataAt !== 0) {
    const inner = readMembers(json, metadataAt, METADATA, 0);
    if (inner instanceof FieldError) return inner.under('metadata');
    const read = decodeFields(json, inner, METADATA);
    if (read instanceof FieldError) return read.under('metadata');
    metadata = read;
    metadataUnlisted = inner.unlisted;
    fields.metadata = encodeObject(json, METADATA, metadata, metadataUnlisted);
  }

  hashes.clear();
  const bodyAt = offsetOf(members, BODY);
  let emptyBody = true;
  if (bodyAt !== 0) {
    const body = readBody(json, bodyAt, level, hashes, count, context);
    if (body instanceof FieldError) return body;
    fields.body = body;
    emptyBody = body === '[]';
  }
  return { fields, metadata, metadataUnlisted, unlisted: members.unlisted, emptyBody, hash: hashes.digest() };
}

/** @returns the body's canonical text; the hashes of its elements are left in `hashes`. */
function readBody(
  json: JsonText,
  at: number,
  level: number,
  hashes: HashList,
  count: Count,
  context: DecodeContext,
): string | FieldError {
  if (!json.isList(at)) return new FieldError('not a list', 'body');
  const offsets = json.elements(at, MAX_TRANSACTIONS);
  if (offsets === null) return orderError('too many txs in bundle');
  let body = '[';
  for (const [i, offset] of offsets.entries()) {
    const element = readElement(json, offset, level, hashes, count, context);
    if (element instanceof FieldError) return element.under(`body[${i}]`);
    body += i === 0 ? element : `,${element}`;
  }
  return `${body}]`;
}

function readElement(
  json: JsonText,
  at: number,
  level: number,
  hashes: HashList,
  count: Count,
  context: DecodeContext,
): string | FieldError {
  const members = readMembers(json, at, ELEMENT, 0);
  if (members instanceof FieldError) return members;
  const fields = decodeFields(json, members, ELEMENT);
  if (fields instanceof FieldError) return fields;
  if (fields.hash !== '') return orderError('mev bundle with unmatched tx');

  const txAt = offsetOf(members, TX);
  const innerAt = offsetOf(members, INNER);
  const strict = context.validation === 'strict';
  if (strict && (txAt !== 0) === (innerAt !== 0)) return new FieldError('needs either tx or bundle');
  if (txAt !== 0) {
    count.transactions++;
    if (count.transactions > MAX_TRANSACTIONS) return orderError('too many txs in bundle');
    // Beside a bundle v1 passes over a tx, and its hash does not count.
    const beside = innerAt !== 0;
    const tx = readTransaction(json, txAt, strict ? 'rules' : beside ? 'bytes' : 'shape', context.chainId);
    if (tx instanceof FieldError) return tx.under('tx');
    if (!beside && context.hashes !== false) hashes.addTransaction(tx.bytes);
    fields.tx = tx.quoted;
  }
  if (innerAt !== 0) {
    const inner = readBundle(json, innerAt, level + 1, count, context);
    if (inner instanceof FieldError) return inner.under('bundle');
    hashes.add(inner.hash);
    fields.bundle = encodeObject(json, BUNDLE, inner.fields, inner.unlisted);
  }
  return encodeObject(json, ELEMENT, fields, members.unlisted);
}
