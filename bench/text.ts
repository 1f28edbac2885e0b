/** Sections as text for a terminal: tables, then everything that must not have happened. */
import { formatCell, type Section, type Table, tableOf } from './section.ts';

/** Lines, sections apart by an empty one. Of the charts, stacked bars are told too: nothing else has their numbers. */
export function renderSections(sections: readonly Section[]): string[] {
  const lines: string[] = [];
  for (const { title, tables, charts, faults } of sections) {
    lines.push('', title.toUpperCase());
    const stacked = charts.filter(({ kind }) => kind === 'stacked').map(tableOf);
    for (const table of [...tables, ...stacked]) lines.push('', ...renderTable(table));
    for (const fault of faults) lines.push(`  FAULT: ${fault}`);
  }
  return lines;
}

/** Columns of text to the left, of numbers to the right. */
export function renderTable({ title, headings, rows }: Table): string[] {
  const all = [headings, ...rows.map((cells) => cells.map(formatCell))];
  const numeric = headings.map((_, column) => rows.some((cells) => typeof cells[column] === 'number'));
  const widths = headings.map((_, column) => Math.max(...all.map((cells) => (cells[column] ?? '').length)));
  const line = (cells: readonly string[]) =>
    cells
      .map((cell, column) =>
        numeric[column] ? cell.padStart(widths[column] ?? 0) : cell.padEnd(widths[column] ?? 0),
      )
      .join('  ')
      .trimEnd();
  return [`  ${title}`, ...all.map((cells) => `    ${line(cells)}`)];
}
