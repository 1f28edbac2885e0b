/**
 * Archived orders as a Parquet file: one row per order, row groups of bounded size, compressed with Zstandard.
 *
 * Columns: node, epoch, sequence, chain, received_at (µs, UTC), method, signer, hash (null where there is none), order (JSON text).
 */
import { zstdCompressSync } from 'node:zlib';
import { fileWriter, ParquetWriter, type SchemaElement } from 'hyparquet-writer';
import type { ArchiveRecord } from '../record.ts';

/** A row group is written when it has that many rows or that many bytes of orders. */
const GROUP_ROWS = 20_000;
const GROUP_BYTES = 32 * 1024 * 1024;

const TEXT = { type: 'BYTE_ARRAY', converted_type: 'UTF8', repetition_type: 'REQUIRED' } as const;
const COUNT = { type: 'INT64', repetition_type: 'REQUIRED' } as const;

const SCHEMA = [
  { name: 'archive', num_children: 9 },
  { name: 'node', ...TEXT },
  { name: 'epoch', ...COUNT },
  { name: 'sequence', ...COUNT },
  { name: 'chain', ...TEXT },
  { name: 'received_at', ...COUNT, converted_type: 'TIMESTAMP_MICROS' },
  { name: 'method', ...TEXT },
  { name: 'signer', ...TEXT },
  { name: 'hash', ...TEXT, repetition_type: 'OPTIONAL' },
  { name: 'order', ...TEXT },
] as const satisfies readonly SchemaElement[];

interface Row {
  readonly node: string;
  readonly epoch: bigint;
  readonly sequence: bigint;
  readonly chain: string;
  readonly received_at: bigint;
  readonly method: string;
  readonly signer: string;
  readonly hash: string | null;
  readonly order: string;
}

const COLUMNS = [
  'node',
  'epoch',
  'sequence',
  'chain',
  'received_at',
  'method',
  'signer',
  'hash',
  'order',
] as const;

export class ParquetFile {
  readonly #writer: ParquetWriter;
  #rows: Row[] = [];
  #bytes = 0;

  /** @param path of a file, which is written anew. @throws the error of the file system. */
  constructor(path: string) {
    this.#writer = new ParquetWriter({
      writer: fileWriter(path),
      schema: [...SCHEMA],
      codec: 'ZSTD',
      compressors: { ZSTD: (bytes) => zstdCompressSync(bytes) },
      createdBy: 'orderflow archive',
    });
  }

  /** Adds an order. */
  async write(record: ArchiveRecord): Promise<void> {
    this.#rows.push({
      node: record.nodeId,
      epoch: BigInt(record.epoch),
      sequence: BigInt(record.sequence),
      chain: record.chain,
      received_at: BigInt(record.receivedAtUs),
      method: record.method ?? '',
      signer: record.signer ?? '',
      hash: record.hash,
      order: record.value.toString(),
    });
    this.#bytes += record.value.length;
    if (this.#rows.length >= GROUP_ROWS || this.#bytes >= GROUP_BYTES) await this.#writeGroup();
  }

  /** Writes what is left and the footer, without which the file cannot be read. */
  async end(): Promise<void> {
    await this.#writeGroup();
    await this.#writer.finish();
  }

  async #writeGroup(): Promise<void> {
    const rows = this.#rows;
    if (rows.length === 0) return;
    this.#rows = [];
    this.#bytes = 0;
    const columnData = COLUMNS.map((name) => ({ name, data: rows.map((row) => row[name]) }));
    await this.#writer.write({ columnData, rowGroupSize: rows.length });
  }
}
