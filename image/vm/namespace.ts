/** Runs a program in a network namespace that has loopback and nothing else. */
import { spawn } from 'node:child_process';

const SCRIPT = 'tools=$1; shift; chroot "$tools" /usr/sbin/ip link set lo up && exec "$@"';
const MARK = 'IMAGE_NETWORK';

/** Whether this program already runs in such a namespace. */
export function isInside(): boolean {
  return process.env[MARK] === 'loopback';
}

/**
 * Runs this Node with the arguments there.
 * @param tools root of the tools tree
 * @param output takes what it writes; without it that goes to the same terminal
 * @returns its exit status
 */
export function runInside(
  tools: string,
  args: readonly string[],
  output?: (chunk: Buffer) => void,
): Promise<number> {
  // A namespace of processes as well: what it starts ends with it.
  const unshare = ['--user', '--map-root-user', '--net', '--pid', '--fork', '--kill-child', '--mount-proc'];
  const command = [...unshare, 'sh', '-c', SCRIPT, 'sh', tools, process.execPath];
  const { promise, resolve, reject } = Promise.withResolvers<number>();
  const child = spawn('unshare', [...command, ...args], {
    stdio: output === undefined ? 'inherit' : ['ignore', 'pipe', 'pipe'],
    env: { ...process.env, [MARK]: 'loopback' },
  });
  if (output !== undefined) {
    child.stdout?.on('data', output);
    child.stderr?.on('data', output);
  }
  // Ctrl-C reaches the child as well, which ends in order; this one waits for it.
  const wait = (): void => undefined;
  // unshare lets nothing milder through to what it runs.
  const end = (): boolean => child.kill('SIGKILL');
  process.on('SIGINT', wait);
  process.on('SIGTERM', end);
  process.once('exit', end);
  child.once('error', reject);
  child.once('close', (status) => resolve(status ?? 1));
  return promise.finally(() => {
    process.off('SIGINT', wait);
    process.off('SIGTERM', end);
    process.off('exit', end);
  });
}
