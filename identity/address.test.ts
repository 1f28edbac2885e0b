import { describe, expect, test } from 'vitest';
import { addressOfPublicKey, checksumAddress, parseAddress } from './address.ts';
import { publicKey } from './secp256k1.ts';

describe('checksum of EIP-55', () => {
  // The examples of the EIP itself.
  test.each([
    '0x52908400098527886E0F7030069857D2E4169EE7',
    '0x8617E340B3D01FA5F11F306F4090FD50E238070D',
    '0xde709f2102306220921060314715629080e2fb77',
    '0x27b1fdb04752bbc536007a920d24acb045561c26',
    '0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed',
    '0xfB6916095ca1df60bB79Ce92cE3Ea74c37c5d359',
    '0xdbF03B407c01E7cD3CBea99509d93f8DDDC8C6FB',
    '0xD1220A0cf47c7B9Be7A2E6BA89F429762e7b9aDb',
  ])('%s', (address) => {
    const lower = parseAddress(address);
    expect(lower).toBe(address.toLowerCase());
    expect(lower && checksumAddress(lower)).toBe(address);
  });
});

test('the address of the private key 1', () => {
  const one = Buffer.alloc(32);
  one[31] = 1;
  expect(addressOfPublicKey(publicKey(one))).toBe('0x7e5f4552091a69125d5dfcb7b8c2659029395bdf');
});

test.each([
  '',
  '0x',
  '0x12',
  `0x${'g'.repeat(40)}`,
  '1'.repeat(40),
  `0x${'1'.repeat(41)}`,
  ` 0x${'1'.repeat(40)}`,
])('no address: %j', (text) => {
  expect(parseAddress(text)).toBeUndefined();
});
