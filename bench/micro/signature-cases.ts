/** Hashing, checking and making signatures. */

import { secp256k1 as noble } from '@noble/curves/secp256k1.js';
import { keccak_256 as nobleKeccak } from '@noble/hashes/sha3.js';
import type { GeneratedOrder } from '../../devnet/orders.ts';
import { addressOfPublicKey } from '../../identity/address.ts';
import { recover } from '../../identity/secp256k1.ts';
import { createSigner, SignatureVerifier } from '../../identity/signature.ts';
import { Rejection } from '../../pipeline/errors.ts';
import { keccak256, keccak256Hex } from '../../pipeline/keccak.ts';
import { npmLibrary } from '../npm-secp256k1.ts';
import { caseOf, type MicroCase } from './case.ts';

/** EIP-191 over the body's hash as text (protocol section 3), written apart from the node's. */
function digestOf(body: Uint8Array): Buffer {
  return keccak256(`\x19Ethereum Signed Message:\n660x${keccak256Hex(body)}`);
}

interface SignedBody {
  readonly header: string;
  readonly body: Buffer;
  readonly rs: Uint8Array;
  readonly recovery: 0 | 1;
  readonly publicKey: Uint8Array;
}

/** @param size how the orders' size is called */
export function signatureCheckCases(
  size: string,
  orders: readonly GeneratedOrder[],
  full: boolean,
): MicroCase[] {
  const verifier = new SignatureVerifier({ cacheSize: 1024 });
  const inputs = orders.map(signedBody);
  for (const { header, body } of inputs) {
    if (verifier.verify(header, body) instanceof Rejection)
      throw new Error('an order of the bench is not signed');
  }
  const stage = `signature check, ${size}`;
  const chosen = caseOf(stage, 'native verify, key known', true, inputs, ({ header, body }) =>
    verifier.verify(header, body),
  );
  if (!full) return [chosen];
  const few = inputs.slice(0, 8);
  const npm = npmLibrary();
  return [
    chosen,
    caseOf(stage, 'native recover every time', false, inputs, ({ body, rs, recovery }) =>
      addressOfPublicKey(recover(digestOf(body), rs, recovery) ?? new Uint8Array(65)),
    ),
    caseOf(stage, "npm's library verify, key known", false, inputs, ({ body, rs, publicKey }) =>
      npm.verify(digestOf(body), rs, publicKey),
    ),
    caseOf(stage, 'noble verify, key known', false, few, ({ body, rs, publicKey }) =>
      noble.verify(rs, digestOf(body), publicKey, { prehash: false }),
    ),
    caseOf(stage, 'noble recover every time', false, few, ({ body, rs, recovery }) =>
      noble.Signature.fromBytes(rs).addRecoveryBit(recovery).recoverPublicKey(digestOf(body)).toBytes(false),
    ),
  ];
}

function signedBody({ body, signature }: GeneratedOrder): SignedBody {
  const bytes = Buffer.from(signature.slice(signature.indexOf(':') + 3), 'hex');
  const rs = Uint8Array.from(bytes.subarray(0, 64));
  const recovery = bytes[64] === 28 || bytes[64] === 1 ? 1 : 0;
  const publicKey = recover(digestOf(body), rs, recovery);
  if (publicKey === null) throw new Error('an order of the bench is not signed');
  return { header: signature, body, rs, recovery, publicKey };
}

export function keccakCases(size: string, orders: readonly GeneratedOrder[]): MicroCase[] {
  const bodies = orders.map(({ canonical }) => canonical);
  const stage = `keccak-256, ${size}`;
  return [
    caseOf(stage, 'node:crypto', true, bodies, (body) => keccak256Hex(body)),
    caseOf(stage, '@noble/hashes', false, bodies.slice(0, 16), (body) => nobleKeccak(body)),
  ];
}

export function signCases(orders: readonly GeneratedOrder[]): MicroCase[] {
  const hashes = orders.map(({ canonical }) => keccak256Hex(canonical));
  const key = Buffer.alloc(32, 7);
  const signer = createSigner(key);
  const npm = npmLibrary();
  const stage = 'sign for peers, hash known';
  return [
    caseOf(stage, 'native sign', true, hashes, (hash) => signer.signHash(hash)),
    caseOf(stage, "npm's library sign", false, hashes, (hash) =>
      npm.sign(keccak256(`\x19Ethereum Signed Message:\n660x${hash}`), key),
    ),
    caseOf(stage, 'noble sign', false, hashes.slice(0, 8), (hash) =>
      noble.sign(keccak256(`\x19Ethereum Signed Message:\n660x${hash}`), key, {
        prehash: false,
        format: 'recovered',
      }),
    ),
  ];
}
