/** Stages that keep something: the dedupe window, the pipeline's hops, the archive. */

import { Subject } from 'rxjs';
import type { GeneratedOrder } from '../../devnet/orders.ts';
import { SeededSource } from '../../devnet/seeded.ts';
import { openSpool, SPOOL_DEFAULTS, type Spool, type SpoolEvents } from '../../egress/archive/index.ts';
import {
  chainAfter,
  decodeFrame,
  decodeRecord,
  encodeFrame,
  frameBytes,
  headerPrefix,
  type OrderRecord,
  orderHeaders,
} from '../../egress/archive/record.ts';
import { DedupeWindow } from '../../pipeline/dedupe.ts';
import { stage } from '../../pipeline/operators.ts';
import { caseOf, type MicroCase } from './case.ts';
import { SharedWindow } from './shared-window.ts';

/** Different keys; more than the window holds, so that each has been evicted when it comes again. */
const KEYS = 65_536;
const WINDOW_KEYS = 16_384;
const KEYS_PER_CALL = 512;

export function dedupeCases(seed: string): MicroCase[] {
  const random = new SeededSource(seed);
  const digests = Array.from({ length: KEYS }, () => random.bytes(32));
  const hex = digests.map((digest) => digest.toString('hex'));
  const window = new DedupeWindow({ maxKeys: WINDOW_KEYS, windowUs: 60e6 });
  const byBigInt = new Map<bigint, number>();
  const shared = new SharedWindow(WINDOW_KEYS);
  let now = 0;
  return [
    roundCase('ring of digests', true, hex, (key) => window.find(key, ++now) ?? window.add(key, now, 'none')),
    roundCase('Map of 64-bit integers', false, digests, (digest) => {
      const key = digest.readBigUInt64LE();
      if (byBigInt.has(key)) return null;
      if (byBigInt.size >= WINDOW_KEYS) {
        for (const oldest of byBigInt.keys()) {
          byBigInt.delete(oldest);
          break;
        }
      }
      return byBigInt.set(key, ++now);
    }),
    roundCase('table in shared memory', false, digests, (digest) => shared.seen(digest, ++now)),
  ];
}

/** Goes on with the next keys at each call. The window is full when the case is made. */
function roundCase<K>(
  name: string,
  inUse: boolean,
  keys: readonly K[],
  take: (key: K) => unknown,
): MicroCase {
  let next = 0;
  const work = () => {
    let last: unknown;
    for (const key of keys.slice(next, next + KEYS_PER_CALL)) last = take(key);
    next = (next + KEYS_PER_CALL) % keys.length;
    return last;
  };
  for (let filled = 0; filled < WINDOW_KEYS; filled += KEYS_PER_CALL) work();
  return { stage: 'dedupe: look up, add, evict', name, inUse, ops: KEYS_PER_CALL, waits: false, work };
}

const HOPS = 6;
const BATCH = 8;

export function hopCases(): MicroCase[] {
  const values = Array.from({ length: 1024 }, (_, index) => ({ index }));
  const step = (value: { index: number }) => (value.index < 0 ? null : value);
  const onFault = (_value: unknown, error: unknown) => {
    throw error;
  };
  const end = { seen: 0 };
  const count = () => {
    end.seen++;
  };
  const source = new Subject<{ index: number }>();
  source
    .pipe(
      stage(step, onFault),
      stage(step, onFault),
      stage(step, onFault),
      stage(step, onFault),
      stage(step, onFault),
      stage(step, onFault),
    )
    .subscribe(count);
  const batches = new Subject<readonly { index: number }[]>();
  batches.subscribe((batch) => {
    for (const value of batch) throughAll(value, step, count);
  });
  const inBatches = Array.from({ length: values.length / BATCH }, (_, index) =>
    values.slice(index * BATCH, (index + 1) * BATCH),
  );
  const name = `pipeline: ${HOPS} stages`;
  return [
    caseOf(name, 'RxJS, one by one', true, values, (value) => source.next(value)),
    {
      ...caseOf(name, `RxJS, one hop for ${BATCH} orders`, false, inBatches, (batch) => batches.next(batch)),
      ops: values.length,
    },
    caseOf(name, 'plain calls', false, values, (value) => throughAll(value, step, count)),
  ];

  function throughAll(value: { index: number }, one: typeof step, end: () => void): void {
    let current: { index: number } | null = value;
    for (let hop = 0; hop < HOPS && current !== null; hop++) current = one(current);
    if (current !== null) end();
  }
}

export function frameCases(orders: readonly GeneratedOrder[]): MicroCase[] {
  const records = orders.map(recordOf);
  const prefix = headerPrefix('bench', 1);
  const target = Buffer.alloc(64 * 1024);
  const chain = '0'.repeat(32);
  const frames = records.map((record) => {
    const headers = orderHeaders(prefix, 1, chain, record);
    const frame = Buffer.alloc(frameBytes(headers, record.value));
    encodeFrame(frame, 0, 1, 0, headers, record.value);
    return frame;
  });
  const lines = records.map((record) => JSON.stringify({ ...record, value: record.value.toString() }));
  return [
    caseOf('archive frame: encode, 3 KB', 'headers, hash chain, CRC-32', true, records, (record) => {
      const link = chainAfter(chain, 1, record.value);
      return encodeFrame(target, 0, 1, 0, orderHeaders(prefix, 1, link, record), record.value);
    }),
    caseOf('archive frame: encode, 3 KB', 'a line of JSON, no check', false, records, (record) =>
      Buffer.from(JSON.stringify({ ...record, value: record.value.toString() })),
    ),
    caseOf('archive frame: decode, 3 KB', 'headers, CRC-32', true, frames, (frame) => {
      const found = decodeFrame(frame, 0, frame.length);
      if (typeof found === 'string') throw new Error(found);
      return decodeRecord(found);
    }),
    caseOf('archive frame: decode, 3 KB', 'a line of JSON, no check', false, lines, (line) =>
      JSON.parse(line),
    ),
  ];
}

function recordOf({ method, canonical, signer, hash }: GeneratedOrder): OrderRecord {
  return { method, value: canonical, receivedAtUs: 1_750_000_000_000_000, signer, hash };
}

const NO_EVENTS: SpoolEvents = {
  tornTail: () => {},
  damage: () => {},
  committed: () => {},
  segmentDeleted: () => {},
  retentionFailed: (error) => {
    throw error;
  },
  // An order that is refused fails its append.
  gateClosed: () => {},
  gateOpened: () => {},
};

/** Opens a spool in a folder. @returns the cases and what closes it */
export async function spoolCases(
  dir: string,
  orders: readonly GeneratedOrder[],
): Promise<{ cases: MicroCase[]; close: () => Promise<void> }> {
  const spool = await openSpool({ ...SPOOL_DEFAULTS, dir, nodeId: 'bench' }, { events: NO_EVENTS });
  const records = orders.map(recordOf);
  const name = 'archive append until durable, 3 KB';
  const of = (count: number, inUse: boolean, title: string): MicroCase => ({
    stage: name,
    name: title,
    inUse,
    ops: count,
    waits: true,
    work: () => Promise.all(records.slice(0, count).map((record) => appended(spool, record))),
  });
  return {
    cases: [
      of(records.length, true, `one commit for ${records.length}`),
      of(8, false, 'one commit for 8'),
      of(1, false, 'one commit for each'),
    ],
    close: () => spool.close(),
  };
}

function appended(spool: Spool, record: OrderRecord): Promise<void> {
  return new Promise((resolve, reject) => {
    spool.append(record, (error) => (error === null ? resolve() : reject(error)));
  });
}
