import { readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { chainAfter, decodeFrame, encodeFrame } from './record.ts';
import { SegmentScan } from './scan.ts';
import { decodeSegmentHeader, encodeSegmentHeader, HeaderProblem, SEGMENT_HEADER_BYTES } from './segment.ts';
import { order, range } from './testing/orders.ts';
import { append, appendEach, openTestSpool, readFolder, temporaryFolder } from './testing/spool.ts';
import { ArchiveWalk } from './walk.ts';

/** A clock at which the test orders are new. */
const clock = { now: () => 1_750_000_000_000, monotonic: () => performance.now() };

/** A closed spool of several segments with the orders 1 to `count`, and the paths of its segments. */
async function severalSegments(count = 60, segmentBytes = 4096) {
  const dir = temporaryFolder('memory');
  const spool = await openTestSpool(dir, { segmentBytes }, { clock });
  await appendEach(spool, 1, count);
  await spool.close();
  const paths = readdirSync(dir)
    .filter((name) => name.endsWith('.segment'))
    .toSorted()
    .map((name) => join(dir, name));
  return { dir, paths };
}

/** Frames of a segment with their offsets. */
function framesOf(path: string): { offset: number; bytes: number; sequence: number }[] {
  const buffer = readFileSync(path);
  const frames = [];
  for (let offset = SEGMENT_HEADER_BYTES; offset < buffer.length; ) {
    const frame = decodeFrame(buffer, offset, buffer.length);
    if (typeof frame === 'string') throw new Error(frame);
    frames.push({ offset, bytes: frame.bytes, sequence: frame.sequence });
    offset += frame.bytes;
  }
  return frames;
}

describe('what a reader notices', () => {
  test('every single changed byte of a complete segment, and it still delivers what it can', async () => {
    const { dir, paths } = await severalSegments(8, 1200);
    const path = paths[1]!;
    const whole = readFileSync(path);
    const inside = framesOf(path).length;
    for (let offset = 0; offset < whole.length; offset += 1) {
      const changed = Buffer.from(whole);
      changed[offset]! ^= 0x04;
      writeFileSync(path, changed);
      const { numbers, problems } = await readFolder(dir);
      const lost = offset < SEGMENT_HEADER_BYTES ? inside : 1;
      expect([offset, numbers.length, problems.length > 0]).toEqual([offset, 8 - lost, true]);
      expect(numbers).toEqual(numbers.toSorted((a, b) => a - b));
    }
  });

  test('a record cut out of a segment', async () => {
    const { dir, paths } = await severalSegments();
    const bytes = readFileSync(paths[1]!);
    const { offset, bytes: length, sequence } = framesOf(paths[1]!)[3]!;
    writeFileSync(paths[1]!, Buffer.concat([bytes.subarray(0, offset), bytes.subarray(offset + length)]));
    const { numbers, problems } = await readFolder(dir);
    expect(numbers).toEqual(range(1, 60).filter((n) => n !== sequence - 1));
    expect(problems).toEqual([
      `sequence ${sequence + 1} where ${sequence} must follow; reading goes on at offset ${offset}; sequence ${sequence} is missing`,
    ]);
  });

  test('a record that is there twice is delivered once', async () => {
    const { dir, paths } = await severalSegments();
    const bytes = readFileSync(paths[1]!);
    const { offset, bytes: length } = framesOf(paths[1]!)[3]!;
    const end = offset + length;
    writeFileSync(
      paths[1]!,
      Buffer.concat([bytes.subarray(0, end), bytes.subarray(offset, end), bytes.subarray(end)]),
    );
    const { numbers, problems } = await readFolder(dir);
    expect(numbers).toEqual(range(1, 60));
    expect(problems).toHaveLength(1);
  });

  test('a value that was altered together with its checksum', async () => {
    const { dir, paths } = await severalSegments();
    const bytes = readFileSync(paths[1]!);
    const { offset } = framesOf(paths[1]!)[2]!;
    const frame = decodeFrame(bytes, offset, bytes.length);
    if (typeof frame === 'string') throw new Error(frame);
    const text = frame.payload.toString('latin1');
    const blank = text.indexOf('\n\n') + 2;
    const value = Buffer.from(text.slice(blank).replace('"id":0', '"id":1'));
    encodeFrame(bytes, offset, frame.sequence, frame.index, text.slice(0, blank), value);
    writeFileSync(paths[1]!, bytes);
    const { numbers, problems } = await readFolder(dir);
    // Nobody is given what was not written.
    expect(numbers).toEqual(range(1, 60).filter((n) => n !== frame.sequence - 1));
    expect(problems).toEqual([
      expect.stringContaining(`the hash chain breaks at sequence ${frame.sequence}`),
    ]);
  });

  test('a missing segment, with the sequences that are missing', async () => {
    const { dir, paths } = await severalSegments();
    const lost = framesOf(paths[1]!).map(({ sequence }) => sequence);
    rmSync(paths[1]!);
    const { numbers, problems } = await readFolder(dir);
    expect(numbers).toHaveLength(60 - lost.length);
    expect(problems).toEqual([
      `begins at sequence ${lost.at(-1)! + 1} where ${lost[0]} must follow; sequences ${lost[0]} to ${lost.at(-1)} are missing`,
    ]);
  });

  test('oldest segments that retention has deleted are no problem', async () => {
    const { dir, paths } = await severalSegments();
    rmSync(paths[0]!);
    const { problems, findings } = await readFolder(dir);
    expect(problems).toEqual([]);
    expect(findings[0]).toMatchObject({
      kind: 'note',
      message: expect.stringContaining('begins at sequence'),
    });
  });

  test('a segment whose chain does not continue the one before', async () => {
    const { dir, paths } = await severalSegments();
    const bytes = readFileSync(paths[2]!);
    const header = decodeSegmentHeader(bytes);
    if (header instanceof HeaderProblem) throw new Error(header.message);
    encodeSegmentHeader({ ...header, chainBefore: chainAfter(header.chainBefore, 1, Buffer.from('x')) }).copy(
      bytes,
    );
    writeFileSync(paths[2]!, bytes);
    const { problems } = await readFolder(dir);
    expect(problems[0]).toBe('the hash chain does not continue the segment before');
  });

  test('a segment of another node in the folder', async () => {
    const { dir, paths } = await severalSegments();
    const bytes = readFileSync(paths[2]!);
    const header = decodeSegmentHeader(bytes);
    if (header instanceof HeaderProblem) throw new Error(header.message);
    encodeSegmentHeader({ ...header, nodeId: 'node-2' }).copy(bytes);
    writeFileSync(paths[2]!, bytes);
    const { problems } = await readFolder(dir);
    expect(problems[0]).toMatch(/^the record is of node node-1, epoch \d+, not of this segment's/);
  });

  test('an opening record that does not fit the epoch before', async () => {
    const { dir, paths } = await severalSegments();
    const spool = await openTestSpool(dir, { nodeId: 'node-2' }, { clock });
    await appendEach(spool, 61, 62);
    await spool.close();
    expect((await readFolder(dir)).problems).toEqual([]);
    rmSync(paths.at(-1)!);
    expect((await readFolder(dir)).problems).toEqual([
      'the epoch before does not end as this opening record says',
    ]);
  });

  test('an epoch before that ends with other orders than the opening record says', async () => {
    const { dir, paths } = await severalSegments(2, 1_000_000);
    const spool = await openTestSpool(dir, { nodeId: 'node-2' }, { clock });
    await spool.close();
    const other = temporaryFolder('memory');
    const forger = await openTestSpool(other, {}, { clock });
    await appendEach(forger, 3, 4);
    await forger.close();
    writeFileSync(paths[0]!, readFileSync(join(other, basename(paths[0]!))));
    expect((await readFolder(dir)).problems).toEqual([
      'the epoch before does not end as this opening record says',
    ]);
  });

  test('an epoch without its beginning', async () => {
    const { dir } = await severalSegments();
    const other = temporaryFolder('memory');
    const spool = await openTestSpool(other, { segmentBytes: 4096 });
    await appendEach(spool, 1, 30);
    await spool.close();
    const later = readdirSync(other)
      .filter((name) => name.endsWith('.segment'))
      .toSorted()[1]!;
    renameSync(join(other, later), join(dir, later));
    expect((await readFolder(dir)).problems).toEqual([
      expect.stringMatching(/^the epoch begins at sequence \d+, not 1$/),
    ]);
  });

  test('a torn end of the last segment is a note', async () => {
    const { dir, paths } = await severalSegments();
    const last = paths.at(-1)!;
    writeFileSync(last, readFileSync(last).subarray(0, -5));
    const { numbers, problems, findings } = await readFolder(dir);
    expect(problems).toEqual([]);
    expect(numbers).toEqual(range(1, 59));
    expect(findings.at(-1)?.message).toMatch(/^\d+ bytes at the end: being written, or never acknowledged$/);
  });
});

describe('reading', () => {
  test('values larger than the read buffer', async () => {
    const dir = temporaryFolder();
    const spool = await openTestSpool(dir);
    const outcomes = [order(1), order(2, 900_000), order(3, 3_000_000), order(4)].map((record) =>
      append(spool, record),
    );
    expect(await Promise.all(outcomes)).toEqual([null, null, null, null]);
    expect(await readFolder(dir)).toMatchObject({ numbers: [1, 2, 3, 4], problems: [] });
  });

  test('segments that are too old are not read', async () => {
    const { dir, paths } = await severalSegments();
    const sinceUs = order(50).receivedAtUs;
    const walk = await ArchiveWalk.open(dir, sinceUs);
    const sequences: number[] = [];
    for await (const { record } of walk.records(() => {})) sequences.push(record.sequence);
    expect(sequences[0]).toBeGreaterThan(framesOf(paths[1]!).at(-1)!.sequence);
    expect(sequences[0]).toBeLessThanOrEqual(51);
    expect(sequences.at(-1)).toBe(61);
  });

  test('a scan sees what is appended after it has reached the end', async () => {
    const dir = temporaryFolder();
    const spool = await openTestSpool(dir);
    await appendEach(spool, 1, 2);
    const name = readdirSync(dir).find((file) => file.endsWith('.segment'))!;
    const scan = await SegmentScan.open(join(dir, name));
    if (scan instanceof HeaderProblem) throw new Error(scan.message);
    while ((await scan.next()) !== null);
    expect([scan.nextSequence, scan.problem]).toEqual([4, null]);
    await appendEach(spool, 3, 3);
    expect((await scan.next())?.record.sequence).toBe(4);
    expect(await scan.next()).toBe(null);
    await scan.close();
  });

  test('a scan that has searched behind bad bytes for nothing reads them again, and what came in their place', async () => {
    const { paths } = await severalSegments(8, 8192);
    const path = paths[0]!;
    const whole = readFileSync(path);
    const { offset, sequence } = framesOf(path)[4]!;
    writeFileSync(
      path,
      Buffer.concat([whole.subarray(0, offset), Buffer.alloc(whole.length - offset, 0xff)]),
    );
    const scan = await SegmentScan.open(path);
    if (scan instanceof HeaderProblem) throw new Error(scan.message);
    while ((await scan.next()) !== null);
    for (let time = 0; time < 2; time += 1) {
      expect(scan.problem).toMatchObject({ kind: 'damaged', offset });
      expect(await scan.resume()).toBe(null);
      expect(await scan.next()).toBe(null);
    }
    writeFileSync(path, whole);
    expect((await scan.next())?.record.sequence).toBe(sequence);
    await scan.close();
  });

  test('a record that was being written when it was read is no damage, even when others have followed it since', async () => {
    const { paths } = await severalSegments(8, 8192);
    const path = paths[0]!;
    const whole = readFileSync(path);
    const frames = framesOf(path);
    const room = Buffer.alloc(100_000);
    const { offset, bytes, sequence } = frames[4]!;
    const write = (length: number) => writeFileSync(path, Buffer.concat([whole.subarray(0, length), room]));
    for (const written of [0, 1, 8, 15, 16, 100, bytes - 1]) {
      write(offset + written);
      const scan = await SegmentScan.open(path);
      if (scan instanceof HeaderProblem) throw new Error(scan.message);
      while ((await scan.next()) !== null);
      expect([scan.offset, scan.problem?.kind]).toEqual([offset, written === 0 ? undefined : 'damaged']);
      write(whole.length);
      if (written > 0) expect(await scan.resume()).toMatchObject({ offset, sequence, late: true });
      const rest: number[] = [];
      for (let item = await scan.next(); item !== null; item = await scan.next())
        rest.push(item.record.sequence);
      expect([rest, scan.problem]).toEqual([frames.slice(4).map((frame) => frame.sequence), null]);
      await scan.close();
    }
  });

  test('zeros in the place of a record are damage as soon as another record follows', async () => {
    const { paths } = await severalSegments(8, 8192);
    const path = paths[0]!;
    const whole = readFileSync(path);
    const [bad, following] = framesOf(path).slice(4);
    whole.fill(0, bad!.offset, bad!.offset + bad!.bytes);
    writeFileSync(path, Buffer.concat([whole, Buffer.alloc(100_000)]));
    const scan = await SegmentScan.open(path);
    if (scan instanceof HeaderProblem) throw new Error(scan.message);
    while ((await scan.next()) !== null);
    expect(scan.problem).toMatchObject({ kind: 'damaged', offset: bad!.offset });
    expect(await scan.resume()).toMatchObject({ offset: following!.offset, late: false });
    await scan.close();
  });
});
