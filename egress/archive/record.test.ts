import { createHash } from 'node:crypto';
import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  CHAIN_START,
  chainAfter,
  controlHeaders,
  decodeFrame,
  decodeRecord,
  encodeFrame,
  frameBytes,
  headerPrefix,
  isEncodable,
  isNodeId,
  type OrderRecord,
  orderHeaders,
} from './record.ts';
import { order } from './testing/orders.ts';

const SEED = 20_250_630;
const RUNS = { seed: SEED, numRuns: 300 };

const hexDigits = (length: number) =>
  fc
    .array(fc.constantFrom(...Array.from('0123456789abcdef')), { minLength: length, maxLength: length })
    .map((digits) => digits.join(''));

const orders: fc.Arbitrary<OrderRecord> = fc.record({
  method: fc.constantFrom('eth_sendBundle', 'mev_sendBundle', 'eth_cancelBundle', 'eth_sendRawTransaction'),
  value: fc.uint8Array({ maxLength: 5000 }).map((bytes) => Buffer.from(bytes)),
  receivedAtUs: fc.maxSafeNat(),
  signer: hexDigits(40).map((digits) => `0x${digits}` as const),
  hash: fc.option(hexDigits(64).map((digits) => `0x${digits}` as const)),
});

const nodeIds = fc.stringMatching(/^[A-Za-z0-9._:-]{1,64}$/);
const chains = hexDigits(32);

function frameOf(
  nodeId: string,
  epoch: number,
  sequence: number,
  index: number,
  chain: string,
  record: OrderRecord,
) {
  const headers = orderHeaders(headerPrefix(nodeId, epoch), sequence, chain, record);
  const frame = Buffer.alloc(frameBytes(headers, record.value));
  expect(encodeFrame(frame, 0, sequence, index, headers, record.value)).toBe(frame.length);
  return frame;
}

describe(`records (fast-check seed ${SEED})`, () => {
  test('what is encoded is decoded again', () => {
    fc.assert(
      fc.property(
        nodeIds,
        fc.maxSafeNat(),
        fc.integer({ min: 1, max: Number.MAX_SAFE_INTEGER }),
        chains,
        orders,
        fc.nat(100),
        (nodeId, epoch, sequence, chain, record, lead) => {
          const index = Math.min(sequence - 1, lead);
          const frame = frameOf(nodeId, epoch, sequence, index, chain, record);
          const buffer = Buffer.concat([Buffer.alloc(lead, 0xff), frame, Buffer.from('behind')]);
          const decoded = decodeFrame(buffer, lead, buffer.length);
          if (typeof decoded === 'string') throw new Error(decoded);
          expect(decoded).toMatchObject({ sequence, index, bytes: frame.length });
          expect(decodeRecord(decoded)).toEqual({ nodeId, epoch, sequence, chain, control: null, ...record });
          expect(isEncodable(record)).toBe(true);
        },
      ),
      RUNS,
    );
  });

  test('every change of one byte is noticed', () => {
    const frame = frameOf('node-1', 1_750_000_000_000_000, 7, 2, 'ab'.repeat(16), order(7));
    for (let at = 0; at < frame.length; at += 1) {
      for (const change of [0x01, 0x80, 0xff]) {
        const changed = Buffer.from(frame);
        changed[at]! ^= change;
        // As at the end of a file, and with more behind it.
        expect(decodeFrame(changed, 0, changed.length)).toBeTypeOf('string');
        const longer = Buffer.concat([changed, frame, frame]);
        expect(decodeFrame(longer, 0, longer.length)).toBeTypeOf('string');
      }
    }
  });

  test('every shorter piece of a frame is incomplete', () => {
    const frame = frameOf('node-1', 1, 7, 2, 'ab'.repeat(16), order(7));
    for (let length = 0; length < frame.length; length += 1) {
      expect(decodeFrame(frame, 0, length)).toBe('incomplete');
    }
  });

  test('zero bytes are no frame', () => {
    expect(decodeFrame(Buffer.alloc(4096), 0, 4096)).toBe('damaged');
  });

  test('bytes of any kind never make the decoder throw', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 400 }), fc.nat(50), (bytes, offset) => {
        const buffer = Buffer.from(bytes);
        const frame = decodeFrame(buffer, Math.min(offset, buffer.length), buffer.length);
        if (typeof frame !== 'string') decodeRecord(frame);
      }),
      RUNS,
    );
  });

  test('payloads of any kind never make the decoder throw, and only whole ones are records', () => {
    const lines = fc.constantFrom(
      'v=1',
      'v=2',
      'n=node-1',
      'e=5',
      's=1',
      `h=${CHAIN_START}`,
      't=9',
      'method=m',
      '',
      'x',
    );
    fc.assert(
      fc.property(fc.array(lines, { maxLength: 12 }), (parts) => {
        const payload = Buffer.from(parts.join('\n'));
        const record = decodeRecord({ sequence: 1, index: 0, payload, bytes: payload.length });
        const whole = `v=1\nn=node-1\ne=5\ns=1\nh=${CHAIN_START}\nt=9\nmethod=m\n\n`;
        expect(typeof record === 'object').toBe(payload.toString().startsWith(whole));
      }),
      { ...RUNS, numRuns: 2000 },
    );
  });

  test('a reader ignores headers that it does not know', () => {
    const headers = orderHeaders(headerPrefix('node-1', 5), 1, CHAIN_START, order(1)).replace(
      /\n\n$/,
      '\nregion=eu west\n\n',
    );
    const payload = Buffer.from(`${headers}{}`);
    const record = decodeRecord({ sequence: 1, index: 0, payload, bytes: 0 });
    expect(record).toMatchObject({ nodeId: 'node-1', hash: order(1).hash, value: Buffer.from('{}') });
  });

  test('a reader says that a newer schema is unknown to it', () => {
    const headers = orderHeaders('v=2\nn=node-1\ne=5\n', 1, CHAIN_START, order(1));
    const payload = Buffer.from(headers);
    expect(decodeRecord({ sequence: 1, index: 0, payload, bytes: 0 })).toBe(
      'schema version 2 is unknown to this reader',
    );
  });

  test('a header s that differs from the frame is noticed', () => {
    const payload = Buffer.from(controlHeaders(headerPrefix('node-1', 5), 3, CHAIN_START, 9, 'epoch'));
    expect(decodeRecord({ sequence: 4, index: 0, payload, bytes: 0 })).toBe(
      'header s says 3, the frame says 4',
    );
  });

  test.each([
    ['a method with a line break', { method: 'eth_sendBundle\nsigner=0x' }],
    ['an empty method', { method: '' }],
    ['a signer that is no address', { signer: '0x12' as const }],
    ['an upper-case signer', { signer: `0x${'A'.repeat(40)}` as const }],
    ['a hash that is too short', { hash: '0x12' as const }],
    ['a time that is no integer', { receivedAtUs: 1.5 }],
    ['a negative time', { receivedAtUs: -1 }],
    ['a value beyond the largest frame', { value: Buffer.alloc(64 * 1024 * 1024) }],
  ])('%s is not encodable', (_name, change) => {
    expect(isEncodable({ ...order(1), ...change })).toBe(false);
  });

  test('node ids', () => {
    expect(['node-1', 'a', 'N.o_d:e', 'x'.repeat(64)].every(isNodeId)).toBe(true);
    expect(['', 'x'.repeat(65), 'a b', 'a\nb', 'ä'].some(isNodeId)).toBe(false);
  });
});

describe('hash chain', () => {
  // The rule in its plainest form, for values of every size that the fast paths tell apart.
  test.each([0, 1, 65_000, 65_536, 1_048_500, 1_048_576, 3_000_000])('of a value of %i bytes', (bytes) => {
    const value = Buffer.alloc(bytes, 'x');
    const previous = 'ab'.repeat(16);
    const plain = createHash('sha256').update(`${previous} 12 `).update(value).digest('hex').slice(0, 32);
    expect(chainAfter(previous, 12, value)).toBe(plain);
  });
});
