import { once } from 'node:events';
import { Worker } from 'node:worker_threads';
import fc from 'fast-check';
import { expect, onTestFinished, test } from 'vitest';
import { type BatchedOrder, packedBytes } from './order-batch.ts';
import { RingReader, RingWriter, ringMemory } from './order-ring.ts';

const ROOM = 4096;

function orderOf(number: number, bytes: number): BatchedOrder {
  return {
    receivedAtUs: 1_718_030_000_123_456 + number,
    order: {
      method: 'eth_sendBundle',
      signer: `0x${'11'.repeat(20)}`,
      hash: number % 2 === 0 ? `0x${'22'.repeat(32)}` : null,
      key: number % 3 === 0 ? '33'.repeat(32) : null,
      canonical: Buffer.alloc(bytes, number),
    },
  };
}

/** As `take` gets it, with bytes of its own. */
function kept({ order, receivedAtUs }: BatchedOrder): BatchedOrder {
  return { receivedAtUs, order: { ...order, canonical: Buffer.from(order.canonical) } };
}

test('what was told comes out once, as it went in and in its order; what was not is not there', () => {
  const step = fc.oneof(
    { weight: 4, arbitrary: fc.record({ write: fc.nat(ROOM / 2) }) },
    { weight: 2, arbitrary: fc.constant('tell' as const) },
    { weight: 1, arbitrary: fc.constant('read' as const) },
  );
  fc.assert(
    fc.property(fc.array(step, { maxLength: 200 }), (steps) => {
      const memory = ringMemory(ROOM);
      const [writer, reader] = [new RingWriter(memory), new RingReader(memory)];
      const written: BatchedOrder[] = [];
      let told = 0;
      let read = 0;
      for (const one of steps) {
        if (one === 'tell') {
          writer.tell();
          told = written.length;
        } else if (one === 'read') {
          reader.readAll((order, number) => {
            expect(number).toBe(read);
            expect(kept(order)).toEqual(written[read]);
            read += 1;
          });
          expect(read).toBe(told);
        } else {
          const order = orderOf(written.length, one.write);
          const fits = packedBytes(order.order) <= ROOM / 2;
          const empty = read === written.length;
          const taken = writer.write(order, written.length);
          if (taken) written.push(order);
          // An empty ring has room for half of it, wherever its beginning is.
          else expect(fits && empty).toBe(false);
        }
      }
    }),
    { seed: 9, numRuns: 500 },
  );
});

test('places pass 2^32 like any other', () => {
  const memory = ringMemory(ROOM);
  const start = -(ROOM * 3);
  const cells = new Int32Array(memory, 0, 2);
  cells.fill(start);
  const [writer, reader] = [new RingWriter(memory), new RingReader(memory)];
  for (let number = 0; number < 40; number += 1) {
    const order = orderOf(number, 700);
    expect(writer.write(order, number)).toBe(true);
    writer.tell();
    const out: BatchedOrder[] = [];
    reader.readAll((one) => out.push(kept(one)));
    expect(out).toEqual([order]);
  }
  expect(cells[0]).toBeGreaterThan(0);
});

test('the reader is woken once, and only when it sleeps', () => {
  const memory = ringMemory(ROOM);
  const [writer, reader] = [new RingWriter(memory), new RingReader(memory)];
  const add = () => writer.write(orderOf(0, 10), 0) && writer.tell();
  expect([add(), add()]).toEqual([true, false]);
  // Awake, with something to read: it may not sleep.
  expect(reader.sleep()).toBe(false);
  reader.readAll(() => undefined);
  expect(add()).toBe(false);
  reader.readAll(() => undefined);
  expect([reader.sleep(), add(), add()]).toEqual([true, true, false]);
});

/** Writes numbered orders as fast as there is room, and says so when the reader sleeps. */
const WRITER = `
  import { parentPort, workerData } from 'node:worker_threads';
  const { url, memory, count } = workerData;
  const { RingWriter } = await import(url);
  const ring = new RingWriter(memory);
  for (let number = 0; number < count; ) {
    const canonical = Buffer.alloc(number % 500, number);
    const order = { method: 'eth_sendBundle', signer: '0x' + '11'.repeat(20), hash: null, key: null, canonical };
    if (ring.write({ order, receivedAtUs: number }, number)) number += 1;
    if (number % 3 === 0 || number === count) if (ring.tell()) parentPort.postMessage('orders');
  }
`;

test('from one thread to another, none is lost, doubled or torn, and the reader is never left asleep', async () => {
  const memory = ringMemory(ROOM);
  const reader = new RingReader(memory);
  const count = 20_000;
  const url = new URL('./order-ring.ts', import.meta.url).href;
  const worker = new Worker(new URL(`data:text/javascript,${encodeURIComponent(WRITER)}`), {
    workerData: { url, memory, count },
  });
  onTestFinished(async () => void (await worker.terminate()));
  const seen = { next: 0, torn: 0 };
  const take = ({ order, receivedAtUs }: BatchedOrder, number: number) => {
    const { canonical } = order;
    const whole = canonical.length === number % 500 && canonical.every((byte) => byte === number % 256);
    if (number !== seen.next || receivedAtUs !== number || !whole) seen.torn += 1;
    seen.next += 1;
  };
  while (seen.next < count) {
    await once(worker, 'message');
    do reader.readAll(take);
    while (!reader.sleep());
  }
  expect(seen).toEqual({ next: count, torn: 0 });
});
