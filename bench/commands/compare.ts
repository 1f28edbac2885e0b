/** `compare`: two JSON reports side by side. */
import { optionsOf } from '../command.ts';
import { compareFigures, comparisonTable, comparisonText } from '../compare.ts';
import { figuresOfReport, readReport } from '../report.ts';
import { renderTable } from '../text.ts';

export const name = 'compare';

export const help = `
two JSON reports side by side, and what of it is outside the noise

Usage: npm run bench -- compare A.json B.json [--fail-on-worse]

A figure is better or worse when an exact rank test over its repeated runs gives p ≤ 0.01. Run both on the same
machine, one right after the other; "load --against" runs both in turns.

  --fail-on-worse   exit with 1 when a figure got worse
`;

export async function run(args: readonly string[]): Promise<number> {
  const { values, positionals } = optionsOf(args, { 'fail-on-worse': { type: 'boolean', default: false } });
  const [fileA, fileB] = positionals;
  if (fileA === undefined || fileB === undefined || positionals.length !== 2)
    throw new RangeError('compare takes two JSON reports: compare A.json B.json');
  const [a, b] = await Promise.all([readReport(fileA), readReport(fileB)]);
  const rows = compareFigures(figuresOfReport(a), figuresOfReport(b));
  const lines = [
    `A: ${fileA} (${a.startedAt}, commit ${a.commit ?? 'unknown'})`,
    `B: ${fileB} (${b.startedAt}, commit ${b.commit ?? 'unknown'})`,
    '',
    ...comparisonText(a, b, rows),
    '',
    ...renderTable(comparisonTable(rows)),
  ];
  process.stdout.write(`${lines.join('\n')}\n`);
  return values['fail-on-worse'] && rows.some(({ verdict }) => verdict === 'worse') ? 1 : 0;
}
