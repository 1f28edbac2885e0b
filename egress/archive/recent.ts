/** The newest orders of an archive, for a node that starts again: what it has acknowledged a moment ago. */
import type { Address, Method } from '../../pipeline/order.ts';
import { METHODS } from '../../pipeline/order.ts';
import { ArchiveWalk } from './walk.ts';

export interface ArchivedOrder {
  readonly method: Method;
  /** Valid until the next order is asked for. */
  readonly canonical: Uint8Array;
  readonly signer: Address;
  readonly receivedAtUs: number;
}

const KNOWN: ReadonlyMap<string, Method> = new Map(METHODS.map((method) => [method, method]));

/**
 * Every order that was received at `sinceUs` (unix microseconds) or later and can be read, oldest first. Reads the
 * segments that may hold one from their beginning; what is wrong with them is told when the spool is opened.
 * @throws the error of the file system; Error when a segment is of a newer version.
 */
export async function* recentOrders(dir: string, sinceUs: number): AsyncGenerator<ArchivedOrder, void, void> {
  const walk = await ArchiveWalk.open(dir, sinceUs);
  for await (const { record } of walk.records(() => {})) {
    const method = KNOWN.get(record.method ?? '');
    const { signer, receivedAtUs, value } = record;
    if (method === undefined || signer === null || receivedAtUs < sinceUs) continue;
    yield { method, canonical: value, signer, receivedAtUs };
  }
}
