/**
 * Which builder is calling. Behind BuilderHub's attesting proxy that is the last entry of X-Forwarded-For, together
 * with an attestation that fits an active measurement. Nodes of a network on one machine share their address, so
 * they call below `/as/NAME/` instead, which says who they are and is believed on the loopback interface only.
 *
 * Attestation is asked for once a measurement has been entered: a network without any runs on plain machines.
 */
import { isIP } from 'node:net';
import { MEASUREMENT_HEADER, TYPE_HEADER } from '../attestation/measurements.ts';
import type { Builder, HubState, Measurement } from './state.ts';

/**
 * Who calls according to the headers of the attesting proxy; undefined = 403.
 *
 * @param demanded ask for an attestation also while no measurement has been entered, which then fits none
 */
export function callerByHeaders(
  state: HubState,
  header: (name: string) => string | undefined,
  demanded: boolean,
): Builder | undefined {
  const plain = state.measurements.size === 0 && !demanded;
  if (!plain && !isAttested(state, header(TYPE_HEADER), header(MEASUREMENT_HEADER))) return undefined;
  // Several lines of one header arrive joined by commas.
  const ip = header('x-forwarded-for')?.split(',').at(-1)?.trim() ?? '';
  if (isIP(ip) === 0) return undefined;
  for (const builder of state.builders.values()) {
    if (builder.active && builder.ip === ip) return builder;
  }
  return undefined;
}

/** Who calls according to the path. */
export function callerByName(state: HubState, name: string): Builder | undefined {
  const builder = state.builders.get(name);
  return builder?.active === true ? builder : undefined;
}

function isAttested(state: HubState, type: string | undefined, text: string | undefined): boolean {
  const measured = readMeasured(text);
  if (measured === undefined || type === undefined) return false;
  for (const listed of state.measurements.values()) {
    if (listed.active && sameType(listed.attestation_type, type) && fits(measured, listed)) return true;
  }
  return false;
}

/** Files say dcap-tdx and headers qemu-tdx of one and the same thing. */
function sameType(listed: string, shown: string): boolean {
  const name = (type: string): string => (type === 'dcap-tdx' ? 'qemu-tdx' : type);
  return name(listed) === name(shown);
}

/** Registers that the listed measurement does not name are ignored. */
function fits(measured: Readonly<Record<string, unknown>>, { measurements }: Measurement): boolean {
  return Object.entries(measurements).every(([register, { expected, expected_any: any }]) => {
    const value = measured[register];
    return typeof value === 'string' && (value === expected || any?.includes(value) === true);
  });
}

/** The header is a JSON map of texts. */
function readMeasured(text: string | undefined): Readonly<Record<string, unknown>> | undefined {
  try {
    const value: unknown = JSON.parse(text ?? '');
    if (typeof value !== 'object' || value === null || Array.isArray(value)) return undefined;
    const registers: Record<string, unknown> = { ...value };
    return Object.values(registers).every((register) => typeof register === 'string') ? registers : undefined;
  } catch {
    return undefined;
  }
}
