/**
 * A disk that is really full: a file system of 1 MB in memory. Making it needs root; where that is not to be had, the
 * test fails.
 */
import { execFileSync } from 'node:child_process';
import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { order, range } from './testing/orders.ts';
import { append, openTestSpool, readFolder, recordedEvents, temporaryFolder } from './testing/spool.ts';

test('a full disk refuses orders, loses none, and is gone on with when there is room', async () => {
  const parent = temporaryFolder();
  const disk = join(parent, 'disk');
  mkdirSync(disk);
  execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=1m', 'none', disk]);
  onTestFinished(() => void execFileSync('umount', [disk]));
  const ballast = join(disk, 'ballast');
  writeFileSync(ballast, Buffer.alloc(500_000));

  const dir = join(disk, 'spool');
  const events = recordedEvents();
  const opened = Promise.withResolvers<void>();
  const changes = { segmentBytes: 65_536, roomBytes: 65_536, probeMs: 5 };
  const spool = await openTestSpool(dir, changes, {
    events: { ...events, gateOpened: () => opened.resolve() },
  });
  let last = 0;
  const archived: number[] = [];
  /** Sixteen orders together. @returns whether all were taken. */
  const appendSome = async () => {
    const numbers = range(last + 1, last + 16);
    last += 16;
    const outcomes = await Promise.all(numbers.map((n) => append(spool, order(n, 500))));
    archived.push(...numbers.filter((_, position) => outcomes[position] === null));
    return outcomes.every((outcome) => outcome === null);
  };

  while (await appendSome());
  expect(spool.state()).toMatchObject({ accepting: false, reason: 'disk_full', pendingBytes: 0 });
  expect(events.seen[0]).toMatch(/^gateClosed disk_full ENOSPC/);
  expect(archived.length).toBeGreaterThan(100);
  expect(await readFolder(dir)).toMatchObject({ numbers: archived, problems: [] });

  rmSync(ballast);
  await opened.promise;
  const before = archived.length;
  for (let times = 0; times < 5; times += 1) expect(await appendSome()).toBe(true);
  expect(archived.length).toBe(before + 80);
  await spool.close();
  expect(await readFolder(dir)).toMatchObject({ numbers: archived, problems: [] });

  // And a restart carries on.
  const again = await openTestSpool(dir, changes);
  expect(again.state().lastSequence).toBe(archived.length + 1);
  await again.close();
});
