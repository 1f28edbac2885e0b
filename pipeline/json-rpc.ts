/**
 * The JSON-RPC envelope: what a request must look like before anybody looks at its order (protocol section 2,
 * in that table's order), and the text of the answers.
 *
 * Limits: the body's size is bounded by who reads it, its nesting in json.ts, its keys in fields.ts.
 */
import { Rejection } from './errors.ts';
import { FieldError, objectShape, readMembers } from './fields.ts';
import { JsonText } from './json.ts';
import { METHODS, type Method } from './order.ts';

/** A request of a method this node knows with as many params as it takes (each takes one). */
export interface RpcRequest {
  readonly method: Method;
  /** The id as it was sent, down to the last digit; `null` when there is none. */
  readonly idText: string;
  readonly json: JsonText;
  /** Where `params[0]` begins in `json.text`. */
  readonly paramAt: number;
  /** Of an order that came over a peer's stream: it has the transactions, which are cut out of the text. */
  readonly record?: CutOrder;
}

/** An order whose canonical form is put together from its text and its transactions. */
export interface CutOrder {
  /** @param param - as the decoder wrote it. @returns null when what came was not in canonical form. */
  canonical(param: string): Buffer | null;
}

/** A body that is no such request. */
export class RefusedRequest {
  readonly rejection: Rejection;
  /** The id to answer with. */
  readonly idText: string;

  constructor(rejection: Rejection, idText = 'null') {
    this.rejection = rejection;
    this.idText = idText;
  }
}

const REQUEST = objectShape([
  { key: 'jsonrpc', decode: null },
  { key: 'id', decode: null },
  { key: 'method', decode: null },
  { key: 'params', decode: null },
]);

/** The one param of each method, as the answer to its absence names it. */
const PARAM: Record<Method, string> = {
  eth_sendBundle: 'a bundle',
  mev_sendBundle: 'a bundle',
  eth_cancelBundle: 'an object with replacementUuid',
  eth_sendRawTransaction: 'a hex transaction',
  bid_subsidiseBlock: 'an amount',
};

const KNOWN_METHODS: ReadonlyMap<string, Method> = new Map(METHODS.map((method) => [method, method]));

/**
 * Reads the envelope of a request.
 *
 * @param body - UTF-8; bytes that are none count as U+FFFD.
 */
export function parseRequest(body: Buffer): RpcRequest | RefusedRequest {
  const json = new JsonText(body);
  const start = json.skipSpace(0);
  if (json.isList(start)) return parseError('batch requests are not accepted');
  if (!json.isObject(start)) return parseError('request: not a JSON object');
  const members = readMembers(json, start, REQUEST, 0);
  if (members instanceof FieldError) return parseError(members.under('request').message);
  if (json.skipSpace(members.end) !== json.text.length) return parseError('request: not valid JSON');

  const [versionAt = 0, idAt = 0, methodAt = 0, paramsAt = 0] = members.offsets;
  if (methodAt !== 0 && !json.isString(methodAt)) return parseError('method is not a string');
  if (paramsAt !== 0 && !json.isList(paramsAt)) return parseError('params is not a list');

  const idText = idAt === 0 ? 'null' : json.raw(idAt);
  const idIsValid = idAt === 0 || /^["\-0-9]/.test(idText);
  const idOfAnswer = idIsValid ? idText : 'null';
  if (versionAt === 0 || !json.isString(versionAt) || json.string(versionAt) !== '2.0') {
    return parseError('invalid jsonrpc version', idOfAnswer);
  }
  if (!idIsValid) return parseError('invalid id type');

  const method = methodAt === 0 ? undefined : KNOWN_METHODS.get(json.string(methodAt));
  if (method === undefined)
    return new RefusedRequest(new Rejection('method_not_found', 'method not found'), idText);
  const params = paramsAt === 0 ? [] : json.elements(paramsAt, 1);
  if (params === null) return refuseParams('too much arguments', idText);
  const [paramAt] = params;
  if (paramAt === undefined) {
    return refuseParams(`too few arguments: params[0] is missing, ${PARAM[method]}`, idText);
  }
  return { method, idText, json, paramAt };
}

function parseError(message: string, idText = 'null'): RefusedRequest {
  return new RefusedRequest(new Rejection('parse_error', message), idText);
}

function refuseParams(message: string, idText: string): RefusedRequest {
  return new RefusedRequest(new Rejection('invalid_params', message), idText);
}

/**
 * @param idText - of the request, as JSON text.
 * @param resultJson - the result as JSON text.
 */
export function encodeResult(idText: string, resultJson: string): string {
  return `{"jsonrpc":"2.0","id":${idText},"result":${resultJson}}`;
}

/** @param idText - of the request, as JSON text. */
export function encodeError(idText: string, code: number, message: string): string {
  return `{"jsonrpc":"2.0","id":${idText},"error":{"code":${code},"message":${JSON.stringify(message)}}}`;
}
