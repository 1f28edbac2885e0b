/** Runs a program in a network namespace that has loopback and nothing else. */
import { spawnSync } from 'node:child_process';

const SCRIPT = 'tools=$1; shift; chroot "$tools" /usr/sbin/ip link set lo up && exec "$@"';
const MARK = 'IMAGE_NETWORK';

/** Whether this program already runs in such a namespace. */
export function isInside(): boolean {
  return process.env[MARK] === 'loopback';
}

/**
 * Runs this Node with the arguments there, on the same terminal.
 * @param tools root of the tools tree
 * @returns its exit status
 */
export function runInside(tools: string, args: readonly string[]): number {
  const command = [
    '--user',
    '--map-root-user',
    '--net',
    'sh',
    '-c',
    SCRIPT,
    'sh',
    tools,
    process.execPath,
    ...args,
  ];
  const { status, error } = spawnSync('unshare', command, {
    stdio: 'inherit',
    env: { ...process.env, [MARK]: 'loopback' },
  });
  if (error !== undefined) throw error;
  return status ?? 1;
}
