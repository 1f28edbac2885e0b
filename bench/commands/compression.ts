/**
 * `npm run bench -- compression`: what general compressors save of the order stream's records, and what they take for it.
 *
 * On real transactions where files with some are given: JSON files with a signed raw transaction as `input`, as
 * go-ethereum's tests of its tracers are (transactions of public networks, eth/tracers/internal/tracetest/testdata). Else on
 * generated orders, whose calldata is a guess.
 */
import { globSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import zlib from 'node:zlib';
import { createOrderSource } from '../../devnet/orders.ts';
import { SeededSource } from '../../devnet/seeded.ts';
import { encodeRecord } from '../../pipeline/stream/record.ts';
import { decodeTransaction } from '../../pipeline/transaction.ts';
import { optionsOf } from '../command.ts';
import { surroundings, surroundingsLine } from '../report.ts';
import { renderTable } from '../text.ts';

export const name = 'compression';

export const help = `
what compressors would save of the stream's frames, and what they take

Usage: npm run bench -- compression [--transactions DIR] [--orders N] [--seed TEXT]

  --transactions DIR  JSON files with a signed raw transaction as "input", anywhere below; generated orders without it
  --orders N          orders made, bundles of 1 to 4 transactions (default 1000)
  --seed TEXT         seed of the orders (default "bench")
`;

interface Compressor {
  readonly name: string;
  readonly compress: (bytes: Buffer) => Buffer;
  readonly undo: (bytes: Buffer) => Buffer;
}

const { BROTLI_PARAM_QUALITY, ZSTD_c_compressionLevel } = zlib.constants;
const COMPRESSORS: readonly Compressor[] = [
  {
    name: 'zstd 1',
    compress: (bytes) => zlib.zstdCompressSync(bytes, { params: { [ZSTD_c_compressionLevel]: 1 } }),
    undo: (bytes) => zlib.zstdDecompressSync(bytes),
  },
  {
    name: 'brotli 1',
    compress: (bytes) => zlib.brotliCompressSync(bytes, { params: { [BROTLI_PARAM_QUALITY]: 1 } }),
    undo: (bytes) => zlib.brotliDecompressSync(bytes),
  },
  {
    name: 'deflate 1',
    compress: (bytes) => zlib.deflateRawSync(bytes, { level: 1 }),
    undo: (bytes) => zlib.inflateRawSync(bytes),
  },
];

/** A lone order, and as many as share a frame when the pipeline works off a slice. */
const RECORDS_PER_FRAME = [1, 8];

export function run(args: readonly string[]): Promise<number> {
  const { values } = optionsOf(args, {
    transactions: { type: 'string' },
    orders: { type: 'string', default: '1000' },
    seed: { type: 'string', default: 'bench' },
  });
  const count = Number(values.orders);
  const records =
    values.transactions === undefined
      ? generatedRecords(values.seed, count)
      : realRecords(values.transactions, values.seed, count);
  const bytes = records.reduce((sum, { length }) => sum + length, 0);
  const rows: string[][] = [];
  for (const perFrame of RECORDS_PER_FRAME) {
    const frames = Array.from({ length: Math.floor(records.length / perFrame) }, (_, i) =>
      Buffer.concat(records.slice(i * perFrame, (i + 1) * perFrame)),
    );
    for (const compressor of COMPRESSORS)
      rows.push([String(perFrame), ...measure(compressor, frames, perFrame)]);
  }
  const lines = [
    surroundingsLine(surroundings(values.seed)),
    `${records.length} records of ${Math.round(bytes / records.length)} bytes on average`,
    '',
    ...renderTable({
      title: 'saved, and µs per order',
      headings: ['records in a frame', 'how', 'saved', 'compress', 'undo'],
      rows,
    }),
  ];
  process.stdout.write(`${lines.join('\n')}\n`);
  return Promise.resolve(0);
}

function measure(
  { name: how, compress, undo }: Compressor,
  frames: readonly Buffer[],
  perFrame: number,
): string[] {
  // Once untimed, for what is made at the first call.
  for (const frame of frames.slice(0, 50)) undo(compress(frame));
  const begun = performance.now();
  const compressed = frames.map((frame) => compress(frame));
  const half = performance.now();
  for (const [i, frame] of compressed.entries())
    if (undo(frame).length !== frames[i]?.length) throw new Error(`${how} lost something`);
  const end = performance.now();
  const bytesOf = (all: readonly Buffer[]) => all.reduce((sum, { length }) => sum + length, 0);
  const perOrder = (ms: number) => ((ms * 1000) / (frames.length * perFrame)).toFixed(0);
  const saved = 1 - bytesOf(compressed) / bytesOf(frames);
  return [how, `${(saved * 100).toFixed(0)} %`, perOrder(half - begun), perOrder(end - half)];
}

function generatedRecords(seed: string, count: number): Buffer[] {
  const source = createOrderSource({ seed, methods: 'bundles' });
  return Array.from({ length: count }, () => {
    const { method, canonical } = source.next();
    return encodeRecord(method, canonical);
  });
}

/** Bundles of the transactions in the files, in turn and in random order: a frame has none of them twice. */
function realRecords(directory: string, seed: string, count: number): Buffer[] {
  const transactions = globSync(join(directory, '**/*.json')).sort().flatMap(transactionIn);
  if (transactions.length === 0) throw new RangeError(`no transactions in ${directory}`);
  const random = new SeededSource(seed);
  for (let i = transactions.length - 1; i > 0; i--) {
    const j = random.below(i + 1);
    [transactions[i], transactions[j]] = [transactions[j] ?? '', transactions[i] ?? ''];
  }
  let next = 0;
  return Array.from({ length: count }, (_, i) => {
    const txs = Array.from(
      { length: 1 + random.below(4) },
      () => transactions[next++ % transactions.length] ?? '',
    );
    const param = JSON.stringify({
      txs,
      blockNumber: `0x${(23_000_000 + i).toString(16)}`,
      version: 'v2',
      signingAddress: `0x${random.bytes(20).toString('hex')}`,
    });
    const canonical = `{"method":"eth_sendBundle","params":[${param}],"id":0,"jsonrpc":"2.0"}`;
    return encodeRecord('eth_sendBundle', Buffer.from(canonical));
  });
}

function transactionIn(file: string): string[] {
  const { input } = JSON.parse(readFileSync(file, 'utf8')) as { input?: unknown };
  if (typeof input !== 'string') return [];
  const decoded = decodeTransaction(Buffer.from(input.slice(2), 'hex'));
  return typeof decoded === 'string' ? [] : [input.toLowerCase()];
}
