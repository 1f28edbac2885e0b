/**
 * `npm run bench -- archive`: what the archive costs. The wait for the spool that every success answer includes; the most that
 * spool and shipper take; how fast an outage is caught up with; bytes and CPU per order by codec. A broker is started.
 *
 * The spool writes where --dir says: its disk is what is measured. Orders are made and signed before the timed parts;
 * spool, shipper and broker share the machine's cores.
 */
import { mkdtemp, readdir, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createOrderSource } from '../../devnet/orders.ts';
import {
  openSpool,
  SPOOL_DEFAULTS,
  type Spool,
  type SpoolEvents,
  startShipping,
} from '../../egress/archive/index.ts';
import type { OrderRecord } from '../../egress/archive/record.ts';
import type { Compression } from '../../egress/archive/shipping/kafka-client.ts';
import type { ShipperEvents } from '../../egress/archive/shipping/shipper.ts';
import { startKafka, type TestKafka } from '../../egress/archive/testing/kafka.ts';
import { kafkaOptions, shipperOptions } from '../../egress/archive/testing/shipping.ts';
import { optionsOf, sizeOf, whole, wholeList } from '../command.ts';
import { type LatencyFigures, latencyFigures } from '../latency.ts';
import { surroundings, surroundingsLine } from '../report.ts';

export const name = 'archive';

export const help = `
what the archive costs: the wait for the spool, the most that spool and shipper take, bytes by codec

Usage: npm run bench -- archive [options]

  --rates LIST    orders per second of the open loop (default 500,2000)
  --seconds S     length of each (default 10)
  --most N        orders of the closed loop with 64 waiting (default 50000)
  --outage N      orders that wait when the broker comes back (default 300000: 10 minutes at 500/s)
  --codec N       orders per codec (default 20000)
  --size BYTES    size of an order, or "field" for the sizes seen in the field (default 3279)
  --dir DIR       where the spool writes (default: the system's folder for temporary files)
  --quick         less of everything that is not given: half a minute
`;

/** How much of everything. */
interface Plan {
  readonly rates: readonly number[];
  readonly seconds: number;
  readonly most: number;
  readonly outage: number;
  readonly codec: number;
  readonly size: number | 'field';
  readonly dir: string;
}

const FULL = { seconds: 10, most: 50_000, outage: 300_000, codec: 20_000 };
const QUICK = { seconds: 2, most: 5000, outage: 10_000, codec: 2000 };

function planOf(args: readonly string[]): Plan {
  const { values } = optionsOf(args, {
    rates: { type: 'string', default: '500,2000' },
    seconds: { type: 'string' },
    most: { type: 'string' },
    outage: { type: 'string' },
    codec: { type: 'string' },
    size: { type: 'string', default: '3279' },
    dir: { type: 'string', default: tmpdir() },
    quick: { type: 'boolean', default: false },
  });
  const base = values.quick ? QUICK : FULL;
  const count = (option: keyof typeof FULL) => {
    const given = values[option];
    return given === undefined ? base[option] : whole(`--${option}`, given, 1);
  };
  return {
    rates: wholeList('--rates', values.rates, 1),
    seconds: count('seconds'),
    most: count('most'),
    outage: count('outage'),
    codec: count('codec'),
    size: sizeOf(values.size),
    dir: values.dir,
  };
}

/** Orders that differ; a batch of 100 never holds one twice. */
const DISTINCT = 2000;
const WAITING = 64;
const TOPIC = 'bench';
const SEED = 'bench';

function makeOrders(bodyBytes: Plan['size']): OrderRecord[] {
  const source = createOrderSource({ seed: SEED, bodyBytes, methods: 'field' });
  return Array.from({ length: DISTINCT }, () => {
    const { method, canonical, signer, hash } = source.next();
    return { method, value: canonical, receivedAtUs: Date.now() * 1000, signer, hash };
  });
}

const nothing = () => {};
const spoolEvents: SpoolEvents = {
  tornTail: nothing,
  damage: nothing,
  committed: nothing,
  segmentDeleted: nothing,
  retentionFailed: nothing,
  gateClosed: nothing,
  gateOpened: nothing,
};

/** Runs something with a spool in a folder of its own. */
async function withSpool<T>(place: string, use: (spool: Spool, dir: string) => Promise<T>): Promise<T> {
  const dir = await mkdtemp(join(place, 'orderflow-bench-'));
  const spool = await openSpool(
    {
      ...SPOOL_DEFAULTS,
      dir,
      nodeId: 'bench',
      shipping: { topic: TOPIC, maxBytes: 1e12, lowBytes: 1e11, maxMs: 1e9, lowMs: 1e8 },
    },
    { events: spoolEvents },
  );
  try {
    return await use(spool, dir);
  } finally {
    await spool.close();
    await rm(dir, { recursive: true, force: true });
  }
}

/** Appends at a fixed rate, and tells how long each order waited for the spool: what the success answer comes later. */
async function openLoop(
  spool: Spool,
  orders: readonly OrderRecord[],
  rate: number,
  count: number,
): Promise<LatencyFigures> {
  const from = new Float64Array(count);
  const to = new Float64Array(count).fill(Number.NaN);
  const start = performance.now();
  let next = 0;
  let left = count;
  await new Promise<void>((resolve, reject) => {
    // Not in a busy loop: spool and disk share the machine.
    const timer = setInterval(() => {
      const due = Math.min(count, Math.floor(((performance.now() - start) / 1000) * rate));
      for (; next < due; next += 1) {
        const n = next;
        from[n] = performance.now() * 1000;
        spool.append(at(orders, n), (error) => {
          to[n] = performance.now() * 1000;
          left -= 1;
          if (error !== null) reject(error);
          if (left === 0) resolve();
        });
      }
      if (next === count) clearInterval(timer);
    }, 1);
  });
  return latencyFigures(from, to);
}

/** Appends as fast as 64 waiting senders do. @returns orders per second. */
async function closedLoop(spool: Spool, orders: readonly OrderRecord[], count: number): Promise<number> {
  const start = performance.now();
  let next = 0;
  let left = count;
  await new Promise<void>((resolve, reject) => {
    const one = () => {
      if (next === count) return;
      next += 1;
      spool.append(at(orders, next), (error) => {
        left -= 1;
        if (error !== null) reject(error);
        if (left === 0) resolve();
        else one();
      });
    };
    for (let waiting = 0; waiting < WAITING; waiting += 1) one();
  });
  return count / ((performance.now() - start) / 1000);
}

interface Shipped {
  readonly ordersPerSec: number;
  readonly cpuUsPerOrder: number;
}

/** Ships what a spool holds. CPU is that of this process: reading, checking, compressing, sending. */
async function shipAll(
  kafka: TestKafka,
  spool: Spool,
  dir: string,
  topic: string,
  compression: Compression,
  orders: number,
): Promise<Shipped> {
  const { sequence } = spool.durable;
  let begun = 0;
  let cpu = process.cpuUsage();
  const done = Promise.withResolvers<void>();
  const events: ShipperEvents = {
    connected() {
      begun = performance.now();
      cpu = process.cpuUsage();
    },
    shipped: (position) => {
      if (position.sequence >= sequence) done.resolve();
    },
    skipped: nothing,
    trouble: (kind, message) => done.reject(new Error(`${kind}: ${message}`)),
    topicCreated: nothing,
    topicDiffers: nothing,
    lost: nothing,
    deadLetter: nothing,
    unreadable: nothing,
  };
  const options = shipperOptions(dir, kafkaOptions(kafka.brokers, topic, { compression }), { lingerMs: 50 });
  const shipping = startShipping(
    { ...options, topic: { ...options.topic, partitions: 1 } },
    { spool: { durable: spool.durable, shipped: nothing }, events },
  );
  try {
    await done.promise;
    const seconds = (performance.now() - begun) / 1000;
    const { user, system } = process.cpuUsage(cpu);
    return { ordersPerSec: orders / seconds, cpuUsPerOrder: (user + system) / orders };
  } finally {
    await shipping.close(0);
  }
}

/** Bytes of a topic's log on the broker's disk. */
async function logBytes(kafka: TestKafka, topic: string): Promise<number> {
  const folder = join(kafka.folder, 'data-1', `${topic}-0`);
  let bytes = 0;
  for (const name of await readdir(folder)) {
    if (name.endsWith('.log')) bytes += (await stat(join(folder, name))).size;
  }
  return bytes;
}

function at(orders: readonly OrderRecord[], n: number): OrderRecord {
  const order = orders[n % orders.length];
  if (order === undefined) throw new RangeError('no orders');
  return order;
}

const ms = (value: number | null) => (value === null ? '-' : value.toFixed(2));
const say = (line: string) => process.stdout.write(`${line}\n`);

/** @returns the exit code. */
export async function run(args: readonly string[]): Promise<number> {
  const plan = planOf(args);
  const { dir: place } = plan;
  const orders = makeOrders(plan.size);
  const mean = orders.reduce((sum, { value }) => sum + value.length, 0) / orders.length;
  say(surroundingsLine(surroundings(SEED)));
  say(`orders of ${mean.toFixed(0)} bytes on average, spool in ${place}\n`);

  for (const rate of plan.rates) {
    const figures = await withSpool(place, (spool) => openLoop(spool, orders, rate, rate * plan.seconds));
    const { p50, p90, p99, max } = figures;
    say(`wait for the spool at ${rate}/s: p50 ${ms(p50)} p90 ${ms(p90)} p99 ${ms(p99)} max ${ms(max)} ms`);
  }
  const most = await withSpool(place, (spool) => closedLoop(spool, orders, plan.most));
  say(`spool, ${WAITING} waiting: ${most.toFixed(0)} orders/s\n`);

  const kafka = await startKafka();
  try {
    const perCodec = plan.codec;
    for (const codec of ['none', 'gzip', 'zstd'] as const) {
      await withSpool(place, async (spool, dir) => {
        await closedLoop(spool, orders, perCodec);
        const topic = `${TOPIC}-${codec}`;
        const { ordersPerSec, cpuUsPerOrder } = await shipAll(kafka, spool, dir, topic, codec, perCodec);
        const bytes = (await logBytes(kafka, topic)) / perCodec;
        const figures = `${bytes.toFixed(0)} bytes/order in Kafka, ${ordersPerSec.toFixed(0)} orders/s`;
        say(`${codec.padEnd(5)} ${figures}, ${cpuUsPerOrder.toFixed(0)} µs CPU/order`);
      });
    }
    const { outage } = plan;
    await withSpool(place, async (spool, dir) => {
      await closedLoop(spool, orders, outage);
      const { ordersPerSec } = await shipAll(kafka, spool, dir, TOPIC, 'zstd', outage);
      const seconds = outage / ordersPerSec;
      say(
        `\ncatching up with ${outage} orders: ${seconds.toFixed(1)} s, ${ordersPerSec.toFixed(0)} orders/s`,
      );
    });
  } finally {
    await kafka.close();
  }
  return 0;
}
