/**
 * One program as a child process, on the pinned Node unless told otherwise: started until it is ready, its output kept in a
 * log file, stopped, killed or frozen. What makes it ready, and what its lines mean, is the caller's.
 */
import { spawn } from 'node:child_process';
import { createWriteStream } from 'node:fs';
import { createInterface } from 'node:readline';
import type { ChildGuard } from './guard.ts';

export interface ChildProcessOptions {
  readonly name: string;
  /** What runs the entry; default: the pinned Node. */
  readonly program?: string;
  /** The program's file, or whatever the program takes in its place. */
  readonly entry: string;
  readonly args?: readonly string[];
  /** The caller's own environment is not passed on except for PATH and HOME. */
  readonly env?: Readonly<Record<string, string>>;
  /** Its stdout and stderr together are appended here. */
  readonly logFile: string;
  readonly guard: ChildGuard;
  /** Flags for what runs the entry, such as --cpu-prof. */
  readonly execArgv?: readonly string[];
  /** Default 30,000. */
  readonly startTimeoutMs?: number;
  /** @returns true from the line on that says that the program is ready. */
  readonly isReady: (line: string) => boolean;
}

export interface ChildProcess {
  readonly name: string;
  readonly pid: number;
  /** false once the process has ended. */
  readonly running: boolean;
  /** Resolves with the exit code, or with the signal's name, when the process ends. */
  readonly ended: Promise<number | string>;
  /** Sends SIGTERM, and SIGKILL after `graceMs` (default 15,000); resolves when it has ended. */
  stop(graceMs?: number): Promise<void>;
  /** Sends SIGKILL. */
  kill(): void;
  /** Sends SIGSTOP: the process stands still until `thaw`. */
  freeze(): void;
  /** Sends SIGCONT. */
  thaw(): void;
}

const LAST_LINES = 5;
/** Longer than a node takes to drain (DRAIN_TIMEOUT_SEC). */
const GRACE_MS = 15_000;

/**
 * Starts a program and waits until it is ready.
 * @throws when it ends before, or takes longer than the timeout: with the last lines of its log.
 */
export async function startChildProcess(options: ChildProcessOptions): Promise<ChildProcess> {
  const log = createWriteStream(options.logFile, { flags: 'a', mode: 0o600 });
  const { PATH = '', HOME = '' } = process.env;
  const command = [...(options.execArgv ?? []), options.entry, ...(options.args ?? [])];
  const child = spawn(options.program ?? process.execPath, command, {
    env: { PATH, HOME, ...options.env },
    stdio: ['ignore', 'pipe', 'pipe'],
    // Its own process group: an interrupt at the terminal reaches the network first, which stops it in order.
    detached: true,
  });
  const lastLines: string[] = [];
  const ready = Promise.withResolvers<void>();

  function onLine(line: string): void {
    log.write(`${line}\n`);
    lastLines.push(line);
    if (lastLines.length > LAST_LINES) lastLines.shift();
    if (options.isReady(line)) ready.resolve();
  }
  for (const stream of [child.stdout, child.stderr]) createInterface({ input: stream }).on('line', onLine);

  const { pid } = child;
  let running = pid !== undefined;
  const ended = new Promise<number | string>((resolve) => {
    child.once('error', (error) => resolve(error.message));
    child.once('close', (code, signal) => resolve(code ?? signal ?? 'unknown'));
  }).then((outcome) => {
    running = false;
    if (pid !== undefined) options.guard.remove(pid);
    log.end();
    return outcome;
  });
  if (pid !== undefined) options.guard.add(pid);

  const timeoutMs = options.startTimeoutMs ?? 30_000;
  const timer = setTimeout(() => ready.reject(new Error(`not ready after ${timeoutMs} ms`)), timeoutMs);
  void ended.then((outcome) => ready.reject(new Error(`ended with ${outcome}`)));
  try {
    await ready.promise;
  } catch (error) {
    child.kill('SIGKILL');
    await ended;
    const reason = error instanceof Error ? error.message : String(error);
    throw new Error(
      `${options.name} did not start: ${reason}\n${lastLines.join('\n')}\n(log: ${options.logFile})`,
      { cause: error },
    );
  } finally {
    clearTimeout(timer);
  }

  return {
    name: options.name,
    pid: pid ?? 0,
    get running() {
      return running;
    },
    ended,
    async stop(graceMs = GRACE_MS) {
      child.kill('SIGTERM');
      const force = setTimeout(() => child.kill('SIGKILL'), graceMs);
      await ended;
      clearTimeout(force);
    },
    kill() {
      child.kill('SIGKILL');
    },
    freeze() {
      child.kill('SIGSTOP');
    },
    thaw() {
      child.kill('SIGCONT');
    },
  };
}
