/**
 * Payments per signer, each order counted exactly once through crashes and rebalances: the results and the position in
 * the archive are written in one transaction of the same database.
 *
 *     KAFKA_BROKERS=127.0.0.1:9092 KAFKA_TLS=false DATABASE=orders.sqlite npx node examples/effectively-once.ts
 *
 * Several of these may run at once; each gets some of the partitions.
 */
import { DatabaseSync } from 'node:sqlite';
import { accessFrom, consumeArchive } from 'orderflow/archive';

const database = new DatabaseSync(process.env.DATABASE ?? 'orders.sqlite', { timeout: 10_000 });
database.exec(`
  PRAGMA journal_mode = WAL;
  CREATE TABLE IF NOT EXISTS positions (partition INTEGER PRIMARY KEY, position TEXT NOT NULL);
  CREATE TABLE IF NOT EXISTS orders (node TEXT, epoch INTEGER, sequence INTEGER, signer TEXT);
`);
const load = database.prepare('SELECT position FROM positions WHERE partition = ?');
const store = database.prepare(
  'INSERT INTO positions VALUES (?, ?) ON CONFLICT (partition) DO UPDATE SET position = excluded.position',
);
const insert = database.prepare('INSERT INTO orders VALUES (?, ?, ?, ?)');

function positionOf(partition: number): string | null {
  const position = load.get(partition)?.position;
  return typeof position === 'string' ? position : null;
}

const consumer = await consumeArchive({
  ...(await accessFrom(process.env)),
  groupId: process.env.GROUP ?? 'example-effectively-once',
  positions: { load: positionOf },
  sessionTimeoutMs: Number(process.env.SESSION_TIMEOUT_MS ?? 30_000),
});
process.once('SIGINT', () => void consumer.close());
process.once('SIGTERM', () => void consumer.close());

for await (const batch of consumer.batches(50)) {
  database.exec('BEGIN IMMEDIATE');
  if (positionOf(batch.partition) !== batch.previous) {
    // Another member had this partition meanwhile and has counted these.
    database.exec('ROLLBACK');
    batch.reject();
    continue;
  }
  for (const { nodeId, epoch, sequence, signer } of batch.orders) insert.run(nodeId, epoch, sequence, signer);
  store.run(batch.partition, batch.position);
  database.exec('COMMIT');
  console.log(`partition ${batch.partition}: ${batch.orders.length} orders`);
}
