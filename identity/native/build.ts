/**
 * Compiles libsecp256k1 0.8.0 and its binding to `secp256k1.node` in this folder, after `npm ci`. Needs a C compiler and
 * nothing else: the headers of Node-API come with the Node of package.json.
 *
 * Where it cannot, it says so and succeeds: the node then runs with the older library that npm's `secp256k1` ships
 * compiled, and says so as well. The build of the VM image runs the same command with a compiler of its own.
 *
 * Usage: node identity/native/build.ts [--required]   with it, what cannot be compiled is an error
 */
import { spawnSync } from 'node:child_process';
import { existsSync, renameSync, rmSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';

const HERE = import.meta.dirname;
const OUTPUT = join(HERE, 'secp256k1.node');

const SOURCES = [
  'binding.c',
  'libsecp256k1/src/secp256k1.c',
  'libsecp256k1/src/precomputed_ecmult.c',
  'libsecp256k1/src/precomputed_ecmult_gen.c',
];
const INCLUDES = ['libsecp256k1/include', 'libsecp256k1/src'];

/** The sizes of tables are the library's own defaults, and those that its sources have ready. */
const FLAGS = [
  '-shared -fPIC -O2 -fvisibility=hidden -fstack-protector-strong -Wl,-z,relro,-z,now',
  '-DENABLE_MODULE_RECOVERY=1 -DSECP256K1_NO_API_VISIBILITY_ATTRIBUTES',
  '-DECMULT_WINDOW_SIZE=15 -DCOMB_BLOCKS=43 -DCOMB_TEETH=6',
  '-Wall -Wextra -Werror=implicit-function-declaration -Wno-unused-function',
].flatMap((flags) => flags.split(' '));

/**
 * The command that compiles the addon, to be run in this folder: with names relative to it, one compiler makes the same
 * bytes wherever the folder is.
 * @param headers folder with node_api.h
 */
export function compileCommand(compiler: string, headers: string, output: string): [string, ...string[]] {
  const includes = [headers, ...INCLUDES].map((folder) => `-I${folder}`);
  return [compiler, ...FLAGS, ...includes, '-o', output, ...SOURCES];
}

/** @returns folder with node_api.h of the Node that package.json pins; null where it has none for this machine */
function headers(): string | null {
  try {
    const manifest = createRequire(import.meta.url).resolve(
      `node-${process.platform}-${process.arch}/package.json`,
    );
    const folder = join(dirname(manifest), 'include', 'node');
    return existsSync(join(folder, 'node_api.h')) ? folder : null;
  } catch {
    return null;
  }
}

/** @returns why there is no addon; null when it has been made */
function build(): string | null {
  // Another system takes other flags.
  if (process.platform !== 'linux') return `is compiled on Linux alone, not on ${process.platform}`;
  const include = headers();
  if (include === null) return `no Node-API headers for ${process.platform}-${process.arch}`;
  // Whoever runs the node meanwhile has the old file or the new one.
  const made = `${OUTPUT}.${process.pid}`;
  const [compiler, ...args] = compileCommand(process.env['CC'] ?? 'cc', include, made);
  const { status, error, stderr } = spawnSync(compiler, args, { cwd: HERE, encoding: 'utf8' });
  if (error !== undefined) return `no C compiler: ${error.message}`;
  if (status !== 0) {
    rmSync(made, { force: true });
    return `${compiler} failed: ${stderr.trim().slice(0, 2000)}`;
  }
  renameSync(made, OUTPUT);
  return null;
}

if (import.meta.main) {
  const failure = build();
  if (failure !== null) {
    // One of an earlier version may not fit.
    rmSync(OUTPUT, { force: true });
    console.error(`libsecp256k1 was not compiled: ${failure}`);
    console.error('The node runs without: its signatures then take 1.7 times as long.');
    if (process.argv.includes('--required')) process.exitCode = 1;
  }
}
