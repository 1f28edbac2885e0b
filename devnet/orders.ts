/**
 * A seeded source of orders as wallets and searchers send them: requests with really signed transactions and
 * a really signed header, with what a node must make of each (canonical bytes and hash) worked out here, apart
 * from the node's own decoder. Sizes and methods follow protocol section 8, or one fixed size for benches.
 *
 * The hash tells what the node answers; the canonical bytes are what every builder must get.
 */
import { keccak256Hex } from '../pipeline/keccak.ts';
import type { Address, Hex, Method } from '../pipeline/order.ts';
import { type Account, createAccount } from './accounts.ts';
import { SeededSource } from './seeded.ts';
import {
  type AccessListEntry,
  intrinsicGas,
  type SignedTransaction,
  signTransaction,
} from './transactions.ts';

export interface OrderSettings {
  readonly seed: string;
  /** Default 1. */
  readonly chainId?: number;
  /** Bytes of each request body, or the sizes seen in the field (default). */
  readonly bodyBytes?: number | 'field';
  /** One order in so many, from the first on, is a large one. */
  readonly large?: { readonly every: number; readonly bytes: number };
  /** All methods of the user API as in the field (default), or bundles alone. */
  readonly methods?: 'field' | 'bundles';
  /** How many accounts sign requests; default 8. */
  readonly searchers?: number;
}

export interface GeneratedOrder {
  /** 0, 1, 2 …; a bundle carries it as `maxTimestamp` = FIRST_TIMESTAMP + sequence, see sequenceOf. */
  readonly sequence: number;
  readonly method: Method;
  /** The request as the client sends it. */
  readonly body: Buffer;
  /** Value of the header `X-Flashbots-Signature`. */
  readonly signature: string;
  /** Who signed the request. */
  readonly signer: Address;
  /** bundleHash or transaction hash the node must answer; null for a cancellation. */
  readonly hash: Hex | null;
  /** What every builder must get, byte for byte (protocol section 4). */
  readonly canonical: Buffer;
}

export interface OrderSource {
  next(): GeneratedOrder;
}

/** `maxTimestamp` of order 0: far in the future (2033), so that no bundle expires. */
export const FIRST_TIMESTAMP = 2_000_000_000;
const FIRST_BLOCK = 23_000_000;
const SENDERS = 64;
/** Bytes of JSON around one transaction in hex, and of a request without transactions: close, not exact. */
const TX_OVERHEAD = 128 * 2;
const REQUEST_OVERHEAD = 140;

/** Quantiles of request size in bytes, protocol section 8: p50 3.0 KB, p90 19.4, p99 40.4, mean 6.9. */
const FIELD_SIZES: readonly (readonly [quantile: number, bytes: number])[] = [
  [0, 700],
  [0.5, 3_000],
  [0.75, 6_200],
  [0.9, 19_400],
  [0.99, 40_400],
  [1, 110_000],
];

/** Steps of the golden ratio spread over the quantiles evenly, so that a short run has the field's sizes too. */
const GOLDEN = 0.618_033_988_749_894_9;

/** Which kind of order a uniform number in [0, 1) stands for: the first limit above it; plain bundles are the rest. */
const METHOD_LIMITS = { rawTransaction: 0.12, mevBundle: 0.18, cancel: 0.2, replacement: 0.3 };

interface Draft {
  readonly method: Method;
  /** params[0] as the client writes it and as the node must write it. */
  readonly sent: unknown;
  readonly expected: unknown;
  readonly hash: Hex | null;
}

/** Makes orders one by one; the same settings give the same orders, byte for byte. */
export function createOrderSource(settings: OrderSettings): OrderSource {
  const random = new SeededSource(settings.seed);
  const chainId = settings.chainId ?? 1;
  const searchers = Array.from({ length: settings.searchers ?? 8 }, () => createAccount(random));
  const senders = Array.from({ length: SENDERS }, () => ({ account: createAccount(random), nonce: 0 }));
  const replacements = new ReplacementIds(random);
  const sizeOffset = random.unit();
  let sequence = 0;

  function transaction(dataBytes: number): SignedTransaction {
    const sender = senders[random.below(SENDERS)];
    if (sender === undefined) throw new Error('no sender');
    const kind = random.unit();
    const type = kind < 0.8 ? 'eip1559' : kind < 0.93 ? 'legacy' : 'eip2930';
    const data = callData(random, dataBytes);
    const accessList: AccessListEntry[] =
      type === 'eip2930' ? [{ address: random.bytes(20), storageKeys: [random.bytes(32)] }] : [];
    return signTransaction(
      {
        type,
        chainId,
        nonce: sender.nonce++,
        gas: intrinsicGas(data, accessList) + random.below(300_000),
        gasPrice: 2_000_000_000n + BigInt(random.uint32()),
        priorityFee: BigInt(random.below(2_000_000_000)),
        to: random.bytes(20),
        value: random.chance(0.5) ? 0n : BigInt(random.uint32()) * 1_000_000_000n,
        data,
        accessList,
      },
      sender.account,
    );
  }

  function transactions(bodyBytes: number): SignedTransaction[] {
    const most = Math.max(1, Math.min(4, Math.floor((bodyBytes - REQUEST_OVERHEAD) / 500)));
    const count = 1 + random.below(most);
    const dataBytes = Math.max(0, (bodyBytes - REQUEST_OVERHEAD - count * TX_OVERHEAD) / 2);
    const share = Math.floor(dataBytes / count);
    return Array.from({ length: count }, () => transaction(share));
  }

  function bundle(bodyBytes: number, signer: Address, replaceable: boolean): Draft {
    const replacement = replaceable ? replacements.next(signer) : null;
    const cancels = replacement !== null && replacement.nonce > 1 && random.chance(0.2);
    const signedTxs = cancels ? [] : transactions(bodyBytes);
    const reverting = random.chance(0.2) ? signedTxs.slice(0, 1) : [];
    const common = {
      txs: signedTxs.map((tx) => hex(tx.raw)),
      blockNumber: random.chance(0.1) ? null : `0x${(FIRST_BLOCK + Math.floor(sequence / 500)).toString(16)}`,
      maxTimestamp: FIRST_TIMESTAMP + sequence,
      ...(reverting.length > 0 && { revertingTxHashes: reverting.map((tx) => hex(tx.hash)) }),
      ...(replacement !== null && { replacementUuid: replacement.uuid }),
    };
    const nonce = replacement === null ? {} : { replacementNonce: replacement.nonce };
    return {
      method: 'eth_sendBundle',
      sent: { ...common, ...nonce },
      expected: { ...common, version: 'v2', ...nonce, signingAddress: signer },
      hash: bundleHash(signedTxs),
    };
  }

  function mevBundle(bodyBytes: number, signer: Address): Draft {
    const signedTxs = transactions(bodyBytes);
    const replaceable = random.chance(0.5);
    const common = {
      version: 'v0.1',
      // A fresh UUID each time: the node's own count of it then starts at 0.
      ...(replaceable && { replacementUuid: random.uuid() }),
      inclusion: { block: `0x${FIRST_BLOCK.toString(16)}`, maxBlock: `0x${(FIRST_BLOCK + 5).toString(16)}` },
      body: signedTxs.map((tx) =>
        random.chance(0.5) ? { tx: hex(tx.raw), canRevert: true } : { tx: hex(tx.raw) },
      ),
    };
    return {
      method: 'mev_sendBundle',
      sent: common,
      expected: {
        ...common,
        validity: {},
        metadata: { signer, ...(replaceable && { replacementNonce: 0 }) },
      },
      hash: bundleHash(signedTxs),
    };
  }

  function rawTransaction(bodyBytes: number): Draft {
    const tx = transaction(Math.max(0, Math.floor((bodyBytes - 100 - TX_OVERHEAD) / 2)));
    const raw = hex(tx.raw);
    return { method: 'eth_sendRawTransaction', sent: raw, expected: raw, hash: hex(tx.hash) };
  }

  function cancel(signer: Address): Draft {
    const replacementUuid = random.uuid();
    return {
      method: 'eth_cancelBundle',
      sent: { replacementUuid },
      expected: { replacementUuid, signingAddress: signer },
      hash: null,
    };
  }

  function draft(signer: Address): Draft {
    const bodyBytes = sizeOf(sequence);
    if (settings.methods === 'bundles') return bundle(bodyBytes, signer, false);
    const kind = random.unit();
    if (kind < METHOD_LIMITS.rawTransaction) return rawTransaction(bodyBytes);
    if (kind < METHOD_LIMITS.mevBundle) return mevBundle(bodyBytes, signer);
    if (kind < METHOD_LIMITS.cancel) return cancel(signer);
    return bundle(bodyBytes, signer, kind < METHOD_LIMITS.replacement);
  }

  function sizeOf(order: number): number {
    const { large, bodyBytes } = settings;
    if (large !== undefined && order % large.every === 0) return large.bytes;
    return typeof bodyBytes === 'number' ? bodyBytes : fieldSize((sizeOffset + order * GOLDEN) % 1);
  }

  function next(): GeneratedOrder {
    const searcher: Account | undefined = searchers[random.below(searchers.length)];
    if (searcher === undefined) throw new RangeError('at least one searcher is needed');
    const { method, sent, expected, hash } = draft(searcher.address);
    const request = { jsonrpc: '2.0', id: sequence + 1, method, params: [sent] };
    const asField = settings.methods !== 'bundles' && random.chance(0.1);
    const body = Buffer.from(asField ? writeOtherwise(request) : JSON.stringify(request));
    const canonical = Buffer.from(JSON.stringify({ method, params: [expected], id: 0, jsonrpc: '2.0' }));
    const signature = searcher.signBody(body);
    return { sequence: sequence++, method, body, signature, signer: searcher.address, hash, canonical };
  }

  return { next };
}

const MARKER = '"maxTimestamp":';
const MARKER_TAIL_BYTES = 500;

/**
 * Finds which order of a source a bundle's canonical bytes are, without parsing them: benches match the same
 * order in several processes by it.
 * @returns the sequence number, or -1 where there is none.
 */
export function sequenceOf(canonical: Buffer): number {
  const tail = canonical.toString('latin1', Math.max(0, canonical.length - MARKER_TAIL_BYTES));
  const at = tail.lastIndexOf(MARKER);
  if (at < 0) return -1;
  const timestamp = Number.parseInt(tail.slice(at + MARKER.length, at + MARKER.length + 10), 10);
  return timestamp >= FIRST_TIMESTAMP ? timestamp - FIRST_TIMESTAMP : -1;
}

/** keccak over the concatenated transaction hashes (protocol section 4, Results). */
function bundleHash(txs: readonly SignedTransaction[]): Hex {
  return `0x${keccak256Hex(Buffer.concat(txs.map((tx) => tx.hash)))}`;
}

/** Size at a quantile (0 to 1), interpolated on the logarithm between the known ones. */
function fieldSize(quantile: number): number {
  for (let i = 1; i < FIELD_SIZES.length; i++) {
    const [low, high] = [FIELD_SIZES[i - 1], FIELD_SIZES[i]];
    if (low === undefined || high === undefined || quantile > high[0]) continue;
    return low[1] * (high[1] / low[1]) ** ((quantile - low[0]) / (high[0] - low[0]));
  }
  return FIELD_SIZES[0]?.[1] ?? 0;
}

/** Data like a contract call's: a selector, then words that are small numbers, addresses or full. */
function callData(random: SeededSource, length: number): Buffer {
  const data = random.bytes(length);
  for (let word = 4; word + 32 <= length; word += 32) {
    const kind = (data[word + 31] ?? 0) % 3;
    if (kind < 2) data.fill(0, word, word + (kind === 0 ? 24 : 12));
  }
  return data;
}

/** UUIDs that bundles replace one another under: each is used a few times with nonces 1, 2, 3 … */
class ReplacementIds {
  readonly #random: SeededSource;
  readonly #open: { signer: Address; uuid: string; nonce: number }[] = [];

  constructor(random: SeededSource) {
    this.#random = random;
  }

  next(signer: Address): { uuid: string; nonce: number } {
    const known = this.#open.find((entry) => entry.signer === signer);
    if (known !== undefined && this.#random.chance(0.6)) {
      known.nonce++;
      return { uuid: known.uuid, nonce: known.nonce };
    }
    if (known !== undefined) this.#open.splice(this.#open.indexOf(known), 1);
    const fresh = { signer, uuid: this.#random.uuid(), nonce: 1 };
    this.#open.push(fresh);
    return { uuid: fresh.uuid, nonce: fresh.nonce };
  }
}

/** Clients differ in white space and in the case of hex; the canonical form does not. */
function writeOtherwise(request: object): string {
  const text = JSON.stringify(request, null, 1);
  return text.replace(/"0x([0-9a-f]+)"/g, (_, digits: string) => `"0x${digits.toUpperCase()}"`);
}

function hex(bytes: Buffer): Hex {
  return `0x${bytes.toString('hex')}`;
}
