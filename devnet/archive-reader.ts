/** Reads all orders of an archive folder, for the verdict of `--once`. */
import { ArchiveWalk, isOrder } from '../egress/archive/walk.ts';

/**
 * @returns the canonical bytes of every order, oldest first.
 * @throws when the folder cannot be read, or when anything in it is not as it was written.
 */
export async function readArchivedOrders(directory: string): Promise<Buffer[]> {
  const problems: string[] = [];
  const walk = await ArchiveWalk.open(directory);
  const orders: Buffer[] = [];
  const records = walk.records(({ kind, segment, offset, message }) => {
    if (kind === 'problem') problems.push(`${segment} at ${offset}: ${message}`);
  });
  for await (const { record } of records) {
    // The value is valid until the next record is read.
    if (isOrder(record)) orders.push(Buffer.from(record.value));
  }
  if (problems.length > 0) throw new Error(problems.join('; '));
  return orders;
}
