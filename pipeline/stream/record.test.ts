import { readFileSync } from 'node:fs';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { createOrderSource } from '../../devnet/orders.ts';
import { decodeOrder } from '../decode.ts';
import { Rejection } from '../errors.ts';
import { parseRequest, RefusedRequest } from '../json-rpc.ts';
import type { Method, Order } from '../order.ts';
import type { DecodeContext } from '../order-context.ts';
import { ReplacementNonces } from '../replacement-nonces.ts';
import { systemOrders } from '../testing/random-orders.ts';
import { decodeRecord, encodeRecord } from './record.ts';

const SEED = 20_260_801;
const SIGNER = `0x${'ab'.repeat(20)}` as const;

function context(validation: 'strict' | 'off' = 'off', hashes = true): DecodeContext {
  return {
    side: 'system',
    signer: SIGNER,
    isFlashbots: true,
    receivedAtUs: 1,
    validation,
    chainId: 1n,
    nonces: new ReplacementNonces(),
    hashes,
  };
}

function overV1(body: Buffer, validation?: 'strict' | 'off'): Order | Rejection {
  const request = parseRequest(body);
  if (request instanceof RefusedRequest) return request.rejection;
  return decodeOrder(request, context(validation));
}

function overStream(record: Buffer, validation?: 'strict' | 'off'): Order | Rejection | null {
  const request = decodeRecord(record)?.request() ?? null;
  if (request === null) return null;
  return request instanceof RefusedRequest ? request.rejection : decodeOrder(request, context(validation));
}

function canonicalOf(method: string, param: string): Buffer {
  return Buffer.from(`{"method":"${method}","params":[${param}],"id":0,"jsonrpc":"2.0"}`);
}

function order(body: Buffer): Order {
  const decoded = overV1(body);
  if (decoded instanceof Rejection) throw new Error(decoded.message);
  return decoded;
}

/** A record as somebody else might make it. */
function record(method: number, text: string, cuts: readonly (readonly [at: number, raw: Buffer])[]): Buffer {
  const bytes = Buffer.from(text);
  const head = Buffer.alloc(6 + cuts.length * 8);
  head[0] = method;
  head[1] = cuts.length;
  head.writeUInt32BE(bytes.length, 2);
  for (const [i, [at, raw]] of cuts.entries()) {
    head.writeUInt32BE(at, 6 + i * 8);
    head.writeUInt32BE(raw.length, 10 + i * 8);
  }
  return Buffer.concat([head, bytes, ...cuts.map(([, raw]) => raw)]);
}

describe('the same order at both ends', () => {
  test('orders as seen in the field: bytes, hash, key and signer as over v1, and half the length', () => {
    const source = createOrderSource({ seed: 'records' });
    let canonicalBytes = 0;
    let recordBytes = 0;
    for (let i = 0; i < 300; i++) {
      const { method, canonical } = source.next();
      const bytes = encodeRecord(method, canonical);
      expect(overStream(bytes)).toEqual(order(canonical));
      expect(overStream(bytes)).toMatchObject({ canonical });
      expect(decodeRecord(bytes)?.canonicalBytes).toBe(canonical.length);
      canonicalBytes += canonical.length;
      recordBytes += bytes.length;
    }
    expect(recordBytes / canonicalBytes).toBeLessThan(0.56);
  });

  test("the reference's orders: its canonical bytes at the far end", () => {
    const { accepted } = JSON.parse(
      readFileSync(new URL('../../testing/vectors/orders.json', import.meta.url), 'utf8'),
    ) as { accepted: { method: Method; canonical: string }[] };
    const passed = accepted.filter(({ method, canonical }) => {
      const body = Buffer.from(canonical);
      const far = overStream(encodeRecord(method, body));
      expect(far).toEqual(overV1(body));
      return !(far instanceof Rejection);
    });
    expect(new Set(passed.map(({ method }) => method)).size).toBe(5);
    expect(passed.length).toBeGreaterThan(150);
  });

  test('random orders of every method and spelling, texts beyond ASCII among them', () => {
    fc.assert(
      fc.property(systemOrders, fc.constantFrom('off', 'strict'), ({ method, param }, validation) => {
        const first = overV1(canonicalOf(method, param));
        if (first instanceof Rejection) return;
        const bytes = encodeRecord(first.method, first.canonical);
        expect(overStream(bytes, validation as 'off')).toEqual(overV1(first.canonical, validation as 'off'));
      }),
      { seed: SEED, numRuns: 2_000 },
    );
  });

  test('text that looks like a transaction and is none stays text', () => {
    const texts = [
      '{"txs":["0x01"],"blockNumber":null,"version":"v2","note":{"tx":"0x1234","txs":["0x55"]}}',
      '{"txs":null,"blockNumber":null,"replacementUuid":"11111111-1111-1111-1111-111111111111","version":"v2"}',
      '{"txs":[],"blockNumber":null,"replacementUuid":"11111111-1111-1111-1111-111111111111","version":"v2"}',
      '{"txs":["0x","0x02"],"blockNumber":null,"version":"v2"}',
    ];
    for (const text of texts) {
      const { canonical } = order(canonicalOf('eth_sendBundle', text));
      expect(overStream(encodeRecord('eth_sendBundle', canonical))).toMatchObject({ canonical });
    }
    const source = createOrderSource({ seed: 'mev' });
    let mev = source.next();
    while (mev.method !== 'mev_sendBundle') mev = source.next();
    const marked = Buffer.from(
      mev.canonical
        .toString()
        .replace('"version":"v0.1"', String.raw`"version":"\"body\":[{\"tx\":\"0x12\"}]"`),
    );
    const { canonical } = order(marked);
    expect(overStream(encodeRecord('mev_sendBundle', canonical))).toMatchObject({ canonical });
  });
});

describe('records that no node of ours makes', () => {
  const param = '{"txs":["0x","0x"],"blockNumber":null,"version":"v2"}';
  const [first, second] = [11, 16];
  const raw = Buffer.from('0102', 'hex');

  test('a good one, to compare with', () => {
    expect(param.slice(first - 3, first + 1)).toBe('"0x"');
    const decoded = overStream(
      record(0, param, [
        [first, raw],
        [second, raw],
      ]),
    );
    expect(decoded).toMatchObject({
      canonical: canonicalOf('eth_sendBundle', param.replaceAll('0x', '0x0102')),
    });
  });

  test.each<[string, Buffer]>([
    ['nothing', Buffer.alloc(0)],
    ['a head cut short', record(0, param, []).subarray(0, 5)],
    ['a method that is none', record(9, param, [])],
    ['a text longer than the record', record(0, param, []).subarray(0, 20)],
    ['bytes too many', Buffer.concat([record(0, param, []), Buffer.alloc(1)])],
    [
      'cuts in the wrong order',
      record(0, param, [
        [second, raw],
        [first, raw],
      ]),
    ],
    [
      'two cuts in one place',
      record(0, param, [
        [first, raw],
        [first, raw],
      ]),
    ],
    ['a cut behind the text', record(0, param, [[param.length, raw]])],
    [
      '101 cuts',
      record(
        0,
        ' '.repeat(500),
        Array.from({ length: 101 }, (_, i) => [i + 1, raw] as const),
      ),
    ],
    ['text beyond ASCII beside a cut', record(0, param.replace('v2', 'é'), [[first, raw]])],
  ])('%s is malformed', (_name, bytes) => {
    expect(decodeRecord(bytes)).toBeNull();
  });

  test.each<[string, Buffer, RegExp]>([
    ['a cut in another string', record(0, param, [[param.indexOf('v2'), raw]]), /canonical/],
    [
      'a cut in the middle of digits',
      record(0, param.replace('"0x"', '"0x01"'), [[first + 2, raw]]),
      /canonical/,
    ],
    ['a cut before digits', record(0, param.replace('"0x"', '"0x01"'), [[first, raw]]), /canonical/],
    [
      'keys in another order',
      record(0, '{"blockNumber":null,"txs":["0x"],"version":"v2"}', [[30, raw]]),
      /canonical/,
    ],
    ['white space', record(0, param.replace(',', ', '), []), /canonical/],
    [
      'a key twice',
      record(0, '{"txs":null,"txs":["0x"],"blockNumber":null,"version":"v2"}', [[21, raw]]),
      /canonical/,
    ],
    ['upper case', record(3, '"0xAB"', []), /canonical/],
    ['bytes that are no UTF-8', record(3, '"0x01"', []).fill(0xff, 6, 7), /JSON|canonical/],
    ['no JSON', record(0, '{"txs":', []), /JSON/],
    ['two values', record(3, '"0x01""0x02"', []), /JSON/],
    [
      'what the system side refuses',
      record(0, param.replace(',"version":"v2"', ''), []),
      /version field should be set/,
    ],
  ])('%s is refused', (_name, bytes, reason) => {
    const refused = overStream(bytes);
    expect(refused).toBeInstanceOf(Rejection);
    expect((refused as Rejection).message).toMatch(reason);
  });

  test('whatever comes, an order is either as over v1 or refused', () => {
    const source = createOrderSource({ seed: 'mutants', bodyBytes: 900 });
    const good = Array.from({ length: 40 }, () => source.next()).map(({ method, canonical }) =>
      encodeRecord(method, canonical),
    );
    const edits = fc.array(fc.tuple(fc.nat(), fc.integer({ min: 0, max: 255 })), {
      minLength: 1,
      maxLength: 4,
    });
    fc.assert(
      fc.property(fc.nat(good.length - 1), edits, (index, changes) => {
        const mutant = Buffer.from(good[index]!);
        for (const [at, value] of changes) mutant[at % mutant.length] = value;
        const decoded = overStream(mutant);
        if (decoded === null || decoded instanceof Rejection) return;
        expect(overV1(decoded.canonical)).toEqual(decoded);
      }),
      { seed: SEED, numRuns: 20_000 },
    );
  });

  test('hashes are made only where somebody is told', () => {
    const { method, canonical } = createOrderSource({ seed: 'hash', methods: 'bundles' }).next();
    const request = decodeRecord(encodeRecord(method, canonical))!.request();
    if (request instanceof RefusedRequest) throw new Error('refused');
    expect(decodeOrder(request, context('off', false))).toMatchObject({ hash: null, canonical });
  });
});
