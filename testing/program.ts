/** A program of the project as a process of its own, ended with the test. */
import { type ChildProcessWithoutNullStreams, spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { onTestFinished } from 'vitest';

const ROOT = join(import.meta.dirname, '..');

export interface Program {
  readonly child: ChildProcessWithoutNullStreams;
  /** Lines of standard output, and of both outputs, so far. */
  readonly stdout: readonly string[];
  readonly output: readonly string[];
  /**
   * Resolves with the first line of either output that matches, or with the one after `skip` of them. Rejects, with all
   * that the program has said, when it ends before.
   */
  line(pattern: RegExp, skip?: number): Promise<RegExpExecArray>;
  /** Resolves when it has ended and all its output is there. */
  readonly ended: Promise<{ code: number | null; signal: NodeJS.Signals | null }>;
}

export interface ProgramOptions {
  /** Beside PATH. */
  readonly env?: Readonly<Record<string, string>>;
  /** Its standard input, which ends after it. */
  readonly input?: string;
}

/** @param script from the project's root */
export function startProgram(
  script: string,
  args: readonly string[],
  { env = {}, input = '' }: ProgramOptions = {},
): Program {
  const child = spawn(process.execPath, [join(ROOT, script), ...args], {
    env: { PATH: process.env.PATH ?? '', ...env },
  });
  child.stdin.on('error', () => undefined);
  child.stdin.end(input);
  const [stdout, output]: [string[], string[]] = [[], []];
  const looks = new Set<() => void>();
  const take = (line: string): void => {
    output.push(line);
    for (const look of looks) look();
  };
  createInterface({ input: child.stdout }).on('line', (line) => {
    stdout.push(line);
    take(line);
  });
  createInterface({ input: child.stderr }).on('line', take);
  const ended = once(child, 'close').then(([code, signal]) => ({
    code: code as number | null,
    signal: signal as NodeJS.Signals | null,
  }));
  onTestFinished(async () => {
    child.kill('SIGKILL');
    await ended;
  });
  return {
    child,
    stdout,
    output,
    ended,
    line(pattern, skip = 0) {
      const { promise, resolve, reject } = Promise.withResolvers<RegExpExecArray>();
      const look = (): void => {
        const match = output.map((line) => pattern.exec(line)).filter((one) => one !== null)[skip];
        if (match === undefined) return;
        looks.delete(look);
        resolve(match);
      };
      looks.add(look);
      look();
      void ended.then(() => reject(new Error(`ended without ${pattern}:\n${output.join('\n')}`)));
      return promise;
    },
  };
}
