/** A report as one HTML page: no scripts, nothing loaded from anywhere, light or dark as the reader's system is. */
import { escapeText, renderChart } from './charts.ts';
import { type Report, surroundingsLine } from './report.ts';
import { formatCell, type Section, type Table, tableOf } from './section.ts';
import { REFERENCE } from './yardstick.ts';

const STYLE = `
:root { color-scheme: light dark; --bg: #fff; --fg: #1c2024; --soft: #60646c; --line: #e0e1e6; --card: #fcfcfd; --bad: #c62a2f;
  --c0: #0072b2; --c1: #d55e00; --c2: #009e73; --c3: #cc79a7; --c4: #8c6d00; --c5: #56b4e9; --c6: #7a52cc; --c7: #b5485d; --c8: #5a7d2a; --c9: #7f7f7f; --cx: #b9bbc6; --in: #fff; }
@media (prefers-color-scheme: dark) { :root { --bg: #111113; --fg: #edeef0; --soft: #a5a9b1; --line: #2e3135; --card: #18191b; --bad: #ff8589;
  --c0: #4aa8e8; --c1: #f58d4c; --c2: #33c79a; --c3: #e29ac2; --c4: #d9b74a; --c5: #8fd0f5; --c6: #a990e8; --c7: #e2808f; --c8: #9cbf63; --c9: #a0a0a0; --cx: #5a5f66; --in: #111; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 2rem 1.25rem 4rem; max-width: 68rem; background: var(--bg); color: var(--fg); font: 16px/1.55 system-ui, sans-serif; }
h1 { font-size: 1.7rem; margin: 0 0 .25rem; } h2 { font-size: 1.3rem; margin: 3rem 0 .5rem; padding-top: 1rem; border-top: 1px solid var(--line); }
h3 { font-size: 1rem; margin: 0 0 .5rem; } p { margin: .4rem 0; max-width: 52rem; } .soft, .legend { color: var(--soft); font-size: .875rem; }
code { font-size: .875rem; overflow-wrap: anywhere; } a { color: var(--c0); } nav a { margin-right: 1rem; white-space: nowrap; }
figure { margin: 1.25rem 0; padding: 1rem; background: var(--card); border: 1px solid var(--line); border-radius: 8px; overflow-x: auto; }
.legend { margin: 0 0 .5rem; display: flex; flex-wrap: wrap; gap: .2rem 1rem; } .legend i { display: inline-block; width: .75rem; height: .75rem; border-radius: 2px; margin-right: .35rem; vertical-align: -1px; }
svg { display: block; width: 100%; min-width: 36rem; height: auto; } svg text { font: 12px system-ui, sans-serif; fill: var(--fg); } svg text.axis { fill: var(--soft); } svg text.group { font-weight: 600; }
svg text.in { fill: var(--in); font-size: 11px; } svg .grid { stroke: var(--line); stroke-width: 1; } svg line.mark { stroke: var(--bad); stroke-dasharray: 5 4; } svg text.mark { fill: var(--bad); }
.table { overflow-x: auto; margin: 1rem 0; } table { border-collapse: collapse; font-size: .85rem; font-variant-numeric: tabular-nums; } caption { text-align: left; font-weight: 600; padding-bottom: .35rem; }
th, td { padding: .25rem .7rem .25rem 0; border-bottom: 1px solid var(--line); text-align: left; vertical-align: bottom; } th { color: var(--soft); font-weight: 500; } .n { text-align: right; } td { white-space: nowrap; } th { min-width: 3.2rem; }
summary { color: var(--soft); font-size: .875rem; cursor: pointer; margin-top: .5rem; } .faults { border-left: 4px solid var(--bad); padding: .1rem 0 .1rem 1rem; margin: 1rem 0; } .faults li { color: var(--bad); } .fine { color: var(--c2); font-weight: 600; }
@media print { details > * { display: block; } figure { break-inside: avoid; } }
`;

/** The whole page. */
export function renderPage(report: Report): string {
  const faults = report.sections.flatMap((section) => section.faults);
  const nav = report.sections.map(({ id, title }) => `<a href="#${id}">${escapeText(title)}</a>`).join(' ');
  return [
    '<!doctype html>',
    '<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">',
    `<title>orderflow bench ${escapeText(report.startedAt)}</title><style>${STYLE}</style></head><body>`,
    `<h1>orderflow bench</h1><p class="soft">${escapeText(report.startedAt)} · ${escapeText(surroundingsLine(report))}</p>`,
    `<p class="soft"><code>${escapeText(report.command)}</code></p>`,
    `<p>${yardstickText(report)} Node, load generator and sinks share this machine's cores: the figures are for comparing on this machine.</p>`,
    faults.length === 0
      ? '<p class="fine">Nothing acknowledged was lost, nothing came twice, nothing leaked.</p>'
      : faultList(faults),
    `<nav>${nav}</nav>`,
    ...report.sections.map(renderSection),
    '</body></html>\n',
  ].join('\n');
}

function yardstickText({ yardstick }: Report): string {
  const parts = Object.entries(yardstick).map(
    ([name, us]) =>
      `${escapeText(name)} takes ${us.toFixed(1)} µs of CPU (${(REFERENCE[name] ?? us).toFixed(1)} on the reference machine)`,
  );
  return `How fast the machine was: ${parts.join(', ')}.`;
}

function renderSection({ id, title, text, charts, tables, faults }: Section): string {
  return [
    `<section id="${escapeText(id)}"><h2>${escapeText(title)}</h2>`,
    ...text.map((paragraph) => `<p>${escapeText(paragraph)}</p>`),
    faults.length > 0 ? faultList(faults) : '',
    ...tables.map(renderTable),
    ...charts.map(
      (chart) =>
        `<figure><h3>${escapeText(chart.title)}</h3>${renderChart(chart)}<details><summary>the same as a table</summary>${renderTable(tableOf(chart))}</details></figure>`,
    ),
    '</section>',
  ].join('\n');
}

function faultList(faults: readonly string[]): string {
  return `<div class="faults"><ul>${faults.map((fault) => `<li>${escapeText(fault)}</li>`).join('')}</ul></div>`;
}

function renderTable({ title, headings, rows }: Table): string {
  const numeric = headings.map((_, column) => rows.some((cells) => typeof cells[column] === 'number'));
  const cell = (tag: 'th' | 'td', content: string, column: number) =>
    `<${tag}${numeric[column] ? ' class="n"' : ''}>${escapeText(content)}</${tag}>`;
  const head = headings.map((heading, column) => cell('th', heading, column)).join('');
  const body = rows.map(
    (cells) => `<tr>${cells.map((value, column) => cell('td', formatCell(value), column)).join('')}</tr>`,
  );
  return `<div class="table"><table><caption>${escapeText(title)}</caption><thead><tr>${head}</tr></thead><tbody>${body.join('')}</tbody></table></div>`;
}
