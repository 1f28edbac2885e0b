/**
 * What an order is once it has been decoded: the shape that the pipeline hands to the builder, the
 * peers and the archive. Protocol section 4.
 */

export const METHODS = [
  'eth_sendBundle',
  'mev_sendBundle',
  'eth_cancelBundle',
  'eth_sendRawTransaction',
  'bid_subsidiseBlock',
] as const;

export type Method = (typeof METHODS)[number];

/**
 * Which API a request came in on: `user` = wallets and searchers, `system` = peers and Flashbots,
 * `sender` = Flashbots' own infrastructure in front of a node in sender mode.
 */
export type Side = 'user' | 'system' | 'sender';

/** 0x-prefixed lower-case hex text. */
export type Hex = `0x${string}`;

/** A 20-byte account address as lower-case hex: 42 characters. */
export type Address = Hex;

export interface Order {
  readonly method: Method;
  /** The whole request body a node sends on, byte for byte (`{"method":…,"params":[…],"id":0,"jsonrpc":"2.0"}`). */
  readonly canonical: Buffer;
  /** bundleHash of a bundle, hash of a raw transaction; null for cancellations, subsidies and where nobody is told. */
  readonly hash: Hex | null;
  /** Dedupe key: 32 bytes as 64 hex digits; null for methods that are never deduplicated. */
  readonly key: string | null;
  /** The account the order counts for: the signer it names itself, else the signer of the request. */
  readonly signer: Address;
}

/** An order on its way through the node, with where it came from and when. */
export interface AdmittedOrder {
  readonly order: Order;
  readonly side: Side;
  /** `user` for the user API, else the hub name of the peer (`flashbots` for Flashbots' signer). */
  readonly caller: string;
  /** Unix time in microseconds at which the request's last byte was read; strictly increasing within a node. */
  readonly receivedAtUs: number;
}

/** Bytes from which v1's metrics call a request "big" (spec: metrics). */
export const BIG_REQUEST_BYTES = 50_000;
