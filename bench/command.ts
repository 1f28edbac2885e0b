/**
 * What a subcommand of the bench is: a file in commands/ that exports `name`, `help` and `run`, listed in main.ts.
 * Here is also what their options have in common.
 */
import { resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { publish } from './publish.ts';
import { type Report, surroundings } from './report.ts';
import { type Lab, openLab } from './rig.ts';
import type { Section } from './section.ts';
import type { Transport } from './subject.ts';
import type { Yardstick } from './yardstick.ts';

export interface Command {
  readonly name: string;
  /** Usage; its first line says what the command does. */
  readonly help: string;
  /** @returns the exit code. @throws RangeError for a wrong option. */
  run(args: readonly string[]): Promise<number>;
}

/** What every measurement that runs a node is given. */
export interface Bench {
  readonly lab: Lab;
  readonly seed: string;
  /** The report's: whoever sets a figure against the reference machine takes this one. */
  readonly yardstick: Yardstick;
  /** Settings for the node. */
  readonly env: Readonly<Record<string, string>>;
  /** main.ts of another checkout. */
  readonly entry?: string;
  /** Tells the person who waits. */
  readonly say: (text: string) => void;
}

/** Options of all commands that run a node. */
export const COMMON_OPTIONS = {
  quick: { type: 'boolean', default: false },
  seed: { type: 'string', default: 'bench' },
  set: { type: 'string', multiple: true, default: [] as string[] },
  entry: { type: 'string' },
  out: { type: 'string' },
} as const;

export const COMMON_HELP = `  --seed TEXT       seed of the orders (default "bench")
  --set NAME=VALUE  a setting for the node, repeatable
  --entry FILE      main.ts of another checkout instead of this one
  --out FILE        where the report goes, without .html and .json (default bench/results/TIME)
  --quick           a smaller run`;

/** The values of COMMON_OPTIONS. */
export interface CommonValues {
  readonly seed: string;
  readonly set: readonly string[];
  readonly entry?: string | undefined;
  readonly out?: string | undefined;
}

/**
 * Runs measurements in a fresh lab and publishes their sections.
 * @returns the exit code
 */
export async function benchAndPublish(
  values: CommonValues,
  measure: (bench: Bench) => Promise<readonly Section[]>,
): Promise<number> {
  const around = surroundings(values.seed);
  const sections = await withBench(values, around.yardstick, measure);
  return publishTo({ ...around, sections }, values.out);
}

/** Runs measurements in a fresh lab. */
export async function withBench<T>(
  values: CommonValues,
  yardstick: Yardstick,
  measure: (bench: Bench) => Promise<T>,
): Promise<T> {
  const lab = openLab();
  try {
    return await measure({
      lab,
      seed: values.seed,
      yardstick,
      env: Object.fromEntries(values.set.map(settingOf)),
      ...(values.entry !== undefined && { entry: resolve(values.entry) }),
      say,
    });
  } finally {
    await lab.close();
  }
}

/** @param out a path without ending; undefined for the default */
export function publishTo(report: Report, out: string | undefined): Promise<number> {
  if (out === undefined) return publish(report, {});
  const path = resolve(out).replace(/\.(?:html|json)$/, '');
  return publish(report, { directory: resolve(path, '..'), name: path.slice(path.lastIndexOf('/') + 1) });
}

/** Progress, on stderr: stdout has the results. */
export function say(text: string): void {
  process.stderr.write(`${text}\n`);
}

/** parseArgs with the arguments of a subcommand. @throws RangeError for an unknown option. */
export function optionsOf<const O extends NonNullable<Parameters<typeof parseArgs>[0]>['options']>(
  args: readonly string[],
  options: O,
) {
  try {
    return parseArgs({ args: [...args], options, allowPositionals: true });
  } catch (error) {
    throw new RangeError(error instanceof Error ? error.message : String(error), { cause: error });
  }
}

/** @throws RangeError naming the option when the text is no positive number. */
export function positive(name: string, text: string): number {
  const value = Number(text);
  if (!Number.isFinite(value) || value <= 0)
    throw new RangeError(`${name} must be a positive number, got ${text}`);
  return value;
}

/** @throws RangeError naming the option when the text is no whole number from `least` on. */
export function whole(name: string, text: string, least = 1): number {
  const value = Number(text);
  if (!Number.isInteger(value) || value < least)
    throw new RangeError(`${name} must be a whole number from ${least} on, got ${text}`);
  return value;
}

/** Whole numbers separated by commas. */
export function wholeList(name: string, text: string, least = 0): number[] {
  return text.split(',').map((part) => whole(name, part.trim(), least));
}

/** Transports separated by commas. */
export function transportList(text: string): Transport[] {
  return text.split(',').map((part) => {
    const known = (['http', 'https', 'h2'] as const).find((transport) => transport === part.trim());
    if (known === undefined) throw new RangeError(`a transport is http, https or h2, got ${part}`);
    return known;
  });
}

/** Bytes of a request body, or the sizes seen in the field. */
export function sizeOf(text: string): number | 'field' {
  return text === 'field' ? 'field' : whole('--size', text);
}

/** @throws RangeError when the text is not NAME=VALUE. */
export function settingOf(text: string): [string, string] {
  const [name, ...value] = text.split('=');
  if (name === undefined || name === '' || value.length === 0)
    throw new RangeError(`--set NAME=VALUE, got ${text}`);
  return [name, value.join('=')];
}
