/** What the decoders of the methods need to know beyond the request, and what each of them gives back. */
import type { Address, Hex, Side } from './order.ts';
import type { NonceSource } from './replacement-nonces.ts';

export interface DecodeContext {
  readonly side: Side;
  /** Who signed the request. */
  readonly signer: Address;
  /** Whether that is Flashbots' own signer. */
  readonly isFlashbots: boolean;
  /** Unix microseconds at which the request had been read. */
  readonly receivedAtUs: number;
  /** TX_VALIDATION of the side: `off` is exactly v1's checks. */
  readonly validation: 'strict' | 'off';
  /** The chain whose transactions are taken. */
  readonly chainId: bigint;
  readonly nonces: NonceSource;
  /** False where nobody is told the order's hash, as peers on a stream are not: making it is a third of the work. */
  readonly hashes?: boolean;
}

/** A decoded `params[0]`. */
export interface DecodedParam {
  /** Its canonical JSON text. */
  readonly param: string;
  readonly hash: Hex | null;
  /** The account the order names itself. */
  readonly signer: Address | null;
}
