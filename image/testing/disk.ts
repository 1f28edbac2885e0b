/** Disks with the image on them that somebody has changed. */
import { closeSync, cpSync, mkdtempSync, openSync, readSync, rmSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { inject, onTestFinished } from 'vitest';
import { runTool } from '../build/sandbox.ts';

/** A copy of the image's disk that a test may change; gone after it. */
export function copyOfDisk(): string {
  const folder = mkdtempSync(join(tmpdir(), 'image-tamper-'));
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }));
  cpSync(join(inject('image'), 'disk.raw'), join(folder, 'disk.raw'));
  return join(folder, 'disk.raw');
}

/** Changes one bit of the byte. */
export function flip(disk: string, at: number): void {
  const file = openSync(disk, 'r+');
  const byte = Buffer.alloc(1);
  readSync(file, byte, 0, 1, at);
  writeSync(file, Buffer.of(byte.readUInt8() ^ 1), 0, 1, at);
  closeSync(file);
}

/** Start and size in bytes of the n-th partition. */
export function partition(disk: string, index: number): { start: number; size: number } {
  const file = openSync(disk, 'r');
  const entry = Buffer.alloc(128);
  readSync(file, entry, 0, 128, 1024 + index * 128);
  closeSync(file);
  const first = Number(entry.readBigUInt64LE(32));
  return { start: first * 512, size: (Number(entry.readBigUInt64LE(40)) - first + 1) * 512 };
}

/** Runs commands on the boot partition, which is `$image` to mtools. */
export async function editBoot(disk: string, commands: readonly string[]): Promise<void> {
  const script = [
    `export MTOOLS_SKIP_CHECK=1 image=/work/disk.raw@@${partition(disk, 0).start}`,
    ...commands,
  ].join(' && ');
  await runTool(['sh', '-c', script], { tools: inject('tools'), mounts: { '/work': join(disk, '..') } });
}
