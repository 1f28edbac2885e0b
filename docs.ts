/**
 * The tables of the READMEs, made from the code: settings, bounds, errors. `node docs.ts` writes them between
 * their markers; a test fails when a README is behind the code.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { OPERATOR_BOUNDS } from './operator/bounds.ts';
import { configRows } from './operator/config-settings.ts';
import { BOUNDS, type Bound } from './pipeline/bounds.ts';
import { REJECTIONS, type RejectionRow } from './pipeline/errors.ts';
import { settingRows } from './settings.ts';

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

function configTable(): string {
  const rows = configRows().map((row) => [
    `\`${row.key}\``,
    `\`${row.default}\``,
    `${row.help} (${row.allowed})`,
  ]);
  return table(['key of [general]', 'default', 'what it does (what is allowed)'], rows);
}

function boundsTable(bounds: readonly Bound[]): string {
  const rows = bounds.map(({ edge, bound, setting, atBound, metric }) => [
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

type Sections = Readonly<Record<string, () => string>>;

/** The pages with tables, by their path in the repository. */
export const PAGES: Readonly<Record<string, Sections>> = {
  'README.md': {
    settings: settingsTable,
    bounds: () => boundsTable(BOUNDS),
    errors: errorsTable,
  },
  'operator/README.md': {
    configuration: configTable,
    bounds: () => boundsTable(OPERATOR_BOUNDS),
  },
};

/**
 * @param text a page with `<!-- NAME -->` … `<!-- /NAME -->` markers
 * @returns the same with the tables of today
 * @throws when a marker is missing
 */
export function withTables(text: string, sections: Sections): string {
  let result = text;
  for (const [name, render] of Object.entries(sections)) {
    const open = `<!-- ${name} -->`;
    const close = `<!-- /${name} -->`;
    const [start, end] = [result.indexOf(open), result.indexOf(close)];
    if (start === -1 || end < start) throw new Error(`there is no section between ${open} and ${close}`);
    result = `${result.slice(0, start + open.length)}\n${render()}\n${result.slice(end)}`;
  }
  return result;
}

if (import.meta.main) {
  for (const [page, sections] of Object.entries(PAGES)) {
    const path = join(import.meta.dirname, page);
    writeFileSync(path, withTables(readFileSync(path, 'utf8'), sections));
  }
}
