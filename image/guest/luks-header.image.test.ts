import { beforeAll, describe, expect, inject, test } from 'vitest';
import { forged, headerOf } from '../testing/luks.ts';
import { diskState, FORMATTING, HEADER_BYTES } from './luks-header.ts';

describe('data disk', () => {
  let ours: Buffer;
  beforeAll(async () => {
    ours = await headerOf(inject('tools'), {});
  });

  test('our own header is taken, an empty disk and an interrupted format are formatted', () => {
    expect(diskState(ours).kind).toBe('luks');
    expect(diskState(Buffer.alloc(HEADER_BYTES))).toEqual({ kind: 'empty' });
    expect(diskState(Buffer.concat([FORMATTING, ours.subarray(FORMATTING.length)]))).toEqual({
      kind: 'empty',
    });
  });

  test.each([
    ['a shorter key', { 'key-size': '256' }, 'metadata.keyslots.0.key_size'],
    ['another kdf', { 'pbkdf-force-iterations': '2000' }, 'metadata.keyslots.0.kdf.iterations'],
    ['another sector size', { 'sector-size': '512' }, 'metadata.segments.0.sector_size'],
    ['another offset', { offset: '65536' }, 'metadata.segments.0.offset'],
    ['LUKS1', { type: 'luks1', 'sector-size': '', 'key-size': '512', offset: '65536' }, 'not LUKS version 2'],
  ])('a header of cryptsetup with %s is refused', async (_, change, check) => {
    expect(diskState(await headerOf(inject('tools'), change))).toEqual({ kind: 'refused', check });
  });

  test('a second key slot is refused', async () => {
    const add =
      'printf %032d 2 > /work/key2 && cryptsetup -q --key-file=/work/key --pbkdf=pbkdf2 --pbkdf-force-iterations=1000 luksAddKey /work/header /work/key2';
    expect(diskState(await headerOf(inject('tools'), {}, add))).toEqual({
      kind: 'refused',
      check: 'metadata.keyslots.1 is not ours',
    });
  });

  test.each([
    [
      'null cipher for the data alone',
      '"iv_tweak":"0","encryption":"aes-xts-plain64"',
      '"iv_tweak":"0","encryption":"cipher_null-ecb"',
      'metadata.segments.0.encryption',
    ],
    [
      'a token',
      '"tokens":{}',
      '"tokens":{"0":{"type":"luks2-keyring","keyslots":["0"],"key_description":"x"}}',
      'metadata.tokens.0 is not ours',
    ],
    ['flags', '"config":{', '"config":{"flags":["allow-discards"],', 'metadata.config.flags is not ours'],
    [
      'an integrity segment',
      '"sector_size":4096',
      '"sector_size":4096,"integrity":{"type":"none"}',
      'metadata.segments.0.integrity is not ours',
    ],
    [
      'null cipher for data and key slot',
      '"encryption":"aes-xts-plain64"',
      '"encryption":"cipher_null-ecb"',
      'metadata.keyslots.0.area.encryption',
    ],
    [
      'another cipher of the same key size',
      '"encryption":"aes-xts-plain64"',
      '"encryption":"aes-cbc-essiv:sha256"',
      'metadata.keyslots.0.area.encryption',
    ],
  ])('a forged header with a right checksum is refused: %s', (_, from, to, check) => {
    const plain = forged(ours, (text) => JSON.stringify(JSON.parse(text)));
    expect(diskState(plain).kind).toBe('luks');
    const changed = forged(plain, (text) => {
      expect(text).toContain(from);
      return text.replaceAll(from, to);
    });
    expect(diskState(changed)).toEqual({ kind: 'refused', check });
  });

  test('a flipped byte, garbage and a short disk are refused', () => {
    const flipped = Buffer.from(ours);
    flipped[5000]! ^= 1;
    expect(diskState(flipped)).toEqual({ kind: 'refused', check: 'checksum' });
    const garbage = Buffer.alloc(HEADER_BYTES, 7);
    expect(diskState(garbage)).toEqual({ kind: 'refused', check: 'no LUKS header' });
    const late = Buffer.alloc(HEADER_BYTES);
    late[HEADER_BYTES - 1] = 1;
    expect(diskState(late)).toEqual({ kind: 'refused', check: 'no LUKS header' });
    expect(diskState(ours.subarray(1)).kind).toBe('refused');
  });
});
