/**
 * `npm run fuzz:quotes`: a million broken quotes through the parser and, where they parse, through the verifier, which
 * must refuse every one whose signed bytes were changed. Prints what was seen; exit code 1 on the first fault.
 */
import { parseArgs } from 'node:util';
import { INTEL_SGX_ROOT } from '../identity/attestation/certificates.ts';
import { PckChains } from '../identity/attestation/pck-chains.ts';
import { parseQuote, type Quote } from '../identity/attestation/quote.ts';
import { fuzzQuotes } from '../identity/attestation/testing/fuzz.ts';
import { GCP_QUOTE, GCP_TIME, SPR_QUOTE, V5_QUOTE } from '../identity/attestation/testing/vectors.ts';
import { checkSignatures, isRefusal } from '../identity/attestation/verify.ts';

const { values } = parseArgs({
  options: { runs: { type: 'string', default: '1000000' }, seed: { type: 'string', default: '1' } },
});
const seeds = [GCP_QUOTE, SPR_QUOTE, V5_QUOTE];
const genuine = new Set(
  seeds.map((bytes) => {
    const quote = parseQuote(bytes);
    return typeof quote === 'string' ? '' : quote.signed.toString('hex');
  }),
);
const roots = new Set([INTEL_SGX_ROOT]);
const chains = new PckChains();
let verified = 0;
let accepted = 0;

/** Every fiftieth also meets the verifier: signatures cost a thousand times what parsing does. */
function check(quote: Quote, bytes: Buffer): void {
  if (verified++ % 50 !== 0) return;
  const verdict = checkSignatures(bytes, GCP_TIME, roots, chains);
  if (isRefusal(verdict)) return;
  accepted++;
  if (!genuine.has(quote.signed.toString('hex'))) throw new Error('a changed quote was taken for a real one');
}

const started = performance.now();
const result = fuzzQuotes(seeds, Number(values.runs), Number(values.seed), parseQuote, check);
const seconds = ((performance.now() - started) / 1000).toFixed(1);
process.stdout.write(
  `${values.runs} quotes in ${seconds} s: ${result.parsed} parsed, ${result.refused} refused; ` +
    `${Math.ceil(verified / 50)} verified, of which ${accepted} with nothing changed that is signed\n`,
);
for (const [reason, count] of [...result.reasons].toSorted(([, a], [, b]) => b - a)) {
  process.stdout.write(`${String(count).padStart(8)}  ${reason}\n`);
}
