/** Keccak-256 (the pre-standard SHA-3 of Ethereum), native in Node 26. */
import { hash } from 'node:crypto';

/** @returns 32 bytes. */
export function keccak256(data: Uint8Array | string): Buffer {
  return hash('keccak-256', data, 'buffer');
}

/** @returns 64 lower-case hex digits, without 0x. */
export function keccak256Hex(data: Uint8Array | string): string {
  return hash('keccak-256', data, 'hex');
}
