/** One side of attested TLS on a mock machine: its quotes, its certificates, and who it trusts. */
import { Appraiser } from '../appraiser.ts';
import { CertificateMaker } from '../attested-certificate.ts';
import { checkCollateral } from '../collateral.ts';
import type { Measurements } from '../measurements.ts';
import { MockMachine, type MockQuoteOptions, patternMeasurements } from '../mock/machine.ts';
import { type Policy, parsePolicy } from '../policy.ts';
import type { QuoteSource } from '../quote-source.ts';

export interface MockSide {
  readonly machine: MockMachine;
  readonly certificates: CertificateMaker;
  readonly quotes: QuoteSource;
  /** Report data of every quote made, in order. */
  readonly asked: Buffer[];
  /** What its next quotes say that differs from a good one's. */
  quoteOptions: MockQuoteOptions;
}

/** A machine whose image is `letter`0 to `letter`4, at the time of now. */
export async function mockSide(letter: string, given?: MockMachine): Promise<MockSide> {
  const machine =
    given ?? (await MockMachine.create({ now: Date.now(), measurements: patternMeasurements(letter) }));
  const asked: Buffer[] = [];
  const side: { quoteOptions: MockQuoteOptions } = { quoteOptions: {} };
  const quotes: QuoteSource = {
    quote: async (reportData) => {
      asked.push(Buffer.from(reportData));
      return machine.quote(reportData, side.quoteOptions);
    },
  };
  const certificates = await CertificateMaker.create({}, { quotes });
  return Object.assign(side, { machine, certificates, quotes, asked });
}

/**
 * Trusts the machine's root and takes the images whose registers begin with one of `letters`.
 *
 * @param letters of now, where they change
 */
export async function mockAppraiser(
  machine: MockMachine,
  letters: string | (() => string),
): Promise<Appraiser> {
  const policy = () =>
    policyOf((typeof letters === 'string' ? letters : letters()).split('').map(patternMeasurements));
  const roots = new Set([machine.rootFingerprint]);
  const collateral = checkCollateral(await machine.collateral(), Date.now(), roots);
  if ('document' in collateral) throw new Error(`${collateral.document}: ${collateral.reason}`);
  return new Appraiser(
    { roots, acceptedTcb: new Set(['UpToDate']) },
    {
      collateral: { get: async () => collateral },
      policy,
      now: Date.now,
    },
  );
}

/** @returns a policy that lists these images with all their registers */
function policyOf(images: readonly Measurements[]): Policy {
  const policy = parsePolicy(policyText(images));
  if (typeof policy === 'string') throw new Error(policy);
  return policy;
}

/** The same as the file. */
export function policyText(images: readonly Measurements[]): string {
  return JSON.stringify(
    images.map((image, i) => ({
      measurement_id: `image ${i}`,
      attestation_type: 'dcap-tdx',
      measurements: Object.fromEntries(image.map((expected, register) => [register, { expected }])),
    })),
  );
}
