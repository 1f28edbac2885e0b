/**
 * ECDSA on secp256k1: the native libsecp256k1 (npm `secp256k1`), or the noble curves in JavaScript where the
 * native addon cannot be loaded. Both give the same bytes: deterministic nonces (RFC 6979) and low s (EIP-2).
 *
 * Limits: the fallback is about twenty times slower and only keeps a node alive on an unusual platform;
 * `backend` and `backendFailure` say which one runs and why, so that the composition root can say so loudly.
 * Callers pass buffers of the right length (32-byte digests and keys, 64-byte signatures): anything else is a
 * mistake in the program and throws.
 */
import { randomBytes } from 'node:crypto';
import { createRequire } from 'node:module';
import { secp256k1 as noble } from '@noble/curves/secp256k1.js';

/** A signature with the parity of its nonce point (v without its offset of 27). */
interface RecoverableSignature {
  /** 64 bytes: r ‖ s, s in the lower half of the order. */
  readonly signature: Uint8Array;
  readonly recovery: 0 | 1;
}

/** What this project needs from a secp256k1 library. */
export interface Secp256k1 {
  readonly backend: 'native' | 'noble';
  /** Why the native library is not in use; undefined when it is. */
  readonly backendFailure: string | undefined;
  /**
   * @param digest 32 bytes
   * @param privateKey 32 bytes
   * @throws Error when the private key is zero or not below the group order
   */
  readonly sign: (digest: Uint8Array, privateKey: Uint8Array) => RecoverableSignature;
  /**
   * @param digest 32 bytes
   * @param signature 64 bytes, r ‖ s
   * @param publicKey 65 bytes, uncompressed
   * @returns false for a wrong signature, for r or s out of range and for a high s; never throws for these
   */
  readonly verify: (digest: Uint8Array, signature: Uint8Array, publicKey: Uint8Array) => boolean;
  /**
   * Which key made a signature. A high s is taken: whoever needs low s must check it.
   *
   * @returns 65 bytes, uncompressed; null when r or s is out of range or no such point exists
   */
  readonly recover: (digest: Uint8Array, signature: Uint8Array, recovery: 0 | 1) => Uint8Array | null;
  /**
   * @param privateKey 32 bytes
   * @returns 65 bytes, uncompressed
   * @throws Error when the private key is zero or not below the group order
   */
  readonly publicKey: (privateKey: Uint8Array) => Uint8Array;
}

/** The functions used of `secp256k1/bindings.js`, which ships no types. */
interface NativeLibrary {
  contextRandomize(seed: Uint8Array): void;
  ecdsaSign(digest: Uint8Array, privateKey: Uint8Array): { signature: Uint8Array; recid: number };
  ecdsaVerify(signature: Uint8Array, digest: Uint8Array, publicKey: Uint8Array): boolean;
  ecdsaRecover(signature: Uint8Array, recovery: number, digest: Uint8Array, compressed: boolean): Uint8Array;
  publicKeyCreate(privateKey: Uint8Array, compressed: boolean): Uint8Array;
}

/**
 * Loads the native library and checks that it works, else falls back to noble.
 *
 * @param require resolves module names; `createRequire(import.meta.url)` outside tests
 */
export function loadBackend(require: (name: string) => unknown): Secp256k1 {
  try {
    // bindings.js, not the package's main file: that one falls back to JavaScript without a word.
    const library = require('secp256k1/bindings.js');
    if (!isNativeLibrary(library)) throw new Error('libsecp256k1 lacks a function');
    const native = nativeBackend(library);
    selfTest(native);
    return native;
  } catch (error) {
    return nobleBackend(error instanceof Error ? error.message : String(error));
  }
}

function isNativeLibrary(value: unknown): value is NativeLibrary {
  return (
    typeof value === 'object' &&
    value !== null &&
    ['contextRandomize', 'ecdsaSign', 'ecdsaVerify', 'ecdsaRecover', 'publicKeyCreate'].every(
      (name) => typeof Reflect.get(value, name) === 'function',
    )
  );
}

function nativeBackend(library: NativeLibrary): Secp256k1 {
  // Blinds the multiplications with the private key against side channels.
  library.contextRandomize(randomBytes(32));
  return {
    backend: 'native',
    backendFailure: undefined,
    sign(digest, privateKey) {
      const { signature, recid } = library.ecdsaSign(digest, privateKey);
      return { signature, recovery: recid === 0 ? 0 : 1 };
    },
    verify(digest, signature, publicKey) {
      try {
        return library.ecdsaVerify(signature, digest, publicKey);
      } catch (error) {
        return notOfLength(error, false);
      }
    },
    recover(digest, signature, recovery) {
      try {
        return library.ecdsaRecover(signature, recovery, digest, false);
      } catch (error) {
        return notOfLength(error, null);
      }
    },
    publicKey: (privateKey) => library.publicKeyCreate(privateKey, false),
  };
}

/** The library throws both for wrong values, which are answers, and for wrong types, which are our mistakes. */
function notOfLength<T>(error: unknown, answer: T): T {
  if (error instanceof Error && error.message.startsWith('Expected ')) throw error;
  return answer;
}

function nobleBackend(backendFailure: string): Secp256k1 {
  return {
    backend: 'noble',
    backendFailure,
    sign(digest, privateKey) {
      const bytes = noble.sign(checked('message', digest, 32), privateKey, {
        prehash: false,
        format: 'recovered',
      });
      return { signature: bytes.subarray(1), recovery: bytes[0] === 0 ? 0 : 1 };
    },
    verify(digest, signature, publicKey) {
      checked('message', digest, 32);
      checked('signature', signature, 64);
      checked('public key', publicKey, 65);
      return noble.verify(signature, digest, publicKey, { prehash: false });
    },
    recover(digest, signature, recovery) {
      checked('message', digest, 32);
      checked('signature', signature, 64);
      try {
        const point = noble.Signature.fromBytes(signature).addRecoveryBit(recovery).recoverPublicKey(digest);
        return point.toBytes(false);
      } catch {
        return null;
      }
    },
    publicKey: (privateKey) => noble.getPublicKey(privateKey, false),
  };
}

function checked(name: string, value: Uint8Array, length: number): Uint8Array {
  if (value.length !== length) throw new Error(`Expected ${name} to be an Uint8Array with length ${length}`);
  return value;
}

/** The signature of the digest 0x0101… by the key 0x0101…, made by noble. */
const KNOWN_SIGNATURE =
  'c64b1924157748652733c41294e5f6e395c3626a8e911f3742a4b8ad4fdb922f' +
  '347ba5cdd629027ef5846eb85c9452f6312e0aea697625d66b202448f3e9618f';

/** One known answer, so that a broken build is never trusted. */
function selfTest(library: Secp256k1): void {
  const ones = new Uint8Array(32).fill(1);
  const { signature, recovery } = library.sign(ones, ones);
  const publicKey = library.publicKey(ones);
  const recovered = library.recover(ones, signature, recovery);
  const works =
    Buffer.from(signature).toString('hex') === KNOWN_SIGNATURE &&
    recovered !== null &&
    Buffer.compare(recovered, publicKey) === 0 &&
    library.verify(ones, signature, publicKey) &&
    !library.verify(publicKey.subarray(1, 33), signature, publicKey);
  if (!works) throw new Error('libsecp256k1 failed its known-answer test');
}

export const { backend, backendFailure, sign, verify, recover, publicKey } = loadBackend(
  createRequire(import.meta.url),
);
