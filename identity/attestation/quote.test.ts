import { expect, test } from 'vitest';
import { MAX_QUOTE_BYTES, parseQuote, type Quote } from './quote.ts';
import { fuzzQuotes } from './testing/fuzz.ts';
import { GCP_QUOTE, SPR_QUOTE, V5_QUOTE } from './testing/vectors.ts';

const REAL = [GCP_QUOTE, SPR_QUOTE, V5_QUOTE];

test.each([
  ['nothing', () => Buffer.alloc(0), 'ends 2 bytes early'],
  [
    'too much',
    () => Buffer.alloc(MAX_QUOTE_BYTES + 1),
    `${MAX_QUOTE_BYTES + 1} bytes are more than ${MAX_QUOTE_BYTES}`,
  ],
  ['version 3 (SGX)', () => patched(0, 3), 'version 3 is not known'],
  ['another key type', () => patched(2, 3), 'attestation key type is 3, not 2'],
  ['SGX as TEE', () => patched(4, 0), 'TEE type is 0, not 129'],
  ['a signature that is cut', () => GCP_QUOTE.subarray(0, 4_000), 'ends 935 bytes early'],
  ['a length that is longer than the data', () => patched(632, 0xff), 'ends 10 bytes early'],
  ['another certification', () => patched(764, 5), 'certification data type is 5, not 6'],
  ['bytes behind the chain', () => patched(766, 0x44), 'ends 1 bytes early'],
])('%s', (_, make, reason) => {
  const quote = make();
  const result = parseQuote(quote);
  if (reason.startsWith('ends')) expect(result).toMatch(/ends \d+ bytes early|bytes stand behind/u);
  else expect(result).toBe(reason);
});

function patched(offset: number, value: number): Buffer {
  const quote = Buffer.from(GCP_QUOTE);
  quote[offset] = value;
  return quote;
}

test('every prefix of a real quote is refused until its signature is whole', () => {
  for (const quote of REAL) {
    const whole = parseQuote(quote);
    if (typeof whole === 'string') throw new Error(whole);
    const offset = whole.signed.length;
    const end = offset + 4 + quote.readUInt32LE(offset);
    for (let length = 0; length < end; length++) {
      expect(typeof parseQuote(quote.subarray(0, length)), `${length} bytes`).toBe('string');
    }
    expect(typeof parseQuote(quote.subarray(0, end))).toBe('object');
  }
});

test('broken quotes are refused with a reason or read for what they say (seeded; 10^6 by npm run fuzz:quotes)', () => {
  const result = fuzzQuotes(REAL, 20_000, 7, parseQuote, (quote: Quote, bytes) => {
    expect(quote.signed.equals(bytes.subarray(0, quote.signed.length))).toBe(true);
  });
  expect(result.parsed).toBeGreaterThan(1_000);
  expect(result.refused).toBeGreaterThan(5_000);
  expect(result.reasons.size).toBeGreaterThan(8);
});
