import { appendFileSync, copyFileSync, mkdirSync, readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, onTestFinished, test, vi } from 'vitest';
import { MAX_ZEROS } from './files.ts';
import { SpoolError } from './gate.ts';
import { openSpool } from './open.ts';
import type { SpoolEvents } from './spool.ts';
import { failingFiles } from './testing/failing-files.ts';
import { order, orderNumber, range } from './testing/orders.ts';
import {
  append,
  appendEach,
  openTestSpool,
  readFolder,
  recordedEvents,
  spoolOptions,
  temporaryFolder,
} from './testing/spool.ts';

const SMALL = { segmentBytes: 8192, maxPendingBytes: 64 * 1024, lowBytes: 100_000, maxBytes: 200_000 };

/** Resolves when an event of this kind comes. */
function nextEvent(events: SpoolEvents, name: keyof SpoolEvents): Promise<void> {
  return new Promise((resolve) => {
    const before = events[name];
    Object.assign(events, {
      [name]: (...args: unknown[]) => {
        Reflect.apply(before, events, args);
        Object.assign(events, { [name]: before });
        resolve();
      },
    });
  });
}

describe('appending', () => {
  test('orders are read back as they came, in order, once, with a dense sequence', async () => {
    const dir = temporaryFolder();
    const spool = await openTestSpool(dir);
    const outcomes = await Promise.all(range(1, 500).map((n) => append(spool, order(n, (n * 37) % 3000))));
    expect(outcomes.every((error) => error === null)).toBe(true);
    const { records, numbers, problems } = await readFolder(dir);
    expect(problems).toEqual([]);
    expect(numbers).toEqual(range(1, 500));
    expect(records.map(({ sequence }) => sequence)).toEqual(range(1, 501));
    const { epoch } = spool.state();
    const { chain } = records[1]!;
    expect(records[1]).toEqual({
      ...order(1, 37),
      nodeId: 'node-1',
      epoch,
      sequence: 2,
      chain,
      control: null,
    });
  });

  test('what comes during a commit goes into the next one, together', async () => {
    const events = recordedEvents();
    const files = failingFiles();
    const spool = await openTestSpool(temporaryFolder(), {}, { events, files });
    const release = files.holdSyncs();
    const first = append(spool, order(1));
    // The first commit is under way once its write has been asked for.
    while (files.calls.write < 2) await new Promise((resolve) => setImmediate(resolve));
    const others = range(2, 100).map((n) => append(spool, order(n)));
    release();
    expect(await Promise.all([first, ...others])).toEqual(Array(100).fill(null));
    expect(events.commits).toEqual([1, 99]);
  });

  describe('orders that come within a millisecond of a commit', () => {
    const clock = { now: () => 1_750_000_000_000, monotonic: () => 5 };

    test('wait for the end of it and go together, those too that came while the commit ran', async () => {
      vi.useFakeTimers({ toFake: ['setTimeout'] });
      onTestFinished(() => void vi.useRealTimers());
      const events = recordedEvents();
      const files = failingFiles();
      const spool = await openTestSpool(temporaryFolder(), {}, { events, files, clock });
      const release = files.holdSyncs();
      const first = append(spool, order(1));
      while (files.calls.write < 2) await new Promise((resolve) => setImmediate(resolve));
      const during = append(spool, order(2));
      release();
      expect(await first).toBe(null);
      const after = append(spool, order(3));
      for (let turn = 0; turn < 5; turn++) await new Promise((resolve) => setImmediate(resolve));
      expect(events.commits).toEqual([1]);
      vi.advanceTimersByTime(1);
      expect(await Promise.all([during, after])).toEqual([null, null]);
      expect(events.commits).toEqual([1, 2]);
    });

    test('do not wait when the spool closes', async () => {
      vi.useFakeTimers({ toFake: ['setTimeout'] });
      onTestFinished(() => void vi.useRealTimers());
      const spool = await openTestSpool(temporaryFolder(), {}, { clock });
      expect(await append(spool, order(1))).toBe(null);
      const second = append(spool, order(2));
      await spool.close();
      expect(await second).toBe(null);
    });
  });

  test('who is asked before a commit begins may add to it', async () => {
    const events = recordedEvents();
    const held = range(1, 4);
    const outcomes: Promise<Error | null>[] = [];
    const beforeCommit = () => {
      const n = held.shift();
      if (n !== undefined) outcomes.push(append(spool, order(100 + n)));
    };
    const clock = { now: () => 1_750_000_000_000, monotonic: () => performance.now() * 1000 };
    const spool = await openTestSpool(temporaryFolder(), {}, { events, clock, beforeCommit });
    const [first, second] = [append(spool, order(1)), append(spool, order(2))];
    expect(await Promise.all([first, second])).toEqual([null, null]);
    expect(events.commits).toEqual([3]);
    await append(spool, order(3));
    while (held.length > 0) await append(spool, order(4));
    expect(await Promise.all(outcomes)).toEqual(Array(4).fill(null));
  });

  test('nobody is told of success before the sync has come back', async () => {
    const files = failingFiles();
    const spool = await openTestSpool(temporaryFolder(), {}, { files });
    const release = files.holdSyncs();
    let told = false;
    const outcome = append(spool, order(1)).then(() => {
      told = true;
    });
    while (files.calls.write < 2) await new Promise((resolve) => setImmediate(resolve));
    await new Promise((resolve) => setImmediate(resolve));
    expect(told).toBe(false);
    expect(spool.state()).toMatchObject({ lastSequence: 2, durableSequence: 1 });
    release();
    await outcome;
    expect(spool.state()).toMatchObject({ lastSequence: 2, durableSequence: 2, pendingBytes: 0 });
  });

  test('done is never called before append returns, refusals included', async () => {
    const spool = await openTestSpool(temporaryFolder());
    let returned = false;
    const outcomes = [order(1), { ...order(2), method: 'not a method' }].map(
      (record) =>
        new Promise<Error | null>((resolve) => {
          returned = false;
          spool.append(record, (error) => {
            expect(returned).toBe(true);
            resolve(error);
          });
          returned = true;
        }),
    );
    expect(await outcomes[0]).toBe(null);
    expect(await outcomes[1]).toMatchObject({ reason: 'malformed' });
  });

  test('an order that cannot be read back is refused and leaves no trace', async () => {
    const dir = temporaryFolder();
    const spool = await openTestSpool(dir);
    await append(spool, { ...order(1), signer: '0x1' });
    await appendEach(spool, 2, 3);
    expect(await readFolder(dir)).toMatchObject({ numbers: [2, 3], problems: [] });
  });

  test('orders appended by someone who is told of success are taken', async () => {
    const dir = temporaryFolder();
    const spool = await openTestSpool(dir);
    const last = await new Promise((resolve) => {
      spool.append(order(1), () => spool.append(order(2), () => spool.append(order(3), resolve)));
    });
    expect(last).toBe(null);
    expect((await readFolder(dir)).numbers).toEqual([1, 2, 3]);
  });

  test('the folder and its files are private', async () => {
    const dir = join(temporaryFolder(), 'a', 'b');
    await openTestSpool(dir);
    expect(statSync(dir).mode & 0o777).toBe(0o700);
    for (const name of readdirSync(dir)) expect(statSync(join(dir, name)).mode & 0o777).toBe(0o600);
  });
});

describe('segments', () => {
  test('a full segment is followed by the next, and all are one sequence and chain', async () => {
    const dir = temporaryFolder();
    const spool = await openTestSpool(dir, SMALL);
    await appendEach(spool, 1, 100);
    const segments = readdirSync(dir).filter((name) => name.endsWith('.segment'));
    expect(segments.length).toBeGreaterThan(3);
    for (const name of segments)
      expect(statSync(join(dir, name)).size).toBeLessThanOrEqual(SMALL.segmentBytes);
    expect(await readFolder(dir)).toMatchObject({ numbers: range(1, 100), problems: [] });
  });

  test('an order larger than a segment has its own', async () => {
    const dir = temporaryFolder();
    const spool = await openTestSpool(dir, SMALL);
    await appendEach(spool, 1, 2);
    expect(await append(spool, order(3, 20_000))).toBe(null);
    await appendEach(spool, 4, 5);
    expect(await readFolder(dir)).toMatchObject({ numbers: range(1, 5), problems: [] });
  });

  test('few orders fill no segment: they go after the retention all the same, and what follows is one sequence', async () => {
    const dir = temporaryFolder();
    const spool = await openTestSpool(dir, { retentionMs: 400 });
    await appendEach(spool, 1, 3);
    await vi.waitFor(async () => expect((await readFolder(dir)).numbers).toEqual([]), {
      timeout: 20_000,
      interval: 50,
    });
    expect(segmentsOf(dir)).toHaveLength(1);
    await appendEach(spool, 4, 6);
    const sequence = spool.durable.sequence;
    expect(sequence).toBe(7);
    await spool.close();
    const next = await openTestSpool(dir, { retentionMs: 3_600_000 });
    await appendEach(next, 7, 8);
    expect(next.durable.sequence).toBe(9);
    expect((await readFolder(dir)).problems).toEqual([]);
  });
});

/** What a reader says of every archive. */
const OPENING = { kind: 'note', message: expect.stringContaining('opens') };

describe('zeros ahead of the records', () => {
  /** The folder as a `kill -9` would leave it now. */
  function killedCopy(dir: string): string {
    const copy = join(temporaryFolder(), 'copy');
    mkdirSync(copy, { mode: 0o700 });
    for (const name of segmentsOf(dir)) copyFileSync(join(dir, name), join(copy, name));
    return copy;
  }

  test('are in the file while it is written, and read as its end', async () => {
    const dir = temporaryFolder();
    const spool = await openTestSpool(dir);
    await appendEach(spool, 1, 5);
    await vi.waitFor(() => expect(sizesOf(dir)[0]).toBeGreaterThanOrEqual(MAX_ZEROS));
    expect(await readFolder(dir)).toMatchObject({ numbers: range(1, 5), findings: [OPENING] });
    await spool.close();
    expect(sizesOf(dir)[0]).toBeLessThan(10_000);
  });

  test('a killed node carries on before them, and has nothing to report', async () => {
    const dir = temporaryFolder();
    const spool = await openTestSpool(dir);
    await appendEach(spool, 1, 5);
    await vi.waitFor(() => expect(sizesOf(dir)[0]).toBeGreaterThanOrEqual(MAX_ZEROS));
    const copy = killedCopy(dir);
    const events = recordedEvents();
    const next = await openTestSpool(copy, {}, { events });
    await appendEach(next, 6, 9);
    expect(events.seen).toEqual([]);
    expect(await readFolder(copy)).toMatchObject({ numbers: range(1, 9), findings: [OPENING] });
  });

  test('anything else behind them is no end', async () => {
    const dir = temporaryFolder();
    const spool = await openTestSpool(dir);
    await appendEach(spool, 1, 5);
    await vi.waitFor(() => expect(sizesOf(dir)[0]).toBeGreaterThanOrEqual(MAX_ZEROS));
    const copy = killedCopy(dir);
    appendFileSync(join(copy, segmentsOf(copy)[0] ?? ''), 'x');
    const events = recordedEvents();
    await openTestSpool(copy, {}, { events });
    expect(events.seen).toEqual([expect.stringMatching(/^tornTail \d{7}$/)]);
  });

  test('without room for them orders are archived all the same', async () => {
    const dir = temporaryFolder();
    const files = failingFiles();
    files.fail('zero', 'ENOSPC');
    const spool = await openTestSpool(dir, {}, { files });
    await appendEach(spool, 1, 20);
    expect(files.calls.zero).toBe(1);
    expect(sizesOf(dir)[0]).toBeLessThan(20_000);
    expect(await readFolder(dir)).toMatchObject({ numbers: range(1, 20), problems: [] });
  });

  test('are never written over a record, however large and quick the commits', async () => {
    const dir = temporaryFolder();
    const spool = await openTestSpool(dir, { segmentBytes: 4 * MAX_ZEROS });
    for (let from = 1; from <= 400; from += 40) {
      const batch = range(from, from + 39).map((number) => append(spool, order(number, 20_000 + number)));
      expect(new Set(await Promise.all(batch))).toEqual(new Set([null]));
    }
    await spool.close();
    expect(await readFolder(dir)).toMatchObject({ numbers: range(1, 400), problems: [] });
  });
});

function segmentsOf(dir: string): string[] {
  return readdirSync(dir).filter((name) => name.endsWith('.segment'));
}

function sizesOf(dir: string): number[] {
  return segmentsOf(dir).map((name) => statSync(join(dir, name)).size);
}

describe('the gate', () => {
  test('closes at the high mark, opens at the low mark, and retention alone makes room', async () => {
    const dir = temporaryFolder();
    const events = recordedEvents();
    let monotonic = 0;
    const clock = { now: () => 1_750_000_000_000 + monotonic, monotonic: () => monotonic };
    const marks = { ...SMALL, maxPendingBytes: 8192, lowBytes: 20_000, maxBytes: 40_000, retentionMs: 1000 };
    const spool = await openTestSpool(dir, marks, { events, clock });
    let taken = 0;
    while (spool.refusal === null) {
      taken += 1;
      monotonic = taken;
      expect(await append(spool, order(taken))).toBe(null);
    }
    expect(spool.refusal).toMatchObject({ reason: 'bytes', message: 'the archive is full, try again later' });
    expect(spool.state()).toMatchObject({ accepting: false, reason: 'bytes' });
    expect(await append(spool, order(0))).toBeInstanceOf(SpoolError);
    expect(await readFolder(dir)).toMatchObject({ numbers: range(1, taken), problems: [] });

    // The oldest segment goes when its newest record is old enough: that is below the high mark, not the low one.
    const { records } = await readFolder(dir);
    const secondSegment = readdirSync(dir).filter((name) => name.endsWith('.segment'))[1]!;
    const newestOfFirst = records[Number(secondSegment.slice(21, 41)) - 2]!;
    const oneDeleted = nextEvent(events, 'segmentDeleted');
    // It was complete when the order after its newest one came.
    monotonic = 1000 + orderNumber(newestOfFirst)! + 1;
    await oneDeleted;
    expect(spool.state().bytes).toBeLessThan(marks.maxBytes);
    expect(spool.state()).toMatchObject({ accepting: false, reason: 'bytes' });
    expect(events.seen.filter((event) => event.startsWith('segmentDeleted'))).toHaveLength(1);

    const opened = nextEvent(events, 'gateOpened');
    monotonic = 1000 + taken;
    await opened;
    expect(spool.state().bytes).toBeLessThanOrEqual(marks.lowBytes);
    expect(await append(spool, order(taken + 1))).toBe(null);
    const { numbers, problems } = await readFolder(dir);
    expect(problems).toEqual([]);
    expect(numbers).toEqual(range(numbers[0]!, taken + 1));
    expect(events.seen.filter((event) => event.startsWith('gate'))).toEqual([
      'gateClosed bytes',
      'gateOpened',
    ]);
  });

  test('closes while too much waits for the disk, and opens again', async () => {
    const events = recordedEvents();
    const files = failingFiles();
    const spool = await openTestSpool(temporaryFolder(), SMALL, { events, files });
    const release = files.holdSyncs();
    const outcomes: Promise<Error | null>[] = [];
    while (spool.refusal === null) outcomes.push(append(spool, order(outcomes.length, 1000)));
    expect(spool.state()).toMatchObject({ reason: 'pending' });
    const refused = append(spool, order(9));
    expect(await refused).toMatchObject({ reason: 'pending' });
    const opened = nextEvent(events, 'gateOpened');
    release();
    await opened;
    expect(new Set(await Promise.all(outcomes))).toEqual(new Set([null]));
    expect(spool.state()).toMatchObject({ accepting: true, pendingBytes: 0 });
  });

  test.each(['ENOSPC', 'EDQUOT'])(
    'a disk that fills up (%s) is refused, taken back, and gone on with',
    async (code) => {
      const dir = temporaryFolder();
      const events = recordedEvents();
      const files = failingFiles();
      const spool = await openTestSpool(dir, { ...SMALL, probeMs: 1 }, { events, files });
      await appendEach(spool, 1, 3);
      const { bytes } = spool.state();
      const opened = nextEvent(events, 'gateOpened');
      // The write gets one whole record and a piece of the next onto the disk.
      files.fillUpAfter(600, code);
      const outcomes = await Promise.all(range(4, 9).map((n) => append(spool, order(n))));
      for (const outcome of outcomes) expect(outcome).toMatchObject({ reason: 'disk_full' });
      await opened;
      expect(spool.state()).toMatchObject({ accepting: true, bytes, pendingBytes: 0, lastSequence: 4 });
      await appendEach(spool, 10, 12);
      expect(await readFolder(dir)).toMatchObject({ numbers: [1, 2, 3, 10, 11, 12], problems: [] });
      expect(events.seen).toEqual([`gateClosed disk_full ${code} at write`, 'gateOpened']);
    },
  );

  test('a full disk whose half-written records cannot be taken back is final', async () => {
    const files = failingFiles();
    const events = recordedEvents();
    const spool = await openTestSpool(temporaryFolder(), { probeMs: 1 }, { events, files });
    files.fillUpAfter(100, 'ENOSPC');
    files.fail('truncate', 'EIO');
    expect(await append(spool, order(1))).toMatchObject({ reason: 'failed' });
    expect(spool.state()).toMatchObject({ accepting: false, reason: 'failed' });
    expect(events.seen).not.toContain('gateOpened');
  });

  test.each([
    ['sync', 'EIO'],
    ['sync', 'ENOSPC'],
    ['write', 'EIO'],
  ] as const)(
    'an error of %s (%s) is final: nobody is acknowledged, the sync is not tried again',
    async (call, code) => {
      const dir = temporaryFolder();
      const events = recordedEvents();
      const files = failingFiles();
      const spool = await openTestSpool(dir, {}, { events, files });
      await appendEach(spool, 1, 3);
      files.fail(call, code);
      const { sync } = files.calls;
      const first = append(spool, order(4));
      const outcomes = [await first, await append(spool, order(5))];
      for (const outcome of outcomes) {
        expect(outcome).toMatchObject({
          reason: 'failed',
          message: 'the archive has failed and must be restarted',
        });
      }
      expect(files.calls.sync).toBe(call === 'sync' ? sync + 1 : sync);
      expect(events.seen).toEqual([`gateClosed failed ${code} at ${call}`]);
      await spool.close();

      // What was refused is not there after a restart, and the sequence goes on.
      const again = await openTestSpool(dir);
      await appendEach(again, 6, 7);
      expect(await readFolder(dir)).toMatchObject({ numbers: [1, 2, 3, 6, 7], problems: [] });
    },
  );

  test('orders that came during a failing commit are refused with it', async () => {
    const files = failingFiles();
    const spool = await openTestSpool(temporaryFolder(), {}, { files });
    const release = files.holdSyncs();
    const first = append(spool, order(1));
    while (files.calls.write < 2) await new Promise((resolve) => setImmediate(resolve));
    const second = append(spool, order(2));
    files.fail('sync', 'EIO');
    release();
    expect(await first).toMatchObject({ reason: 'failed' });
    expect(await second).toMatchObject({ reason: 'failed' });
  });
});

describe('closing', () => {
  test('makes durable what waits, refuses what comes, and lets the folder go', async () => {
    const dir = temporaryFolder();
    const spool = await openTestSpool(dir);
    const waiting = range(1, 50).map((n) => append(spool, order(n)));
    const closed = spool.close();
    expect(await append(spool, order(51))).toMatchObject({ reason: 'closing' });
    await closed;
    expect(new Set(await Promise.all(waiting))).toEqual(new Set([null]));
    expect((await readFolder(dir)).numbers).toEqual(range(1, 50));
    await spool.close();
    const again = await openTestSpool(dir);
    expect(again.state().lastSequence).toBe(51);
  });

  test('a folder in use is refused by name, in the same process too', async () => {
    const dir = temporaryFolder();
    const spool = await openTestSpool(dir);
    const second = openSpool(spoolOptions(dir), { events: recordedEvents() });
    await expect(second).rejects.toThrow(`the archive folder ${dir} is in use by another process`);
    // The refused one has not taken the lock away from the first.
    await expect(openSpool(spoolOptions(dir), { events: recordedEvents() })).rejects.toThrow('in use');
    await appendEach(spool, 1, 2);
    expect(statSync(join(dir, 'lock')).size).toBe(0);
  });
});

describe('options', () => {
  test.each([
    ['nodeId', { nodeId: 'no spaces' }],
    ['segmentBytes', { segmentBytes: 0 }],
    ['retentionMs', { retentionMs: Number.NaN }],
    ['lowBytes', { lowBytes: 10, maxBytes: 10 }],
    ['lowBytes', { lowBytes: 1000, maxBytes: 2000 }],
  ])('a wrong %s is named', async (name, changes) => {
    const opening = openSpool(spoolOptions(temporaryFolder(), changes), { events: recordedEvents() });
    await expect(opening).rejects.toThrow(new RegExp(`^${name}: `));
  });
});
