/**
 * `measurements.json` in the hub's form: the registers that an image must show, computed from its outputs alone.
 * PCRs are compared with a booted machine by the tests; RTMRs and MRTD come from the same events and the firmware
 * file, and are not compared with hardware here.
 */
import { closeSync, openSync, readFileSync, readSync } from 'node:fs';
import { join } from 'node:path';
import { mrtd } from './mrtd.ts';
import { BANKS, extensionsOf, type Measured, registersOf } from './registers.ts';

export interface Measurement {
  readonly measurement_id: string;
  readonly attestation_type: string;
  readonly measurements: Readonly<Record<string, { readonly expected: string }>>;
}

const RECORDED = [4, 5, 9, 11, 12, 13];
const TABLE_BYTES = 34 * 512;

export interface MeasureOptions {
  /** Holds uki.efi and disk.raw. */
  readonly folder: string;
  /** File of the firmware. */
  readonly firmware: string;
  /** What the measurement is called at the hub. */
  readonly name: string;
}

/** The measurements of an image: TPM in both banks, TDX with both orders of building the firmware. */
export function measure({ folder, firmware, name }: MeasureOptions): Measurement[] {
  const uki = readFileSync(join(folder, 'uki.efi'));
  const table = head(join(folder, 'disk.raw'), TABLE_BYTES);
  const tpm = BANKS.map((bank) => {
    const registers = registersOf(extensionsOf(uki, table, bank), bank);
    return entry(
      `${name}-tpm-${bank}`,
      'tpm2',
      RECORDED.map((index) => [`${index}`, registers[index] ?? '']),
    );
  });
  const runtime = runtimeRegisters(extensionsOf(uki, table, 'sha384'));
  const bytes = readFileSync(firmware);
  const tdx = (['page', 'twice'] as const).map((order) =>
    entry(`${name}-tdx-${order}`, 'dcap-tdx', [
      ['0', mrtd(bytes, order)],
      ['2', runtime.rtmr1],
      ['3', runtime.rtmr2],
    ]),
  );
  return [...tpm, ...tdx];
}

function entry(id: string, type: string, values: readonly (readonly [string, string])[]): Measurement {
  return {
    measurement_id: id,
    attestation_type: type,
    measurements: Object.fromEntries(values.map(([index, expected]) => [index, { expected }])),
  };
}

/**
 * RTMR1 takes what PCR 2 to 6 take, RTMR2 what PCR 8 to 15 take, in the order of the log; a separator once each.
 * The order between registers is that of the boot: partition table, kernel image, sections, kernel, its parts.
 */
function runtimeRegisters(extensions: readonly Measured[]): { rtmr1: string; rtmr2: string } {
  const of = (register: number): Measured[] => extensions.filter((one) => one.register === register);
  const [action, separator, image, kernel] = of(4);
  const [, partitions, invoked, left] = of(5);
  const order = [action, separator, partitions, image, kernel, invoked, left].filter(
    (one) => one !== undefined,
  );
  const fold = (list: readonly Measured[]): string =>
    registersOf(
      list.map((one) => ({ ...one, register: 4 })),
      'sha384',
    )[4] ?? '';
  return { rtmr1: fold(order), rtmr2: fold([...of(11), ...of(9)]) };
}

function head(file: string, bytes: number): Buffer {
  const descriptor = openSync(file, 'r');
  try {
    const buffer = Buffer.alloc(bytes);
    readSync(descriptor, buffer, 0, bytes, 0);
    return buffer;
  } finally {
    closeSync(descriptor);
  }
}
