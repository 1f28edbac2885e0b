/** vectors/orders.json, made by the reference's types: canonical bytes, bundle hash and bundle id of each order. */
import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { bundleUuid } from './bundle-uuid.ts';
import { decodeOrder, decodeOrderWith } from './decode.ts';
import { Rejection } from './errors.ts';
import { parseRequest, RefusedRequest } from './json-rpc.ts';
import type { Order } from './order.ts';
import type { DecodeContext } from './order-context.ts';
import type { SideRules } from './side-rules.ts';
import { bodyOf, contextOf, NO_RULES, recover } from './testing/random-orders.ts';

interface Vectors {
  accepted: { method: string; param: string; canonical: string; bundleHash?: string; bundleUuid?: string }[];
  rejected: { method: string; param: string; why: string }[];
}

const vectors: Vectors = JSON.parse(
  readFileSync(new URL('../testing/vectors/orders.json', import.meta.url), 'utf8'),
);

function decode(method: string, param: string, context: DecodeContext, rules?: SideRules): Order | Rejection {
  const request = parseRequest(bodyOf(method, param));
  if (request instanceof RefusedRequest) return request.rejection;
  return rules === undefined ? decodeOrder(request, context) : decodeOrderWith(rules, request, context);
}

const accepted = vectors.accepted.map((vector, i) => ({ name: `${i} ${vector.method}`, ...vector }));
const rejected = vectors.rejected.map((vector, i) => ({
  name: `${i} ${vector.method}: ${vector.why}`,
  ...vector,
}));

describe('accepted orders', () => {
  test('are there', () => {
    expect(accepted).toHaveLength(182);
  });

  test.each(accepted)('$name', ({ method, param, canonical, bundleHash, bundleUuid: uuid }) => {
    const order = decode(method, param, contextOf({ validation: 'off' }), NO_RULES);
    if (order instanceof Rejection) throw new Error(order.message);
    expect(order.canonical.toString()).toBe(canonical);
    expect(order.hash).toBe(bundleHash ?? null);
    if (uuid !== undefined) expect(bundleUuid(order.canonical, recover)).toBe(uuid);
  });

  test.each(accepted)('$name, strictly', ({ method, param, canonical }) => {
    const order = decode(method, param, contextOf(), NO_RULES);
    // One bundle was made for the rules before Prague.
    if (order instanceof Rejection)
      expect(order.message).toBe('txs[0]: gas limit is below the calldata floor (EIP-7623)');
    else expect(order.canonical.toString()).toBe(canonical);
  });

  test('only one of them breaks a rule that is younger than the vectors', () => {
    const refused = accepted.filter(
      ({ method, param }) => decode(method, param, contextOf(), NO_RULES) instanceof Rejection,
    );
    expect(refused).toHaveLength(1);
  });
});

describe('rejected orders', () => {
  test('are there', () => {
    expect(rejected).toHaveLength(49);
  });

  test.each(rejected)('$name', ({ method, param, why }) => {
    // Which versions there are is a rule of the sides; everything else is refused by the types alone.
    const rules = why === 'unsupported bundle version' ? undefined : NO_RULES;
    expect(decode(method, param, contextOf({ side: 'system' }), rules)).toHaveProperty(
      'kind',
      'invalid_params',
    );
    expect(decode(method, param, contextOf({ side: 'user' }))).toHaveProperty('kind', 'invalid_params');
  });
});
