import { createRequire } from 'node:module';
import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { backend, backendFailure, loadBackend } from './secp256k1.ts';

const SEED = 0x5ec9;
const require = createRequire(import.meta.url);
const native = loadBackend(require);
const prebuilt = loadBackend((name) => {
  if (name.endsWith('.node')) throw new Error('not compiled');
  return require(name);
});
const noble = loadBackend(() => {
  throw new Error('no addon for this machine');
});

const HALF_ORDER = 0x7fffffffffffffffffffffffffffffff5d576e7357a4501ddfe92f46681b20a0n;
const ORDER = 0xfffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141n;
const bytes32 = fc.uint8Array({ minLength: 32, maxLength: 32 });
const privateKeys = bytes32.filter((key) => toNumber(key) > 0n && toNumber(key) < ORDER);
/** Random numbers are almost never at the edges of the group order, so those are drawn too. */
const scalars = fc.oneof(
  bytes32,
  fc.constantFrom(0n, 1n, 2n, HALF_ORDER, HALF_ORDER + 1n, ORDER - 1n, ORDER, ORDER + 1n).map(toBytes),
);

function toNumber(bytes: Uint8Array): bigint {
  return BigInt(`0x${Buffer.from(bytes).toString('hex')}`);
}

function toBytes(value: bigint): Uint8Array {
  return Buffer.from(value.toString(16).padStart(64, '0'), 'hex');
}

function hex(bytes: Uint8Array | null): string | null {
  return bytes === null ? null : Buffer.from(bytes).toString('hex');
}

describe('which library runs', () => {
  test('the one compiled on this machine', () => {
    expect(backendFailure).toBeUndefined();
    expect(backend).toBe('native');
  });

  test('the older one of npm, with the reason, where none was compiled', () => {
    expect(prebuilt.backend).toBe('prebuilt');
    expect(prebuilt.backendFailure).toBe('not compiled');
  });

  test('noble, with the reasons, when no addon can be loaded', () => {
    expect(noble.backend).toBe('noble');
    expect(noble.backendFailure).toBe('no addon for this machine; no addon for this machine');
  });

  test('the next when an addon lacks a function', () => {
    expect(loadBackend(() => ({})).backendFailure).toBe(
      'libsecp256k1 lacks a function; npm secp256k1 lacks a function',
    );
  });

  test.each([
    ['./native/secp256k1.node', 'verify', 'prebuilt'],
    ['secp256k1/bindings.js', 'ecdsaVerify', 'native'],
  ])('not one that answers wrongly: %s', (wrong, name, next) => {
    const loaded = loadBackend((module) => {
      const real = require(module) as Record<string, unknown>;
      return module === wrong ? { ...real, [name]: () => true } : real;
    });
    expect(loaded.backend).toBe(next);
  });

  test('noble when both answer wrongly', () => {
    const loaded = loadBackend((module) => ({
      ...(require(module) as Record<string, unknown>),
      verify: () => true,
      ecdsaVerify: () => true,
    }));
    expect(loaded.backend).toBe('noble');
    expect(loaded.backendFailure).toContain('failed its known-answer test');
  });
});

describe('all libraries agree', () => {
  test('on public keys, signatures and recovery of what they signed', () => {
    fc.assert(
      fc.property(bytes32, privateKeys, (digest, key) => {
        const signed = native.sign(digest, key);
        for (const reference of [prebuilt, noble]) {
          const { signature, recovery } = reference.sign(digest, key);
          expect(hex(signed.signature)).toBe(hex(signature));
          expect(signed.recovery).toBe(recovery);
        }
        expect(toNumber(signed.signature.subarray(32)) <= HALF_ORDER).toBe(true);
        const publicKey = native.publicKey(key);
        expect(hex(noble.publicKey(key))).toBe(hex(publicKey));
        for (const library of [native, prebuilt, noble]) {
          expect(hex(library.recover(digest, signed.signature, signed.recovery))).toBe(hex(publicKey));
          expect(library.verify(digest, signed.signature, publicKey)).toBe(true);
        }
      }),
      { seed: SEED, numRuns: 60 },
    );
  });

  test('on recovery from any r, s and v, and on whether the result verifies', () => {
    fc.assert(
      fc.property(bytes32, scalars, scalars, fc.constantFrom(0, 1), (digest, r, s, recovery) => {
        const signature = Buffer.concat([r, s]);
        const recovered = native.recover(digest, signature, recovery);
        expect(hex(noble.recover(digest, signature, recovery))).toBe(hex(recovered));
        expect(hex(prebuilt.recover(digest, signature, recovery))).toBe(hex(recovered));
        const publicKey = recovered ?? native.publicKey(digest);
        const valid = native.verify(digest, signature, publicKey);
        expect(noble.verify(digest, signature, publicKey)).toBe(valid);
        expect(prebuilt.verify(digest, signature, publicKey)).toBe(valid);
        expect(valid).toBe(recovered !== null && toNumber(s) <= HALF_ORDER);
      }),
      { seed: SEED, numRuns: 150 },
    );
  });
});

describe.each([
  ['native', native],
  ['prebuilt', prebuilt],
  ['noble', noble],
])('%s', (_name, library) => {
  const digest = Buffer.alloc(32, 7);
  const key = Buffer.alloc(32, 9);

  test('refuses the mirrored (high s) signature', () => {
    const { signature } = library.sign(digest, key);
    const mirrored = Buffer.concat([
      signature.subarray(0, 32),
      toBytes(ORDER - toNumber(signature.subarray(32))),
    ]);
    expect(library.verify(digest, signature, library.publicKey(key))).toBe(true);
    expect(library.verify(digest, mirrored, library.publicKey(key))).toBe(false);
  });

  test.each([
    ['zero', toBytes(0n)],
    ['the order', toBytes(ORDER)],
    ['all ones', Buffer.alloc(32, 0xff)],
  ])('takes no private key that is %s', (_case, wrong) => {
    expect(() => library.sign(digest, wrong)).toThrow();
    expect(() => library.publicKey(wrong)).toThrow();
  });

  test('throws for buffers of another length', () => {
    const { signature } = library.sign(digest, key);
    expect(() => library.verify(digest.subarray(1), signature, library.publicKey(key))).toThrow();
    expect(() => library.recover(digest, signature.subarray(1), 0)).toThrow();
    expect(() => library.sign(digest.subarray(1), key)).toThrow();
  });

  test('says false for a public key that is no point', () => {
    const { signature } = library.sign(digest, key);
    const wrong = Buffer.from(library.publicKey(key));
    wrong[64] = (wrong[64] ?? 0) ^ 1;
    expect(library.verify(digest, signature, wrong)).toBe(false);
  });
});
