/** What every archive command is: a name, its help, and a run that ends with an exit code. */
import type { Writable } from 'node:stream';
import { type ParseArgsOptionsConfig, parseArgs } from 'node:util';
import { asError } from '../failure.ts';

/** Exit codes, for scripts. */
export const EXIT = { ok: 0, problem: 1, usage: 2 } as const;

/** Where a command reads its surroundings and writes its output. */
export interface Surroundings {
  readonly stdout: Writable;
  /** A progress bar is drawn only where `isTTY` is true. */
  readonly stderr: Writable & { readonly isTTY?: boolean };
  readonly env: Readonly<Record<string, string | undefined>>;
  /** Ends a command that follows. */
  readonly signal: AbortSignal;
  /** Unix time, milliseconds. */
  now(): number;
}

export interface Command {
  readonly name: string;
  /** One line for the list of commands. */
  readonly summary: string;
  readonly help: string;
  /**
   * @returns the exit code.
   * @throws UsageError when the arguments are wrong.
   */
  run(args: readonly string[], surroundings: Surroundings): Promise<number>;
}

/** Wrong arguments; the message names the argument and what is allowed. */
export class UsageError extends Error {
  override readonly name = 'UsageError';
}

/**
 * Parses the arguments of a command: options only.
 * @throws UsageError naming what is not known.
 */
export function parseOptions<T extends ParseArgsOptionsConfig>(args: readonly string[], options: T) {
  try {
    return parseArgs({ args: [...args], options, allowPositionals: false, strict: true }).values;
  } catch (error) {
    // parseArgs names the argument; the rest of its text is about quoting dashes.
    throw new UsageError(asError(error).message.split('. ')[0] ?? 'wrong arguments');
  }
}
