/**
 * `npm run bench -- consumer`: how fast the archive is read from a broker on this machine, one consumer, one partition at a
 * time under way. Orders are made and written beforehand. A broker is started, or that of KAFKA_BROKERS is used.
 */
import { createOrderSource } from '../../devnet/orders.ts';
import { type ArchiveConsumerOptions, consumeArchive } from '../../egress/archive/reading/consumer.ts';
import { openArchive } from '../../egress/archive/reading/open-archive.ts';
import { Journal, produce } from '../../egress/archive/testing/journal.ts';
import { someKafka } from '../../egress/archive/testing/kafka.ts';
import { createTopic } from '../../egress/archive/testing/kafka-client.ts';
import { optionsOf, sizeOf, whole } from '../command.ts';
import { surroundings } from '../report.ts';

export const name = 'consumer';

export const help = `
how fast the archive is read from a broker

Usage: npm run bench -- consumer [options]

  --orders N      orders per run (default 30000)
  --size BYTES    size of an order, or "field" for the sizes seen in the field (default 3279)
  --partitions N  partitions, a node each (default 4)
  --json          the figures as JSON
  --quick         3000 orders: a quarter of a minute
`;

interface Figures {
  readonly run: string;
  readonly ordersPerSec: number;
  readonly megabytesPerSec: number;
  /** Of this process, per order. */
  readonly cpuUsPerOrder: number;
}

/** Writes the orders, the same number to each partition. @returns bytes of all orders. */
async function fill(
  brokers: readonly string[],
  topic: string,
  orders: number,
  partitions: number,
  bodyBytes: number | 'field',
): Promise<number> {
  await createTopic(brokers, topic, partitions);
  let bytes = 0;
  for (let partition = 0; partition < partitions; partition += 1) {
    const source = createOrderSource({ seed: `bench ${partition}`, bodyBytes, methods: 'field' });
    const journal = new Journal(partition + 1);
    const records = [journal.opening()];
    for (let index = 0; index < Math.ceil(orders / partitions); index += 1) {
      const { method, canonical, signer, hash } = source.next();
      bytes += canonical.length;
      records.push(journal.add({ method, value: canonical, receivedAtUs: Date.now() * 1000, signer, hash }));
    }
    await produce(brokers, topic, records, partition);
  }
  return bytes;
}

/** Times a reading of everything, from its start to its last order. */
async function measure(
  name: string,
  orders: number,
  bytes: number,
  read: () => Promise<void>,
): Promise<Figures> {
  const cpu = process.cpuUsage();
  const startedAt = performance.now();
  await read();
  const seconds = (performance.now() - startedAt) / 1000;
  const { user, system } = process.cpuUsage(cpu);
  return {
    run: name,
    ordersPerSec: Math.round(orders / seconds),
    megabytesPerSec: Number((bytes / 1e6 / seconds).toFixed(1)),
    cpuUsPerOrder: Number(((user + system) / orders).toFixed(1)),
  };
}

/** @returns the exit code. */
export async function run(args: readonly string[]): Promise<number> {
  const { values } = optionsOf(args, {
    orders: { type: 'string' },
    size: { type: 'string', default: '3279' },
    partitions: { type: 'string', default: '4' },
    json: { type: 'boolean', default: false },
    quick: { type: 'boolean', default: false },
  });
  const partitions = whole('--partitions', values.partitions, 1);
  const wanted = whole('--orders', values.orders ?? (values.quick ? '3000' : '30000'), 1);
  const bodyBytes = sizeOf(values.size);
  const orders = Math.ceil(wanted / partitions) * partitions;
  const kafka = await someKafka();
  try {
    const topic = `bench-${crypto.randomUUID()}`;
    process.stderr.write(`making and writing ${orders} orders\n`);
    const bytes = await fill(kafka.brokers, topic, orders, partitions, bodyBytes);
    const access = { brokers: kafka.brokers, topic, clientId: 'bench', tls: null, sasl: null };

    const consume = async (more: Partial<ArchiveConsumerOptions>, most: number) => {
      const consumer = await consumeArchive({ ...access, groupId: crypto.randomUUID(), ...more });
      let count = 0;
      for await (const batch of consumer.batches(most)) {
        count += batch.orders.length;
        if (count === orders) break;
      }
    };
    const once = async (inspect: boolean) => {
      const archive = await openArchive({ access }, { inspect });
      let count = 0;
      const records = archive.records(() => {}, new AbortController().signal);
      for await (const { method } of records) if (method !== null) count += 1;
      await archive.close();
      if (count !== orders) throw new Error(`${count} of ${orders} orders were read`);
    };
    const positions = { load: () => null };
    const runs: readonly (readonly [string, () => Promise<void>])[] = [
      ['warm-up', () => consume({ inspect: false }, 100)],
      ['group, at least once, one by one, not inspected', () => consume({ inspect: false }, 1)],
      ['group, at least once, batches of 100, not inspected', () => consume({ inspect: false }, 100)],
      [
        'group, effectively once, batches of 100, not inspected',
        () => consume({ inspect: false, positions }, 100),
      ],
      ['group, at least once, batches of 100, inspected', () => consume({}, 100)],
      ['no group, merged by time, not inspected', () => once(false)],
      ['no group, merged by time, inspected', () => once(true)],
    ];
    const figures: Figures[] = [];
    for (const [name, read] of runs) figures.push(await measure(name, orders, bytes, read));
    const report = {
      ...surroundings('bench'),
      orders,
      partitions,
      meanBytes: Math.round(bytes / orders),
      figures: figures.slice(1),
    };
    process.stdout.write(values.json ? `${JSON.stringify(report, null, 2)}\n` : render(report));
  } finally {
    await kafka.close();
  }
  return 0;
}

type Report = ReturnType<typeof surroundings> & {
  readonly orders: number;
  readonly partitions: number;
  readonly meanBytes: number;
  readonly figures: readonly Figures[];
};

function render({ machine, nodeVersion, commit, orders, partitions, meanBytes, figures }: Report): string {
  const lines = [
    `${machine.cpu}, ${machine.cores} cores, Node ${nodeVersion}, commit ${commit ?? 'unknown'}`,
    `${orders} orders of ${meanBytes} bytes on average in ${partitions} partitions; times include joining the group`,
    '',
    `${'run'.padEnd(56)}${'orders/s'.padStart(9)}${'MB/s'.padStart(8)}${'CPU µs'.padStart(8)}`,
  ];
  for (const { run, ordersPerSec, megabytesPerSec, cpuUsPerOrder } of figures) {
    lines.push(
      `${run.padEnd(56)}${String(ordersPerSec).padStart(9)}${String(megabytesPerSec).padStart(8)}${String(cpuUsPerOrder).padStart(8)}`,
    );
  }
  return `${lines.join('\n')}\n`;
}
