/**
 * Account addresses: from a public key, to and from text. An address is the last 20 bytes of the keccak-256 of
 * the public key (Yellow Paper, appendix F); its mixed-case form carries a checksum (EIP-55).
 */
import { keccak256Hex } from '../pipeline/keccak.ts';
import type { Address } from '../pipeline/order.ts';

/**
 * @param publicKey 65 bytes, uncompressed
 * @returns the account's address in lower case
 */
export function addressOfPublicKey(publicKey: Uint8Array): Address {
  return `0x${keccak256Hex(publicKey.subarray(1)).slice(24)}`;
}

/**
 * @param address in lower case
 * @returns the same address with the checksum of EIP-55 in the case of its letters
 */
export function checksumAddress(address: Address): string {
  const digits = address.slice(2);
  const hash = keccak256Hex(digits);
  let text = '0x';
  for (let index = 0; index < digits.length; index++) {
    const digit = digits.charAt(index);
    text += hash.charCodeAt(index) >= EIGHT ? digit.toUpperCase() : digit;
  }
  return text;
}

/** In hex text, the digits 8 to f are the character codes from that of '8' on. */
const EIGHT = '8'.charCodeAt(0);

/**
 * Reads an address as users and the hub write it: any case, 0x in front. The checksum is not checked, as the
 * network compares addresses without regard to case (protocol section 3).
 *
 * @returns the address in lower case, or undefined if the text is none
 */
export function parseAddress(text: string): Address | undefined {
  return /^0x[0-9a-f]{40}$/iu.test(text) ? `0x${text.slice(2).toLowerCase()}` : undefined;
}
