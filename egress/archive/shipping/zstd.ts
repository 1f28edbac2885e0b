/** Zstandard for Kafka's record batches, over node:zlib. The codec interface is kafkajs's, the format RFC 8878. */
import { promisify } from 'node:util';
import { zstdCompress, zstdDecompress } from 'node:zlib';

const compress = promisify(zstdCompress);
const decompress = promisify(zstdDecompress);

/** A batch that unpacks to more is refused: one record of at most 64 MiB, or 100 of one MiB together, are less. */
const MOST_BYTES = 256 * 1024 * 1024;

export const zstdCodec = {
  compress: ({ buffer }: { readonly buffer: Buffer }): Promise<Buffer> => compress(buffer),
  decompress: (buffer: Buffer): Promise<Buffer> => decompress(buffer, { maxOutputLength: MOST_BYTES }),
};
