/**
 * V2: production, made and run with dummies in the place of the programs that no registry offers, and with this
 * machine's stand-ins outside. Nobody looks into it from inside: what is seen is what its open ports say.
 */
import { hash, randomBytes } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, inject, test } from 'vitest';
import { answerProblem } from '../../devnet/once.ts';
import { createOrderSource } from '../../devnet/orders.ts';
import { build, differingOutputs } from '../build/build.ts';
import { defaultStore } from '../build/store.ts';
import { programsOf } from '../profiles.ts';
import { servicesOf } from '../services.ts';
import { DEVELOPMENT } from '../surroundings.ts';
import { type Dummies, makeDummies, startReleases } from '../testing/dummies.ts';
import { backendIn, exposureOf, filesOf, programsIn, unpackRoot, unwanted } from '../testing/tree.ts';
import { answerOf, BOOTED, eventually, World } from '../testing/world.ts';
import { FORWARDED, onThisSide } from './stand-ins.ts';

const SOURCES = join(import.meta.dirname, '../..');
const CONFIGURATION = {
  instance_name: 'vm',
  disk_encryption: { key: randomBytes(32).toString('hex') },
  github_token: 'a-token',
  rbuilder: { coinbase_secret_key: '11'.repeat(32), relay_secret_key: '22'.repeat(32) },
};
/** Guest ports that must not answer. */
const CLOSED = [
  22, 3500, 5542, 5543, 6060, 6070, 6148, 7937, 8090, 8405, 8545, 8551, 8645, 9001, 9100, 14_727, 40_192,
];
const TOLD = { reth: 30_303, lighthouse: 9000, 'rbuilder-operator': 6000 } as const;

let folder: string;
let output: string;
let world: World;
let dummies: Dummies;

/** What a port says to whoever connects. @throws Error when nobody answers */
function told(port: number): Promise<{ dummy: string; orders: string[] }> {
  const { promise, resolve, reject } = Promise.withResolvers<{ dummy: string; orders: string[] }>();
  const socket = connect({ host: '127.0.0.1', port: onThisSide(port) });
  let text = '';
  socket.on('data', (chunk) => {
    text += chunk.toString();
  });
  socket.on('error', reject);
  socket.on('close', () => {
    if (text === '') reject(new Error('nothing answers'));
    else resolve(JSON.parse(text));
  });
  return promise;
}

async function buildTo(target: string): Promise<void> {
  await build({
    store: defaultStore(),
    profile: 'production',
    sources: SOURCES,
    output: target,
    progress: () => undefined,
    // Devnet's lock: that of production is newer than any test.
    instead: { around: DEVELOPMENT, manifest: dummies.manifest, locks: 'devnet' },
  });
}

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'image-production-'));
  output = join(folder, 'image');
  dummies = await makeDummies(folder, defaultStore());
  await buildTo(output);
});

afterAll(async () => {
  await world?.close();
  rmSync(folder, { recursive: true, force: true });
});

test('it is the same twice, and holds neither a stand-in nor a program that is not listed', async () => {
  const second = join(folder, 'second');
  await buildTo(second);
  expect(await differingOutputs(output, second)).toEqual([]);
  const files = filesOf(output);
  const built = dummies.manifest.filter(({ when }) => when === 'build').map(({ target }) => target);
  const programs = programsIn(files);
  expect(programs).toEqual([...programsOf('production'), ...built].sort());
  expect(unwanted(files)).toEqual([]);
  expect(files.filter(({ path }) => /stand-?in|attestation\/mock/u.test(path))).toEqual([]);
  console.log(`${programs.length} programs and the loader, ${files.length} entries`);
  const units = servicesOf('production', DEVELOPMENT).flatMap(({ unit, run }) =>
    run === undefined ? [] : [unit],
  );
  await unpackRoot(output, inject('tools'), folder);
  expect(await backendIn(folder, inject('tools'))).toBe('native');
  const exposure = await exposureOf(folder, inject('tools'), units);
  expect([...exposure.keys()].sort()).toEqual([...units].sort());
  for (const [unit, score] of exposure) {
    console.log(`exposed ${score.toFixed(1)} ${unit}`);
    expect(score, unit).toBeLessThanOrEqual(2);
  }
});

test('it boots, fetches its private programs by digest alone, and runs; nothing is said on its console', async () => {
  world = new World({ tools: inject('tools'), image: output, configuration: CONFIGURATION, silent: true });
  await world.open();
  const asked: string[] = [];
  let honest = false;
  const releases = startReleases((name, credentials) => {
    asked.push(`${name} ${credentials}`);
    const file = dummies.texts.get(name) ?? '';
    // Same length, another program.
    return honest ? file : file.replace('orders', 'Orders');
  });
  try {
    await world.boot({
      forwards: {
        ...FORWARDED,
        ...Object.fromEntries([...Object.values(TOLD), ...CLOSED].map((port) => [port, onThisSide(port)])),
      },
    });
    // Built into the image: they run without the release host.
    for (const name of ['reth', 'lighthouse'] as const)
      await eventually(async () => expect((await told(TOLD[name])).dummy).toBe(name));
    // Asked again and again, while it is another program than the image was built for.
    await eventually(async () => expect(asked.length).toBeGreaterThan(2));
    await expect(told(TOLD['rbuilder-operator'])).rejects.toThrow();
    expect(new Set(asked)).toEqual(new Set(['rbuilder-operator Bearer a-token']));
    honest = true;
    await eventually(async () =>
      expect((await told(TOLD['rbuilder-operator'])).dummy).toBe('rbuilder-operator'),
    );
    await world.serving();
    const orders = createOrderSource({ seed: 'production' });
    await eventually(async () => {
      const order = orders.next();
      const user = await world.client();
      try {
        expect(answerProblem(order, await user.send(order))).toBeNull();
      } finally {
        user.close();
      }
      const digest = hash('sha256', order.canonical);
      await eventually(
        async () => expect((await told(TOLD['rbuilder-operator'])).orders).toContain(digest),
        60,
      );
    });
  } finally {
    releases.close();
  }
  // B8: what the table does not open is shut.
  const answers = await Promise.all(CLOSED.map(async (port) => [port, await answerOf(onThisSide(port))]));
  console.log(`nothing at ${CLOSED.join(', ')}`);
  expect(answers).toEqual(CLOSED.map((port) => [port, '']));
  await world.logged(...BOOTED);
  // B7: from the kernel on, the port that the host reads is silent.
  const [, afterFirmware = ''] = world.machine.console.split(/BdsDxe: starting [^\n]*\n/u);
  expect(afterFirmware.replaceAll(/^EFI stub: [^\n]*\n/gmu, '').trim()).toBe('');
  console.log(`of ${world.machine.console.length} bytes on the console none is from kernel or services`);
});
