/**
 * Random requests for the property tests of the order model: params as texts, so that key order, white space,
 * hex case and the spelling of numbers are part of what varies. Seeded by fast-check, signed with fixed keys.
 */
import { createHash } from 'node:crypto';
import { secp256k1 } from '@noble/curves/secp256k1.js';
import * as fc from 'fast-check';
import type { TransactionSerializable } from 'viem';
import { privateKeyToAccount } from 'viem/accounts';
import type { DecodeContext } from '../decode.ts';
import type { RuleTable } from '../fields.ts';
import { ReplacementNonces } from '../replacement-nonces.ts';
import type { SideRules } from '../side-rules.ts';
import type { Recover } from '../transaction.ts';

const account = privateKeyToAccount(`0x${'11'.repeat(32)}`);
const other = privateKeyToAccount(`0x${'22'.repeat(32)}`);

export const SENDER = account.address.toLowerCase();

export const NO_BLOB_COMMITMENT = Buffer.alloc(48, 7);
export const BLOB_HASH: `0x${string}` = `0x01${createHash('sha256').update(NO_BLOB_COMMITMENT).digest('hex').slice(2)}`;

const common = { chainId: 1, nonce: 7, gas: 200_000n, to: other.address, value: 10n ** 15n } as const;
const fees = { maxFeePerGas: 30_000_000_000n, maxPriorityFeePerGas: 1_000_000_000n } as const;
const accessList = [{ address: other.address, storageKeys: [`0x${'ab'.repeat(32)}`] }] as const;

/** A valid transaction of each type, unsigned. */
export const TRANSACTIONS: readonly TransactionSerializable[] = [
  { ...common, type: 'legacy', gasPrice: 20_000_000_000n, data: '0x00ff' },
  { ...common, type: 'legacy', chainId: undefined, gasPrice: 20_000_000_000n },
  { ...common, type: 'eip2930', gasPrice: 20_000_000_000n, accessList },
  { ...common, ...fees, type: 'eip1559', data: `0x${'00ab'.repeat(150)}` },
  { ...common, ...fees, type: 'eip1559', to: undefined, data: '0x6001600155', accessList },
  { ...common, ...fees, type: 'eip4844', maxFeePerBlobGas: 5n, blobVersionedHashes: [BLOB_HASH] },
  {
    ...common,
    ...fees,
    type: 'eip7702',
    authorizationList: [
      {
        address: other.address,
        chainId: 1,
        nonce: 0,
        r: `0x${'12'.repeat(32)}`,
        s: `0x${'34'.repeat(32)}`,
        yParity: 1,
      },
    ],
  },
];

/** The same transactions signed, as 0x hex. */
export const SIGNED: readonly string[] = await Promise.all(
  TRANSACTIONS.map((tx) => account.signTransaction(tx)),
);

export const recover: Recover = (digest, signature, yParity) => {
  try {
    const recovered = secp256k1.Signature.fromBytes(signature, 'compact').addRecoveryBit(yParity);
    return recovered.recoverPublicKey(digest).toBytes(false);
  } catch {
    return null;
  }
};

/** A context of the system side, with what a test changes. */
export function contextOf(changes: Partial<DecodeContext> = {}): DecodeContext {
  return {
    side: 'system',
    signer: `0x${'5e'.repeat(20)}`,
    isFlashbots: true,
    receivedAtUs: 1_718_030_000_123_456,
    validation: 'strict',
    chainId: 1n,
    nonces: new ReplacementNonces(),
    hashes: true,
    ...changes,
  };
}

const NOTHING: RuleTable<unknown, DecodeContext> = { refusals: [], fills: [] };

/** The types alone, as the reference's types know them. */
export const NO_RULES: SideRules = {
  eth_sendBundle: NOTHING,
  mev_sendBundle: NOTHING,
  eth_cancelBundle: NOTHING,
  bid_subsidiseBlock: NOTHING,
};

/** Wraps a param's text into a request body. */
export function bodyOf(method: string, param: string): Buffer {
  return Buffer.from(`{"jsonrpc":"2.0","id":1,"method":"${method}","params":[${param}]}`);
}

/**
 * One value that can be spelled in many ways: white space, hex case, order of listed keys, escapes. Every seed
 * gives a spelling, and all of them are the same order.
 */
type Spelling = (seed: number) => string;

/** A number made of a text, to choose by. */
function choose(text: string, seed: number): number {
  return createHash('sha256').update(`${seed} ${text}`).digest().readUInt32BE();
}

function pick<T>(choices: readonly [T, ...T[]], text: string, seed: number): T {
  return choices[choose(text, seed) % choices.length] ?? choices[0];
}

const gapOf = (text: string, seed: number): string =>
  pick(['', '', '', ' ', '\n  ', '\t', '\r\n'], text, seed);

function mixCase(hex: string, seed: number): string {
  const mask = choose(hex, seed);
  return hex.replace(/[a-f]/g, (letter, at: number) =>
    (mask >> (at % 31)) & 1 ? letter.toUpperCase() : letter,
  );
}

function spellHex(digits: string): Spelling {
  return (seed) => `"${pick(['0x', '0x', '0X'], digits, seed)}${mixCase(digits, seed)}"`;
}

const same =
  (text: string): Spelling =>
  () =>
    text;
const oneOf = (...texts: string[]) => fc.constantFrom(...texts).map(same);
const bytesOf = (size: number) =>
  fc
    .uint8Array({ minLength: size, maxLength: size })
    .map((bytes) => spellHex(Buffer.from(bytes).toString('hex')));

const address = bytesOf(20);
const hash = bytesOf(32);
const tx = fc.constantFrom(...SIGNED).map((signed) => spellHex(signed.slice(2)));
const quantity = fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }).map((value) => spellHex(value.toString(16)));
const uint64 = fc.oneof(
  fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }).map((value) => same(value.toString())),
  oneOf('0', '9007199254740993', '18446744073709551615', '1718030000'),
);
const int64 = fc.oneof(
  fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n }).map((value) => same(value.toString())),
  fc.constant<Spelling>((seed) => pick(['0', '-0'], 'zero', seed)),
);
const uuid = fc.uuid().map(
  (plain): Spelling =>
    (seed) => {
      const mixed = mixCase(plain, seed);
      return `"${pick([mixed, `{${mixed}}`, `urn:uuid:${mixed}`, mixed.replaceAll('-', '')], plain, seed)}"`;
    },
);
const text = fc.oneof(fc.string({ unit: 'binary' }), fc.string()).map(
  (content): Spelling =>
    (seed) => {
      const escaped = (character: string) => `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`;
      return choose(content, seed) % 2 === 0
        ? JSON.stringify(content)
        : `"${content.replace(/[\s\S]/g, escaped)}"`;
    },
);

const list = (element: fc.Arbitrary<Spelling>, maxLength = 4) =>
  fc.array(element, { maxLength }).map(
    (elements): Spelling =>
      (seed) => {
        const gap = gapOf('list', seed);
        return `[${gap}${elements.map((spell, i) => spell(seed + i)).join(`${gap},`)}]`;
      },
  );

/** What is passed on as it was sent. */
const anything: fc.Arbitrary<string> = fc.oneof(
  fc.constantFrom('1.0', '1e400', '-0', '12345678901234567890', '0.10', '1E+2', 'null', 'true', '[ ]'),
  fc.constantFrom('{ "b" : [1 , 2.50] , "2" : 0, "1": 0 }', '"<&>\u2028\\u0041\\b\\/"'),
  fc.json(),
);
const unlistedKeys = ['targetSlots', 'desiredState', '2', '1', '__proto__', 'constructor', 'é<', ''];
const unlisted = fc.oneof(
  { weight: 3, arbitrary: fc.constant([]) },
  {
    weight: 1,
    arbitrary: fc.uniqueArray(fc.tuple(fc.constantFrom(...unlistedKeys), anything), {
      maxLength: 3,
      selector: ([key]) => key,
    }),
  },
);

type Members = Record<string, fc.Arbitrary<Spelling>>;

/** An object: listed keys in any order, the unlisted ones in theirs. */
function objectOf(members: Members, required: readonly string[] = []): fc.Arbitrary<Spelling> {
  return fc
    .tuple(fc.record(members, { requiredKeys: [...required] }), unlisted)
    .map(([fields, extra]) => (seed) => {
      const gap = gapOf('object', seed);
      const texts = Object.entries(fields)
        .toSorted(([a], [b]) => choose(a, seed) - choose(b, seed))
        .map(([key, spell]) => `${gap}"${key}"${gap}:${spell === undefined ? 'null' : spell(seed)}`);
      const behind = extra.map(([key, value]) => `${JSON.stringify(key)}:${gap}${value}`);
      // The unlisted ones stand together, somewhere among the listed.
      texts.splice(choose('place', seed) % (texts.length + 1), 0, ...behind);
      return `{${texts.join(',')}${gap}}`;
    });
}

const orNull = (value: fc.Arbitrary<Spelling>) =>
  fc.oneof({ weight: 9, arbitrary: value }, { weight: 1, arbitrary: oneOf('null') });

/** Listed keys of eth_sendBundle that make no rule of a side apply. */
const bundleMembers: Members = {
  txs: list(tx),
  blockNumber: orNull(fc.oneof(quantity, oneOf('"0x"'))),
  minTimestamp: orNull(uint64),
  maxTimestamp: uint64,
  revertingTxHashes: orNull(list(hash)),
  replacementUuid: uuid,
  version: oneOf('"v2"'),
  replacementNonce: uint64,
  refundIdentity: address,
  droppingTxHashes: list(hash),
  refundPercent: fc.nat(99).map((percent) => same(String(percent))),
  refundRecipient: address,
  refundTxHashes: list(text, 1),
  delayedRefund: oneOf('true', 'false', 'null'),
};

const inclusion = objectOf({ block: quantity, maxBlock: quantity });
const validity = objectOf({
  refund: list(objectOf({ bodyIdx: int64, percent: int64 })),
  refundConfig: list(objectOf({ address, percent: int64 })),
});
const reverting: Members = {
  canRevert: oneOf('true', 'false', 'null'),
  revertMode: fc.oneof(text, oneOf('""')),
};
const privacy = anything.map(same);
const txElement = objectOf({ tx, ...reverting }, ['tx']);
const innerBundle = objectOf({ version: text, inclusion, body: list(txElement), validity, privacy });
const bundleElement = objectOf({ bundle: innerBundle, ...reverting }, ['bundle']);
const mevMembers: Members = {
  version: oneOf('"v0.1"'),
  replacementUuid: uuid,
  inclusion,
  body: list(fc.oneof(txElement, bundleElement)),
  validity: orNull(validity),
  privacy,
};
const metadata = objectOf({ signer: address, replacementNonce: int64, cancelled: oneOf('true', 'false') }, [
  'signer',
]);
const cancellation = objectOf({ replacementUuid: uuid, signingAddress: address }, [
  'replacementUuid',
  'signingAddress',
]);

export interface RandomOrder {
  readonly method: string;
  readonly param: string;
  /** The same param in other words. */
  readonly respelled: string;
}

const ordersOf = (method: string, spelling: fc.Arbitrary<Spelling>): fc.Arbitrary<RandomOrder> =>
  fc
    .tuple(spelling, fc.nat(), fc.nat())
    .map(([spell, seed, otherSeed]) => ({ method, param: spell(seed), respelled: spell(otherSeed) }));

/** Orders the system API accepts. */
export const systemOrders: fc.Arbitrary<RandomOrder> = fc.oneof(
  ordersOf(
    'eth_sendBundle',
    objectOf({ ...bundleMembers, signingAddress: address }, ['version', 'replacementUuid']),
  ),
  ordersOf('mev_sendBundle', objectOf({ ...mevMembers, metadata }, ['metadata', 'replacementUuid'])),
  ordersOf('eth_cancelBundle', cancellation),
  ordersOf('eth_sendRawTransaction', tx),
  ordersOf('bid_subsidiseBlock', uint64),
);

/** Orders the user API accepts. */
export const userOrders: fc.Arbitrary<RandomOrder> = fc.oneof(
  ordersOf('eth_sendBundle', objectOf(bundleMembers, ['replacementUuid'])),
  ordersOf('mev_sendBundle', objectOf(mevMembers, ['replacementUuid'])),
  ordersOf('eth_cancelBundle', objectOf({ replacementUuid: uuid }, ['replacementUuid'])),
  ordersOf('eth_sendRawTransaction', tx),
);
