/** Gives a report out: tables on the terminal, JSON for `compare`, and one HTML page. */
import { createHash } from 'node:crypto';
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { renderPage } from './page.ts';
import { type Report, surroundingsLine } from './report.ts';
import { renderSections } from './text.ts';

/** Where reports go. */
const RESULTS = join(import.meta.dirname, 'results');

/**
 * Prints a report and writes it as NAME.json and NAME.html.
 * @returns the exit code: 1 when a section has a fault
 */
export async function publish(report: Report, options: PublishOptions): Promise<number> {
  const { directory = RESULTS, name = fileNameOf(report), print = toTerminal } = options;
  print(`\n${surroundingsLine(report)}\n${renderSections(report.sections).join('\n')}\n`);
  await mkdir(directory, { recursive: true });
  const base = join(directory, name);
  await writeFile(`${base}.json`, `${JSON.stringify(report)}\n`);
  await writeFile(`${base}.html`, renderPage(report));
  print(`\nreport: ${base}.html and .json\n`);
  return report.sections.some(({ faults }) => faults.length > 0) ? 1 : 0;
}

export interface PublishOptions {
  /** Default bench/results. */
  readonly directory?: string | undefined;
  /** Without ending; by default the start time and the command. */
  readonly name?: string | undefined;
  /** Takes the tables; stdout by default. */
  readonly print?: (text: string) => void;
}

function toTerminal(text: string): void {
  process.stdout.write(text);
}

/** Start time, and a few letters of the command, so that two reports of one second differ. */
function fileNameOf({ startedAt, command }: Report): string {
  const short = createHash('sha256').update(command).digest('hex').slice(0, 4);
  return `${startedAt.replaceAll(/[:.]/g, '-')}-${short}`;
}
