/**
 * The signature header, `X-Flashbots-Signature: <address>:<0x signature>` (protocol section 3): made by a
 * `Signer`, checked by a `SignatureVerifier`. The signed message is the EIP-191 personal message of the text `0x` +
 * hex of keccak256(body).
 *
 * Limits: refusals carry the words of the v1 node up to the second colon. v1 also takes addresses that are too
 * short (zeros in front) or too long (the last 20 bytes count); here only 40 digits can match.
 */
import { Rejection } from '../pipeline/errors.ts';
import { keccak256, keccak256Hex } from '../pipeline/keccak.ts';
import type { Address } from '../pipeline/order.ts';
import { addressOfPublicKey, checksumAddress } from './address.ts';
import { KeyCache, KnownKey } from './key-cache.ts';
import { publicKey, recover, sign, verify } from './secp256k1.ts';

/** EIP-191, version 0x45: the length is that of the signed text, 0x and 64 digits. */
const MESSAGE_HEAD = '\x19Ethereum Signed Message:\n660x';

/** r ‖ s ‖ v */
const SIGNATURE_BYTES = 65;
const SIGNATURE_DIGITS = 2 * SIGNATURE_BYTES;

/** Half of the group order: a higher s is the mirror image of a valid signature (EIP-2). */
const HIGHEST_S = Buffer.from('7fffffffffffffffffffffffffffffff5d576e7357a4501ddfe92f46681b20a0', 'hex');

/** Makes signature headers with one key, which it keeps to itself. */
export interface Signer {
  /** With the checksum of EIP-55, as it stands in the header. */
  readonly address: string;
  readonly addressLower: Address;
  /**
   * @param bodyHash keccak-256 of the body as 64 lower-case hex digits without 0x, for callers who have it already
   * @returns the header's value
   */
  signHash(bodyHash: string): string;
  /** @returns the header's value for a request body */
  sign(body: Uint8Array | string): string;
}

/**
 * @param privateKey 32 bytes; copied
 * @throws Error when the key is zero or not below the group order
 */
export function createSigner(privateKey: Uint8Array): Signer {
  const key = Uint8Array.from(privateKey);
  const addressLower = addressOfPublicKey(publicKey(key));
  const address = checksumAddress(addressLower);
  const head = `${address}:0x`;
  const signHash = (bodyHash: string): string => {
    const { signature, recovery } = sign(keccak256(MESSAGE_HEAD + bodyHash), key);
    const digits = Buffer.from(signature.buffer, signature.byteOffset, signature.length).toString('hex');
    return `${head}${digits}${recovery === 0 ? '1b' : '1c'}`;
  };
  return { address, addressLower, signHash, sign: (body) => signHash(keccak256Hex(body)) };
}

export interface SignatureVerifierOptions {
  /** Most public keys kept; about 300 bytes each. */
  readonly cacheSize: number;
}

/**
 * Checks signature headers. The public key of a signer seen before is known, so that his signature is verified
 * (25 µs) where a stranger's key has to be recovered from it (30 µs, and his address hashed). A verification
 * cannot tell the two values of v apart: with a known signer the other v passes, which proves the key all the same.
 *
 * A refused signature that claims a known address costs both, 55 µs: the recovery gives the reason.
 */
export class SignatureVerifier {
  readonly #keys: KeyCache;
  readonly #signature = Buffer.alloc(SIGNATURE_BYTES);
  readonly #rs = this.#signature.subarray(0, 64);
  readonly #s = this.#signature.subarray(32, 64);

  constructor(options: SignatureVerifierOptions) {
    this.#keys = new KeyCache(options.cacheSize);
  }

  /**
   * @param header the header's value, if there was one
   * @param body the request body, decompressed
   * @returns the signer's address in lower case, or why the request is refused
   */
  verify(header: string | undefined, body: Uint8Array): Address | Rejection {
    if (header === undefined || header === '') return NO_SIGNATURE;
    const separator = header.indexOf(':');
    if (separator < 0) return MISSING_SEPARATOR;
    const digits = separator + 3;
    if (header.length - digits !== SIGNATURE_DIGITS || !isHexPrefixed(header, separator + 1)) {
      return malformed(header.slice(separator + 1));
    }
    if (!decodeHex(header, digits, this.#signature)) return INVALID_HEX;
    const recovery = recoveryOf(this.#signature[64]);
    if (recovery === undefined) return INVALID_RECOVERY_ID;

    const digest = keccak256(MESSAGE_HEAD + keccak256Hex(body));
    const claimed = claimedAddress(header, separator);
    const known = this.#keys.get(claimed);
    if (known !== undefined && verify(digest, this.#rs, known.publicKey)) {
      this.#keys.touch(known);
      return known.address;
    }
    return this.#recover(digest, recovery, claimed);
  }

  /** Number of public keys kept. */
  get knownKeys(): number {
    return this.#keys.size;
  }

  #recover(digest: Uint8Array, recovery: 0 | 1, claimed: string): Address | Rejection {
    const key = recover(digest, this.#rs, recovery);
    if (key === null) return RECOVERY_FAILED;
    const address = addressOfPublicKey(key);
    if (address !== claimed) return ADDRESS_MISMATCH;
    if (this.#s.compare(HIGHEST_S) > 0) return INVALID;
    this.#keys.add(new KnownKey(address, key));
    return address;
  }
}

const INVALID_TEXT = 'invalid signature provided';

function invalid(reason: string): Rejection {
  return new Rejection('invalid_signature', `${INVALID_TEXT}: ${reason}`);
}

// Made once: refusals are values and do not change.
const NO_SIGNATURE = new Rejection('no_signature', 'no signature provided');
/** v1 gives no reason for these: a high s, or no byte at all. */
const INVALID = new Rejection('invalid_signature', INVALID_TEXT);
const MISSING_SEPARATOR = invalid('missing separator');
const EMPTY_HEX = invalid('empty hex string');
const NO_HEX_PREFIX = invalid('hex string without 0x prefix');
const INVALID_HEX = invalid('invalid hex string');
const ODD_HEX = invalid('hex string of odd length');
const INVALID_RECOVERY_ID = invalid('invalid recovery id');
const INVALID_LENGTH = invalid('invalid signature length');
const RECOVERY_FAILED = invalid('recovery failed');
const ADDRESS_MISMATCH = invalid('signing address mismatch');

/** The address in front of the separator; one without 0x counts too. What is no address matches no signer. */
function claimedAddress(header: string, separator: number): string {
  const text = header.slice(0, separator).toLowerCase();
  return text.startsWith('0x') ? text : `0x${text}`;
}

function isHexPrefixed(text: string, at: number): boolean {
  return text.charCodeAt(at) === 0x30 && (text.charCodeAt(at + 1) | 0x20) === 0x78;
}

/** Value of a hex digit by its character code, 0xff for any other character. */
const DIGIT_VALUES = new Uint8Array(0x80).fill(0xff);
for (let value = 0; value < 16; value++) {
  const digit = value.toString(16);
  DIGIT_VALUES[digit.charCodeAt(0)] = value;
  DIGIT_VALUES[digit.toUpperCase().charCodeAt(0)] = value;
}

/**
 * Fills `bytes` from the hex digits at `at`. Not Buffer's decoder: it looks at the low byte of a character alone,
 * so that U+0141 reads as `A`.
 *
 * @returns false if one of the characters is no hex digit
 */
function decodeHex(text: string, at: number, bytes: Uint8Array): boolean {
  for (let index = 0, next = at; index < bytes.length; index++, next += 2) {
    const high = DIGIT_VALUES[text.charCodeAt(next)] ?? 0xff;
    const low = DIGIT_VALUES[text.charCodeAt(next + 1)] ?? 0xff;
    if ((high | low) === 0xff) return false;
    bytes[index] = (high << 4) | low;
  }
  return true;
}

/** v is 0, 1, 27 or 28 (protocol section 3). */
function recoveryOf(v: number | undefined): 0 | 1 | undefined {
  if (v === 27 || v === 0) return 0;
  if (v === 28 || v === 1) return 1;
  return undefined;
}

/** Names what is wrong with a signature that is not 0x and 130 characters, in the order in which v1 looks. */
function malformed(text: string): Rejection {
  if (text === '') return EMPTY_HEX;
  if (!isHexPrefixed(text, 0)) return NO_HEX_PREFIX;
  if (text.length === 2) return INVALID;
  if (!/^[0-9a-f]*$/iu.test(text.slice(2))) return INVALID_HEX;
  if (text.length % 2 !== 0) return ODD_HEX;
  if (recoveryOf(Number.parseInt(text.slice(-2), 16)) === undefined) return INVALID_RECOVERY_ID;
  return INVALID_LENGTH;
}
