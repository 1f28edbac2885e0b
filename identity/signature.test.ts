import { readFileSync } from 'node:fs';
import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { Rejection } from '../pipeline/errors.ts';
import { keccak256Hex } from '../pipeline/keccak.ts';
import { createSigner, SignatureVerifier } from './signature.ts';

const SEED = 0x516;

interface SignatureVector {
  readonly header: string;
  readonly body: string;
  readonly address?: string;
  readonly error?: string;
  readonly note?: string;
}

interface OrderVectors {
  readonly nodeKey: string;
  readonly accepted: readonly {
    readonly method: string;
    readonly canonical: string;
    readonly signature: string;
  }[];
}

function read(name: string): string {
  return readFileSync(new URL(`../testing/vectors/${name}`, import.meta.url), 'utf8');
}

const signatures: SignatureVector[] = JSON.parse(read('signature.json'));
const orders: OrderVectors = JSON.parse(read('orders.json'));

const cases = signatures.map((vector, index) => ({
  ...vector,
  name: `${index} ${vector.note ?? 'as signed'}`,
}));

/** An answer in the words of the vectors: the message up to the second colon counts. */
function spoken(answer: string | Rejection): { address: string } | { error: string; kind: string } {
  if (typeof answer === 'string') return { address: answer };
  return { error: answer.message.split(':').slice(0, 2).join(':'), kind: answer.kind };
}

function expected(vector: SignatureVector): ReturnType<typeof spoken> {
  if (vector.address !== undefined) return { address: vector.address };
  const error = vector.error!.split(':').slice(0, 2).join(':');
  return { error, kind: error === 'no signature provided' ? 'no_signature' : 'invalid_signature' };
}

describe('vectors, signer not seen before', () => {
  test.each(cases)('$name', (vector) => {
    const verifier = new SignatureVerifier({ cacheSize: 4 });
    expect(spoken(verifier.verify(vector.header, Buffer.from(vector.body)))).toEqual(expected(vector));
    expect(verifier.knownKeys).toBe(vector.address === undefined ? 0 : 1);
  });
});

describe('vectors, every signer known', () => {
  const verifier = new SignatureVerifier({ cacheSize: 64 });
  for (let times = 0; times < 2; times++) {
    for (const vector of cases.filter((vector) => vector.address !== undefined)) {
      verifier.verify(vector.header, Buffer.from(vector.body));
    }
  }

  test.each(cases.filter((vector) => vector.note !== 'the other v'))('$name', (vector) => {
    expect(spoken(verifier.verify(vector.header, Buffer.from(vector.body)))).toEqual(expected(vector));
  });

  test.each(cases.filter((vector) => vector.note === 'the other v'))(
    '$name passes, and only it',
    (vector) => {
      const address = vector.header.slice(0, 42).toLowerCase();
      expect(verifier.verify(vector.header, Buffer.from(vector.body))).toBe(address);
    },
  );

  test('no refused header was taken in', () => {
    const signers = new Set(cases.map((vector) => vector.address).filter((address) => address !== undefined));
    expect(verifier.knownKeys).toBe(signers.size);
  });
});

describe('signing', () => {
  const { nodeKey, accepted } = orders;
  const signer = createSigner(Buffer.from(nodeKey.slice(2), 'hex'));

  test('the address carries its checksum', () => {
    expect(signer.address).toBe('0xC68de84fBEA2A3E8785b5965c031E3A52689144B');
    expect(signer.addressLower).toBe(signer.address.toLowerCase());
  });

  test.each(accepted.map((order, index) => ({ ...order, name: `${index} ${order.method}` })))(
    'canonical form $name',
    ({ canonical, signature }) => {
      expect(signer.sign(canonical)).toBe(signature);
      expect(signer.sign(Buffer.from(canonical))).toBe(signature);
      expect(signer.signHash(keccak256Hex(canonical))).toBe(signature);
    },
  );

  test('the key is not shown when the signer is printed', () => {
    expect(JSON.stringify(signer)).not.toContain(nodeKey.slice(4));
    expect(Object.keys(signer).toSorted()).toEqual(['address', 'addressLower', 'sign', 'signHash']);
  });

  test('a key that is none is refused', () => {
    expect(() => createSigner(new Uint8Array(32))).toThrow();
    expect(() => createSigner(new Uint8Array(31).fill(1))).toThrow();
  });
});

describe('properties', () => {
  const keys = fc
    .uint8Array({ minLength: 32, maxLength: 32 })
    .filter((key) => key.some((byte) => byte !== 0) && key[0] !== 255);

  test('what is signed verifies, cold and warm', () => {
    const verifier = new SignatureVerifier({ cacheSize: 8 });
    fc.assert(
      fc.property(keys, fc.uint8Array({ maxLength: 300 }), (key, body) => {
        const signer = createSigner(key);
        const header = signer.sign(body);
        for (let times = 0; times < 3; times++)
          expect(verifier.verify(header, body)).toBe(signer.addressLower);
        expect(verifier.verify(header, Buffer.concat([body, Buffer.from('x')]))).toBeInstanceOf(Rejection);
      }),
      { seed: SEED, numRuns: 100 },
    );
    expect(verifier.knownKeys).toBeLessThanOrEqual(8);
    expect(verifier.knownKeys).toBeGreaterThan(4);
  });

  const body = Buffer.from('{"jsonrpc":"2.0"}');
  const signer = createSigner(Buffer.alloc(32, 5));
  const header = signer.sign(body);
  const mutated = fc
    .array(
      fc.tuple(
        fc.nat(header.length),
        fc.nat(4),
        fc.oneof(
          fc.constantFrom('', ':', '0x', '0X', 'g', 'F', '0', '\u0000', 'ı', '😀', 'Ł'),
          fc.string({ maxLength: 3 }),
        ),
      ),
      { minLength: 1, maxLength: 3 },
    )
    .map((edits) => {
      let text = header;
      for (const [at, removed, put] of edits) text = text.slice(0, at) + put + text.slice(at + removed);
      return text;
    });

  test.each(['cold', 'warm'])(
    'a mutated header is answered, never thrown at, and never names another signer (%s)',
    (state) => {
      const verifier = new SignatureVerifier({ cacheSize: 8 });
      if (state === 'warm') verifier.verify(header, body);
      fc.assert(
        fc.property(fc.oneof(mutated, fc.string({ unit: 'binary', maxLength: 200 })), (text) => {
          const answer = verifier.verify(text, body);
          if (answer instanceof Rejection) {
            expect(answer.message).toMatch(
              /^(no signature provided|invalid signature provided(: [a-z0-9 ]+)?)$/u,
            );
          } else {
            // Only the case of digits, a missing 0x of the address and the other v leave the signature as it was.
            expect(answer).toBe(signer.addressLower);
            expect(text.split(':')[1]!.slice(2, 130).toLowerCase()).toBe(header.slice(45, 173));
          }
          expect(verifier.knownKeys).toBeLessThanOrEqual(1);
        }),
        { seed: SEED, numRuns: 2000 },
      );
    },
  );

  test('a stream of strangers leaves the regular signers known', () => {
    const verifier = new SignatureVerifier({ cacheSize: 16 });
    verifier.verify(header, body);
    verifier.verify(header, body);
    for (let index = 1; index <= 64; index++) {
      const stranger = createSigner(Buffer.alloc(32, index));
      verifier.verify(stranger.sign(body), body);
    }
    expect(verifier.knownKeys).toBeLessThanOrEqual(16);
    // Only a known key lets the other v pass.
    const otherV = header.slice(0, -2) + (header.endsWith('1b') ? '1c' : '1b');
    expect(verifier.verify(otherV, body)).toBe(signer.addressLower);
  });
});
