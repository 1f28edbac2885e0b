/** The pipeline's side of the archive: user orders in, an answer once they are durable. */
import type { AdmittedOrder, Order } from '../../pipeline/order.ts';
import type { Done } from './batch.ts';
import type { Spool } from './spool.ts';

/** What the archive takes of an order. */
export interface ArchivableOrder extends Pick<AdmittedOrder, 'receivedAtUs'> {
  readonly order: Omit<Order, 'key'>;
}

/** What the pipeline needs of an archive. */
export interface Archive {
  /**
   * Archives a user order. `done` is called exactly once, never before this returns: with null once the order is durable
   * (only then may its sender be told of success), else with an error whose message is fit for the sender.
   */
  append(admitted: ArchivableOrder, done: Done): void;
  /** Whether a new user order would be taken; ask before the order is sent to anyone. */
  readonly accepting: boolean;
  /** Why not, for the order's sender; empty while accepting. */
  readonly refusal: string;
  /** Makes everything appended durable and lets the folder go. */
  close(): Promise<void>;
}

/** The archive that is the local spool. */
export function spoolArchive(spool: Spool): Archive {
  return {
    append({ order, receivedAtUs }, done) {
      const { method, canonical, signer, hash } = order;
      spool.append({ method, value: canonical, receivedAtUs, signer, hash }, done);
    },
    get accepting() {
      return spool.refusal === null;
    },
    get refusal() {
      return spool.refusal?.message ?? '';
    },
    close: () => spool.close(),
  };
}
