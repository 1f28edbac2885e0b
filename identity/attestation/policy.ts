/**
 * Measurement policies: which images may be on the other side. The network's JSON: a list of
 * `{measurement_id, attestation_type, measurements: {REGISTER: {expected | expected_any}}}`. Any entry may match;
 * registers that an entry does not name are not looked at; an entry that names none takes every image.
 *
 * What could loosen a policy by mistake (unknown register, misspelt field, wrong length) refuses the whole file.
 */
import { type Measurements, REGISTERS } from './measurements.ts';

export interface PolicyEntry {
  readonly id: string;
  /** By register number: the values that may stand in it. */
  readonly registers: ReadonlyMap<number, readonly string[]>;
}

export interface Policy {
  readonly entries: readonly PolicyEntry[];
  /** Entries of kinds that are not verified here: they match nothing. */
  readonly unsupported: readonly { readonly id: string; readonly reason: string }[];
}

/** More than any network lists. */
const MAX_ENTRIES = 1_024;
export const MAX_POLICY_BYTES = 4 * 1024 * 1024;

const VERIFIED_TYPES = ['dcap-tdx', 'qemu-tdx'];
const UNSUPPORTED_TYPES: ReadonlyMap<string, string> = new Map([
  ['azure-tdx', 'azure-tdx evidence (vTPM quote and its certificate) is not verified by this version'],
  [
    'gcp-tdx',
    'gcp-tdx evidence (firmware endorsement) is not verified by this version; dcap-tdx takes such machines by their quote',
  ],
]);

class PolicyError extends Error {}

/**
 * @param text the file
 * @returns the policy, or what is wrong with it, naming the entry
 */
export function parsePolicy(text: string): Policy | string {
  try {
    return readPolicy(text);
  } catch (error) {
    if (error instanceof PolicyError) return error.message;
    throw error;
  }
}

/** @returns the id of the first entry that fits */
export function matchPolicy(policy: Policy, measurements: Measurements): string | undefined {
  return policy.entries.find((entry) => mismatch(entry, measurements) === undefined)?.id;
}

/** @returns for each entry the first register that differs, for people; measurements are public */
export function explainMismatch(policy: Policy, measurements: Measurements): string {
  const lines = policy.entries.slice(0, 8).map((entry) => `${entry.id}: ${mismatch(entry, measurements)}`);
  const left = policy.entries.length - lines.length;
  if (left > 0) lines.push(`and ${left} more`);
  return lines.length === 0 ? 'the policy has no entry that can be verified here' : lines.join('; ');
}

function mismatch(entry: PolicyEntry, measurements: Measurements): string | undefined {
  for (const [register, allowed] of entry.registers) {
    const found = measurements[register] ?? '';
    if (!allowed.includes(found))
      return `${REGISTERS[register]} is ${found}, expected ${allowed.join(' or ')}`;
  }
  return undefined;
}

function readPolicy(text: string): Policy {
  const list = parseJson(text);
  if (!Array.isArray(list)) throw new PolicyError('it is no list');
  if (list.length > MAX_ENTRIES) throw new PolicyError(`it has more than ${MAX_ENTRIES} entries`);
  const entries: PolicyEntry[] = [];
  const unsupported: { id: string; reason: string }[] = [];
  for (const [position, value] of list.entries()) {
    const where = `entry ${position + 1}`;
    const fields = record(value, where);
    const id = fields.measurement_id;
    const type = fields.attestation_type;
    if (typeof id !== 'string' || id === '') throw new PolicyError(`${where} has no measurement_id`);
    const named = `${where} (${id.slice(0, 64)})`;
    if (typeof type !== 'string') throw new PolicyError(`${named} has no attestation_type`);
    const reason = UNSUPPORTED_TYPES.get(type);
    if (reason !== undefined) {
      unsupported.push({ id, reason });
    } else if (VERIFIED_TYPES.includes(type)) {
      entries.push({ id, registers: readRegisters(fields.measurements, named) });
    } else {
      throw new PolicyError(`${named} has the attestation type ${type.slice(0, 32)}, which is not known`);
    }
  }
  return { entries, unsupported };
}

function readRegisters(value: unknown, where: string): Map<number, readonly string[]> {
  const registers = new Map<number, readonly string[]>();
  for (const [name, wanted] of Object.entries(record(value, `measurements of ${where}`))) {
    const register = /^[0-4]$/u.test(name) ? Number(name) : REGISTERS.indexOf(name.toUpperCase());
    if (register < 0)
      throw new PolicyError(`${where} names the register ${name.slice(0, 16)}, which TDX has not`);
    if (registers.has(register)) throw new PolicyError(`${where} names ${REGISTERS[register]} twice`);
    registers.set(register, readExpected(wanted, `${REGISTERS[register]} of ${where}`));
  }
  return registers;
}

function readExpected(value: unknown, where: string): string[] {
  const { expected, expected_any: any, ...rest } = record(value, where);
  const [unknown] = Object.keys(rest);
  if (unknown !== undefined)
    throw new PolicyError(`${where} has a field ${unknown.slice(0, 32)}, which is not known`);
  if ((expected === undefined) === (any === undefined)) {
    throw new PolicyError(`${where} needs either expected or expected_any`);
  }
  const values: unknown[] = Array.isArray(any) ? any : [expected];
  if (any !== undefined && (!Array.isArray(any) || any.length === 0)) {
    throw new PolicyError(`expected_any of ${where} is no list with values`);
  }
  return values.map((text) => {
    if (typeof text !== 'string' || !/^[0-9a-fA-F]{96}$/u.test(text)) {
      throw new PolicyError(`${where} is not 96 hex digits`);
    }
    return text.toLowerCase();
  });
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    throw new PolicyError('it is no JSON');
  }
}

function record(value: unknown, what: string): Readonly<Record<string, unknown>> {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw new PolicyError(`${what} is no object`);
  }
  return { ...value };
}
