/** What a node would write, as records without files or brokers: an epoch with its chain, orders and signed checkpoints. */
import type { Message } from 'kafkajs';
import { createOrderSource } from '../../../devnet/orders.ts';
import { createSigner, type Signer } from '../../../identity/signature.ts';
import { CHECKPOINT_CONTROL, encodeCheckpoint } from '../checkpoint.ts';
import { EPOCH_CONTROL, type EpochOpening, encodeOpening } from '../epoch.ts';
import { toKafka } from '../kafka-record.ts';
import { type ArchiveRecord, CHAIN_START, chainAfter, type OrderRecord } from '../record.ts';
import { plainClient } from './kafka-client.ts';
import { order } from './orders.ts';

export class Journal {
  readonly epoch: number;
  readonly signer: Signer;
  #sequence = 0;
  #chain = CHAIN_START;

  /** @param node 1 to 255: which test node writes. */
  constructor(node = 1, epoch = 1_750_000_000_000_000) {
    this.epoch = epoch;
    this.signer = createSigner(Buffer.alloc(32, node));
  }

  get nodeId(): string {
    return this.signer.addressLower;
  }

  get end(): { readonly s: number; readonly h: string } {
    return { s: this.#sequence, h: this.#chain };
  }

  opening(previous: EpochOpening['previous'] = 'unknown'): ArchiveRecord {
    return this.#control(EPOCH_CONTROL, encodeOpening({ n: this.nodeId, e: this.epoch, previous }));
  }

  checkpoint(sign: (text: string) => string = (text) => this.signer.sign(text)): ArchiveRecord {
    const { s, h } = this.end;
    const statement = { n: this.nodeId, e: this.epoch, s, h, t: this.epoch + s };
    return this.#control(CHECKPOINT_CONTROL, encodeCheckpoint(statement, sign));
  }

  /** The n-th test order (orders.ts), which nobody has signed. */
  order(n: number, bytes?: number): ArchiveRecord {
    return this.add(order(n, bytes));
  }

  orders(first: number, last: number): ArchiveRecord[] {
    return Array.from({ length: last - first + 1 }, (_, offset) => this.order(first + offset));
  }

  add({ method, value, receivedAtUs, signer, hash }: OrderRecord): ArchiveRecord {
    return { ...this.#next(value), receivedAtUs, method, control: null, signer, hash, value };
  }

  #control(control: string, value: Buffer): ArchiveRecord {
    const receivedAtUs = this.epoch + this.#sequence;
    return { ...this.#next(value), receivedAtUs, method: null, control, signer: null, hash: null, value };
  }

  #next(value: Buffer) {
    this.#sequence += 1;
    this.#chain = chainAfter(this.#chain, this.#sequence, value);
    return { nodeId: this.nodeId, epoch: this.epoch, sequence: this.#sequence, chain: this.#chain };
  }
}

/** Orders as wallets send them, really signed, in the form in which a node archives them. */
export function signedOrders(count: number, seed = 'archive'): OrderRecord[] {
  const source = createOrderSource({ seed });
  return Array.from({ length: count }, (_, index) => {
    const { method, canonical, signer, hash } = source.next();
    return { method, value: canonical, receivedAtUs: 1_750_000_000_000_000 + index * 1000, signer, hash };
  });
}

/** Below what a broker takes at once (1 MB), whatever the last order's size. */
const BATCH_BYTES = 500_000;

/** Writes records to a partition, in order. */
export async function produce(
  brokers: readonly string[],
  topic: string,
  records: readonly ArchiveRecord[],
  partition = 0,
): Promise<void> {
  const producer = plainClient(brokers).producer();
  await producer.connect();
  try {
    let messages: Message[] = [];
    let bytes = 0;
    for (const [index, record] of records.entries()) {
      const { key, headers, value } = toKafka(record);
      messages.push({ key, headers: { ...headers }, value, partition });
      bytes += value.length + 300;
      if (bytes < BATCH_BYTES && index < records.length - 1) continue;
      await producer.send({ topic, acks: -1, messages });
      messages = [];
      bytes = 0;
    }
  } finally {
    await producer.disconnect();
  }
}
