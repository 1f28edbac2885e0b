/**
 * Testnet, made and run with dummies and with this machine's stand-ins outside: who gets to sshd, and that metrics and
 * journal go to the stores of the configuration and to nobody else. Takes minutes and packages of its own, so it runs
 * when it is asked for: `npm run test:image -- testnet`.
 */
import { randomBytes } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createServer, type Server } from 'node:tls';
import { afterAll, beforeAll, expect, inject, test } from 'vitest';
import { build } from '../build/build.ts';
import { defaultStore } from '../build/store.ts';
import { programsOf } from '../profiles.ts';
import { DEVELOPMENT } from '../surroundings.ts';
import { type Dummies, makeDummies, startReleases } from '../testing/dummies.ts';
import { filesOf, programsIn, unwanted } from '../testing/tree.ts';
import { eventually, HANG_S, World } from '../testing/world.ts';
import { DEVELOPMENT_HUB_CERTIFICATE, developmentHubKey } from './development-hub.ts';
import { FORWARDED, onThisSide } from './stand-ins.ts';

const SSH = onThisSide(40_192);
const STORES = { metrics: '10.0.2.100', journal: '10.0.2.101' };
const CONFIGURATION = {
  instance_name: 'vm',
  disk_encryption: { key: randomBytes(32).toString('hex') },
  rbuilder: { coinbase_secret_key: '11'.repeat(32), relay_secret_key: '22'.repeat(32) },
  ssh: { authorized_keys: [], cidrs: ['192.0.2.1'] },
  export: {
    metrics_url: `https://${STORES.metrics}/api/v1/write`,
    journal_url: `https://${STORES.journal}:443`,
  },
};

let folder: string;
let output: string;
let world: World;
let dummies: Dummies;
let releases: { close(): void };
const stores: Server[] = [];

/** Why somebody hung up on each store before a word was said. */
const hungUp: Record<keyof typeof STORES, string[]> = { metrics: [], journal: [] };
const said: string[] = [];

/** A store whose certificate no authority vouches for. @returns its port */
async function startStore(name: keyof typeof STORES): Promise<number> {
  const server = createServer({ cert: DEVELOPMENT_HUB_CERTIFICATE, key: developmentHubKey() }, (socket) => {
    socket.on('error', () => undefined);
    socket.on('data', (chunk) => said.push(`${name}: ${chunk.toString('latin1')}`));
  });
  server.on('tlsClientError', (error) => hungUp[name].push(error.message));
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  stores.push(server);
  return (server.address() as { port: number }).port;
}

/** What sshd says to whoever connects; '' when the firewall lets nobody through. */
function banner(): Promise<string> {
  const { promise, resolve } = Promise.withResolvers<string>();
  const socket = connect({ host: '127.0.0.1', port: SSH });
  socket.setTimeout(10_000, () => resolve(''));
  socket.on('data', (chunk) => resolve(chunk.toString()));
  socket.on('close', () => resolve(''));
  socket.on('error', () => resolve(''));
  return promise.finally(() => socket.destroy());
}

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'image-testnet-'));
  output = join(folder, 'image');
  dummies = await makeDummies(folder, defaultStore());
  await build({
    store: defaultStore(),
    profile: 'testnet',
    sources: join(import.meta.dirname, '../..'),
    output,
    progress: () => undefined,
    // The same packages as of the last point release: testnet's own lock is newer than any test.
    instead: { around: DEVELOPMENT, manifest: dummies.manifest, locks: 'debug' },
  });
  world = new World({ tools: inject('tools'), image: output, configuration: CONFIGURATION, silent: true });
  await world.open();
  releases = startReleases((name) => dummies.texts.get(name) ?? '');
  await world.boot({
    forwards: { ...FORWARDED, 40192: SSH },
    outside: {
      [`${STORES.metrics}:443`]: await startStore('metrics'),
      [`${STORES.journal}:443`]: await startStore('journal'),
    },
  });
  await world.serving();
});

afterAll(async () => {
  releases?.close();
  for (const store of stores) store.close();
  await world?.close();
  rmSync(folder, { recursive: true, force: true });
});

test('it holds the programs that are listed, and no stand-in', () => {
  const built = dummies.manifest.filter(({ when }) => when === 'build').map(({ target }) => target);
  const files = filesOf(output);
  expect(programsIn(files)).toEqual([...programsOf('testnet'), ...built].sort());
  expect(files.filter(({ path }) => /stand-?in|attestation\/mock/u.test(path))).toEqual([]);
  // What it has for debugging opens nothing by itself.
  const debugging = new Set(['busybox', 'sh', 'sshd', 'ssh.socket']);
  expect(unwanted(files).filter((path) => !debugging.has(path.split('/').at(-1) ?? ''))).toEqual([]);
});

test('metrics and journal go to their stores, which must be vouched for before a word is said', async () => {
  for (const name of ['metrics', 'journal'] as const) {
    await eventually(async () => expect(hungUp[name].length).toBeGreaterThan(0), HANG_S);
    console.log(`${name}: ${hungUp[name][0]}`);
  }
  expect(said).toEqual([]);
});

test('sshd answers the addresses of the configuration alone, and nobody once the operator has stopped it', async () => {
  expect(await banner()).toBe('');
  expect(await world.logged('ssh host key SHA256:')).toMatch(/ssh host key SHA256:[\w+/]{43}\n/u);
  await world.configure({ ...CONFIGURATION, ssh: { authorized_keys: [], cidrs: ['10.0.2.0/24'] } });
  await eventually(async () =>
    expect((await world.operator('/api/v1/actions/fetch_config')).status).toBe(200),
  );
  const answer = await eventually(async () => {
    const line = await banner();
    expect(line).toMatch(/^SSH-2\.0-OpenSSH/u);
    return line;
  });
  console.log(answer.trim());
  expect((await world.operator('/api/v1/actions/ssh_stop')).status).toBe(200);
  expect(await banner()).toBe('');
});
