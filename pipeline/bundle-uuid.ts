/**
 * The id rbuilder gives an eth_sendBundle order: a UUID (version 5 in form, sha256 in substance) over what
 * makes the bundle, so that one bundle has one id on every builder. Not on the path of an order.
 *
 * Source: Validate in flashbots/go-utils, rpctypes/types.go, and its counterpart in rbuilder: a bundle of version v1,
 * or of none, hashes block, transactions and reverting hashes; v2 also the timestamps, the dropping hashes and
 * the refund.
 */
import { createHash } from 'node:crypto';
import { invalidParams, type Rejection } from './errors.ts';
import { BUNDLE_SHAPE, type EthSendBundleFields } from './eth-send-bundle.ts';
import { decodeFields, FieldError, offsetOf, readMembers, rowOf } from './fields.ts';
import { hexBytes } from './hex.ts';
import { parseRequest, RefusedRequest } from './json-rpc.ts';
import { keccak256 } from './keccak.ts';
import { MAX_TRANSACTIONS } from './order-transactions.ts';
import { decodeTransaction, type Recover, recoverSender, transactionHash } from './transaction.ts';

/** google/uuid's NewHash(sha256, uuid.Nil, …, 5) hashes this name space first. */
const NAME_SPACE = Buffer.alloc(16);

/**
 * @param canonical - of an eth_sendBundle order, with decodable transactions.
 * @param recover - for a refund without a recipient, which goes to the sender of the first transaction.
 * @returns the UUID in lower case with dashes.
 */
export function bundleUuid(canonical: Buffer, recover: Recover): string | Rejection {
  const request = parseRequest(canonical);
  if (request instanceof RefusedRequest) return request.rejection;
  if (request.method !== 'eth_sendBundle')
    return invalidParams('only eth_sendBundle orders have a bundle UUID');
  const { json, paramAt } = request;
  const members = readMembers(json, paramAt, BUNDLE_SHAPE, 0);
  if (members instanceof FieldError) return invalidParams(members.message);
  const fields = decodeFields(json, members, BUNDLE_SHAPE);
  if (fields instanceof FieldError) return invalidParams(fields.message);

  const txs: Buffer[] = [];
  const txsAt = offsetOf(members, rowOf(BUNDLE_SHAPE, 'txs'));
  const offsets = txsAt === 0 ? [] : json.elements(txsAt, MAX_TRANSACTIONS);
  if (offsets === null) return invalidParams('too many txs in bundle');
  for (const at of offsets) {
    const tx = hexBytes(json, at);
    if (tx instanceof FieldError) return invalidParams(tx.under('txs').message);
    txs.push(tx.bytes);
  }
  switch (fields.version) {
    case '':
    case '"v1"':
      return toUuid(version1(fields, txs));
    case '"v2"': {
      const parts = version2(fields, txs, recover);
      return typeof parts === 'string' ? invalidParams(parts) : toUuid(parts);
    }
    default:
      return invalidParams('unsupported bundle version');
  }
}

function version1(fields: EthSendBundleFields, txs: readonly Buffer[]): Uint8Array[] {
  return [
    signedVarint(BigInt.asIntN(64, block(fields))),
    bundleHash(txs),
    ...hashes(fields.revertingTxHashes),
  ];
}

function version2(
  fields: EthSendBundleFields,
  txs: readonly Buffer[],
  recover: Recover,
): Uint8Array[] | string {
  const reverting = hashes(fields.revertingTxHashes);
  const dropping = hashes(fields.droppingTxHashes);
  const parts = [
    varint(block(fields)),
    varint(BigInt(fields.minTimestamp || 0)),
    varint(fields.maxTimestamp === '' ? 2n ** 64n - 1n : BigInt(fields.maxTimestamp)),
    varint(BigInt(reverting.length)),
    varint(BigInt(dropping.length)),
    bundleHash(txs),
    ...reverting,
    ...dropping,
  ];
  const percent = BigInt(fields.refundPercent || 0);
  if (percent === 0n) return parts;

  const first = txs[0];
  const last = txs.at(-1);
  if (first === undefined || last === undefined) return 'bundle with no txs';
  let recipient = fields.refundRecipient.slice(3, -1);
  if (recipient === '') {
    const tx = decodeTransaction(first);
    if (typeof tx === 'string') return `txs[0]: ${tx}`;
    const sender = recoverSender(tx, recover);
    if (sender === null) return 'txs[0]: signature belongs to no key';
    recipient = sender.slice(2);
  }
  const texts = textsOf(fields.refundTxHashes);
  const refunded = texts.length === 0 ? [Buffer.from(transactionHash(last), 'hex')] : texts.map(looseHash);
  return [
    ...parts,
    Buffer.from([Number(percent & 0xffn)]),
    Buffer.from(recipient, 'hex'),
    varint(BigInt(refunded.length)),
    ...refunded,
  ];
}

function block(fields: EthSendBundleFields): bigint {
  return fields.blockNumber === 'null' ? 0n : BigInt(fields.blockNumber.slice(1, -1));
}

function bundleHash(txs: readonly Buffer[]): Buffer {
  return keccak256(Buffer.concat(txs.map((tx) => Buffer.from(transactionHash(tx), 'hex'))));
}

/** @param list - a canonical list of texts, empty when it is left out. */
function textsOf(list: string): string[] {
  const texts: string[] = list === '' ? [] : JSON.parse(list);
  return texts;
}

/** The bytes of a canonical list of hashes, which is sorted already. */
function hashes(list: string): Buffer[] {
  return textsOf(list).map((hash) => Buffer.from(hash.slice(2), 'hex'));
}

/** go-ethereum's HexToHash: any text; what is no hex ends it, what is too long loses its front. */
function looseHash(text: string): Buffer {
  const digits = /^0x/i.test(text) ? text.slice(2) : text;
  const bytes = Buffer.from(digits.length % 2 === 1 ? `0${digits}` : digits, 'hex').subarray(-32);
  return Buffer.concat([Buffer.alloc(32 - bytes.length), bytes]);
}

/** Go's AppendUvarint: seven bits a byte, lowest first. */
function varint(value: bigint): Buffer {
  const bytes: number[] = [];
  let rest = value;
  for (; rest >= 0x80n; rest >>= 7n) bytes.push(Number(rest & 0x7fn) | 0x80);
  bytes.push(Number(rest));
  return Buffer.from(bytes);
}

/** Go's AppendVarint: zigzag, so that small negative numbers stay short. */
function signedVarint(value: bigint): Buffer {
  return varint(value < 0n ? ~(value << 1n) : value << 1n);
}

function toUuid(parts: readonly Uint8Array[]): string {
  const digest = createHash('sha256').update(NAME_SPACE).update(Buffer.concat(parts)).digest();
  digest[6] = (digest.readUInt8(6) & 0x0f) | 0x50;
  digest[8] = (digest.readUInt8(8) & 0x3f) | 0x80;
  const hex = digest.toString('hex', 0, 16);
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-${hex.slice(12, 16)}-${hex.slice(16, 20)}-${hex.slice(20)}`;
}
