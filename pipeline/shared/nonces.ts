/** The replacement nonces of replacement-nonces.ts, counted by all threads of a node together (table.ts). */
import { hash } from 'node:crypto';
import { readDigest } from '../digest-ring.ts';
import type { Address } from '../order.ts';
import { FORGOTTEN_AFTER_US, MAX_COUNTS, type NonceSource } from '../replacement-nonces.ts';
import { SharedTable, type TableMemory, tableMemory, VALUE } from './table.ts';

export function noncesMemory(): TableMemory {
  return tableMemory(MAX_COUNTS);
}

export class SharedNonces implements NonceSource {
  readonly #table: SharedTable;
  readonly #key = new Int32Array(4);

  /** @param owner this thread's number (SharedTable) */
  constructor(memory: TableMemory, owner: number) {
    this.#table = new SharedTable(memory, owner);
  }

  next(uuid: string, signer: Address, nowUs: number): number {
    readDigest(hash('sha256', uuid + signer, 'hex'), this.#key);
    const bucket = this.#table.lock(this.#key);
    const known = this.#table.find(bucket, this.#key);
    const counts = known >= 0 && nowUs - this.#table.time(known) < FORGOTTEN_AFTER_US;
    const at = known >= 0 ? known : this.#table.take(bucket, this.#key);
    const nonce = counts ? (this.#table.words[at + VALUE] ?? 0) + 1 : 0;
    this.#table.words[at + VALUE] = nonce;
    this.#table.date(at, nowUs);
    this.#table.unlock(bucket);
    return nonce;
  }
}
