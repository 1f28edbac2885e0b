/**
 * The README's tables, made from the code: settings, bounds, errors. `node docs.ts` writes them between
 * their markers; a test fails when the README is behind the code.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { BOUNDS } from './pipeline/bounds.ts';
import { REJECTIONS, type RejectionRow } from './pipeline/errors.ts';
import { settingRows } from './settings.ts';

const README = join(import.meta.dirname, 'README.md');

function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const line = (cells: readonly string[]) =>
    `| ${cells.map((cell) => cell.replaceAll('|', '\\|')).join(' | ')} |`;
  return [line(head), line(head.map(() => '---')), ...rows.map(line)].join('\n');
}

function settingsTable(): string {
  const rows = settingRows().map((row) => [
    row.env
      .split(', ')
      .map((env) => `\`${env}\``)
      .join(', '),
    row.default === '' ? '' : `\`${row.default}\``,
    `${row.help} (${row.allowed})`,
  ]);
  return table(['environment', 'default', 'what it does (what is allowed)'], rows);
}

function boundsTable(): string {
  const rows = BOUNDS.map(({ edge, bound, setting, atBound, metric }) => [
    edge,
    setting === null ? bound : `${bound}, \`${setting}\``,
    atBound,
    metric === '-' ? '' : `\`${metric}\``,
  ]);
  return table(['edge', 'bounded by', 'at the bound', 'seen as'], rows);
}

function errorsTable(): string {
  const rows = Object.entries(REJECTIONS as Record<string, RejectionRow>).map(([kind, row]) => [
    `\`${kind}\``,
    row.code === null ? '' : String(row.code),
    String(row.status),
    row.retryable ? 'yes' : 'no',
  ]);
  return table(['kind', 'code', 'HTTP status', 'can the same request succeed later?'], rows);
}

const SECTIONS: Readonly<Record<string, () => string>> = {
  settings: settingsTable,
  bounds: boundsTable,
  errors: errorsTable,
};

/**
 * @param text a README with `<!-- NAME -->` … `<!-- /NAME -->` markers
 * @returns the same with the tables of today
 * @throws when a marker is missing
 */
export function withTables(text: string): string {
  let result = text;
  for (const [name, render] of Object.entries(SECTIONS)) {
    const open = `<!-- ${name} -->`;
    const close = `<!-- /${name} -->`;
    const [start, end] = [result.indexOf(open), result.indexOf(close)];
    if (start === -1 || end < start) throw new Error(`README.md has no section between ${open} and ${close}`);
    result = `${result.slice(0, start + open.length)}\n${render()}\n${result.slice(end)}`;
  }
  return result;
}

if (import.meta.main) writeFileSync(README, withTables(readFileSync(README, 'utf8')));
