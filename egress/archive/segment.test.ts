import { mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  createSegment,
  decodeSegmentHeader,
  encodeSegmentHeader,
  HeaderProblem,
  listSegments,
  SEGMENT_HEADER_BYTES,
  type SegmentHeader,
  segmentName,
} from './segment.ts';
import { temporaryFolder } from './testing/spool.ts';

const SEED = 20_250_630;

const HEADER: SegmentHeader = {
  nodeId: 'node-1',
  epoch: 1_750_000_000_000_000,
  firstSequence: 42,
  chainBefore: '0123456789abcdef'.repeat(2),
  openedAtUs: 1_750_000_000_123_456,
  partition: 11,
};

describe(`segment header (fast-check seed ${SEED})`, () => {
  test('what is encoded is decoded again', () => {
    const headers = fc.record({
      nodeId: fc.stringMatching(/^[A-Za-z0-9._:-]{1,64}$/),
      epoch: fc.maxSafeNat(),
      firstSequence: fc.integer({ min: 1, max: Number.MAX_SAFE_INTEGER }),
      chainBefore: fc.uint8Array({ minLength: 16, maxLength: 16 }).map((b) => Buffer.from(b).toString('hex')),
      openedAtUs: fc.maxSafeNat(),
      partition: fc.integer({ min: 0, max: 0x7fff_ffff }),
    });
    fc.assert(
      fc.property(headers, (header) => {
        const bytes = encodeSegmentHeader(header);
        expect(bytes).toHaveLength(SEGMENT_HEADER_BYTES);
        expect(decodeSegmentHeader(bytes)).toEqual(header);
      }),
      { seed: SEED },
    );
  });

  test('every change of one byte and every cut is noticed', () => {
    const bytes = encodeSegmentHeader(HEADER);
    for (let at = 0; at < bytes.length; at += 1) {
      const changed = Buffer.from(bytes);
      changed[at]! ^= 0x10;
      expect(decodeSegmentHeader(changed)).toBeInstanceOf(HeaderProblem);
      expect(decodeSegmentHeader(bytes.subarray(0, at))).toBeInstanceOf(HeaderProblem);
    }
  });

  test('bytes of any kind never make the decoder throw', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => {
        expect(decodeSegmentHeader(Buffer.from(bytes))).toBeInstanceOf(HeaderProblem);
      }),
      { seed: SEED },
    );
  });
});

describe('segment files', () => {
  test('names sort by epoch, then by sequence', () => {
    const names = [segmentName(9, 1000), segmentName(10, 1), segmentName(10, 9), segmentName(10, 10)];
    expect(names.toSorted()).toEqual(names);
  });

  test('a segment is private, begins with its header and is never made twice', async () => {
    const dir = temporaryFolder();
    const handle = await createSegment(dir, HEADER);
    await handle.close();
    const path = join(dir, segmentName(HEADER.epoch, HEADER.firstSequence));
    expect(statSync(path).mode & 0o777).toBe(0o600);
    expect(decodeSegmentHeader(readFileSync(path))).toEqual(HEADER);
    await expect(createSegment(dir, HEADER)).rejects.toMatchObject({ code: 'EEXIST' });
    expect(decodeSegmentHeader(readFileSync(path))).toEqual(HEADER);
    expect(readdirSync(dir)).toEqual([segmentName(HEADER.epoch, HEADER.firstSequence)]);
  });

  test('a folder is listed oldest first, other files left out', async () => {
    const dir = temporaryFolder();
    for (const name of ['lock', 'x.segment', segmentName(2, 1), segmentName(1, 20), segmentName(1, 3)]) {
      writeFileSync(join(dir, name), 'abc');
    }
    mkdirSync(join(dir, 'folder'));
    const listed = await listSegments(dir);
    expect(listed.map(({ epoch, firstSequence, bytes }) => [epoch, firstSequence, bytes])).toEqual([
      [1, 3, 3],
      [1, 20, 3],
      [2, 1, 3],
    ]);
  });
});
