/**
 * Accounts that sign generated transactions and requests, over the native libsecp256k1 (some 30 µs per
 * signature, where pure JavaScript takes 300), so that tens of thousands of orders are ready in seconds.
 */
import { sign } from '../identity/secp256k1.ts';
import { createSigner } from '../identity/signature.ts';
import type { Address } from '../pipeline/order.ts';
import type { SeededSource } from './seeded.ts';

/** One signature: 32-byte r and s (low s, RFC 6979 nonce), and the parity of the nonce point. */
interface Signature {
  readonly r: Buffer;
  readonly s: Buffer;
  readonly yParity: 0 | 1;
}

export interface Account {
  readonly address: Address;
  /** @param digest 32 bytes. */
  signDigest(digest: Uint8Array): Signature;
  /** @returns the value of `X-Flashbots-Signature` for a request body (protocol section 3). */
  signBody(body: Uint8Array): string;
}

/** Makes an account from the next 32 bytes of a seeded stream (practically never an invalid scalar). */
export function createAccount(random: SeededSource): Account {
  const privateKey = random.bytes(32);
  const header = createSigner(privateKey);

  function signDigest(digest: Uint8Array): Signature {
    const { signature, recovery } = sign(digest, privateKey);
    const bytes = Buffer.from(signature.buffer, signature.byteOffset, 64);
    return { r: bytes.subarray(0, 32), s: bytes.subarray(32), yParity: recovery };
  }

  return { address: header.addressLower, signDigest, signBody: (body) => header.sign(body) };
}
