/** Headers of data disks, as cryptsetup of the tools tree writes them and as a host might forge them. */
import { createHash } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { runTool } from '../build/sandbox.ts';
import { CIPHER, HEADER_BYTES, ITERATIONS, KEY_BYTES } from '../guest/luks-header.ts';

const OURS = {
  cipher: CIPHER,
  'key-size': `${KEY_BYTES * 8}`,
  hash: 'sha256',
  pbkdf: 'pbkdf2',
  'pbkdf-force-iterations': `${ITERATIONS}`,
  'sector-size': '4096',
  type: 'luks2',
  offset: `${HEADER_BYTES / 512}`,
};

/**
 * A header that cryptsetup itself writes.
 * @param change options that differ from those of the image; empty: left out
 * @param after shell commands with /work/header and /work/key
 */
export async function headerOf(
  tools: string,
  change: Readonly<Record<string, string>>,
  after = 'true',
): Promise<Buffer> {
  const folder = mkdtempSync(join(tmpdir(), 'image-luks-'));
  try {
    const options = Object.entries({ ...OURS, ...change })
      .filter(([, value]) => value !== '')
      .map(([name, value]) => `--${name}=${value}`);
    const script = [
      'truncate -s 64M /work/disk',
      'truncate -s 16M /work/header',
      'printf %032d 1 > /work/key',
      `cryptsetup -q --key-file=/work/key luksFormat --header=/work/header ${options.join(' ')} /work/disk`,
      after,
    ].join(' && ');
    await runTool(['sh', '-c', script], { tools, mounts: { '/work': folder } });
    const header = readFileSync(join(folder, 'header'));
    return header.length >= HEADER_BYTES
      ? header.subarray(0, HEADER_BYTES)
      : Buffer.concat([header], HEADER_BYTES);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** Changes the metadata and makes the checksum right again, as a host would. */
export function forged(header: Buffer, change: (text: string) => string): Buffer {
  const copy = Buffer.from(header);
  const text = change(copy.toString('utf8', 4096, 16_384).replace(/\0+$/u, ''));
  copy.fill(0, 4096, 16_384);
  copy.write(text, 4096);
  copy.fill(0, 448, 512);
  createHash('sha256').update(copy.subarray(0, 16_384)).digest().copy(copy, 448);
  return copy;
}
