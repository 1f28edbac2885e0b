/** Where collateral comes from and when, with a clock that is moved by hand. */
import { readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { beforeAll, expect, onTestFinished, test } from 'vitest';
import { temporaryDirectory } from '../../testing/directory.ts';
import { ManualTimer } from '../testing/manual-timer.ts';
import type { RawCollateral } from './collateral.ts';
import { CollateralSource } from './collateral-source.ts';
import { MockMachine } from './mock/machine.ts';
import { startMockService } from './mock/provisioning.ts';
import { type CollateralFetch, provisioningService } from './provisioning-service.ts';

const START = Date.parse('2026-06-01T00:00:00Z');
const DAY_MS = 86_400_000;
const FMSPC = '00a06d0c0000';
let machine: MockMachine;
let good: RawCollateral;
beforeAll(async () => {
  machine = await MockMachine.create({ now: START });
  good = await machine.collateral();
});

/** Moves time, and lets what that sets off happen. */
async function move(timer: ManualTimer, ms: number): Promise<void> {
  timer.advance(ms);
  await new Promise(setImmediate);
}

function source(fetch: CollateralFetch | undefined, directory?: string) {
  const timer = new ManualTimer(START);
  const failures: string[] = [];
  const collateral = new CollateralSource(
    { directory, roots: new Set([machine.rootFingerprint]), waitMs: 1_000, maxKinds: 2 },
    { fetch, timer, events: { fetchFailed: (_kind, reason) => failures.push(reason) } },
  );
  onTestFinished(() => collateral.close());
  return { collateral, timer, failures };
}

test('fetched once for many who ask, and again ahead of its end', async () => {
  let fetches = 0;
  const { collateral, timer } = source(async () => {
    fetches++;
    return good;
  });
  const found = await Promise.all([1, 2, 3].map(() => collateral.get(FMSPC, 'platform')));
  expect(found.every((one) => typeof one === 'object')).toBe(true);
  expect(fetches).toBe(1);
  expect(collateral.validUntil()).toBe(START + 29 * DAY_MS);
  // Daily: a revocation does not wait for the documents' end.
  await move(timer, DAY_MS - 1);
  expect(fetches).toBe(1);
  await move(timer, 1);
  expect(fetches).toBe(2);
});

test('what is older than what is held is not taken, as long as that is valid', async () => {
  const newer = await machine.collateral({ evaluation: 19 });
  const answers = [newer, good];
  const { collateral, timer, failures } = source(async () => answers.shift() ?? good);
  await collateral.get(FMSPC, 'platform');
  await move(timer, DAY_MS);
  expect(failures).toEqual(['what the service gives is older than what was there']);
  expect(await collateral.get(FMSPC, 'platform')).toMatchObject({ tcbInfo: { evaluation: 19 } });
  const lists = await machine.collateral({ evaluation: 19, crlFrom: START - 2 * DAY_MS });
  answers.push(lists);
  await move(timer, 5_000);
  expect(failures).toHaveLength(2);
  answers.push(await machine.collateral({ evaluation: 20 }));
  await move(timer, 10_000);
  expect(await collateral.get(FMSPC, 'platform')).toMatchObject({ tcbInfo: { evaluation: 20 } });
});

test('over HTTP in the form of a PCCS; kept over restarts; a damaged file is as good as none', async () => {
  const service = await startMockService(machine, 0, async () => good);
  onTestFinished(() => service.close());
  const directory = await temporaryDirectory();
  const first = source(provisioningService({ url: service.url }), directory);
  expect(await first.collateral.get(FMSPC, 'platform')).toMatchObject({ tcbInfo: { fmspc: FMSPC } });
  expect(service.asked.toSorted()).toEqual([
    '/sgx/certification/v4/pckcrl?ca=platform&encoding=der',
    '/sgx/certification/v4/rootcacrl',
    `/tdx/certification/v4/qe/identity`,
    `/tdx/certification/v4/tcb?fmspc=${FMSPC}`,
  ]);
  const second = source(undefined, directory);
  expect(await second.collateral.get(FMSPC, 'platform')).toMatchObject({ tcbInfo: { fmspc: FMSPC } });
  const [file = ''] = await readdir(directory);
  const text = await readFile(join(directory, file), 'utf8');
  await writeFile(join(directory, file), text.slice(0, 100));
  expect(await source(undefined, directory).collateral.get(FMSPC, 'platform')).toBe(
    'there is no collateral of this kind of machine',
  );
  await writeFile(join(directory, file), text.replace('UpToDate', 'Revoked'));
  expect(await source(undefined, directory).collateral.get(FMSPC, 'platform')).toBe(
    'tcb-info: has a wrong signature',
  );
});

test('a handshake waits no longer than its bound', async () => {
  const { collateral, timer } = source(
    (_fmspc, _authority, signal) =>
      new Promise((_resolve, reject) => signal.addEventListener('abort', () => reject(new Error('ended')))),
  );
  // The second comes while the first has the service asked.
  for (let i = 0; i < 2; i++) {
    const asked = collateral.get(FMSPC, 'platform');
    await new Promise(setImmediate);
    await move(timer, 1_000);
    expect(await asked).toBe('there is no collateral of this kind of machine');
  }
});

test('a service that fails is not asked at every handshake; what is valid stays in use', async () => {
  let fetches = 0;
  let broken = true;
  const { collateral, timer, failures } = source(async () => {
    fetches++;
    if (broken) throw new Error('unreachable');
    return good;
  });
  expect(await collateral.get(FMSPC, 'platform')).toBe('unreachable');
  expect(await collateral.get(FMSPC, 'platform')).toBe('unreachable');
  expect(fetches).toBe(1);
  broken = false;
  await move(timer, 5_000);
  expect(await collateral.get(FMSPC, 'platform')).toMatchObject({ tcbInfo: { fmspc: FMSPC } });
  broken = true;
  await move(timer, DAY_MS);
  expect(fetches).toBe(3);
  expect(await collateral.get(FMSPC, 'platform')).toMatchObject({ tcbInfo: { fmspc: FMSPC } });
  // Tried again with growing pauses, until it has expired.
  await move(timer, 5_000);
  await move(timer, 10_000);
  expect(fetches).toBe(5);
  await move(timer, 29 * DAY_MS);
  expect(await collateral.get(FMSPC, 'platform')).toBe('unreachable');
  expect(new Set(failures)).toEqual(new Set(['unreachable']));
});

test('collateral that does not hold is a failure like any other; kinds are bounded', async () => {
  const forged = await machine.collateral({ forged: 'tcb-info' });
  const { collateral, failures } = source(async () => forged);
  expect(await collateral.get(FMSPC, 'platform')).toBe('tcb-info: has a wrong signature');
  expect(failures).toEqual(['tcb-info: has a wrong signature']);
  let fetches = 0;
  const many = source(async () => {
    fetches++;
    return good;
  });
  for (const kind of ['1', '2', '3', '3', '2', '1']) await many.collateral.get(kind.repeat(12), 'platform');
  expect(fetches).toBe(4);
});

test.each([
  [{}, 'no header TCB-Info-Issuer-Chain'],
  [{ status: 404 }, 'status 404'],
])('answers that are not right: %j', async (change, reason) => {
  const { createServer } = await import('node:http');
  const server = createServer((_, response) => {
    response.writeHead('status' in change ? change.status : 200).end('x');
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  onTestFinished(() => void server.close());
  const address = server.address();
  const port = typeof address === 'object' && address !== null ? address.port : 0;
  const fetch = provisioningService({ url: `http://127.0.0.1:${port}` });
  await expect(fetch(FMSPC, 'platform', new AbortController().signal)).rejects.toThrow(reason);
});
