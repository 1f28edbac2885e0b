/** A whole report: where and with what it was made, and its sections. */
import { execFileSync } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { availableParallelism, cpus, totalmem } from 'node:os';
import type { Figure, Section } from './section.ts';
import { measureYardstick, slowness, type Yardstick } from './yardstick.ts';

export interface Report {
  readonly schema: 1;
  readonly startedAt: string;
  readonly machine: { readonly cpu: string; readonly cores: number; readonly memoryBytes: number };
  readonly nodeVersion: string;
  readonly platform: string;
  /** Of the working tree; "-dirty" when it has changes, null without a repository. */
  readonly commit: string | null;
  readonly command: string;
  readonly seed: string;
  /** What this machine takes for work that does not change, microseconds: see yardstick.ts. */
  readonly yardstick: Yardstick;
  readonly sections: readonly Section[];
}

/** Where, with what and how fast. Takes a second and more: measure it before the load. */
export function surroundings(seed: string): Omit<Report, 'sections'> {
  return {
    schema: 1,
    startedAt: new Date().toISOString(),
    machine: { cpu: cpus()[0]?.model ?? 'unknown', cores: availableParallelism(), memoryBytes: totalmem() },
    nodeVersion: process.version,
    platform: `${process.platform} ${process.arch}`,
    commit: git(['describe', '--always', '--abbrev=12', '--dirty', '--exclude=*']),
    command: ['npm run bench --', ...process.argv.slice(2)].join(' '),
    seed,
    yardstick: measureYardstick(),
  };
}

/** One line on where, with what and how fast. */
export function surroundingsLine(report: Omit<Report, 'sections'>): string {
  const { machine, yardstick } = report;
  return `${machine.cpu}, ${machine.cores} cores, ${(machine.memoryBytes / 2 ** 30).toFixed(0)} GiB, Node ${report.nodeVersion}, ${report.platform}, commit ${report.commit ?? 'unknown'}, seed ${report.seed}; work takes ${slowness(yardstick).toFixed(2)} times as long as on the reference machine`;
}

/** @returns every figure of all sections. */
export function figuresOfReport(report: Report): Figure[] {
  return report.sections.flatMap((section) => section.figures);
}

/** @throws when the file is no report of this bench. */
export async function readReport(file: string): Promise<Report> {
  const report = JSON.parse(await readFile(file, 'utf8')) as Partial<Report>;
  if (report.schema !== 1 || !Array.isArray(report.sections))
    throw new Error(`${file} is no report of this bench`);
  return report as Report;
}

function git(args: readonly string[]): string | null {
  try {
    return execFileSync('git', args, {
      encoding: 'utf8',
      cwd: import.meta.dirname,
      stdio: ['ignore', 'pipe', 'ignore'],
    }).trim();
  } catch {
    return null;
  }
}
