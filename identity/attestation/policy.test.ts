import { readFileSync } from 'node:fs';
import { rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, onTestFinished, test, vi } from 'vitest';
import { temporaryDirectory } from '../../testing/directory.ts';
import { patternMeasurements } from './mock/machine.ts';
import { explainMismatch, matchPolicy, type Policy, parsePolicy } from './policy.ts';
import { PolicyFile } from './policy-file.ts';
import { policyText } from './testing/mock-world.ts';

const A = patternMeasurements('a');
const B = patternMeasurements('b');

function policy(entries: unknown): Policy {
  const parsed = parsePolicy(JSON.stringify(entries));
  if (typeof parsed === 'string') throw new Error(parsed);
  return parsed;
}

function entry(measurements: unknown, type = 'dcap-tdx'): object {
  return { measurement_id: 'image', attestation_type: type, measurements };
}

test('a file as operators write it: what is of Azure matches nothing and says why', () => {
  const file = join(import.meta.dirname, '../../testing/vectors/tdx/attested-tls/measurements.json');
  const parsed = parsePolicy(readFileSync(file, 'utf8'));
  if (typeof parsed === 'string') throw new Error(parsed);
  expect(parsed.entries.map(({ id, registers }) => [id, registers.size])).toEqual([['dcap-tdx-example', 5]]);
  expect(parsed.unsupported.map(({ id }) => id)).toEqual([
    'azure-tdx-example-01',
    'cvm-image-azure-tdx.rootfs-20241107200854.wic.vhd',
  ]);
  expect(parsed.unsupported[0]!.reason).toContain('is not verified by this version');
});

test.each([
  ['all registers', { 0: { expected: A[0] }, 1: { expected: A[1] }, 4: { expected: A[4] } }, true],
  ['by name, in any case', { MRTD: { expected: A[0].toUpperCase() }, rtmr3: { expected: A[4] } }, true],
  ['one of several values', { 2: { expected_any: [B[2], A[2]] } }, true],
  ['none of several values', { 2: { expected_any: [B[2], B[3]] } }, false],
  ['one register that differs', { 0: { expected: A[0] }, 3: { expected: B[3] } }, false],
  ['no register: any image', {}, true],
])('%s', (_, measurements, fits) => {
  expect(matchPolicy(policy([entry(measurements)]), A)).toBe(fits ? 'image' : undefined);
  expect(matchPolicy(policy([entry(measurements, 'qemu-tdx')]), A)).toBe(fits ? 'image' : undefined);
});

test('any entry may match; a mismatch names the first register of each', () => {
  const both = policy(JSON.parse(policyText([A, B])));
  expect([matchPolicy(both, A), matchPolicy(both, B)]).toEqual(['image 0', 'image 1']);
  expect(explainMismatch(both, patternMeasurements('c'))).toBe(
    `image 0: MRTD is ${'c0'.repeat(48)}, expected ${A[0]}; image 1: MRTD is ${'c0'.repeat(48)}, expected ${B[0]}`,
  );
});

test.each([
  ['{', 'it is no JSON'],
  ['{}', 'it is no list'],
  ['[1]', 'entry 1 is no object'],
  ['[{}]', 'entry 1 has no measurement_id'],
  [JSON.stringify([entry({ 5: { expected: A[0] } })]), 'names the register 5, which TDX has not'],
  [JSON.stringify([entry({ 0: { expected: A[0] }, mrtd: { expected: A[0] } })]), 'names MRTD twice'],
  [JSON.stringify([entry({ 0: { expected: 'ab' } })]), 'is not 96 hex digits'],
  [JSON.stringify([entry({ 0: { expected: `${A[0].slice(1)}g` } })]), 'is not 96 hex digits'],
  [JSON.stringify([entry({ 0: {} })]), 'needs either expected or expected_any'],
  [JSON.stringify([entry({ 0: { expected: A[0], expected_any: [A[0]] } })]), 'needs either'],
  [JSON.stringify([entry({ 0: { expected_any: [] } })]), 'is no list with values'],
  [JSON.stringify([entry({ 0: { expected: A[0], expectd: A[0] } })]), 'a field expectd, which is not known'],
  [JSON.stringify([entry({}, 'sev-snp')]), 'the attestation type sev-snp, which is not known'],
  [JSON.stringify([entry({}, 'toString')]), 'the attestation type toString, which is not known'],
  [JSON.stringify([entry({}, 'DCAP-TDX')]), 'the attestation type DCAP-TDX, which is not known'],
  [JSON.stringify([entry({ toString: { expected: A[0] } })]), 'the register toString, which TDX has not'],
  [JSON.stringify([entry({ '00': { expected: A[0] } })]), 'the register 00, which TDX has not'],
  [JSON.stringify([entry({ 0: { expected_any: A[0] } })]), 'is no list with values'],
  [JSON.stringify([entry({ 0: { expected_any: [A[0], ''] } })]), 'is not 96 hex digits'],
  [
    JSON.stringify([{ measurement_id: 'x', attestation_type: 'dcap-tdx' }]),
    'measurements of entry 1 (x) is no object',
  ],
])('refused whole: %s', (text, reason) => {
  expect(parsePolicy(text)).toContain(reason);
});

test('a file is read again when it changes; a bad one changes nothing', async () => {
  const directory = await temporaryDirectory();
  const path = join(directory, 'policy.json');
  await writeFile(path, policyText([A]));
  const refused: string[] = [];
  const file = await PolicyFile.open(path, { refused: (reason) => refused.push(reason) });
  onTestFinished(() => file.close());
  expect(matchPolicy(file.current, A)).toBe('image 0');
  await writeFile(`${path}.new`, policyText([B]));
  await rename(`${path}.new`, path);
  await vi.waitFor(() => expect(matchPolicy(file.current, B)).toBe('image 0'), 10_000);
  await writeFile(path, '[]');
  await vi.waitFor(() => expect(refused).toContain('it has no entry'), 10_000);
  expect(matchPolicy(file.current, B)).toBe('image 0');
  await writeFile(path, JSON.stringify([entry({}, 'azure-tdx')]));
  await vi.waitFor(() => expect(refused.at(-1)).toContain('azure-tdx evidence'), 10_000);
  await rm(path);
  await file.reload();
  expect(matchPolicy(file.current, B)).toBe('image 0');
});

test('a file that is not there, or of kinds that are not verified alone, is no policy', async () => {
  await expect(PolicyFile.open('/nowhere/policy.json')).rejects.toThrow('/nowhere/policy.json');
});
