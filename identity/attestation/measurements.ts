/**
 * The five registers of a TD that policies and headers speak of, numbered as in the network: 0 is MRTD, 1 to 4 are
 * RTMR0 to RTMR3.
 */
import type { TdReport } from './quote.ts';

/** 96 lower-case hex digits each. */
export type Measurements = readonly [
  mrTd: string,
  rtmr0: string,
  rtmr1: string,
  rtmr2: string,
  rtmr3: string,
];

export const REGISTERS: readonly string[] = ['MRTD', 'RTMR0', 'RTMR1', 'RTMR2', 'RTMR3'];

export const TYPE_HEADER = 'x-flashbots-attestation-type';
export const MEASUREMENT_HEADER = 'x-flashbots-measurement';
/** How the deployed proxy calls DCAP attestation of a TD in headers; files call it dcap-tdx. */
const HEADER_TYPE = 'qemu-tdx';

export function measurementsOf(report: TdReport): Measurements {
  const [rtmr0, rtmr1, rtmr2, rtmr3] = report.rtmrs;
  const hex = (register: Buffer): string => register.toString('hex');
  return [hex(report.mrTd), hex(rtmr0), hex(rtmr1), hex(rtmr2), hex(rtmr3)];
}

/** @returns `{"0": MRTD, "1": RTMR0, …}` */
export function byRegister(measurements: Measurements): Record<string, string> {
  return Object.fromEntries(measurements.entries());
}

/** @returns the two headers that tell a service behind a proxy what its caller runs */
export function measurementHeaders(measurements: Measurements): Record<string, string> {
  return {
    [TYPE_HEADER]: HEADER_TYPE,
    [MEASUREMENT_HEADER]: JSON.stringify(byRegister(measurements)),
  };
}
