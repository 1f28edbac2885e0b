/** Properties of the whole way from a body to an order, over random orders and what random damage makes of them. */
import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { decodeOrder, decodeOrderWith, userOrderKey } from './decode.ts';
import { REJECTIONS, Rejection } from './errors.ts';
import { parseRequest, RefusedRequest } from './json-rpc.ts';
import type { Order } from './order.ts';
import type { DecodeContext } from './order-context.ts';
import {
  bodyOf,
  contextOf,
  NO_RULES,
  type RandomOrder,
  systemOrders,
  userOrders,
} from './testing/random-orders.ts';

/** Fixed, so that a failing run can be repeated; fast-check prints it with the counterexample. */
const SEED = 20_261_123;
const runs = (numRuns: number) => ({ seed: SEED, numRuns });

function decode(body: Buffer, context: DecodeContext): Order | Rejection {
  const request = parseRequest(body);
  return request instanceof RefusedRequest ? request.rejection : decodeOrder(request, context);
}

function accepted(result: Order | Rejection): Order {
  if (result instanceof Rejection) throw new Error(result.message);
  return result;
}

describe('random orders', () => {
  test.each(['strict', 'off'] as const)('canonical bytes decode to themselves, %s', (validation) => {
    fc.assert(
      fc.property(systemOrders, ({ method, param }) => {
        const context = contextOf({ validation });
        const order = accepted(decode(bodyOf(method, param), context));
        const again = accepted(decode(order.canonical, context));
        expect(again.canonical.toString()).toBe(order.canonical.toString());
        expect(again).toEqual(order);
      }),
      runs(400),
    );
  });

  test('what a user sends becomes what a peer keeps as it is', () => {
    fc.assert(
      fc.property(userOrders, ({ method, param }) => {
        const sent = accepted(decode(bodyOf(method, param), contextOf({ side: 'user' })));
        const kept = accepted(
          decode(sent.canonical, contextOf({ side: 'system', signer: `0x${'99'.repeat(20)}` })),
        );
        expect(kept.canonical.toString()).toBe(sent.canonical.toString());
        expect(kept.hash).toBe(sent.hash);
        expect(sent.signer).toBe(contextOf().signer);
        if (method !== 'eth_sendRawTransaction') expect(kept.signer).toBe(sent.signer);
      }),
      runs(300),
    );
  });

  test('the dedupe key of a user order can be told from what the archive keeps of it', () => {
    fc.assert(
      fc.property(userOrders, ({ method, param }) => {
        const order = accepted(decode(bodyOf(method, param), contextOf({ side: 'user' })));
        expect(userOrderKey(order.method, order.canonical, order.signer)).toBe(order.key);
      }),
      runs(300),
    );
  });

  test('canonical bytes are JSON without white space that JSON.parse reads alike', () => {
    fc.assert(
      fc.property(systemOrders, ({ method, param }) => {
        const { canonical } = accepted(decode(bodyOf(method, param), contextOf()));
        const parsed: { method: string; id: number; jsonrpc: string } = JSON.parse(canonical.toString());
        expect(parsed).toMatchObject({ method, id: 0, jsonrpc: '2.0' });
        expect(Object.keys(parsed)).toEqual(['method', 'params', 'id', 'jsonrpc']);
        expect(canonical.toString().replace(/"(?:[^"\\]|\\.)*"/g, '')).not.toMatch(/\s/);
      }),
      runs(300),
    );
  });

  test('the order of listed keys, white space, escapes and the case of hex do not change the canonical bytes', () => {
    fc.assert(
      fc.property(systemOrders, ({ method, param, respelled }) => {
        const order = accepted(decode(bodyOf(method, param), contextOf()));
        expect(accepted(decode(bodyOf(method, respelled), contextOf()))).toEqual(order);
      }),
      runs(500),
    );
  });
});

/** Ways to damage a body. */
const damage = fc.oneof(
  fc.record({ kind: fc.constant('flip' as const), at: fc.nat(), to: fc.nat(255) }),
  fc.record({ kind: fc.constant('cut' as const), at: fc.nat(), to: fc.nat(255) }),
  fc.record({ kind: fc.constant('drop' as const), at: fc.nat(), to: fc.nat(40) }),
  fc.record({ kind: fc.constant('double' as const), at: fc.nat(), to: fc.nat(40) }),
  fc.record({ kind: fc.constant('insert' as const), at: fc.nat(), to: fc.nat(255) }),
);

function damaged(body: Buffer, wounds: readonly { kind: string; at: number; to: number }[]): Buffer {
  let bytes = body;
  for (const { kind, at, to } of wounds) {
    const place = at % (bytes.length + 1);
    const head = bytes.subarray(0, place);
    if (kind === 'flip') bytes = Buffer.concat([head, Buffer.from([to]), bytes.subarray(place + 1)]);
    if (kind === 'cut') bytes = Buffer.from(head);
    if (kind === 'drop') bytes = Buffer.concat([head, bytes.subarray(place + to)]);
    if (kind === 'double') bytes = Buffer.concat([head, bytes.subarray(Math.max(0, place - to))]);
    if (kind === 'insert') bytes = Buffer.concat([head, Buffer.from([to]), bytes.subarray(place)]);
  }
  return bytes;
}

/** Changes one place of a JSON tree: renames a key, swaps a value, removes, wraps. */
function mutateTree(value: unknown, path: readonly number[], replacement: unknown): unknown {
  const [step, ...rest] = path;
  if (step === undefined || typeof value !== 'object' || value === null) return replacement;
  if (Array.isArray(value)) {
    if (value.length === 0) return [replacement];
    return value.map((element, i) =>
      i === step % value.length ? mutateTree(element, rest, replacement) : element,
    );
  }
  const entries = Object.entries(value);
  const chosen = step % (entries.length + 1);
  const key = typeof replacement === 'string' ? replacement : 'extra';
  if (chosen === entries.length) return { ...value, [key]: replacement };
  const members = entries.map(([name, inner], i): [string, unknown] => {
    if (i !== chosen) return [name, inner];
    return step % 3 === 0
      ? [step % 2 === 0 ? name.toUpperCase() : key, inner]
      : [name, mutateTree(inner, rest, replacement)];
  });
  return Object.fromEntries(members);
}

describe('damaged requests', () => {
  const kinds = Object.keys(REJECTIONS);

  /** An order or a row of the table, never an exception; and no order that is not canonical. */
  function expectAnswer(body: Buffer, context: DecodeContext): void {
    const result = decode(body, context);
    if (result instanceof Rejection) {
      expect(kinds).toContain(result.kind);
      expect(result.message).not.toBe('');
      return;
    }
    const request = parseRequest(result.canonical);
    if (request instanceof RefusedRequest) throw new Error(request.rejection.message);
    // Without the rules of a side: the user API takes what peers refuse (version v1 with a refund).
    const again = accepted(decodeOrderWith(NO_RULES, request, context));
    expect(again.canonical.toString()).toBe(result.canonical.toString());
  }

  const everyOrder: fc.Arbitrary<{ order: RandomOrder; context: DecodeContext }> = fc
    .tuple(
      fc.oneof(
        systemOrders.map((order) => ({ order, side: 'system' as const })),
        userOrders.map((order) => ({ order, side: 'user' as const })),
      ),
      fc.constantFrom('strict' as const, 'off' as const),
    )
    .map(([{ order, side }, validation]) => ({ order, context: contextOf({ side, validation }) }));

  test('bytes flipped, cut off, dropped, doubled, put in', () => {
    fc.assert(
      fc.property(
        everyOrder,
        fc.array(damage, { minLength: 1, maxLength: 3 }),
        ({ order, context }, wounds) => {
          expectAnswer(damaged(bodyOf(order.method, order.param), wounds), context);
        },
      ),
      runs(2000),
    );
  });

  test('keys renamed, values of other types, members removed and added', () => {
    const replacement = fc.oneof(
      fc.jsonValue({ maxDepth: 2 }),
      fc.constantFrom('TXS', 'uuid', 'version', 'v1', 'v2', '0x', '0x0', '', '__proto__', 1e21, -0, 1.5),
    );
    fc.assert(
      fc.property(
        everyOrder,
        fc.array(fc.nat(200), { maxLength: 6 }),
        replacement,
        ({ order, context }, path, value) => {
          const mutated = mutateTree(JSON.parse(order.param), path, value);
          expectAnswer(bodyOf(order.method, JSON.stringify(mutated)), context);
        },
      ),
      runs(2000),
    );
  });

  test('any bytes and any JSON', () => {
    const method = fc.constantFrom(
      'eth_sendBundle',
      'mev_sendBundle',
      'eth_cancelBundle',
      'eth_sendRawTransaction',
      'x',
    );
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), fc.json(), method, (bytes, json, name) => {
        expectAnswer(Buffer.from(bytes), contextOf());
        expectAnswer(Buffer.from(json), contextOf());
        expectAnswer(bodyOf(name, json), contextOf({ side: 'user' }));
      }),
      runs(1000),
    );
  });
});
