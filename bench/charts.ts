/**
 * Charts as inline SVG: lines, stacked bars, grouped bars. Colours are the page's CSS variables --c0 … --c9, so that
 * they follow its light and dark theme; every mark has a title that names its value.
 */
import { type Scale, scaleOf } from './scale.ts';
import { type BarsChart, type Chart, formatNumber, type LinesChart, type StackedChart } from './section.ts';

const WIDTH = 760;
const COLOURS = 10;
/** Room around the plot of a line chart. */
const PLOT = { left: 84, right: 30, top: 12, bottom: 46, height: 300 };
const BAR = { label: 250, value: 90, height: 20, gap: 8, part: 26 };
/** About the width of a letter of the label's font. */
const LETTER = 6.4;

/** @returns an SVG element with its legend in front. */
export function renderChart(chart: Chart): string {
  if (chart.kind === 'lines') return renderLines(chart);
  return chart.kind === 'stacked' ? renderStacked(chart) : renderBars(chart);
}

export function escapeText(text: string): string {
  return text
    .replaceAll('&', '&amp;')
    .replaceAll('<', '&lt;')
    .replaceAll('>', '&gt;')
    .replaceAll('"', '&quot;');
}

function renderLines({ title, x, y, series, mark }: LinesChart): string {
  const points = series.flatMap((one) => one.points);
  const xScale = scaleOf(
    x,
    points.map(([value]) => value),
  );
  const yScale = scaleOf(y, [
    ...points.flatMap(([, value]) => value ?? []),
    ...(mark === undefined ? [] : [mark.y]),
  ]);
  const width = WIDTH - PLOT.left - PLOT.right;
  const height = PLOT.height;
  const px = (value: number) => PLOT.left + clamp(xScale.at(value)) * width;
  const py = (value: number) => PLOT.top + (1 - clamp(yScale.at(value))) * height;
  const parts = [...grid(xScale, yScale, px, py), ...axisTitles(x.label, y.label)];
  if (mark !== undefined) {
    parts.push(
      `<line class="mark" x1="${PLOT.left}" x2="${WIDTH - PLOT.right}" y1="${r(py(mark.y))}" y2="${r(py(mark.y))}"/>`,
      `<text class="mark" x="${WIDTH - PLOT.right - 4}" y="${r(py(mark.y) - 5)}" text-anchor="end">${escapeText(mark.label)}</text>`,
    );
  }
  for (const [index, { name, points: own }] of series.entries()) {
    const colour = `var(--c${index % COLOURS})`;
    parts.push(
      `<path fill="none" stroke="${colour}" stroke-width="2" stroke-linejoin="round" d="${pathOf(own, px, py)}"/>`,
    );
    // Few enough to be told apart: each gets its dot.
    const radius = own.length <= 60 ? 3 : 1.5;
    for (const [at, value] of own) {
      if (value === null) continue;
      parts.push(
        `<circle cx="${r(px(at))}" cy="${r(py(value))}" r="${radius}" fill="${colour}"><title>${escapeText(`${name}: ${formatNumber(at)} → ${formatNumber(value)}`)}</title></circle>`,
      );
    }
  }
  const total = PLOT.top + height + PLOT.bottom;
  return `${legend(series.map(({ name }) => name))}${svg(total, title, parts)}`;
}

function grid(
  xScale: Scale,
  yScale: Scale,
  px: (value: number) => number,
  py: (value: number) => number,
): string[] {
  const bottom = PLOT.top + PLOT.height;
  const parts: string[] = [];
  for (const { value, label } of yScale.ticks) {
    parts.push(
      `<line class="grid" x1="${PLOT.left}" x2="${WIDTH - PLOT.right}" y1="${r(py(value))}" y2="${r(py(value))}"/>`,
      `<text x="${PLOT.left - 8}" y="${r(py(value) + 4)}" text-anchor="end">${label}</text>`,
    );
  }
  let free = Number.NEGATIVE_INFINITY;
  for (const { value, label } of xScale.ticks) {
    const at = px(value);
    parts.push(`<line class="grid" x1="${r(at)}" x2="${r(at)}" y1="${PLOT.top}" y2="${bottom}"/>`);
    const half = (label.length * LETTER) / 2;
    if (at - half < free) continue;
    free = at + half + 6;
    parts.push(`<text x="${r(at)}" y="${bottom + 18}" text-anchor="middle">${label}</text>`);
  }
  return parts;
}

function axisTitles(x: string, y: string): string[] {
  const middle = PLOT.top + PLOT.height / 2;
  return [
    `<text class="axis" x="${r(PLOT.left + (WIDTH - PLOT.left - PLOT.right) / 2)}" y="${PLOT.top + PLOT.height + 38}" text-anchor="middle">${escapeText(x)}</text>`,
    `<text class="axis" x="14" y="${middle}" text-anchor="middle" transform="rotate(-90 14 ${middle})">${escapeText(y)}</text>`,
  ];
}

function pathOf(
  points: LinesChart['series'][number]['points'],
  px: (value: number) => number,
  py: (value: number) => number,
): string {
  let path = '';
  let pen = 'M';
  for (const [x, y] of points) {
    if (y === null) {
      pen = 'M';
      continue;
    }
    path += `${pen}${r(px(x))} ${r(py(y))}`;
    pen = 'L';
  }
  return path;
}

function renderStacked({ title, unit, bars }: StackedChart): string {
  const names = [...new Set(bars.flatMap(({ parts }) => parts.map(({ name }) => name)))];
  const sums = bars.map(({ parts }) => parts.reduce((sum, { value }) => sum + value, 0));
  const most = Math.max(1e-9, ...sums);
  const width = WIDTH - BAR.label - BAR.value;
  const pieces: string[] = [];
  for (const [row, { name, parts }] of bars.entries()) {
    const top = row * (BAR.part + BAR.gap);
    let left = BAR.label;
    pieces.push(barLabel(name, top + BAR.part / 2));
    for (const part of parts) {
      const wide = (part.value / most) * width;
      const colour = `var(--c${names.indexOf(part.name) % COLOURS})`;
      const faded = names.indexOf(part.name) >= COLOURS ? ' fill-opacity="0.45"' : '';
      pieces.push(
        `<rect x="${r(left)}" y="${top}" width="${r(Math.max(0, wide - 1))}" height="${BAR.part}" fill="${colour}"${faded}><title>${escapeText(`${part.name}: ${formatNumber(part.value)} ${unit}`)}</title></rect>`,
      );
      const label = formatNumber(part.value);
      if (wide > label.length * LETTER + 8) {
        pieces.push(
          `<text class="in" x="${r(left + wide / 2)}" y="${top + BAR.part / 2 + 4}" text-anchor="middle">${label}</text>`,
        );
      }
      left += wide;
    }
    pieces.push(
      `<text x="${r(left + 6)}" y="${top + BAR.part / 2 + 4}">${formatNumber(sums[row] ?? 0)} ${escapeText(unit)}</text>`,
    );
  }
  return `${legend(names)}${svg(bars.length * (BAR.part + BAR.gap), title, pieces)}`;
}

/** On a logarithmic axis when the values are far apart: rejected alternatives often are. */
function renderBars({ title, unit, groups }: BarsChart): string {
  const values = groups.flatMap(({ bars }) => bars.map(({ value }) => value)).filter((value) => value > 0);
  const [low, high] = [Math.min(...values), Math.max(...values)];
  const log = high / low > 30;
  const width = WIDTH - BAR.label - BAR.value;
  const least = log ? 10 ** Math.floor(Math.log10(low)) : 0;
  const share = (value: number) =>
    log ? Math.log(Math.max(value, least) / least) / Math.log(high / least) : value / high;
  const pieces: string[] = [];
  let top = 0;
  for (const { name, bars } of groups) {
    pieces.push(`<text class="group" x="0" y="${top + 14}">${escapeText(name)}</text>`);
    top += 22;
    for (const [index, bar] of bars.entries()) {
      const wide = Math.max(1, share(bar.value) * width);
      pieces.push(
        barLabel(bar.name, top + BAR.height / 2),
        `<rect x="${BAR.label}" y="${top}" width="${r(wide)}" height="${BAR.height}" fill="var(--c${index === 0 ? 0 : 'x'})"><title>${escapeText(`${bar.name}: ${formatNumber(bar.value)} ${unit}`)}</title></rect>`,
        `<text x="${r(BAR.label + wide + 6)}" y="${top + BAR.height / 2 + 4}">${formatNumber(bar.value)} ${escapeText(unit)}</text>`,
      );
      top += BAR.height + 3;
    }
    top += BAR.gap + 4;
  }
  const note = log ? '<p class="legend">logarithmic: each step of length is a factor</p>' : '';
  return `${note}${svg(top, title, pieces)}`;
}

function barLabel(name: string, middle: number): string {
  const most = Math.floor((BAR.label - 10) / LETTER);
  const short = name.length > most ? `${name.slice(0, most - 1)}…` : name;
  return `<text x="${BAR.label - 8}" y="${middle + 4}" text-anchor="end">${escapeText(short)}<title>${escapeText(name)}</title></text>`;
}

function legend(names: readonly string[]): string {
  const items = names.map(
    (name, index) =>
      `<span><i style="background:var(--c${index % COLOURS})${index >= COLOURS ? ';opacity:.45' : ''}"></i>${escapeText(name)}</span>`,
  );
  return `<p class="legend">${items.join(' ')}</p>`;
}

function svg(height: number, title: string, parts: readonly string[]): string {
  return `<svg viewBox="0 0 ${WIDTH} ${r(height)}" role="img" aria-label="${escapeText(title)}">${parts.join('')}</svg>`;
}

function clamp(share: number): number {
  return Math.min(1.02, Math.max(-0.02, share));
}

/** A tenth of a pixel is enough. */
function r(value: number): string {
  return String(Math.round(value * 10) / 10);
}
