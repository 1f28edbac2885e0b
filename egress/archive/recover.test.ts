import {
  copyFileSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { crc32 } from 'node:zlib';
import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { openSpool } from './open.ts';
import { recover } from './recover.ts';
import { SegmentScan } from './scan.ts';
import { decodeSegmentHeader, HeaderProblem, SEGMENT_HEADER_BYTES } from './segment.ts';
import { order, range } from './testing/orders.ts';
import {
  append,
  appendEach,
  openTestSpool,
  readFolder,
  recordedEvents,
  spoolOptions,
  temporaryFolder,
} from './testing/spool.ts';

const SEED = 20_250_630;

/** A closed spool with the orders 1 to `count`, one commit each. */
async function filledFolder(count: number, segmentBytes = 1_000_000): Promise<string> {
  const dir = temporaryFolder('memory');
  const spool = await openTestSpool(dir, { segmentBytes });
  await appendEach(spool, 1, count);
  await spool.close();
  return dir;
}

/** Paths of a folder's segments, oldest first. */
function segmentsOf(dir: string): string[] {
  return readdirSync(dir)
    .filter((name) => name.endsWith('.segment'))
    .toSorted()
    .map((name) => join(dir, name));
}

/** Offsets of the records of a segment, and of its end. */
async function offsetsOf(path: string): Promise<number[]> {
  const scan = await SegmentScan.open(path);
  if (scan instanceof HeaderProblem) throw new Error(scan.message);
  const offsets: number[] = [];
  for (let item = await scan.next(); item !== null; item = await scan.next()) offsets.push(item.offset);
  offsets.push(scan.offset);
  await scan.close();
  return offsets;
}

function changeByte(path: string, offset: number, change = 0x40): void {
  const bytes = readFileSync(path);
  bytes[offset]! ^= change;
  writeFileSync(path, bytes);
}

/** Opens, appends one order, closes. @returns what was reported. */
async function carryOn(dir: string, n: number, changes = {}): Promise<string[]> {
  const events = recordedEvents();
  const spool = await openSpool(spoolOptions(dir, changes), { events });
  expect(await append(spool, order(n))).toBe(null);
  await spool.close();
  return events.seen.filter((event) => event !== 'gateClosed closing');
}

describe('carrying on', () => {
  test('a reopened folder goes on with its epoch, sequence and chain', async () => {
    const dir = await filledFolder(5);
    for (const n of range(6, 10)) expect(await carryOn(dir, n)).toEqual([]);
    const { records, numbers, problems } = await readFolder(dir);
    expect(problems).toEqual([]);
    expect(numbers).toEqual(range(1, 10));
    expect(new Set(records.map(({ epoch }) => epoch)).size).toBe(1);
    expect(records.map(({ sequence }) => sequence)).toEqual(range(1, 11));
  });

  test('a new folder opens an epoch of which nothing is known before', async () => {
    const { records, findings } = await readFolder(await filledFolder(1));
    const { epoch, control, value, sequence } = records[0]!;
    expect({ control, sequence }).toEqual({ control: 'epoch', sequence: 1 });
    expect(value.toString()).toBe(`{"n":"node-1","e":${epoch},"previous":"unknown"}`);
    expect(findings.map(({ kind }) => kind)).toEqual(['note']);
  });

  test('another node id opens an epoch that names the end of the one before', async () => {
    const dir = await filledFolder(3);
    expect(await carryOn(dir, 4, { nodeId: 'node-2' })).toEqual([]);
    const { records, numbers, problems } = await readFolder(dir);
    expect(problems).toEqual([]);
    expect(numbers).toEqual([1, 2, 3, 4]);
    const opening = records.find(({ nodeId }) => nodeId === 'node-2')!;
    const before = records[3]!;
    expect(JSON.parse(opening.value.toString())).toEqual({
      n: 'node-2',
      e: opening.epoch,
      previous: { n: 'node-1', e: before.epoch, s: 4, h: before.chain },
    });
    expect(opening.epoch).toBeGreaterThan(before.epoch);
  });

  test('a clock that was set back does not sort a new epoch before the old one', async () => {
    const dir = await filledFolder(2);
    const clock = { now: () => 1000, monotonic: () => 0 };
    const spool = await openTestSpool(dir, { nodeId: 'node-2' }, { clock });
    await appendEach(spool, 3, 3);
    expect(await readFolder(dir)).toMatchObject({ numbers: [1, 2, 3], problems: [] });
  });
});

describe('retention across a restart', () => {
  const SECOND = 1_000_000;
  const START_US = 1_750_000_000 * SECOND;
  const clockAt = (seconds: number) => ({ now: () => START_US / 1000 + seconds * 1000, monotonic: () => 0 });

  /** A closed folder: the order n was received n seconds after the start. */
  async function ordersBySecond(count: number): Promise<string> {
    const dir = temporaryFolder('memory');
    const spool = await openTestSpool(dir, { segmentBytes: 4096 }, { clock: clockAt(0) });
    for (const n of range(1, count)) {
      expect(await append(spool, { ...order(n), receivedAtUs: START_US + n * SECOND })).toBe(null);
    }
    await spool.close();
    return dir;
  }

  test('a segment goes when its newest record is old enough, not when its oldest is', async () => {
    const dir = await ordersBySecond(60);
    const [, second] = segmentsOf(dir);
    // The second segment begins with the order that made it: the newest of the first is the one before.
    const opened = Number(second!.slice(-28, -8)) - 1;
    const reopen = async (seconds: number) => {
      const options = { segmentBytes: 4096, retentionMs: 100_000 };
      const spool = await openTestSpool(dir, options, { clock: clockAt(seconds) });
      await spool.close();
      return (await readFolder(dir)).numbers[0];
    };
    expect(await reopen(opened + 99)).toBe(1);
    expect(await reopen(opened + 100)).toBe(opened);
  });

  test('a clock that was set back does not date a later segment before older records', async () => {
    const dir = await ordersBySecond(5);
    const spool = await openTestSpool(dir, { segmentBytes: 4096 }, { clock: clockAt(-1000) });
    for (const n of range(6, 40)) {
      expect(await append(spool, { ...order(n), receivedAtUs: START_US - 1000 * SECOND + n })).toBe(null);
    }
    await spool.close();
    const later = segmentsOf(dir).slice(1);
    expect(later.length).toBeGreaterThan(1);
    for (const path of later) {
      expect(decodeSegmentHeader(readFileSync(path))).toMatchObject({ openedAtUs: START_US + 5 * SECOND });
    }
  });
});

describe('a torn end', () => {
  /** A folder of four orders, and what is left to recover when the last record is broken. */
  async function fourOrders() {
    const dir = await filledFolder(4);
    const path = segmentsOf(dir)[0]!;
    const whole = readFileSync(path);
    const start = (await offsetsOf(path)).at(-2)!;
    const chain = (await readFolder(dir)).records.at(-2)!.chain;
    /** Recovers, and every 16th time carries on with the whole spool. */
    const check = async (at: number, torn: number) => {
      const expected = torn === 0 ? [] : [`tornTail ${torn}`];
      if (at % 16 === 0) {
        expect(await carryOn(dir, 9)).toEqual(expected);
        const { numbers, problems } = await readFolder(dir);
        expect({ at, numbers, problems }).toEqual({ at, numbers: [1, 2, 3, 9], problems: [] });
        return;
      }
      const events = recordedEvents();
      const { active } = await recover(dir, 'node-1', events);
      await active?.handle.close();
      expect(events.seen).toEqual(expected);
      expect([at, active?.end, active?.nextSequence, active?.chain]).toEqual([at, start, 5, chain]);
      expect(readFileSync(path).equals(whole.subarray(0, start))).toBe(true);
    };
    return { path, whole, start, check };
  }

  test('at every byte of the last record: it is cut off, everything before it stays', async () => {
    const { path, whole, start, check } = await fourOrders();
    for (let size = start; size < whole.length; size += 1) {
      writeFileSync(path, whole.subarray(0, size));
      await check(size, size - start);
    }
  });

  test('a changed byte anywhere in the last record cuts it off', async () => {
    const { path, whole, start, check } = await fourOrders();
    for (let offset = start; offset < whole.length; offset += 1) {
      writeFileSync(path, whole);
      changeByte(path, offset);
      await check(offset, whole.length - start);
    }
  });

  test(`a power cut leaves any sectors of the last commit: no alarm, nothing older is lost (seed ${SEED})`, async () => {
    const dir = await filledFolder(3);
    const [path] = segmentsOf(dir);
    const durable = readFileSync(path!);
    const spool = await openTestSpool(dir);
    expect(await Promise.all(range(4, 30).map((n) => append(spool, order(n, 40))))).toEqual(
      Array(27).fill(null),
    );
    await spool.close();
    const whole = readFileSync(path!);
    const sectors = Math.ceil(whole.length / 512);
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.boolean(), { minLength: sectors, maxLength: sectors }),
        fc.integer({ min: durable.length, max: whole.length }),
        async (lost, size) => {
          const image = Buffer.from(whole.subarray(0, size));
          lost.forEach((gone, sector) => {
            const [from, to] = [sector * 512, Math.min(size, (sector + 1) * 512)];
            if (gone && to > durable.length) image.fill(0, Math.max(durable.length, from), to);
          });
          writeFileSync(path!, image);
          const seen = await carryOn(dir, 99);
          expect(seen.filter((event) => !event.startsWith('tornTail'))).toEqual([]);
          const { numbers, problems } = await readFolder(dir);
          expect(problems).toEqual([]);
          expect(numbers).toEqual([...range(1, numbers.length - 1), 99]);
          expect(numbers.length).toBeGreaterThanOrEqual(4);
        },
      ),
      { seed: SEED, numRuns: 60 },
    );
  });

  test('a segment whose making was cut short is removed, at every size of its header', async () => {
    const dir = await filledFolder(40, 4096);
    const last = segmentsOf(dir).at(-1)!;
    const header = readFileSync(last).subarray(0, SEGMENT_HEADER_BYTES);
    const { numbers } = await readFolder(dir);
    for (let size = 0; size <= SEGMENT_HEADER_BYTES; size += 1) {
      const copy = join(temporaryFolder('memory'), 'copy');
      mkdirSync(copy);
      for (const path of segmentsOf(dir)) copyFileSync(path, path.replace(dir, copy));
      writeFileSync(last.replace(dir, copy), header.subarray(0, size));
      expect(await carryOn(copy, 99, { segmentBytes: 4096 })).toEqual([]);
      const after = await readFolder(copy);
      expect(after.problems).toEqual([]);
      expect(after.numbers.at(-1)).toBe(99);
      expect(numbers.slice(0, after.numbers.length - 1)).toEqual(after.numbers.slice(0, -1));
      rmSync(copy, { recursive: true });
    }
  });

  test('what a killed node left beside its segments is removed', async () => {
    const dir = await filledFolder(3);
    for (const name of ['segment.new', 'room']) writeFileSync(join(dir, name), 'half');
    expect(await carryOn(dir, 4, { nodeId: 'node-2' })).toEqual([]);
    expect(readdirSync(dir).filter((name) => !name.endsWith('.segment'))).toEqual(['lock']);
    expect(await readFolder(dir)).toMatchObject({ numbers: [1, 2, 3, 4], problems: [] });
  });

  test('a first segment without a record is removed and a new epoch opened', async () => {
    const dir = await filledFolder(0);
    truncateSync(segmentsOf(dir)[0]!, SEGMENT_HEADER_BYTES);
    expect(await carryOn(dir, 1)).toEqual([]);
    expect(segmentsOf(dir)).toHaveLength(1);
    expect(await readFolder(dir)).toMatchObject({ numbers: [1], problems: [] });
  });
});

describe('damage', () => {
  test('of a record that had been durable: an alarm, nothing touched, a new epoch that declares the loss', async () => {
    const dir = await filledFolder(5);
    const [path] = segmentsOf(dir);
    const offsets = await offsetsOf(path!);
    // The third order; two commits follow it.
    changeByte(path!, offsets[3]! + 60);
    const damaged = readFileSync(path!);
    expect(await carryOn(dir, 6)).toEqual([`damage ${offsets[3]} the record does not match its checksum`]);
    expect(readFileSync(path!).equals(damaged)).toBe(true);
    const { records, numbers, problems } = await readFolder(dir);
    expect(numbers).toEqual([1, 2, 4, 5, 6]);
    const opening = records.findLast(({ control }) => control === 'epoch')!;
    expect(JSON.parse(opening.value.toString()).previous).toEqual({
      n: 'node-1',
      e: records[0]!.epoch,
      s: 'unknown',
      h: 'unknown',
    });
    expect(problems).toEqual([
      `the record does not match its checksum; reading goes on at offset ${offsets[4]}; sequence 4 is missing`,
      `epoch ${opening.epoch} of node node-1 opens; how far epoch ${records[0]!.epoch} of node node-1 went is unknown: orders may be missing`,
    ]);
    // It is said once; the new epoch is carried on as any other.
    expect(await carryOn(dir, 7)).toEqual([]);
  });

  test('the length of a record that had been durable points beyond the file: damage, not a torn end', async () => {
    const dir = await filledFolder(5);
    const [path] = segmentsOf(dir);
    const offsets = await offsetsOf(path!);
    changeByte(path!, offsets[2]! + 5, 0x10);
    expect(await carryOn(dir, 6)).toEqual([`damage ${offsets[2]} the file ends inside a record`]);
  });

  test('of the end of a segment that another one follows', async () => {
    const dir = await filledFolder(40, 4096);
    const paths = segmentsOf(dir);
    rmSync(paths.pop()!);
    const last = paths.at(-1)!;
    truncateSync(last, statSync(last).size - 3);
    // Now it is the last one, and its end is torn as far as can be seen.
    expect(await carryOn(dir, 99, { segmentBytes: 4096 })).toEqual([expect.stringMatching(/^tornTail/)]);
    // With a successor that holds nothing yet, it had been complete.
    const [first] = segmentsOf(dir);
    const header = readFileSync(segmentsOf(dir).at(-1)!).subarray(0, SEGMENT_HEADER_BYTES);
    for (const path of segmentsOf(dir).slice(1, -1)) rmSync(path);
    truncateSync(first!, statSync(first!).size - 3);
    writeFileSync(segmentsOf(dir).at(-1)!, header);
    expect(await carryOn(dir, 100, { segmentBytes: 4096 })).toEqual([
      expect.stringMatching(/^damage \d+ the file ends/),
    ]);
  });

  test('of the header of the last segment', async () => {
    const dir = await filledFolder(3);
    changeByte(segmentsOf(dir)[0]!, 30);
    expect(await carryOn(dir, 4)).toEqual(['damage 0 the segment header is damaged']);
    expect((await readFolder(dir)).numbers).toEqual([4]);
  });

  test('of the header of an older segment: an alarm, and the epoch goes on', async () => {
    const dir = await filledFolder(40, 4096);
    changeByte(segmentsOf(dir)[1]!, 30);
    expect(await carryOn(dir, 41, { segmentBytes: 4096 })).toEqual([
      'damage 0 the segment header is damaged',
    ]);
    const { records, numbers, problems } = await readFolder(dir);
    expect(numbers.at(-1)).toBe(41);
    expect(new Set(records.map(({ epoch }) => epoch)).size).toBe(1);
    expect(problems[0]).toMatch(/no record of this segment can be read/);
  });

  test('a segment of a newer version stops the start and is named', async () => {
    const dir = await filledFolder(2);
    const [path] = segmentsOf(dir);
    const bytes = readFileSync(path!);
    bytes.writeUInt32BE(2, 8);
    bytes.writeUInt32BE(crc32(bytes.subarray(0, 124)), 124);
    writeFileSync(path!, bytes);
    const opening = openSpool(spoolOptions(dir), { events: recordedEvents() });
    await expect(opening).rejects.toThrow(`${path}: segment version 2 is unknown to this reader`);
  });
});
