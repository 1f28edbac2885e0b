/**
 * How up to date a machine is: its security versions against Intel's levels. Rules of Intel's quote verification
 * library (QVL): TCB level selection, TDX module and QE identity, and how their statuses join.
 *
 * Limits: no grace period and no "relaunch advised" of TDX 1.5: a module whose level is out of date is out of date.
 */
import type { PckPlatform } from './pck.ts';
import type { QeReport, TdReport } from './quote.ts';
import type { IsvLevel, QeIdentity, TcbInfo, TcbStatus, TdxModule } from './tcb-documents.ts';

export interface TcbVerdict {
  readonly status: TcbStatus;
  /** Of the platform's level, ISO 8601. */
  readonly date: string;
  readonly advisories: readonly string[];
}

/** @returns the platform's level joined with the TDX module's, or why there is none */
export function evaluatePlatform(report: TdReport, pck: PckPlatform, info: TcbInfo): TcbVerdict | string {
  const module = moduleOf(report, info);
  if (typeof module === 'string') return module;
  if (!report.mrSignerSeam.equals(module.mrSigner)) return 'the TDX module has another signer';
  if (!masked(report.seamAttributes, module.attributesMask).equals(module.attributes)) {
    return 'the TDX module has other attributes';
  }
  const level = info.levels.find(
    ({ sgxComponents, tdxComponents, pceSvn }) =>
      sgxComponents.every((svn, i) => (pck.cpuSvn[i] ?? -1) >= svn) &&
      pck.pceSvn >= pceSvn &&
      // From TDX 1.5 on the module's own version is judged by its identity.
      tdxComponents.every(
        (svn, i) => (i < 2 && moduleVersion(report) > 0) || (report.teeTcbSvn[i] ?? -1) >= svn,
      ),
  );
  if (level === undefined) return 'no TCB level is as low as this platform';
  const verdict = { status: level.status, date: level.date, advisories: level.advisories };
  if (moduleVersion(report) === 0) return verdict;
  const moduleLevel = levelOf(module.levels, report.teeTcbSvn[0] ?? 0);
  if (moduleLevel === undefined) return 'no TCB level is as low as this TDX module';
  return joined(verdict, moduleLevel);
}

/** @returns `platform` joined with the level of the quoting enclave, or why that enclave is not Intel's */
export function evaluateQe(qe: QeReport, identity: QeIdentity, platform: TcbVerdict): TcbVerdict | string {
  if (!qe.mrSigner.equals(identity.mrSigner)) return 'the quoting enclave has another signer';
  if (qe.isvProdId !== identity.isvProdId) return 'the quoting enclave is another product';
  if (!masked(qe.miscSelect, identity.miscSelectMask).equals(identity.miscSelect)) {
    return 'the quoting enclave has another MISCSELECT';
  }
  if (!masked(qe.attributes, identity.attributesMask).equals(identity.attributes)) {
    return 'the quoting enclave has other attributes';
  }
  const level = levelOf(identity.levels, qe.isvSvn);
  return level === undefined ? 'no TCB level is as low as this quoting enclave' : joined(platform, level);
}

/** TEE_TCB_SVN[1]: 0 is TDX 1.0. */
function moduleVersion(report: TdReport): number {
  return report.teeTcbSvn[1] ?? 0;
}

function moduleOf(report: TdReport, info: TcbInfo): TdxModule | string {
  const version = moduleVersion(report);
  if (version === 0) return info.module;
  const id = `TDX_${version.toString(16).toUpperCase().padStart(2, '0')}`;
  return info.moduleIdentities.find((module) => module.id === id) ?? `the TDX module ${id} is not known`;
}

/** The first, that is the highest, that the version reaches. */
function levelOf(levels: readonly IsvLevel[], isvSvn: number): IsvLevel | undefined {
  return levels.find((level) => isvSvn >= level.isvSvn);
}

function joined(platform: TcbVerdict, part: IsvLevel): TcbVerdict {
  return {
    ...platform,
    status: joinedStatus(platform.status, part.status),
    advisories: [...new Set([...platform.advisories, ...part.advisories])],
  };
}

/** QVL, convergeTcbStatus: a part makes the whole worse, never better. */
function joinedStatus(platform: TcbStatus, part: TcbStatus): TcbStatus {
  if (platform === 'Revoked' || part === 'Revoked') return 'Revoked';
  if (part === 'UpToDate') return platform;
  switch (platform) {
    case 'UpToDate':
    case 'SWHardeningNeeded':
      return 'OutOfDate';
    case 'ConfigurationNeeded':
    case 'ConfigurationAndSWHardeningNeeded':
      return 'OutOfDateConfigurationNeeded';
    default:
      return platform;
  }
}

function masked(bytes: Buffer, mask: Buffer): Buffer {
  return Buffer.from(bytes.map((byte, i) => byte & (mask[i] ?? 0)));
}
