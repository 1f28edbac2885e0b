/** Helpers for the archive's tests: folders that go away, and reading back what a folder holds. */
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { onTestFinished } from 'vitest';
import { openSpool, type SpoolModules } from '../open.ts';
import type { ArchiveRecord, OrderRecord } from '../record.ts';
import { SPOOL_DEFAULTS, type Spool, type SpoolEvents, type SpoolOptions } from '../spool.ts';
import { ArchiveWalk, type Finding } from '../walk.ts';
import { order, orderNumber } from './orders.ts';

/** Where there is a file system in memory, tests that open hundreds of folders need not wait for a disk. */
const MEMORY = '/dev/shm';

/**
 * A new folder, removed after the test.
 * @param place `memory`: not on a disk, if the machine has such a place.
 */
export function temporaryFolder(place: 'disk' | 'memory' = 'disk'): string {
  const parent = place === 'memory' && existsSync(MEMORY) ? MEMORY : tmpdir();
  const dir = mkdtempSync(join(parent, 'orderflow-archive-'));
  onTestFinished(() => rmSync(dir, { recursive: true, force: true }));
  return dir;
}

/** Events that are kept as text: `gateClosed bytes`, `tornTail 12`. */
export function recordedEvents(): SpoolEvents & { readonly seen: string[]; readonly commits: number[] } {
  const seen: string[] = [];
  const commits: number[] = [];
  return {
    seen,
    commits,
    tornTail: (_segment, _offset, bytes) => void seen.push(`tornTail ${bytes}`),
    damage: (_segment, offset, message) => void seen.push(`damage ${offset} ${message}`),
    committed: (records) => void commits.push(records),
    segmentDeleted: (segment) => void seen.push(`segmentDeleted ${segment}`),
    retentionFailed: (error) => void seen.push(`retentionFailed ${error.message}`),
    gateClosed: (reason, cause) =>
      void seen.push(`gateClosed ${reason}${cause === null ? '' : ` ${cause.message}`}`),
    gateOpened: () => void seen.push('gateOpened'),
  };
}

export function spoolOptions(dir: string, changes: Partial<SpoolOptions> = {}): SpoolOptions {
  return { ...SPOOL_DEFAULTS, dir, nodeId: 'node-1', ...changes };
}

/** Opens a spool that is closed after the test at the latest. */
export async function openTestSpool(
  dir: string,
  changes: Partial<SpoolOptions> = {},
  modules: Partial<SpoolModules> = {},
): Promise<Spool> {
  const spool = await openSpool(spoolOptions(dir, changes), { events: recordedEvents(), ...modules });
  onTestFinished(() => spool.close());
  return spool;
}

/** Appends one order. @returns its outcome: null when durable. */
export function append(spool: Spool, record: OrderRecord): Promise<Error | null> {
  return new Promise((resolve) => {
    spool.append(record, resolve);
  });
}

/** Appends the orders `first` to `last`, one commit each. */
export async function appendEach(spool: Spool, first: number, last: number): Promise<void> {
  for (let n = first; n <= last; n += 1) {
    const error = await append(spool, order(n));
    if (error !== null) throw error;
  }
}

/** Everything that a folder holds: order numbers in order, all records, and what the reader had to say. */
export async function readFolder(dir: string) {
  const records: ArchiveRecord[] = [];
  const findings: Finding[] = [];
  const walk = await ArchiveWalk.open(dir);
  for await (const { record } of walk.records((finding) => findings.push(finding))) {
    records.push({ ...record, value: Buffer.from(record.value) });
  }
  const numbers = records.map(orderNumber).filter((number) => number !== null);
  const problems = findings.filter(({ kind }) => kind === 'problem').map(({ message }) => message);
  return { records, numbers, findings, problems };
}
