/**
 * One order as a record of the stream: its method, the JSON text of its param with the transactions cut out, and
 * the transactions as raw bytes. The far end puts the two together and has the same canonical bytes, made without
 * parsing a single digit of hex.
 *
 *     method     1 byte, the method's place in METHODS
 *     count      1 byte, transactions cut out (at most 100)
 *     text       4 bytes, length of the text
 *     cuts       per transaction 4 bytes offset in the text, 4 bytes length of its bytes
 *     the text, then the bytes of each transaction
 *
 * An offset is where the hex digits stood: behind `"0x` and before the closing quote. A cut may stand only where the
 * order has a transaction, which the order's own decoder finds out (hex.ts asks `RawStrings.take` there).
 *
 * Limits: text that is not ASCII has no cuts. What the order may contain is the order decoder's business; here a
 * record is only held to its own arithmetic.
 */
import { isAscii } from 'node:buffer';
import { Rejection } from '../errors.ts';
import { JsonText, type RawStrings } from '../json.ts';
import { RefusedRequest, type RpcRequest } from '../json-rpc.ts';
import { METHODS, type Method } from '../order.ts';
import { MAX_TRANSACTIONS } from '../order-transactions.ts';

const HEAD_BYTES = 6;
const CUT_BYTES = 8;
const QUOTE = 0x22;
const COMMA = 0x2c;
const OPEN_LIST = 0x5b;
const CLOSE_LIST = 0x5d;
const DIGITS_AT = 3;
const OPEN_TRANSACTION = '"0x';

/** What stands around the param in the canonical form (protocol section 4). */
const TAIL = '],"id":0,"jsonrpc":"2.0"}';
const HEADS: Readonly<Record<Method, string>> = {
  eth_sendBundle: headOf('eth_sendBundle'),
  mev_sendBundle: headOf('mev_sendBundle'),
  eth_cancelBundle: headOf('eth_cancelBundle'),
  eth_sendRawTransaction: headOf('eth_sendRawTransaction'),
  bid_subsidiseBlock: headOf('bid_subsidiseBlock'),
};
const TXS = '{"txs":';
/** A param's depth in its request: the decoders see it as they do over HTTP. */
const PARAM_DEPTH = 2;

function headOf(method: Method): string {
  return `{"method":"${method}","params":[`;
}

/**
 * Makes the record of an order, once for all peers.
 *
 * @param canonical the canonical form of an order that a decoder of this node has made
 */
export function encodeRecord(method: Method, canonical: Buffer): Buffer {
  const start = HEADS[method].length;
  const end = canonical.length - TAIL.length;
  const cuts = isAscii(canonical) ? findTransactions(method, canonical, start) : [];
  let digits = 0;
  for (let i = 0; i < cuts.length; i += 2) digits += (cuts[i + 1] ?? 0) - (cuts[i] ?? 0);

  const count = cuts.length / 2;
  const textBytes = end - start - digits;
  const record = Buffer.allocUnsafe(HEAD_BYTES + count * CUT_BYTES + textBytes + digits / 2);
  record[0] = METHODS.indexOf(method);
  record[1] = count;
  record.writeUInt32BE(textBytes, 2);
  let cutAt = HEAD_BYTES;
  const textStart = HEAD_BYTES + count * CUT_BYTES;
  let textAt = textStart;
  let rawAt = textStart + textBytes;
  let from = start;
  for (let i = 0; i < cuts.length; i += 2) {
    const open = cuts[i] ?? 0;
    const close = cuts[i + 1] ?? 0;
    textAt += canonical.copy(record, textAt, from, open);
    record.writeUInt32BE(textAt - textStart, cutAt);
    record.writeUInt32BE((close - open) / 2, cutAt + 4);
    cutAt += CUT_BYTES;
    rawAt += record.write(canonical.toString('latin1', open, close), rawAt, 'hex');
    from = close;
  }
  canonical.copy(record, textAt, from, end);
  return record;
}

/** @returns begin and end of the hex digits of each transaction, in turn. */
function findTransactions(method: Method, canonical: Buffer, start: number): number[] {
  const cuts: number[] = [];
  switch (method) {
    case 'eth_sendBundle':
      findInList(canonical, start + TXS.length, cuts);
      return cuts;
    case 'eth_sendRawTransaction':
      cutOut(canonical, start, cuts);
      return cuts;
    case 'mev_sendBundle':
      findInMevBundle(new JsonText(canonical), start, cuts);
      return cuts;
    default:
      return cuts;
  }
}

/** The list `txs`, of hex strings alone; or `null`. */
function findInList(canonical: Buffer, at: number, cuts: number[]): void {
  if (canonical[at] !== OPEN_LIST || canonical[at + 1] === CLOSE_LIST) return;
  let next = at + 1;
  for (;;) {
    next = cutOut(canonical, next, cuts);
    if (canonical[next] !== COMMA) return;
    next++;
  }
}

/** @param at of the opening quote of a hex string. @returns the offset behind it. */
function cutOut(canonical: Buffer, at: number, cuts: number[]): number {
  const open = at + DIGITS_AT;
  const close = canonical.indexOf(QUOTE, open);
  if (close > open && isEven(close - open)) cuts.push(open, close);
  return close + 1;
}

/** Hex that a decoder has let through always is; whatever else there may be stays text. */
function isEven(digits: number): boolean {
  return digits % 2 === 0;
}

/** By the members' names, as text elsewhere may look like a transaction: 1 order in 16 is of this method. */
function findInMevBundle(json: JsonText, at: number, cuts: number[]): void {
  const bodyAt = memberAt(json, at, 'body');
  if (bodyAt < 0 || !json.isList(bodyAt)) return;
  for (const element of json.elements(bodyAt, MAX_TRANSACTIONS) ?? []) {
    const txAt = memberAt(json, element, 'tx');
    if (txAt >= 0) {
      const end = json.skipString(txAt) - 1;
      const open = txAt + DIGITS_AT;
      if (end > open && isEven(end - open)) cuts.push(open, end);
    }
    const innerAt = memberAt(json, element, 'bundle');
    if (innerAt >= 0) findInMevBundle(json, innerAt, cuts);
  }
}

/** @returns where the value of an object's member begins, -1 when there is none. Canonical text: no white space. */
function memberAt(json: JsonText, objectAt: number, key: string): number {
  let at = objectAt + 1;
  while (json.isString(at)) {
    const valueAt = json.skipKey(at);
    if (valueAt < 0) return -1;
    if (json.string(at) === key) return valueAt;
    at = json.skipValue(valueAt, 0) + 1;
    if (at <= 0) return -1;
  }
  return -1;
}

/** A record that holds to its own arithmetic. */
export class OrderRecord implements RawStrings {
  readonly method: Method;
  /** The text with empty transactions, UTF-8. */
  readonly text: Buffer;
  readonly #record: Buffer;
  readonly #count: number;
  /** Where the bytes of the transactions begin. */
  readonly #rawStart: number;
  #json: JsonText | null = null;
  /** Cuts that the order's decoder has asked for, and the bytes up to there. */
  #taken = 0;
  #takenBytes = 0;

  constructor(method: Method, record: Buffer, count: number, textStart: number, textEnd: number) {
    this.method = method;
    this.text = record.subarray(textStart, textEnd);
    this.#record = record;
    this.#count = count;
    this.#rawStart = textEnd;
  }

  /** Length of the canonical form, bytes. */
  get canonicalBytes(): number {
    const raw = this.#record.length - this.#rawStart;
    return HEADS[this.method].length + this.text.length + 2 * raw + TAIL.length;
  }

  /** @returns what the order's decoder reads, or why it is no JSON. */
  request(): RpcRequest | RefusedRequest {
    const json = new JsonText(this.text);
    if (json.skipValue(0, PARAM_DEPTH) !== json.text.length) return NOT_JSON;
    json.raws = this;
    this.#json = json;
    return { method: this.method, idText: '0', json, paramAt: 0, record: this };
  }

  take(at: number): Buffer | null {
    if (this.#taken === this.#count) return null;
    const cut = HEAD_BYTES + this.#taken * CUT_BYTES;
    const digitsAt = at + DIGITS_AT;
    if (this.#record.readUInt32BE(cut) !== digitsAt) return null;
    const { text } = this;
    if (text[digitsAt] !== QUOTE || this.#json?.text.startsWith(OPEN_TRANSACTION, at) !== true) return null;
    const start = this.#rawStart + this.#takenBytes;
    const length = this.#record.readUInt32BE(cut + 4);
    this.#taken++;
    this.#takenBytes += length;
    return this.#record.subarray(start, start + length);
  }

  /**
   * Puts the canonical form together.
   *
   * @param param the canonical text that the decoder made of this record's
   * @returns null when the record was not canonical, or cut where no transaction is
   */
  canonical(param: string): Buffer | null {
    if (this.#taken !== this.#count || this.#json?.text !== param) return null;
    // Not from the record's bytes, which need be no UTF-8 where nothing is cut.
    if (this.#count === 0) return Buffer.from(HEADS[this.method] + param + TAIL);
    const { text } = this;
    const head = HEADS[this.method];
    const canonical = Buffer.allocUnsafe(this.canonicalBytes);
    let at = canonical.write(head, 0, 'latin1');
    let textAt = 0;
    let rawAt = this.#rawStart;
    for (let i = 0; i < this.#count; i++) {
      const cut = HEAD_BYTES + i * CUT_BYTES;
      const offset = this.#record.readUInt32BE(cut);
      const rawEnd = rawAt + this.#record.readUInt32BE(cut + 4);
      at += text.copy(canonical, at, textAt, offset);
      // Digits of hex are one byte each.
      at += canonical.write(this.#record.toString('hex', rawAt, rawEnd), at, 'latin1');
      textAt = offset;
      rawAt = rawEnd;
    }
    at += text.copy(canonical, at, textAt);
    canonical.write(TAIL, at, 'latin1');
    return canonical;
  }
}

const NOT_JSON = new RefusedRequest(new Rejection('parse_error', 'record: not valid JSON'), '0');

/**
 * Reads a record. Nothing is allocated by its numbers: they must fit the bytes that are there.
 *
 * @param record kept, not copied
 * @returns null when its numbers do not fit
 */
export function decodeRecord(record: Buffer): OrderRecord | null {
  if (record.length < HEAD_BYTES) return null;
  const method = METHODS[record.readUInt8(0)];
  const count = record.readUInt8(1);
  const textBytes = record.readUInt32BE(2);
  const textStart = HEAD_BYTES + count * CUT_BYTES;
  const textEnd = textStart + textBytes;
  if (method === undefined || count > MAX_TRANSACTIONS || textEnd > record.length) return null;
  let rawBytes = 0;
  let last = 0;
  for (let cut = HEAD_BYTES; cut < textStart; cut += CUT_BYTES) {
    const offset = record.readUInt32BE(cut);
    // Two cuts have a quote, a comma and a quote between them at least, so no offset comes twice.
    if (offset <= last || offset >= textBytes) return null;
    last = offset;
    rawBytes += record.readUInt32BE(cut + 4);
  }
  if (textEnd + rawBytes !== record.length) return null;
  if (count > 0 && !isAscii(record.subarray(textStart, textEnd))) return null;
  return new OrderRecord(method, record, count, textStart, textEnd);
}
