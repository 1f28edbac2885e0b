/**
 * What a part of a bench hands over: charts, tables and figures as plain data. The page (page.ts), the terminal
 * (text.ts), the JSON file and `compare` all read the same, so that a new subcommand only has to fill one in.
 */

/** One number that `compare` sets side by side between two reports, once per repeated run. */
export interface Figure {
  /** The same in every report: what was measured, under which load. */
  readonly name: string;
  readonly unit: string;
  readonly better: 'lower' | 'higher';
  readonly samples: readonly number[];
}

export interface Axis {
  readonly label: string;
  /** `nines` is for shares of 1: as much room from 0.9 to 0.99 as from 0.99 to 0.999. */
  readonly scale: 'linear' | 'log' | 'nines';
}

/** x and y; null leaves a gap. */
export type Point = readonly [x: number, y: number | null];

export interface LinesChart {
  readonly kind: 'lines';
  readonly title: string;
  readonly x: Axis;
  readonly y: Axis;
  readonly series: readonly { readonly name: string; readonly points: readonly Point[] }[];
  /** A level to compare with. */
  readonly mark?: { readonly y: number; readonly label: string };
}

/** Horizontal bars, each made of parts that add up. */
export interface StackedChart {
  readonly kind: 'stacked';
  readonly title: string;
  readonly unit: string;
  readonly bars: readonly {
    readonly name: string;
    readonly parts: readonly { readonly name: string; readonly value: number }[];
  }[];
}

/** Horizontal bars in groups; the first bar of a group is the one in use, the others are what was rejected. */
export interface BarsChart {
  readonly kind: 'bars';
  readonly title: string;
  readonly unit: string;
  readonly groups: readonly {
    readonly name: string;
    readonly bars: readonly { readonly name: string; readonly value: number }[];
  }[];
}

export type Chart = LinesChart | StackedChart | BarsChart;

export type Cell = string | number | null;

export interface Table {
  readonly title: string;
  readonly headings: readonly string[];
  readonly rows: readonly (readonly Cell[])[];
}

export interface Section {
  /** Letters and dashes; anchor of the page. */
  readonly id: string;
  readonly title: string;
  /** Paragraphs: what was done and how to read it. */
  readonly text: readonly string[];
  readonly charts: readonly Chart[];
  readonly tables: readonly Table[];
  readonly figures: readonly Figure[];
  /** What must not happen: losses, doubles, leaks. Any makes the bench fail. */
  readonly faults: readonly string[];
}

/** A number for people: about three significant digits, thousands grouped. */
export function formatNumber(value: number): string {
  const size = Math.abs(value);
  if (size >= 1000 || Number.isInteger(value)) return Math.round(value).toLocaleString('en-US');
  if (size >= 100) return value.toFixed(0);
  if (size >= 10) return value.toFixed(1);
  return size >= 0.01 ? value.toFixed(2) : value.toPrecision(1);
}

/** How often something was measured, as the beginning of a sentence. */
export function runsInWords(runs: number): string {
  return runs === 1 ? 'One run' : `Medians of ${runs} runs`;
}

export function formatCell(cell: Cell): string {
  if (cell === null) return '–';
  return typeof cell === 'number' ? formatNumber(cell) : cell;
}

/** The same numbers as a chart shows, for readers who want to read them off or copy them. */
export function tableOf(chart: Chart): Table {
  switch (chart.kind) {
    case 'lines':
      return linesTable(chart);
    case 'stacked':
      return stackedTable(chart);
    default:
      return {
        title: chart.title,
        headings: ['', '', chart.unit],
        rows: chart.groups.flatMap(({ name, bars }) => bars.map((bar) => [name, bar.name, bar.value])),
      };
  }
}

/** One row per x that any series has; series that share no x (CDFs) have their own pairs of columns. */
function linesTable({ title, x, y, series }: LinesChart): Table {
  const xs = [...new Set(series.flatMap(({ points }) => points.map(([value]) => value)))].sort(
    (a, b) => a - b,
  );
  const most = Math.max(0, ...series.map(({ points }) => points.length));
  if (xs.length <= most * 1.5) {
    const columns = series.map(({ points }) => new Map(points));
    return {
      title,
      headings: [x.label, ...series.map(({ name }) => name)],
      rows: xs.map((value) => [value, ...columns.map((column) => column.get(value) ?? null)]),
    };
  }
  return {
    title,
    headings: series.flatMap(({ name }) => [`${name}: ${x.label}`, y.label]),
    rows: Array.from({ length: most }, (_, row) =>
      series.flatMap(({ points }) => [points[row]?.[0] ?? null, points[row]?.[1] ?? null]),
    ),
  };
}

function stackedTable({ title, unit, bars }: StackedChart): Table {
  const names = [...new Set(bars.flatMap(({ parts }) => parts.map(({ name }) => name)))];
  const sum = (parts: readonly { value: number }[]) => parts.reduce((total, { value }) => total + value, 0);
  return {
    title: `${title}, ${unit}`,
    headings: ['', ...bars.map(({ name }) => name)],
    rows: [
      ...names.map((name) => [
        name,
        ...bars.map(({ parts }) => parts.find((part) => part.name === name)?.value ?? null),
      ]),
      ['together', ...bars.map(({ parts }) => sum(parts))],
    ],
  };
}
