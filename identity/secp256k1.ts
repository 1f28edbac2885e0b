/**
 * ECDSA on secp256k1: the libsecp256k1 compiled here (native/), else the older one of npm's `secp256k1`, else the noble
 * curves in JavaScript. All give the same bytes: deterministic nonces (RFC 6979) and low s (EIP-2).
 *
 * Limits: the older library is 1.7 times slower; noble about twenty times, and only keeps a node alive on an unusual
 * platform. `backend` and `backendFailure` say which one runs and why, so that the composition root can say so loudly.
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
  readonly backend: 'native' | 'prebuilt' | 'noble';
  /** Why the libraries before it are not in use; undefined when the first is. */
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

/** The functions of native/binding.c, which says what they do. */
interface CompiledLibrary {
  readonly randomize: (seed: Uint8Array) => boolean;
  readonly sign: (digest: Uint8Array, privateKey: Uint8Array, signature: Uint8Array) => number;
  readonly verify: (digest: Uint8Array, signature: Uint8Array, publicKey: Uint8Array) => boolean;
  readonly recover: (
    digest: Uint8Array,
    signature: Uint8Array,
    recovery: number,
    publicKey: Uint8Array,
  ) => boolean;
  readonly publicKey: (privateKey: Uint8Array, publicKey: Uint8Array) => boolean;
}

/** The functions used of `secp256k1/bindings.js`, which ships no types. */
interface PrebuiltLibrary {
  contextRandomize(seed: Uint8Array): void;
  ecdsaSign(digest: Uint8Array, privateKey: Uint8Array): { signature: Uint8Array; recid: number };
  ecdsaVerify(signature: Uint8Array, digest: Uint8Array, publicKey: Uint8Array): boolean;
  ecdsaRecover(signature: Uint8Array, recovery: number, digest: Uint8Array, compressed: boolean): Uint8Array;
  publicKeyCreate(privateKey: Uint8Array, compressed: boolean): Uint8Array;
}

type Require = (name: string) => unknown;

/**
 * Takes the first library that loads and works.
 *
 * @param require resolves module names; `createRequire(import.meta.url)` outside tests
 */
export function loadBackend(require: Require): Secp256k1 {
  const failures: string[] = [];
  for (const load of [loadCompiled, loadPrebuilt]) {
    try {
      const library = load(require, failures.length === 0 ? undefined : failures.join('; '));
      selfTest(library);
      return library;
    } catch (error) {
      failures.push(error instanceof Error ? firstLine(error.message) : String(error));
    }
  }
  return nobleBackend(failures.join('; '));
}

/** What follows in the error of a module that is not there is where it was looked for. */
function firstLine(text: string): string {
  return text.split('\n', 1)[0] ?? text;
}

function has<T>(value: unknown, names: readonly (keyof T & string)[]): value is T {
  return (
    typeof value === 'object' &&
    value !== null &&
    names.every((name) => typeof Reflect.get(value, name) === 'function')
  );
}

function loadCompiled(require: Require, backendFailure: string | undefined): Secp256k1 {
  const library = require('./native/secp256k1.node');
  if (!has<CompiledLibrary>(library, ['randomize', 'sign', 'verify', 'recover', 'publicKey'])) {
    throw new Error('libsecp256k1 lacks a function');
  }
  // Blinds the multiplications with the private key against side channels.
  if (!library.randomize(randomBytes(32))) throw new Error('libsecp256k1 could not be blinded');
  return {
    backend: 'native',
    backendFailure,
    sign(digest, privateKey) {
      const signature = new Uint8Array(64);
      const recovery = library.sign(digest, privateKey, signature);
      if (recovery < 0) throw new Error('private key out of range');
      return { signature, recovery: recovery === 0 ? 0 : 1 };
    },
    verify: library.verify,
    recover(digest, signature, recovery) {
      const key = new Uint8Array(65);
      return library.recover(digest, signature, recovery, key) ? key : null;
    },
    publicKey(privateKey) {
      const key = new Uint8Array(65);
      if (!library.publicKey(privateKey, key)) throw new Error('private key out of range');
      return key;
    },
  };
}

function loadPrebuilt(require: Require, backendFailure: string | undefined): Secp256k1 {
  // bindings.js, not the package's main file: that one falls back to JavaScript without a word.
  const library = require('secp256k1/bindings.js');
  const names = ['contextRandomize', 'ecdsaSign', 'ecdsaVerify', 'ecdsaRecover', 'publicKeyCreate'] as const;
  if (!has<PrebuiltLibrary>(library, names)) throw new Error('npm secp256k1 lacks a function');
  library.contextRandomize(randomBytes(32));
  return {
    backend: 'prebuilt',
    backendFailure,
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
