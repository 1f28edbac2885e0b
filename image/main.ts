/**
 * `npm run image -- COMMAND`: makes, boots and explains the image. Results go to standard output, progress to
 * standard error. Exit codes: 0 done, 1 failed or different, 2 for a wrong call.
 */
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { build, differingOutputs, locksOf, Refusal, toolsOf } from './build/build.ts';
import { fetchDebian, fetchNpm, StaleLock } from './build/fetch.ts';
import {
  type DebianLock,
  type DebianRequest,
  makeDebianLock,
  makeNpmLock,
  readLock,
  writeLock,
} from './build/lock.ts';
import { progressToStderr } from './build/progress.ts';
import { defaultStore, type Store } from './build/store.ts';
import { compareManifests, type Entry } from './build/tree.ts';
import { measure } from './measure/measurements.ts';
import type { Profile } from './profiles.ts';
import * as profiles from './profiles.ts';
import { isInside, runInside } from './vm/namespace.ts';

const SOURCES = dirname(import.meta.dirname);
const LOCKS = join(SOURCES, 'image/lock');
const DAY_S = 86_400;

const HELP = `Usage: npm run image -- COMMAND [--profile ${profiles.PROFILES.join('|')}] [--out FOLDER]

  lock     resolve all packages anew and write image/lock/ for review (needs the registries);
           followed by names (tools, root.main, npm, …) those locks alone
  fetch    bring what the locks name into the store (the only other step that needs them)
  build    build the image from the store; two builds are the same byte for byte
  verify   build again beside --out and compare every output
  boot     run the image with its stand-ins in a network of its own; ends with Ctrl-C
  measure  print the registers that the image in --out must show
  diff A B what differs between two images, file by file

The store is $ORDERFLOW_IMAGE_STORE or ~/.cache/orderflow/image and may be deleted at any time.
`;

interface Call {
  readonly store: Store;
  readonly profile: Profile;
  readonly output: string;
  readonly rest: readonly string[];
}

const progress = progressToStderr();

function rootRequest(lock: profiles.RootLock): DebianRequest {
  return {
    suites: profiles.suitesOf(lock),
    packages: profiles.rootPackages(lock),
    without: profiles.LEFT_OUT,
  };
}

async function lock({ store, rest: only }: Call): Promise<number> {
  const epoch = Math.floor(Date.now() / 1000 / DAY_S) * DAY_S;
  const requests = {
    'root.main': rootRequest('main'),
    'root.debug': rootRequest('debug'),
    'root.security': rootRequest('security'),
    'root.testnet': rootRequest('testnet'),
    tools: {
      suites: profiles.MAIN_ONLY,
      packages: profiles.TOOLS_PACKAGES,
      without: profiles.TOOLS_LEFT_OUT,
    },
  };
  const names = [...Object.keys(requests), 'npm'];
  const unknown = only.find((name) => !names.includes(name));
  if (unknown !== undefined) return usage(`there is no lock ${unknown}, but ${names.join(', ')}`);
  const isWanted = (name: string): boolean => only.length === 0 || only.includes(name);
  for (const [name, request] of Object.entries(requests)) {
    if (!isWanted(name)) continue;
    const { suites } = request;
    progress(`resolving ${name} in ${suites.join(', ')}`);
    const fresh = await makeDebianLock(store, request, epoch);
    const file = join(LOCKS, `${name}.json`);
    // A new day alone is no reason for another image.
    const before = existsSync(file) ? (readLock(file) as DebianLock) : undefined;
    const same = JSON.stringify(before?.packages) === JSON.stringify(fresh.packages);
    writeLock(file, same && before !== undefined ? { ...fresh, epoch: before.epoch } : fresh);
  }
  if (!isWanted('npm')) return 0;
  progress('the packages of npm');
  writeLock(
    join(LOCKS, 'npm.json'),
    await makeNpmLock(store, readFileSync(join(SOURCES, 'package-lock.json'), 'utf8')),
  );
  return 0;
}

async function fetch({ store, profile }: Call): Promise<number> {
  const { tools, root, npm } = locksOf(SOURCES, profile);
  await fetchDebian(store, tools.file, tools.lock, progress);
  await fetchDebian(store, root.file, root.lock, progress);
  await fetchNpm(store, npm.lock, progress);
  progress('everything is in the store');
  return 0;
}

async function make({ store, profile, output }: Call): Promise<number> {
  await build({ store, profile, sources: SOURCES, output, progress });
  return 0;
}

async function verify(call: Call): Promise<number> {
  const second = `${call.output}.second`;
  await make({ ...call, output: second });
  const differing = await differingOutputs(call.output, second);
  if (differing.length === 0) {
    process.stdout.write(`${call.output} is what the sources and the locks make\n`);
    return 0;
  }
  process.stdout.write(
    `differs: ${differing.join(', ')}; see \`npm run image -- diff ${call.output} ${second}\`\n`,
  );
  return 1;
}

async function boot({ store, profile, output }: Call): Promise<number> {
  const tools = await toolsOf(store, locksOf(SOURCES, profile).tools.lock, progress);
  if (!isInside()) return runInside(tools, process.argv.slice(1));
  // Here and not above: a build needs no package but Node.
  const { bootInteractively } = await import('./vm/boot.ts');
  await bootInteractively(tools, output, progress);
  return 0;
}

async function printMeasurements({ store, profile, output }: Call): Promise<number> {
  const tools = await toolsOf(store, locksOf(SOURCES, profile).tools.lock, progress);
  const firmware = join(tools, 'usr/share/OVMF/OVMF_CODE_4M.fd');
  const text = `${JSON.stringify(measure({ folder: output, firmware, name: `orderflow-${profile}` }), null, 2)}\n`;
  writeFileSync(join(output, 'measurements.json'), text);
  process.stdout.write(text);
  return 0;
}

async function diff({ rest }: Call): Promise<number> {
  const [a, b] = rest;
  if (a === undefined || b === undefined) return usage('diff needs two folders');
  const differing = await differingOutputs(a, b);
  for (const name of differing) process.stdout.write(`${name} differs\n`);
  for (const name of ['files.json', 'initrd.files.json']) {
    const read = (folder: string): Entry[] => JSON.parse(readFileSync(join(folder, name), 'utf8')) as Entry[];
    for (const line of compareManifests(read(a), read(b))) process.stdout.write(`${line}\n`);
  }
  return differing.length === 0 ? 0 : 1;
}

const COMMANDS: Readonly<Record<string, (call: Call) => Promise<number>>> = {
  lock,
  fetch,
  build: make,
  verify,
  boot,
  measure: printMeasurements,
  diff,
};

function usage(problem: string): number {
  process.stderr.write(`${problem}\n\n${HELP}`);
  return 2;
}

async function run(): Promise<number> {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      profile: { type: 'string', default: 'devnet' },
      out: { type: 'string' },
      help: { type: 'boolean', short: 'h' },
    },
  });
  const [name = '', ...rest] = positionals;
  if (values.help === true) {
    process.stdout.write(HELP);
    return 0;
  }
  const command = COMMANDS[name];
  if (command === undefined)
    return usage(name === '' ? 'a command is missing' : `there is no command ${name}`);
  const profile = profiles.PROFILES.find((one) => one === values.profile);
  if (profile === undefined) return usage(`there is no profile ${values.profile}`);
  const store = defaultStore();
  const output = resolve(values.out ?? join(store.directory, 'out', profile));
  try {
    return await command({ store, profile, output, rest });
  } catch (error) {
    if (error instanceof Refusal || error instanceof StaleLock) {
      process.stderr.write(`${error.message}\n`);
      return 1;
    }
    throw error;
  }
}

process.exitCode = await run();
