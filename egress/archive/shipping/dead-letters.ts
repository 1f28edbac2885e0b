/**
 * Records that the brokers have refused for good, as lines of JSON in `dead-letters.ndjson` beside the segments, which
 * are deleted some day: this file never is, and it has no bound but the disk's, since to drop a line is to lose an order.
 * What stands in Kafka in their place: withheld.ts.
 */
import { open } from 'node:fs/promises';
import { join } from 'node:path';
import type { ArchiveRecord } from '../record.ts';
import { syncDirectory } from '../segment.ts';

const FILE = 'dead-letters.ndjson';
const NEWLINE = 0x0a;

/**
 * Adds a record and makes it durable. A crash or a full disk may leave it there twice, or before it a line that is cut
 * off; `n`, `e` and `s` tell.
 * @throws the error of the file system.
 */
export async function keepDeadLetter(dir: string, record: ArchiveRecord): Promise<void> {
  const {
    nodeId: n,
    epoch: e,
    sequence: s,
    chain: h,
    receivedAtUs: t,
    method,
    control,
    signer,
    hash,
  } = record;
  const head = JSON.stringify({ n, e, s, h, t, method, control, signer, hash });
  const file = await open(join(dir, FILE), 'a+', 0o600);
  try {
    const { size } = await file.stat();
    const { bytesRead, buffer } = await file.read(Buffer.alloc(1), 0, 1, Math.max(0, size - 1));
    const isTorn = bytesRead === 1 && buffer[0] !== NEWLINE;
    // The value is JSON and is taken over byte for byte.
    await file.appendFile(
      Buffer.concat([
        Buffer.from(`${isTorn ? '\n' : ''}${head.slice(0, -1)},"value":`),
        record.value,
        Buffer.from('}\n'),
      ]),
    );
    await file.sync();
  } finally {
    await file.close();
  }
  await syncDirectory(dir);
}
