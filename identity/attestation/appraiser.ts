/**
 * Says whether a quote is one to trust: verified up to a root, made by a machine that is up to date, of a TD that runs
 * nothing but what its registers say, about exactly the REPORTDATA asked for, and of an image that the policy lists.
 */
import { timingSafeEqual } from 'node:crypto';
import type { Collateral } from './collateral.ts';
import { type Measurements, measurementsOf } from './measurements.ts';
import { PckChains } from './pck-chains.ts';
import { explainMismatch, matchPolicy, type Policy } from './policy.ts';
import type { TdReport } from './quote.ts';
import type { TcbVerdict } from './tcb.ts';
import type { TcbStatus } from './tcb-documents.ts';
import { type Check, checkMachine, checkSignatures, isRefusal } from './verify.ts';

/** Where collateral comes from; see collateral-source.ts. */
export interface Collaterals {
  /** @returns collateral that is valid now, or why there is none */
  get(fmspc: string, authority: 'platform' | 'processor'): Promise<Collateral | string>;
}

export interface AppraiserOptions {
  /** Key fingerprints of trusted roots. */
  readonly roots: ReadonlySet<string>;
  readonly acceptedTcb: ReadonlySet<TcbStatus>;
}

export interface AppraiserModules {
  readonly collateral: Collaterals;
  /** The policy of now; undefined takes every image. */
  readonly policy: () => Policy | undefined;
  /** Unix milliseconds. */
  readonly now: () => number;
}

/** What has been proven about the other side. */
export interface Attestation {
  readonly measurements: Measurements;
  /** Of the policy entry that fits; undefined without a policy. */
  readonly measurementId: string | undefined;
  readonly tcb: TcbVerdict;
}

export type FailedCheck =
  | Check
  | 'evidence'
  | 'collateral-source'
  | 'report-data'
  | 'td-policy'
  | 'measurements'
  | 'binding';

/** Why the other side is not trusted. */
export interface AppraisalRefusal {
  readonly refused: FailedCheck;
  readonly reason: string;
}

/** TDATTRIBUTES of a TD that cannot be debugged: SEPT_VE_DISABLE and nothing else, as the deployed network demands. */
const TD_ATTRIBUTES = Buffer.from('0000001000000000', 'hex');

export class Appraiser {
  readonly #options: AppraiserOptions;
  readonly #modules: AppraiserModules;
  readonly #chains = new PckChains();

  constructor(options: AppraiserOptions, modules: AppraiserModules) {
    this.#options = options;
    this.#modules = modules;
  }

  /**
   * @param reportData the 64 bytes that the quote must be about
   */
  async appraise(rawQuote: Buffer, reportData: Buffer): Promise<Attestation | AppraisalRefusal> {
    const { roots, acceptedTcb } = this.#options;
    const signed = checkSignatures(rawQuote, this.#modules.now(), roots, this.#chains);
    if (isRefusal(signed)) return { refused: signed.check, reason: signed.reason };
    const { report } = signed.quote;
    // Before any fetch: a quote for somebody else is worth nothing here.
    if (!timingSafeEqual(report.reportData, reportData)) {
      return { refused: 'report-data', reason: 'the quote is about another key, nonce or connection' };
    }
    const collateral = await this.#modules.collateral.get(signed.pck.fmspc, signed.pck.authority);
    if (typeof collateral === 'string') return { refused: 'collateral-source', reason: collateral };
    const machine = checkMachine(signed, collateral, acceptedTcb);
    if (isRefusal(machine)) return { refused: machine.check, reason: machine.reason };
    const problem = tdProblem(report);
    if (problem !== undefined) return { refused: 'td-policy', reason: problem };
    const measurements = measurementsOf(report);
    const policy = this.#modules.policy();
    const measurementId = policy === undefined ? undefined : matchPolicy(policy, measurements);
    if (policy !== undefined && measurementId === undefined) {
      return { refused: 'measurements', reason: explainMismatch(policy, measurements) };
    }
    return { measurements, measurementId, tcb: machine.tcb };
  }

  /** @returns whether the policy of now lists what was proven before: a connection can be older than the policy */
  stillLists({ measurements }: Attestation): boolean {
    const policy = this.#modules.policy();
    return policy === undefined || matchPolicy(policy, measurements) !== undefined;
  }
}

/** @returns whether it is a refusal */
export function isRefused(value: Attestation | AppraisalRefusal): value is AppraisalRefusal {
  return 'refused' in value;
}

/** What must hold of a TD whatever its image is. */
function tdProblem(report: TdReport): string | undefined {
  if (!report.tdAttributes.equals(TD_ATTRIBUTES)) {
    return `TDATTRIBUTES are ${report.tdAttributes.toString('hex')}, not ${TD_ATTRIBUTES.toString('hex')}`;
  }
  const { mrConfigId: MRCONFIGID, mrOwner: MROWNER, mrOwnerConfig: MROWNERCONFIG } = report;
  for (const [name, value] of Object.entries({ MRCONFIGID, MROWNER, MROWNERCONFIG })) {
    if (value.some((byte) => byte !== 0)) return `${name} is not zero`;
  }
  return undefined;
}
