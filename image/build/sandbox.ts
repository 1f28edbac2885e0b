/**
 * Runs build tools: as root of a user namespace of their own (so any user may build), without network, with a fixed
 * environment, inside the locked tools tree. What a tool sees of the machine is its kernel and the folder it works
 * in, mounted at /work.
 */
import { spawn } from 'node:child_process';

export interface SandboxOptions {
  /** Root of the tools tree; without it the machine's own programs run (to unpack the tools tree itself). */
  readonly tools?: string;
  /** Folders by mount point; the tools tree has /work, /work2 and /store for them. */
  readonly mounts?: Readonly<Record<string, string>>;
  /** Seconds since 1970 that tools take for now. */
  readonly epoch?: number;
  /** Keep the caller's network namespace; a virtual machine's user network needs it. */
  readonly network?: boolean;
  readonly signal?: AbortSignal;
}

/** A tool ended with another status than 0. */
export class ToolError extends Error {
  readonly status: number | null;
  readonly output: string;

  constructor(command: readonly string[], status: number | null, output: string) {
    super(`${command.join(' ').slice(0, 300)} ended with ${status ?? 'a signal'}\n${output.slice(-4000)}`);
    this.name = 'ToolError';
    this.status = status;
    this.output = output;
  }
}

export const MOUNT_POINTS = ['/work', '/work2', '/store'];
const PATH = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';

/** Mounts and enters; `$1` tools tree, `$2` number of mounts, then pairs, then the command. */
const ENTER = `
set -eu
umask 022
tools=$1; count=$2; shift 2
mount --rbind /dev "$tools/dev"
mount -t proc proc "$tools/proc"
mount -t tmpfs -o mode=1777 tmp "$tools/tmp"
while [ "$count" -gt 0 ]; do mount --rbind "$1" "$tools$2"; count=$((count - 1)); shift 2; done
exec chroot "$tools" /usr/bin/env --chdir=/work "$@"
`;

/** The arguments of `unshare` that run a command in the sandbox; for callers that keep the process. */
export function sandboxed(command: readonly string[], options: SandboxOptions): string[] {
  const unshare = ['--user', '--map-root-user', '--mount', '--pid', '--fork', '--kill-child'];
  if (options.network !== true) unshare.push('--net');
  const environment = [
    `PATH=${PATH}`,
    'HOME=/tmp',
    'LC_ALL=C',
    'TZ=UTC',
    ...(options.epoch === undefined ? [] : [`SOURCE_DATE_EPOCH=${options.epoch}`]),
    // A build under a shifted clock shifts it for its tools as well.
    ...(process.env.IMAGE_FAKETIME === undefined
      ? []
      : [
          'LD_PRELOAD=/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1',
          `FAKETIME=${process.env.IMAGE_FAKETIME}`,
          'FAKETIME_DONT_FAKE_MONOTONIC=1',
          // The clock, not the times of files.
          'NO_FAKE_STAT=1',
        ]),
  ];
  if (options.tools === undefined) {
    return [...unshare, 'sh', '-c', 'umask 022; exec "$@"', 'sh', 'env', '-i', ...environment, ...command];
  }
  const mounts = Object.entries(options.mounts ?? {});
  return [
    ...unshare,
    'sh',
    '-c',
    ENTER,
    'sh',
    options.tools,
    String(mounts.length),
    ...mounts.flatMap(([at, folder]) => [folder, at]),
    '-i',
    ...environment,
    ...command,
  ];
}

/**
 * Runs a command to its end.
 * @returns what it wrote to standard output
 * @throws ToolError with the end of its output when it fails
 */
export function runTool(command: readonly string[], options: SandboxOptions): Promise<string> {
  return run('unshare', sandboxed(command, options), command, options.signal);
}

/**
 * Runs a program of this machine with its environment: the package managers' clients.
 * @throws ToolError with the end of its output when it fails
 */
export function runHost(
  command: readonly [string, ...string[]],
  options: { readonly cwd?: string; readonly env?: Readonly<Record<string, string>> } = {},
): Promise<string> {
  const [program, ...args] = command;
  return run(program, args, command, undefined, options);
}

function run(
  program: string,
  args: readonly string[],
  shown: readonly string[],
  signal: AbortSignal | undefined,
  options: { readonly cwd?: string; readonly env?: Readonly<Record<string, string>> } = {},
): Promise<string> {
  const { promise, resolve, reject } = Promise.withResolvers<string>();
  const child = spawn(program, args, {
    stdio: ['ignore', 'pipe', 'pipe'],
    ...(signal === undefined ? {} : { signal }),
    ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
    env: { ...process.env, ...options.env },
  });
  const output: Buffer[] = [];
  const errors: Buffer[] = [];
  child.stdout.on('data', (chunk: Buffer) => output.push(chunk));
  child.stderr.on('data', (chunk: Buffer) => errors.push(chunk));
  child.once('error', reject);
  child.once('close', (status) => {
    const text = Buffer.concat(output).toString();
    if (status === 0) resolve(text);
    else reject(new ToolError(shown, status, text + Buffer.concat(errors).toString()));
  });
  return promise;
}
