import { describe, expect, test } from 'vitest';
import { ReplacementNonces } from './replacement-nonces.ts';

const UUID = '1f8a44c4-df81-5c43-c0f3-c58c79e20f75';
const OTHER_UUID = '2f8a44c4-df81-5c43-c0f3-c58c79e20f75';
const SIGNER = '0x1111111111111111111111111111111111111111';
const OTHER_SIGNER = '0x2222222222222222222222222222222222222222';
const SECOND = 1_000_000;

describe('replacement nonces', () => {
  test('count per UUID and signer', () => {
    const nonces = new ReplacementNonces();
    expect([
      nonces.next(UUID, SIGNER, 0),
      nonces.next(UUID, SIGNER, 0),
      nonces.next(UUID, SIGNER, 0),
    ]).toEqual([0, 1, 2]);
    expect(nonces.next(UUID, OTHER_SIGNER, 0)).toBe(0);
    expect(nonces.next(OTHER_UUID, SIGNER, 0)).toBe(0);
    expect(nonces.next(UUID, SIGNER, 0)).toBe(3);
  });

  test('live 60 s after their last use', () => {
    const nonces = new ReplacementNonces();
    expect(nonces.next(UUID, SIGNER, 0)).toBe(0);
    expect(nonces.next(UUID, SIGNER, 60 * SECOND - 1)).toBe(1);
    expect(nonces.next(UUID, SIGNER, 120 * SECOND - 2)).toBe(2);
    expect(nonces.next(UUID, SIGNER, 180 * SECOND - 2)).toBe(0);
  });

  test('what is over makes room', () => {
    const nonces = new ReplacementNonces();
    nonces.next(UUID, SIGNER, 0);
    nonces.next(OTHER_UUID, SIGNER, 30 * SECOND);
    nonces.next(UUID, OTHER_SIGNER, 61 * SECOND);
    expect(nonces.size).toBe(2);
  });

  test('beyond the bound the one unused longest starts anew', () => {
    const nonces = new ReplacementNonces(2);
    nonces.next('a', SIGNER, 0);
    nonces.next('b', SIGNER, 1);
    expect(nonces.next('a', SIGNER, 2)).toBe(1);
    expect(nonces.next('c', SIGNER, 3)).toBe(0);
    expect(nonces.size).toBe(2);
    expect(nonces.next('a', SIGNER, 4)).toBe(2);
    expect(nonces.next('b', SIGNER, 5)).toBe(0);
  });
});
