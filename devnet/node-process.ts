/**
 * One node as a child process: starts `main.ts` on the pinned Node and learns its addresses from its log
 * (`"event":"listening"`). Used by the development network, the tests and the benches.
 */
import { join } from 'node:path';
import { type ChildProcess, type ChildProcessOptions, startChildProcess } from './child-process.ts';

const SERVERS = ['user', 'system', 'cert', 'metrics'] as const;
type ServerName = (typeof SERVERS)[number];

export interface NodeProcessOptions extends Omit<ChildProcessOptions, 'entry' | 'args' | 'env' | 'isReady'> {
  /** Settings by environment name. */
  readonly env: Readonly<Record<string, string>>;
  /** The program; the project's main.ts unless set. */
  readonly entry?: string;
}

export interface NodeProcess extends ChildProcess {
  /** host:port of each server. */
  readonly addresses: Readonly<Record<ServerName, string>>;
}

/**
 * As `npm run node` and the image start it.
 *
 * V8 takes a program that allocates little for an idle one and lets its heap grow so
 * slowly that it collects all of it every second or two: at 500 orders/s of a peer's stream that was half of all CPU.
 *
 * Nothing of an order is left when it is answered, so a collection of the young generation costs the same whether it is 16 MB
 * large or 32: with 32 there are half as many, and hardly any of the whole heap (bench/RESULTS.md).
 */
export const NODE_FLAGS: readonly string[] = [
  '--no-memory-reducer',
  '--min-semi-space-size=32',
  '--max-semi-space-size=32',
];

const MAIN = join(import.meta.dirname, '..', 'main.ts');

/**
 * Starts a node and waits until all its servers listen.
 * @throws when it ends before, or takes longer than the timeout: with the last lines of its log.
 */
export async function startNodeProcess(options: NodeProcessOptions): Promise<NodeProcess> {
  const addresses: Partial<Record<ServerName, string>> = {};
  const child = await startChildProcess({
    ...options,
    execArgv: [...NODE_FLAGS, ...(options.execArgv ?? [])],
    entry: options.entry ?? MAIN,
    isReady(line) {
      const found = listeningEvent(line);
      if (found === null) return false;
      addresses[found.server] = found.address;
      return SERVERS.every((server) => addresses[server] !== undefined);
    },
  });
  return Object.assign(child, { addresses: addresses as Record<ServerName, string> });
}

function listeningEvent(line: string): { server: ServerName; address: string } | null {
  if (!line.includes('"listening"')) return null;
  try {
    const { event, server, address } = JSON.parse(line) as Record<string, unknown>;
    const known = SERVERS.find((name) => name === server);
    return event === 'listening' && known !== undefined && typeof address === 'string'
      ? { server: known, address }
      : null;
  } catch {
    return null;
  }
}
