import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { Method } from '../order.ts';
import { type CloseReason, closeCode, closeReason } from './close-reasons.ts';
import { FrameReader } from './frame-reader.ts';
import {
  decodeAck,
  decodeClose,
  decodeHello,
  decodeOrders,
  decodePing,
  decodePong,
  decodeRefused,
  encodeAck,
  encodeClose,
  encodeGoAway,
  encodeHello,
  encodeOrders,
  encodePing,
  encodePong,
  encodeRefused,
  FRAME,
  HEADER_BYTES,
  MAX_CONTROL_BYTES,
  ordersFrameBytes,
} from './frames.ts';
import { decodeRecord, encodeRecord } from './record.ts';
import { REFUSAL, refusalCode, refusalOf } from './refusals.ts';
import { fuzz } from './testing/fuzz.ts';

const SEED = 20_260_802;
const MAX_ORDERS = 1_000_000;

interface Vectors {
  readonly frames: readonly { readonly name: string; readonly values: Values; readonly hex: string }[];
  readonly records: readonly { readonly method: Method; readonly canonical: string; readonly hex: string }[];
}

const vectors = JSON.parse(
  readFileSync(join(import.meta.dirname, '../../testing/vectors/stream.json'), 'utf8'),
) as Vectors;

/** What a vector's values are, each frame having some of them. */
interface Values {
  readonly features: number;
  readonly windowBytes: number;
  readonly maxOrderBytes: number;
  readonly address: string;
  readonly signature: string;
  readonly sentAtUs: number;
  readonly first: number;
  readonly records: readonly string[];
  readonly sequence: number;
  readonly limit: number;
  readonly reason: string;
  readonly echoUs: number;
  readonly answeredAtUs: number;
}

const ENCODERS: Record<string, (values: Values) => Buffer | null> = {
  hello: (values) =>
    encodeHello({ ...values, address: hex(values.address), signature: hex(values.signature) }),
  orders: ({ sentAtUs, first, records }) => encodeOrders(sentAtUs, first, records.map(hex)),
  ack: ({ sequence, limit }) => encodeAck(sequence, limit),
  refused: ({ sequence, reason }) => encodeRefused(sequence, REFUSAL[reason as keyof typeof REFUSAL]),
  ping: ({ sentAtUs }) => encodePing(sentAtUs),
  pong: ({ echoUs, answeredAtUs }) => encodePong(echoUs, answeredAtUs),
  goAway: () => encodeGoAway(),
  close: ({ reason }) => encodeClose(reason as CloseReason),
};

function hex(text: string): Buffer {
  return Buffer.from(text, 'hex');
}

function payloadOf(frame: Buffer): Buffer {
  return frame.subarray(HEADER_BYTES);
}

describe('the vectors', () => {
  test.each(vectors.frames)('frame $name', ({ name, values, hex: expected }) => {
    expect(ENCODERS[name]?.(values)?.toString('hex')).toBe(expected);
  });

  test.each(vectors.records)('record of $method', ({ method, canonical, hex: expected }) => {
    expect(encodeRecord(method, Buffer.from(canonical)).toString('hex')).toBe(expected);
    expect(decodeRecord(hex(expected))?.canonicalBytes).toBe(Buffer.byteLength(canonical));
  });

  test('there is one for every frame', () => {
    expect(new Set(vectors.frames.map(({ name }) => name))).toEqual(new Set(Object.keys(FRAME)));
  });
});

describe('what is encoded is decoded', () => {
  const time = fc.nat(Number.MAX_SAFE_INTEGER);

  test('numbers up to 2^53', () => {
    fc.assert(
      fc.property(time, time, fc.integer({ min: 1, max: 5 }), (a, b, code) => {
        expect(decodeAck(payloadOf(encodeAck(a, b)))).toEqual({ sequence: a, limit: b });
        expect(decodeRefused(payloadOf(encodeRefused(a, code)))).toEqual({ sequence: a, code });
        expect(decodePing(payloadOf(encodePing(a)))).toBe(a);
        expect(decodePong(payloadOf(encodePong(a, b)))).toEqual({ echoUs: a, answeredAtUs: b });
      }),
      { seed: SEED },
    );
    const above = Buffer.alloc(16, 0xff);
    expect([decodeAck(above), decodePing(above.subarray(8)), decodePong(above)]).toEqual([null, null, null]);
    expect(decodeRefused(above.subarray(7))).toBeNull();
  });

  test('orders are the same bytes in memory that is there, and fill no more of it than they need', () => {
    const records = [Buffer.from('first'), Buffer.alloc(0), Buffer.from('third')];
    const memory = Buffer.alloc(ordersFrameBytes(records) + 2, 0xee);
    const frame = encodeOrders(17, 5, records, memory);
    expect(frame).toEqual(encodeOrders(17, 5, records));
    expect(memory).toEqual(Buffer.concat([frame, Buffer.alloc(2, 0xee)]));
  });

  test('orders, and nothing that is one byte off', () => {
    const records = [Buffer.from('first'), Buffer.alloc(0), Buffer.from('third')];
    const payload = payloadOf(encodeOrders(17, 5, records));
    expect(decodeOrders(payload)).toEqual({ sentAtUs: 17, first: 5, records });
    expect(decodeOrders(Buffer.concat([payload, Buffer.alloc(1)]))).toBeNull();
    for (let end = 0; end < payload.length; end++) expect(decodeOrders(payload.subarray(0, end))).toBeNull();
    expect(decodeOrders(payloadOf(encodeOrders(17, 0, records)))).toBeNull();
    expect(decodeOrders(payloadOf(encodeOrders(17, 5, [])))).toBeNull();
    const tooMany = Array.from({ length: 1025 }, () => Buffer.alloc(0));
    expect(decodeOrders(payloadOf(encodeOrders(17, 5, tooMany)))).toBeNull();
  });

  test('a hello of a later version has more bytes', () => {
    const hello = {
      features: 3,
      windowBytes: 4,
      maxOrderBytes: 5,
      address: Buffer.alloc(20, 1),
      signature: Buffer.alloc(65, 2),
    };
    const payload = payloadOf(encodeHello(hello));
    expect(decodeHello(Buffer.concat([payload, Buffer.alloc(7)]))).toEqual(hello);
    expect(decodeHello(payload.subarray(0, -1))).toBeNull();
  });

  test('reasons', () => {
    const told: CloseReason[] = ['normal', 'malformed', 'window', 'tls_version'];
    for (const reason of told) expect(decodeClose(payloadOf(encodeClose(reason)!))).toBe(reason);
    expect(encodeClose('lost')).toBeNull();
    expect([closeCode('silent'), closeReason(12), closeReason(255)]).toEqual([12, 'silent', 'unknown']);
    expect(decodeClose(Buffer.alloc(0))).toBe('malformed');
    expect(refusalOf(refusalCode('client_certificate'))).toBe('unknown_peer');
    expect(refusalOf(refusalCode('overloaded'))).toBe('overloaded');
    expect(refusalOf(refusalCode('shutting_down'))).toBe('shutting_down');
    expect(refusalOf(refusalCode('internal'))).toBe('internal');
    expect(refusalOf(refusalCode('invalid_params'))).toBe('invalid');
    expect(refusalOf(200)).toBe('invalid');
  });
});

describe('the reader', () => {
  function read(chunks: readonly Buffer[], maxOrders = MAX_ORDERS, reuses = false) {
    const frames: [number, string][] = [];
    const reader = new FrameReader(
      maxOrders,
      (type, payload) => {
        frames.push([type, payload.toString('hex')]);
        return null;
      },
      reuses,
    );
    let reason: CloseReason | null = null;
    for (const chunk of chunks) reason ??= reader.push(chunk);
    return { frames, reason, pending: reader.pending };
  }

  const frames = [
    encodePing(1),
    encodeOrders(2, 3, [Buffer.alloc(9_000, 7), Buffer.from('x')]),
    encodeGoAway(),
    Buffer.concat([Buffer.from([99, 0, 0, 0, 3]), Buffer.from('new')]),
    encodeAck(1, 2),
  ];
  const stream = Buffer.concat(frames);

  test('finds the same frames however the bytes are cut', () => {
    const whole = read([stream]);
    expect(whole.frames.map(([type]) => type)).toEqual([
      FRAME.ping,
      FRAME.orders,
      FRAME.goAway,
      99,
      FRAME.ack,
    ]);
    expect(whole.pending).toBe(0);
    fc.assert(
      fc.property(fc.array(fc.nat(stream.length), { maxLength: 30 }), (cuts) => {
        const at = [0, ...cuts.sort((a, b) => a - b), stream.length];
        const chunks = at.slice(1).map((end, i) => stream.subarray(at[i], end));
        expect(read(chunks)).toEqual(whole);
        expect(read(chunks, MAX_ORDERS, true)).toEqual(whole);
      }),
      { seed: SEED, numRuns: 300 },
    );
    expect(read([...stream].map((byte) => Buffer.of(byte)))).toEqual(whole);
  });

  test('what it collects is the frame’s own, unless memory is to be used again', () => {
    const collect = (reuses: boolean) => {
      const seen: { own: boolean; payload: Buffer }[] = [];
      const reader = new FrameReader(
        MAX_ORDERS,
        (_type, payload, own) => {
          seen.push({ own, payload });
          return null;
        },
        reuses,
      );
      for (const fill of [7, 8]) {
        const frame = encodeOrders(2, 3, [Buffer.alloc(9_000, fill)]);
        for (const piece of [frame, frame.subarray(0, 10), frame.subarray(10)]) reader.push(piece);
      }
      return seen.map(({ own, payload }) => [own, payload.at(-1)]);
    };
    const ofTheChunk = [7, 8].map((fill) => [false, fill]);
    expect(collect(false)).toEqual([ofTheChunk[0], [true, 7], ofTheChunk[1], [true, 8]]);
    expect(collect(true)).toEqual([ofTheChunk[0], [false, 8], ofTheChunk[1], [false, 8]]);
  });

  test('refuses what is too long as soon as its header is there', () => {
    const header = (type: number, length: number) => {
      const bytes = Buffer.alloc(HEADER_BYTES);
      bytes[0] = type;
      bytes.writeUInt32BE(length, 1);
      return bytes;
    };
    expect(read([header(FRAME.orders, 1001)], 1000).reason).toBe('oversized');
    expect(read([header(FRAME.orders, 1000)], 1000)).toMatchObject({ reason: null, pending: HEADER_BYTES });
    expect(read([header(FRAME.ack, MAX_CONTROL_BYTES + 1)]).reason).toBe('oversized');
    expect(read([header(77, 0xff_ff_ff_ff)]).reason).toBe('oversized');
    expect(read([encodePing(1), header(77, 0xff_ff_ff_ff)]).frames).toHaveLength(1);
  });

  test('a length that is only claimed costs no memory', () => {
    const reader = new FrameReader(1 << 30, () => null);
    const before = process.memoryUsage().arrayBuffers;
    reader.push(Buffer.from([FRAME.orders, 0x3f, 0xff, 0xff, 0xff, 1, 2, 3]));
    expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(1 << 20);
  });

  test('ends with the reason that the frame gives', () => {
    const reader = new FrameReader(1000, () => 'malformed');
    expect(reader.push(encodePing(1))).toBe('malformed');
  });
});

test('damaged and random streams: nothing is thrown, nothing grows, all is refused or in canonical form', () => {
  const result = fuzz({ seed: SEED, inputs: 20_000 });
  expect(result.inputs).toBe(20_000);
  // It reaches the decoders behind the frames, or it would show nothing.
  expect(result.orders).toBeGreaterThan(1_000);
  expect(result.refused).toBeGreaterThan(1_000);
});
